"""How adversarial networks are taught: the game, f-AnoGAN's encoder, the VAE-GAN, and the discriminator's last lesson.

A pass is 50 batches drawn at random, however many rows there are: a game needs steps, not epochs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from streamd.fitting.adversarial_losses import Game, divergence, energy_distance
from streamd.scorers.adversarial.comparison import Comparison
from streamd.scorers.adversarial.layers import Discriminator

PASS_STEPS = 50
COMPARED_ROWS = 512  # on which a pass is judged: their distances are compared pair by pair
LOG_VARIANCE_MAX = 10.0


@dataclass(frozen=True, eq=False)
class Class:
    """What all lessons share.

    Attributes:
        learned: (inputs, rows) on the device.
        validating: (inputs, rows) that decide when to stop.
        generator: of all that is random; on the processor, so that every device draws the same.
    """

    learned: torch.Tensor
    validating: torch.Tensor
    generator: torch.Generator
    game: Game
    latent: int
    learning_rate: float
    gradient_norm_max: float
    batch_rows: int

    def real(self, rows: int) -> torch.Tensor:
        """(inputs, rows) drawn from those that are learned."""
        return self.learned[:, torch.randint(self.learned.shape[1], (rows,), generator=self.generator)]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator).to(self.learned.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.generator).to(self.learned.device)

    def optimiser(self, network: nn.Module, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=betas, fused=True)

    def descend(self, loss: torch.Tensor, optimisers: Iterable[torch.optim.Adam]) -> None:
        """One step down the loss of these optimisers' networks, and of no other."""
        chosen = list(optimisers)
        parameters = [p for optimiser in chosen for group in optimiser.param_groups for p in group["params"]]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, self.gradient_norm_max)
        for optimiser in chosen:
            optimiser.step()


class GameLesson:
    """Generator against discriminator. A pass is judged by the energy distance of generated and validating rows:
    the losses of a game say nothing of how well it is played."""

    def __init__(self, room: Class, generator: nn.Module, discriminator: Discriminator, critic_steps: int) -> None:
        self.rows = PASS_STEPS * room.batch_rows
        self._room = room
        self._generator, self._discriminator = generator, discriminator
        self._critic_steps = critic_steps
        self._steps = 0
        self._generator_loss = torch.zeros((), device=room.learned.device)
        self._optimisers = [room.optimiser(network, room.game.betas) for network in (generator, discriminator)]
        self._compared = spread(room.validating, COMPARED_ROWS)
        self._latents = room.normal(room.latent, COMPARED_ROWS)

    def kept(self) -> Sequence[torch.Tensor]:
        return [*self._generator.parameters(), *self._discriminator.parameters()]

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        room, rows = self._room, len(chosen)
        real = room.real(rows)
        with torch.no_grad():
            fake = self._generator(room.normal(room.latent, rows))
        loss = room.game.critic_loss(self._discriminator, real, fake, room.uniform(1, rows))
        room.descend(loss, self._optimisers[1:])
        self._steps += 1
        if self._steps % self._critic_steps == 0:
            judged = self._discriminator(self._generator(room.normal(room.latent, rows)))
            generator_loss = room.game.generator_loss(judged)
            room.descend(generator_loss, self._optimisers[:1])
            self._generator_loss = generator_loss.detach()
        return {"critic": loss.detach(), "generator": self._generator_loss}

    def check(self) -> float:
        with torch.no_grad():
            return energy_distance(self._generator(self._latents), self._compared)


class EncoderLesson:
    """f-AnoGAN's `izi_f`: an encoder learns the code from which the finished generator makes a row again, by what
    is left between the two, in the inputs and in the discriminator's features (Schlegl et al. 2019)."""

    def __init__(self, room: Class, encoder: nn.Module, generator: nn.Module, comparison: Comparison) -> None:
        self.rows = PASS_STEPS * room.batch_rows
        self._room = room
        self._encoder, self._generator, self._comparison = encoder, generator, comparison
        self._optimiser = room.optimiser(encoder)

    def kept(self) -> Sequence[torch.Tensor]:
        return list(self._encoder.parameters())

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        loss = self._loss(self._room.real(len(chosen)))
        self._room.descend(loss, [self._optimiser])
        return {"encoder": loss.detach()}

    def check(self) -> float:
        with torch.no_grad():
            return float(self._loss(self._room.validating))

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        return self._comparison(rows, self._generator(self._encoder(rows))).mean()


