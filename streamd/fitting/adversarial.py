"""The settings of every adversarial scorer: `type` says how it scores, `loss` and `network` how it is taught."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from streamd.fitting.base import Learned, Progress, ScorerSettings
from streamd.fitting.training_settings import TrainedSettings
from streamd.table import Table

KIND = "adversarial"


class AdversarialSettings(TrainedSettings):
    """A generator that makes rows, and a discriminator that tells them from real ones."""

    network: Literal["auto", "dense", "dcgan", "lstm"] = "auto"
    """`dense` reads columns, `dcgan` images, `lstm` windows of a series. `auto`: columns where there are any, else by
    the one n-dimensional column: a row of one dimension is a window, of two or three an image."""

    loss: Literal["bce", "wgan-gp"] = "wgan-gp"
    """What is played for: `bce`, the first GAN's cross-entropy, or `wgan-gp`, Wasserstein's distance with a gradient
    penalty, which scores better on the small sets of ADBench."""

    column: str | None = None
    """The n-dimensional column that is read. None where there is only one."""

    latent: int | None = Field(default=None, ge=2, le=4096)
    """Numbers that a row is generated from. None: a third of the inputs, of 2 to 32."""

    units: int | None = Field(default=None, ge=2, le=4096)
    """Of each hidden layer, or of the LSTM's state, or filters of the first convolution. None: 64, 32 or 16."""

    critic_steps: int = Field(default=3, ge=1)
    """Steps of the discriminator for one of the generator. 5 in the paper; fewer leave it more of `steps_max`."""

    penalty: float = Field(default=10.0, ge=0)
    """λ of the gradient penalty: the paper's. `bce` has none."""

    scaling: Literal["standard", "minmax"] = "standard"
    """Of images and windows, channel by channel: to mean 0 and deviation 1, or to 0 … 1."""

    bound: float = Field(default=10.0, gt=0)
    """Standard deviations that an input is clipped to, so that one infinite value does not hide all others."""

    categories_max: int = Field(default=20, ge=1)
    """Commonest categories of a column that get an input of their own."""

    inputs_max: int = Field(default=16_384, ge=1)
    """With more inputs than this nothing is fitted: it would take hours."""

    steps_max: int = Field(default=1200, ge=1)
    """Steps of the discriminator at most, then of the encoder."""

    @property
    def kind(self) -> str:
        return KIND

    def candidates(self) -> tuple[ScorerSettings, ...]:
        losses = get_args(type(self).model_fields["loss"].annotation)
        return self.varied(
            {"loss": (self.loss, *(each for each in losses if each != self.loss)), "latent": (self.latent, 2, 8)}
        )

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        """Play, then teach what scores. A pass is 50 batches drawn at random."""
        from streamd.fitting.adversarial_fit import learn  # torch, which the command line need not wait for

        return learn(self, learned, validating, progress)


class ReconstructingSettings(AdversarialSettings):
    """Scores by what is left between a row and the one that is generated in its place."""

    norm: Literal["l1", "l2"] = "l2"
    """Of what is left: its mean size, or its mean square, in which single large deviations count more."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the mean squared distance in the discriminator's last hidden layer: κ of f-AnoGAN. 0 leaves it out."""


class FAnoGANSettings(ReconstructingSettings):
    """Options of `f-anogan`. An encoder finds the code of a row in one pass (Schlegl et al. 2019, `izi_f`)."""

    type: Literal["f-anogan"] = "f-anogan"


class AnoGANSettings(ReconstructingSettings):
    """Options of `anogan`. The code of a row is searched by gradient descent, slowly (Schlegl et al. 2017)."""

    type: Literal["anogan"] = "anogan"

    search_steps: int = Field(default=30, ge=0)
    """Steps of each row's search, and so the cost of scoring. 500 in the paper, from one random start."""

    search_step_size: float = Field(default=0.1, gt=0)
    """Of Adam, in standard deviations of the latent space."""

    search_starts: int = Field(default=32, ge=1)
    """Drawn once, when fitted: each row's search begins at the one whose generated row is nearest."""


class VaeGanSettings(ReconstructingSettings):
    """Options of `vae-gan`. A variational autoencoder, its decoder a generator too (Larsen et al. 2016)."""

    type: Literal["vae-gan"] = "vae-gan"

    divergence_weight: float = Field(default=0.1, ge=0)
    """Of the codes' divergence from the prior, per input."""

    adversarial_weight: float = Field(default=0.05, ge=0)
    """Of the game in what the generator learns, beside the likeness of a row that it makes again."""


class DiscriminatorSettings(AdversarialSettings):
    """Options of `discriminator`. Scores by how little the discriminator takes a row for real: one small pass."""

    type: Literal["discriminator"] = "discriminator"

    loss: Literal["bce", "wgan-gp"] = "bce"

    blur: float = Field(default=1.0, ge=0)
    """Deviations of the noise on generated rows in the discriminator's last lesson, which teaches it what lies around
    the data. 0 leaves the lesson out: the discriminator is then as the game left it, and often worse than chance."""


class WassersteinSettings(AdversarialSettings):
    """Options of `wgan-gp`. `discriminator` as a Wasserstein critic (Gulrajani et al. 2017)."""

    type: Literal["wgan-gp"] = "wgan-gp"

    loss: Literal["wgan-gp"] = "wgan-gp"

    blur: float = Field(default=2.0, ge=0)
    """See `discriminator`."""
