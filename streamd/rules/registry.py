"""Rules for training runs, one file each. `AnyRuleConfig`, the union of their Configs, is the whole registry.

To add one: write its module, and add its Config to the union.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

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
from streamd.rules.river import RiverRuleConfig
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

AnyRuleConfig = Annotated[
    NonfiniteConfig
    | LossRiseConfig
    | ValidationDropConfig
    | MemoryConfig
    | SpikeConfig
    | LevelDropConfig
    | RollingConfig
    | FirstMaxConfig
    | LossCapConfig
    | RiverRuleConfig
    | VanishingGradientConfig
    | ExplodingTensorConfig
    | WeightUpdateRatioConfig
    | AllZeroConfig
    | DeadReluConfig
    | SaturatedActivationConfig
    | TensorVarianceConfig
    | UnchangedTensorConfig
    | PoorWeightInitializationConfig
    | LossNotDecreasingConfig
    | OverfitConfig
    | OvertrainingConfig
    | ClassImbalanceConfig
    | ConfusionConfig
    | SimilarAcrossRunsConfig
    | StepOutlierConfig
    | LowGpuUtilizationConfig
    | CpuBottleneckConfig
    | IoBottleneckConfig
    | GpuMemoryIncreaseConfig
    | LoadBalancingConfig
    | MaxInitializationTimeConfig,
    Field(discriminator="type"),
]

RULE_TYPES: Mapping[str, type[RuleConfig]] = {
    get_args(config.model_fields["type"].annotation)[0]: config for config in get_args(get_args(AnyRuleConfig)[0])
}
"""`type` in the configuration -> its Config."""