class VaeGanLesson:
    """A variational autoencoder whose decoder is the generator of a game (Larsen et al. 2016): rows that are made
    again are compared in the discriminator's features too. The encoder gives (2 · latent, rows): means, then the
    logarithms of the variances."""

    def __init__(
        self,
        room: Class,
        encoder: nn.Module,
        generator: nn.Module,
        comparison: Comparison,
        divergence_weight: float,
        adversarial_weight: float,
    ) -> None:
        self.rows = PASS_STEPS * room.batch_rows
        self._room = room
        self._encoder, self._generator, self._comparison = encoder, generator, comparison
        self._discriminator = cast(Discriminator, comparison.discriminator)  # here it is learning, so a module
        self._divergence_weight, self._adversarial_weight = divergence_weight, adversarial_weight
        self._autoencoder = [room.optimiser(encoder), room.optimiser(generator)]
        self._critic = room.optimiser(self._discriminator, room.game.betas)

    def kept(self) -> Sequence[torch.Tensor]:
        networks = (self._encoder, self._generator, self._discriminator)
        return [parameter for network in networks for parameter in network.parameters()]

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        room, rows = self._room, len(chosen)
        real = room.real(rows)
        means, log_variances = self._encoder(real).chunk(2)
        log_variances = log_variances.clamp(-LOG_VARIANCE_MAX, LOG_VARIANCE_MAX)
        code = means + (log_variances / 2).exp() * room.normal(room.latent, rows)
        again, made = self._generator(code), self._generator(room.normal(room.latent, rows))
        half = rows // 2
        fake = torch.cat([again[:, :half], made[:, half:]], dim=1).detach()
        critic = room.game.critic_loss(self._discriminator, real, fake, room.uniform(1, rows))
        played = room.game.generator_loss(self._discriminator(torch.cat([again, made], dim=1)))
        likeness = self._comparison(real, again).mean()
        code_cost = divergence(means, log_variances).mean() / len(real)
        loss = likeness + self._divergence_weight * code_cost + self._adversarial_weight * played
        room.descend(loss, self._autoencoder)
        room.descend(critic, [self._critic])
        return {"critic": critic.detach(), "generator": played.detach(), "reconstruction": likeness.detach()}

    def check(self) -> float:
        with torch.no_grad():
            rows = self._room.validating
            return float(self._comparison(rows, self._generator(self._encoder(rows)[: self._room.latent])).mean())


class LastLesson:
    """A discriminator that is to judge alone learns what lies around the data.

    At the end of the game it knows the seam between data and generator; what is beyond both it has never seen, and
    a Wasserstein critic calls that the more real the further it is. So a new one is taught against rows of the
    finished generator to which normal noise is added. It stops by its own loss on the validating rows.
    """

    def __init__(self, room: Class, generator: nn.Module, discriminator: Discriminator, blur: float) -> None:
        self.rows = PASS_STEPS * room.batch_rows
        self._room = room
        self._generator, self._discriminator, self._blur = generator, discriminator, blur
        self._optimiser = room.optimiser(discriminator, room.game.betas)
        self._fake = self._made(room.validating.shape[1])
        self._mixture = room.uniform(1, room.validating.shape[1])

    def kept(self) -> Sequence[torch.Tensor]:
        return list(self._discriminator.parameters())

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        room, rows = self._room, len(chosen)
        loss = room.game.critic_loss(self._discriminator, room.real(rows), self._made(rows), room.uniform(1, rows))
        room.descend(loss, [self._optimiser])
        return {"critic": loss.detach()}

    def check(self) -> float:
        room = self._room
        return float(room.game.critic_loss(self._discriminator, room.validating, self._fake, self._mixture).detach())

    def _made(self, rows: int) -> torch.Tensor:
        with torch.no_grad():
            made: torch.Tensor = self._generator(self._room.normal(self._room.latent, rows))
        return made + self._blur * self._room.normal(*made.shape)


def spread(rows: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of (inputs, rows), evenly from all of them."""
    count = rows.shape[1]
    return rows if count <= most else rows[:, torch.arange(most, device=rows.device) * count // most]
