"""The settings of every scorer that can be fitted, by type: what `streamd fit --scorer` offers."""

from __future__ import annotations

from collections.abc import Mapping

from streamd.fitting.adversarial import (
    AnoGANSettings,
    DiscriminatorSettings,
    FAnoGANSettings,
    VaeGanSettings,
    WassersteinSettings,
)
from streamd.fitting.base import ScorerSettings
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.networks import (
    AutoencoderSettings,
    ConvolutionalSettings,
    GruSettings,
    LstmSettings,
    ShallowSettings,
    SparseSettings,
    VariationalSettings,
)
from streamd.fitting.onnx import OnnxSettings

_ALL: tuple[type[ScorerSettings], ...] = (
    AutoencoderSettings,
    ShallowSettings,
    SparseSettings,
    VariationalSettings,
    ConvolutionalSettings,
    LstmSettings,
    GruSettings,
    IsolationSettings,
    OnnxSettings,
    FAnoGANSettings,
    AnoGANSettings,
    VaeGanSettings,
    DiscriminatorSettings,
    WassersteinSettings,
)

SCORERS: Mapping[str, type[ScorerSettings]] = {each.model_fields["type"].default: each for each in _ALL}
