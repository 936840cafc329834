"""The settings of the autoencoder family: what `streamd fit` can be told of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from streamd.fitting.base import Learned, Progress, ScorerSettings
from streamd.fitting.training_settings import TrainedSettings
from streamd.scorers.arrays import Reads
from streamd.scorers.dense import Activation
from streamd.scorers.networks.cells import Cell
from streamd.scorers.transform import Imputing, Scaling
from streamd.table import Table

KIND = "reconstruction"  # of scorers.reconstruction, which needs torch


class ReconstructionSettings(TrainedSettings):
    """What every autoencoder is told."""

    scaling: Scaling = "standard"
    """To mean 0 and deviation 1, or to 0 … 1 (`minmax`)."""

    bound: float = Field(default=10.0, gt=0)
    """Deviations, or ranges, that an input is clipped to, so that one infinite value does not hide all others."""

    output: Literal["linear", "sigmoid"] = "linear"
    """What the last layer ends with. `sigmoid` stays between 0 and 1, as `minmax` data does; but where most of an
    image is dark it saturates there, and learns nothing more."""

    batch_rows: int = Field(default=64, ge=1)
    """Rows of one step of the optimiser."""

    steps_max: int = Field(default=3000, ge=1)
    """Steps of the optimiser at most, so that many rows take no longer than they need."""

    outlying: float | None = Field(default=3.0, gt=1)
    """Rows whose error is over so many medians of their batch are not learned from: what is rare in the data then
    stays strange. None: every row is learned from. 10 where all rows are known to be normal, and the strangest of
    them should be learned too. `autoencoder` over the 14 sets of `make quality`, one seed, with 3, 10 and None: fitted
    on all rows AUROC 0.83, 0.79, 0.76; on normal rows alone 0.91 each, average precision 0.49, 0.55, 0.56."""

    inputs_max: int = Field(default=65_536, ge=1)
    """With more inputs than this nothing is fitted: it would take hours."""

    @property
    def kind(self) -> str:
        return KIND


class RowSettings(ReconstructionSettings):
    """What every autoencoder of columns is told."""

    hidden: tuple[int, ...] = Field(default=(64, 32), max_length=8)
    """Units of the encoder's layers before the code; the decoder mirrors them."""

    code: int | None = Field(default=None, ge=1)
    """Numbers that a row is squeezed into. None: the square root of the inputs, rounded up."""

    activation: Activation = "leaky_relu"
    """After each hidden layer. A plain `relu` dies in narrow layers."""

    imputing: Imputing = "mean"
    """What a missing number is taken for."""

    indicators: bool = True
    """Whether a column with missing values gets an input that tells them."""

    categories_max: int = Field(default=20, ge=1)
    """Commonest categories of a column that get an input of their own."""

    principal: float | None = Field(default=None, gt=0, le=1)
    """Share of the variance whose principal components the network works on, before and after which they are linear
    layers of it. Helps where there are many columns and few rows. None: the inputs themselves."""

    weighted: bool = True
    """Whether the error of each input is divided by what is usual for it, so that inputs which are always
    reconstructed well count as much as the others."""

    code_within: float | None = Field(default=0.95, gt=0, le=1)
    """Each number of a row's code is kept in the range that this central share of the learned rows have. A network
    goes on beyond what it has learned: it would reconstruct a row that is far out, but in a usual direction, as well
    as any other. None: codes are what they are. `autoencoder` over the 14 sets of `make quality` with 0.95 (chosen on
    seed 0) and with None, four other seeds: fitted on normal rows AUROC 0.921 and 0.910, average precision 0.53 and
    0.48; on all rows 0.821 and 0.806, 0.43 and 0.40."""

    @model_validator(mode="after")
    def _principal_is_not_bounded(self) -> RowSettings:
        if self.principal is not None and self.output == "sigmoid":
            raise ValueError("principal components are not between 0 and 1: output = sigmoid cannot make them")
        return self

    def candidates(self) -> tuple[ScorerSettings, ...]:
        """These first; wider and narrower ones, with fewer and more outliers left out; what was given is kept."""
        tried: dict[str, tuple[Any, ...]] = {"code": (self.code, 2, 8), "outlying": (self.outlying, 10.0)}
        if self.hidden:  # one hidden layer is the code alone
            tried["hidden"] = (self.hidden, (32,))
        return self.varied(tried)

    def comparable(self) -> ScorerSettings:
        return self.model_copy(update={"weighted": False, "code_within": None})

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        from streamd.fitting.networks_fit import learn_rows  # torch, which the command line need not wait for

        return learn_rows(self, learned, validating, progress)


