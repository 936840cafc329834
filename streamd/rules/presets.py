"""Sets of rules by name: ours, and those that others train large models by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from streamd.rules.all_zero import AllZeroConfig
from streamd.rules.base import RuleConfig
from streamd.rules.class_imbalance import ClassImbalanceConfig
from streamd.rules.confusion import ConfusionConfig
from streamd.rules.cpu_bottleneck import CpuBottleneckConfig
from streamd.rules.dead_relu import DeadReluConfig
from streamd.rules.exploding_tensor import ExplodingTensorConfig
from streamd.rules.first_max import FirstMaxConfig
from streamd.rules.gpu_memory_increase import GpuMemoryIncreaseConfig
from streamd.rules.io_bottleneck import IoBottleneckConfig
from streamd.rules.level_drop import LevelDropConfig
from streamd.rules.load_balancing import LoadBalancingConfig
from streamd.rules.loss_cap import LossCapConfig
from streamd.rules.loss_not_decreasing import LossNotDecreasingConfig
from streamd.rules.loss_rise import LossRiseConfig
from streamd.rules.low_gpu_utilization import LowGpuUtilizationConfig
from streamd.rules.max_initialization_time import MaxInitializationTimeConfig
from streamd.rules.memory import MemoryConfig
from streamd.rules.nonfinite import NonfiniteConfig
from streamd.rules.overfit import OverfitConfig
from streamd.rules.overtraining import OvertrainingConfig
from streamd.rules.poor_weight_initialization import PoorWeightInitializationConfig
from streamd.rules.rolling import RollingConfig
from streamd.rules.saturated_activation import SaturatedActivationConfig
from streamd.rules.similar_across_runs import SimilarAcrossRunsConfig
from streamd.rules.spike import SpikeConfig
from streamd.rules.step_outlier import StepOutlierConfig
from streamd.rules.tensor_variance import TensorVarianceConfig
from streamd.rules.unchanged_tensor import UnchangedTensorConfig
from streamd.rules.validation_drop import ValidationDropConfig
from streamd.rules.vanishing_gradient import VanishingGradientConfig
from streamd.rules.weight_update_ratio import WeightUpdateRatioConfig

PresetName = Literal[
    "streamd", "none", "sagemaker-debugger", "wandb", "olmo", "lightning", "llm-foundry", "megatron", "palm"
]

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

ABOUT: Mapping[str, str] = {
    "streamd": "Ours, the default: quiet on 37 healthy runs, and finds the 8 events in BigScience's chronicles.",
    "none": "No rules at all: to start from nothing.",
    "sagemaker-debugger": "Amazon's Debugger: its rules and default values. StalledTraining is silence_seconds.",
    "wandb": "The anomaly alert of its documentation: three deviations over the last 30.",
    "olmo": "SkipStepOptimizer: six deviations over 128 steps, of loss or gradient norm; the step is skipped.",
    "lightning": "SpikeDetection: twice the mean of ten; what is out is not learned, and its batch is skipped.",
    "llm-foundry": "KillLossSpike: twice the mean of 100 for over four steps, or half of the window over the cap.",
    "megatron": "Its rerun machine: ten times the largest of the first 100; NaN is checked beside it.",
    "palm": "PaLM, section 5.1: go back about 100 steps before the spike and skip 200 to 500 batches.",
}
"""Where each is from, in a sentence."""

PRESETS: Mapping[str, Mapping[str, RuleConfig]] = {
    "streamd": _STREAMD,
    "none": {},
    "sagemaker-debugger": {
        "vanishing_gradient": VanishingGradientConfig(),
        "exploding_tensor": ExplodingTensorConfig(),
        "weight_update_ratio": WeightUpdateRatioConfig(),
        "all_zero": AllZeroConfig(),
        "dead_relu": DeadReluConfig(),
        "saturated_activation": SaturatedActivationConfig(),
        "tensor_variance": TensorVarianceConfig(),
        "unchanged_tensor": UnchangedTensorConfig(),
        "poor_weight_initialization": PoorWeightInitializationConfig(),
        "loss_not_decreasing": LossNotDecreasingConfig(),
        "overfit": OverfitConfig(),
        "overtraining": OvertrainingConfig(),
        "class_imbalance": ClassImbalanceConfig(),
        "confusion": ConfusionConfig(),
        "similar_across_runs": SimilarAcrossRunsConfig(),
        "step_outlier": StepOutlierConfig(),
        "low_gpu_utilization": LowGpuUtilizationConfig(),
        "cpu_bottleneck": CpuBottleneckConfig(),
        "io_bottleneck": IoBottleneckConfig(),
        "gpu_memory_increase": GpuMemoryIncreaseConfig(),
        "load_balancing": LoadBalancingConfig(),
        "max_initialization_time": MaxInitializationTimeConfig(),
    },
    "wandb": {"loss_spike": RollingConfig(window=30, deviations=3.0)},
    "olmo": {
        "loss_spike": RollingConfig(window=128, deviations=6.0, both_ways=True, actions=("skip_batches",)),
        "grad_norm_spike": RollingConfig(
            metrics=("grad_norm",), window=128, deviations=6.0, both_ways=True, actions=("skip_batches",)
        ),
    },
    "lightning": {
        "nonfinite": NonfiniteConfig(metrics=("loss",), actions=("skip_batches",)),
        "loss_spike": RollingConfig(window=10, multiple=2.0, learn_all=False, actions=("skip_batches",)),
    },
    "llm-foundry": {
        "loss_spike": RollingConfig(window=100, multiple=2.0, in_a_row=5, actions=("stop",)),
        "loss_cap": LossCapConfig(actions=("stop",)),
    },
    "megatron": {"nonfinite": NonfiniteConfig(metrics=("loss",)), "loss_spike": FirstMaxConfig()},
    "palm": {
        "nonfinite": NonfiniteConfig(actions=("rollback", "skip_batches"), back_steps=100, skip_count=300),
        "loss_spike": SpikeConfig(
            severity="critical", actions=("rollback", "skip_batches"), back_steps=100, skip_count=300
        ),
    },
}
