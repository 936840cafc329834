"""Sets of rules by name: ours, and those that others train large models by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from streamd.rules.base import RuleConfig
from streamd.rules.first_max import FirstMaxConfig
from streamd.rules.level_drop import LevelDropConfig
from streamd.rules.loss_cap import LossCapConfig
from streamd.rules.loss_rise import LossRiseConfig
from streamd.rules.memory import MemoryConfig
from streamd.rules.nonfinite import NonfiniteConfig
from streamd.rules.rolling import RollingConfig
from streamd.rules.spike import SpikeConfig
from streamd.rules.validation_drop import ValidationDropConfig

PresetName = Literal["streamd", "none", "wandb", "olmo", "lightning", "llm-foundry", "megatron", "palm"]

_STREAMD: Mapping[str, RuleConfig] = {
    "nonfinite": NonfiniteConfig(),
    "loss_rise": LossRiseConfig(),
    "validation_drop": ValidationDropConfig(),
    "memory": MemoryConfig(),
    "loss_spike": SpikeConfig(),
    # A norm ten times its level is no batch: the healthy run of ours whose norms we have never passes 7.5.
    "grad_norm_spike": SpikeConfig(
        metrics=("grad_norm",), log=True, rise=2.0, rise_unknown=9.0, rise_at_once=9.0, in_a_row=3
    ),
    "loss_drop": LevelDropConfig(),
}

PRESETS: Mapping[str, Mapping[str, RuleConfig]] = {
    "streamd": _STREAMD,
    "none": {},
    # The anomaly alert of its documentation: three deviations over the last 30.
    "wandb": {"loss_spike": RollingConfig(window=30, deviations=3.0)},
    # SkipStepOptimizer: six deviations over 128 steps, of the loss or of the gradient norm; the step is skipped.
    "olmo": {
        "loss_spike": RollingConfig(window=128, deviations=6.0, both_ways=True, actions=("skip_batches",)),
        "grad_norm_spike": RollingConfig(
            metrics=("grad_norm",), window=128, deviations=6.0, both_ways=True, actions=("skip_batches",)
        ),
    },
    # SpikeDetection: twice the mean of ten; what is out is not learned.
    "lightning": {
        "nonfinite": NonfiniteConfig(metrics=("loss",), actions=("skip_batches",)),
        "loss_spike": RollingConfig(window=10, multiple=2.0, learn_all=False, actions=("skip_batches",)),
    },
    # KillLossSpike: twice the mean of 100 for more than four steps, or half of the window over the cap.
    "llm-foundry": {
        "loss_spike": RollingConfig(window=100, multiple=2.0, in_a_row=5, actions=("stop",)),
        "loss_cap": LossCapConfig(actions=("stop",)),
    },
    # Its rerun machine: ten times the largest of the first 100; NaN is checked beside it.
    "megatron": {"nonfinite": NonfiniteConfig(metrics=("loss",)), "loss_spike": FirstMaxConfig()},
    # PaLM, section 5.1: go back about 100 steps before the spike and skip 200 to 500 batches.
    "palm": {
        "nonfinite": NonfiniteConfig(actions=("rollback", "skip_batches"), back_steps=100, skip_count=300),
        "loss_spike": SpikeConfig(
            severity="critical", actions=("rollback", "skip_batches"), back_steps=100, skip_count=300
        ),
    },
}