KERAS = {
    "hidden": (32, 16),
    "code": 8,
    "activation": "relu",
    "output": "sigmoid",
    "scaling": "minmax",
    "outlying": None,
    "weighted": False,
    "code_within": None,
}


class AutoencoderSettings(RowSettings):
    """Options of `autoencoder`: the plain one."""

    type: Literal["autoencoder"] = "autoencoder"

    preset: Literal["keras-32-16-8"] | None = None
    """`keras-32-16-8`: 32-16-8 and back, ReLU, sigmoid out, min–max scaling, every row learned from, plain errors."""

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("preset") == "keras-32-16-8":
            return {**KERAS, **given}
        return given


class ShallowSettings(RowSettings):
    """Options of `shallow`: one hidden layer, the code. Little more than principal components, and as steady."""

    type: Literal["shallow"] = "shallow"

    hidden: tuple[int, ...] = Field(default=(), max_length=0)
    """None: the code is the only one."""


class SparseSettings(RowSettings):
    """Options of `sparse`: a wide code of which each row may use little (Ng 2011)."""

    type: Literal["sparse"] = "sparse"

    code: int | None = Field(default=32, ge=1)
    """Numbers that a row is written in; most of them near 0."""

    code_l1: float = Field(default=0.05, ge=0)
    """Weight of the mean size of those numbers."""


class VariationalSettings(RowSettings):
    """Options of `vae`: the code is a distribution, so that like rows have like codes (Kingma and Welling 2014)."""

    type: Literal["vae"] = "vae"


class ArraySettings(ReconstructionSettings):
    """What every autoencoder of images or windows is told."""

    column: str | None = None
    """The n-dimensional column that is read. None where there is only one."""

    scaling: Scaling = "minmax"
    """Of each channel: to 0 … 1, or to mean 0 and deviation 1 (`standard`)."""

    code: int = Field(default=32, ge=1)
    """Numbers that a row is squeezed into."""

    def candidates(self) -> tuple[ScorerSettings, ...]:
        return self.varied({"code": (self.code, self.code // 4, self.code * 2), "outlying": (self.outlying, 10.0)})

    def comparable(self) -> ScorerSettings:
        return self

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        from streamd.fitting.networks_fit import learn_arrays  # torch, which the command line need not wait for

        return learn_arrays(self, learned, validating, progress)


class ConvolutionalSettings(ArraySettings):
    """Options of `conv`: images, or windows of a series."""

    type: Literal["conv"] = "conv"

    reads: Reads = "images"
    """`images`: a row is (height, width) or (channels, height, width). `windows`: (time,) or (time, channels)."""

    filters: tuple[int, ...] = Field(default=(16, 32), min_length=1, max_length=6)
    """Of each layer of the encoder, which halves the sides; the decoder mirrors them."""


class RecurrentSettings(ArraySettings):
    """Options of `lstm` and `gru`: windows of a series, read and written step by step."""

    units: int = Field(default=64, ge=1)
    """Of the state."""

    code: int = Field(default=16, ge=1)
    """Numbers that a window is squeezed into."""

    learning_rate: float = Field(default=0.003, gt=0)
    """Of Adam. Recurrent networks learn slowly: this is as fast as stays steady."""

    @property
    def cell(self) -> Cell:
        raise NotImplementedError


class LstmSettings(RecurrentSettings):
    """Options of `lstm`: long short-term memory (Malhotra et al. 2016)."""

    type: Literal["lstm"] = "lstm"

    @property
    def cell(self) -> Cell:
        return "lstm"


class GruSettings(RecurrentSettings):
    """Options of `gru`: gated recurrent units (Cho et al. 2014), a little smaller and faster."""

    type: Literal["gru"] = "gru"

    @property
    def cell(self) -> Cell:
        return "gru"
