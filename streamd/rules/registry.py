"""Rules for training runs, one file each. `AnyRuleConfig`, the union of their Configs, is the whole registry.

To add one: write its module, and add its Config to the union.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamd.rules.first_max import FirstMaxConfig
from streamd.rules.level_drop import LevelDropConfig
from streamd.rules.loss_cap import LossCapConfig
from streamd.rules.loss_rise import LossRiseConfig
from streamd.rules.memory import MemoryConfig
from streamd.rules.nonfinite import NonfiniteConfig
from streamd.rules.river import RiverRuleConfig
from streamd.rules.rolling import RollingConfig
from streamd.rules.spike import SpikeConfig
from streamd.rules.validation_drop import ValidationDropConfig

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
    | RiverRuleConfig,
    Field(discriminator="type"),
]
