"""From rows to a taught adversarial scorer: choose the networks, play, teach what scores, write it down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from streamd.fitting.adversarial import (
    AdversarialSettings,
    AnoGANSettings,
    DiscriminatorSettings,
    FAnoGANSettings,
    ReconstructingSettings,
    VaeGanSettings,
    WassersteinSettings,
)
from streamd.fitting.adversarial_lessons import (
    PASS_STEPS,
    Class,
    EncoderLesson,
    GameLesson,
    LastLesson,
    VaeGanLesson,
)
from streamd.fitting.adversarial_losses import Game
from streamd.fitting.base import FitError, Learned, Progress
from streamd.fitting.preparation import array_transform
from streamd.fitting.training import Lesson, built, one_thread, train
from streamd.scorers.adversarial.architecture import Architecture, Family
from streamd.scorers.adversarial.comparison import Comparison
from streamd.scorers.adversarial.scorer import AnyTransform, flat_inputs
from streamd.scorers.arrays import Reads
from streamd.scorers.ferry import Ferry
from streamd.scorers.transform import Transform, learn_transform
from streamd.table import Table

UNITS: Mapping[Family, int] = {"dense": 64, "dcgan": 16, "lstm": 32}
LATENT_MIN, LATENT_MAX = 2, 32


class Taught(NamedTuple):
    """How rows are scored, by which networks.

    Attributes:
        described: beside the transform and the architecture.
        networks: by the prefix of their tensors' names.
        tensors: that are no network's.
    """

    described: dict[str, Any]
    networks: dict[str, nn.Module]
    tensors: dict[str, torch.Tensor]


def learn(settings: AdversarialSettings, learned: Table, validating: Table, progress: Progress) -> Learned:
    """See `base.ScorerSettings.learn`."""
    if not learned.rows or not validating.rows:
        raise FitError(f"{learned.rows} rows to learn from and {validating.rows} to stop by are too few")
    family = _family(settings, learned)
    transform = _transform(settings, family, learned)
    shape = (transform.inputs,) if isinstance(transform, Transform) else transform.shape
    latent = settings.latent or min(max(transform.inputs // 3, LATENT_MIN), LATENT_MAX)
    architecture = Architecture(family, shape, latent, settings.units or UNITS[family])
    device = Ferry(settings.device, rows_axis=-1, rows_max=1).device
    with one_thread():
        room = Class(
            learned=torch.from_numpy(flat_inputs(transform, learned)).to(device),
            validating=torch.from_numpy(flat_inputs(transform, validating)).to(device),
            generator=torch.Generator().manual_seed(settings.seed),
            game=Game(settings.loss, settings.penalty),
            latent=latent,
            learning_rate=settings.learning_rate,
            gradient_norm_max=settings.gradient_norm_max,
            batch_rows=min(settings.batch_rows, learned.rows),
        )
        teacher = _Teacher(settings, architecture, room, progress)
        taught = teacher.taught()
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, net in taught.networks.items()
        for name, tensor in net.state_dict().items()
    }
    tensors |= taught.tensors
    return Learned(
        {"transform": transform.described(), "architecture": architecture.described(), **taught.described},
        {**transform.tensors(), **{name: tensor.cpu().numpy() for name, tensor in tensors.items()}},
        f"{family} networks that played for {settings.loss}, fitted on {learned.rows} rows, {transform.inputs} inputs, "
        f"{latent} latent numbers, {teacher.passes} passes of {PASS_STEPS} steps",
    )


class _Teacher:
    """The lessons of one fit, in their order. All first weights come from the room's generator.

    Attributes:
        passes: made so far, of all lessons.
    """

    def __init__(
        self, settings: AdversarialSettings, architecture: Architecture, room: Class, progress: Progress
    ) -> None:
        self.passes = 0
        self._settings, self._architecture, self._room, self._progress = settings, architecture, room, progress
        self._generator = built(architecture.generator, room.generator).to(room.learned.device)
        self._discriminator = built(architecture.discriminator, room.generator).to(room.learned.device)

    def taught(self) -> Taught:
        match self._settings:
            case FAnoGANSettings() as settings:
                return self._f_anogan(settings)
            case AnoGANSettings() as settings:
                return self._anogan(settings)
            case VaeGanSettings() as settings:
                return self._vae_gan(settings)
            case DiscriminatorSettings() | WassersteinSettings() as settings:
                return self._discriminating(settings.blur)
            case other:
                raise TypeError(f"nothing is known about teaching {type(other).__name__}")

    def _f_anogan(self, settings: FAnoGANSettings) -> Taught:
        self._play()
        encoder = self._encoder(self._room.latent)
        self._teach(EncoderLesson(self._room, encoder, self._generator, self._comparison(settings)))
        return self._encoding(settings, encoder, self._room.latent)

    def _anogan(self, settings: AnoGANSettings) -> Taught:
        self._play()
        described = {
            "norm": settings.norm,
            "alpha": settings.alpha,
            "steps": settings.search_steps,
            "step_size": settings.search_step_size,
        }
        starts = self._room.normal(self._room.latent, settings.search_starts)
        networks = {"generator": self._generator, "discriminator": self._discriminator}
        return Taught({"method": "search", **described}, networks, {"starts": starts})

    def _vae_gan(self, settings: VaeGanSettings) -> Taught:
        encoder = self._encoder(2 * self._room.latent)
        weights = settings.divergence_weight, settings.adversarial_weight
        self._teach(VaeGanLesson(self._room, encoder, self._generator, self._comparison(settings), *weights))
        return self._encoding(settings, encoder, 2 * self._room.latent)

    def _discriminating(self, blur: float) -> Taught:
        self._play()
        if blur:
            self._discriminator = built(self._architecture.discriminator, self._room.generator).to(
                self._room.learned.device
            )
            self._teach(LastLesson(self._room, self._generator, self._discriminator, blur))
        return Taught({"method": "discriminator"}, {"discriminator": self._discriminator}, {})

    def _play(self) -> None:
        self._teach(GameLesson(self._room, self._generator, self._discriminator, self._settings.critic_steps))

    def _teach(self, lesson: Lesson) -> None:
        self.passes += train(lesson, self._settings, self._room.generator, self._progress)

    def _encoder(self, codes: int) -> nn.Module:
        return built(lambda: self._architecture.encoder(codes), self._room.generator).to(self._room.learned.device)

    def _comparison(self, settings: ReconstructingSettings) -> Comparison:
        return Comparison(self._discriminator, settings.norm, settings.alpha)

    def _encoding(self, settings: ReconstructingSettings, encoder: nn.Module, codes: int) -> Taught:
        networks = {"encoder": encoder, "generator": self._generator, "discriminator": self._discriminator}
        described = {"method": "encoder", "norm": settings.norm, "alpha": settings.alpha, "codes": codes}
        return Taught(described, networks, {})


def _family(settings: AdversarialSettings, table: Table) -> Family:
    if settings.network != "auto":
        return settings.network
    if settings.column is None and (table.numeric or table.categorical or not table.arrays):
        return "dense"
    name = settings.column or next(iter(table.arrays))
    dimensions = table.arrays[name].ndim - 1 if name in table.arrays else 2  # array_transform says what is wrong
    return "lstm" if dimensions == 1 else "dcgan"


def _transform(settings: AdversarialSettings, family: Family, table: Table) -> AnyTransform:
    if family == "dense":
        transform: AnyTransform = learn_transform(table, settings.bound, settings.categories_max, indicators=True)
    else:
        reads: Reads = "images" if family == "dcgan" else "windows"
        transform = array_transform(
            table, reads, scaling=settings.scaling, bound=settings.bound, column=settings.column
        )
    if not transform.inputs:
        raise FitError("there is no numeric or categorical column with a value")
    if transform.inputs > settings.inputs_max:
        raise FitError(f"{transform.inputs} inputs are over inputs_max = {settings.inputs_max}")
    return transform
