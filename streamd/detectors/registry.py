"""Detectors, one file each. `AnyDetectorConfig`, the union of their Configs, is the whole registry.

To add one: write its module, and add its Config to the union.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamd.detectors.autoencoder import AutoencoderConfig
from streamd.detectors.cardinality import CardinalityConfig
from streamd.detectors.chi2 import Chi2Config
from streamd.detectors.entropy import EntropyConfig
from streamd.detectors.iqr import IqrConfig
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.detectors.river import RiverConfig
from streamd.detectors.scorer import ScorerConfig
from streamd.detectors.zscore import ZscoreConfig

AnyDetectorConfig = Annotated[
    KsConfig
    | Chi2Config
    | EntropyConfig
    | ZscoreConfig
    | IqrConfig
    | CardinalityConfig
    | QualityConfig
    | AutoencoderConfig
    | ScorerConfig
    | RiverConfig,
    Field(discriminator="type"),
]

DEFAULT_DETECTORS = ("ks", "chi2", "entropy", "zscore", "quality", "autoencoder")
"""What every stream gets without any configuration."""
