"""What is taught to the autoencoder family, and how one step of it is made. `networks` has the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
import torch
from torch import nn

from streamd.scorers.dense import Activation, Layer, reconstruct
from streamd.scorers.transform import Inputs

Parameters = list[tuple[torch.Tensor, torch.Tensor]]


def glorot(widths: Sequence[int], generator: torch.Generator) -> Parameters:
    """Weights (out, in) drawn uniformly from ±√(6 / (in + out)) (Glorot and Bengio 2010), biases (out, 1) of 0."""
    parameters = []
    for wide, narrow in pairwise(widths):
        limit = (6 / (wide + narrow)) ** 0.5
        weights = (torch.rand(narrow, wide, generator=generator) * 2 - 1) * limit
        parameters.append((weights.requires_grad_(), torch.zeros(narrow, 1, requires_grad=True)))
    return parameters


def mean_of_usual(losses: torch.Tensor, values: torch.Tensor, outlying: float | None) -> torch.Tensor:
    """The mean of the values (rows,) of the rows whose losses (rows,) are at most `outlying` times their median.

    A robust loss in the sense of Rousseeuw (1984): who lies far from the rest has no say.
    """
    if outlying is None:
        return values.mean()
    losses = losses.detach()
    usual = losses <= outlying * losses.median()
    return (
        torch.where(usual, values, 0.0).sum() / usual.sum()
    )  # a mask: to count them, a GPU would have to be waited for


def on(device: torch.device, rows: Inputs) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device)


class _Adam:
    """Adam (Kingma and Ba 2015) with gradients of a bounded length."""

    def __init__(self, parameters: Sequence[torch.Tensor], learning_rate: float, norm_max: float) -> None:
        self.parameters = list(parameters)
        self._norm_max = norm_max
        self._optimiser = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)

    def step(self, loss: torch.Tensor) -> None:
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self._norm_max < math.inf:
            nn.utils.clip_grad_norm_(self.parameters, self._norm_max)
        self._optimiser.step()


class DenseLesson:
    """The mean squared error of the dense network, without the outliers of each batch.

    Leaving those out keeps the network from learning what is rare.

    Args:
        learned, validating: (inputs, rows).
        widths: of all layers, input and output included.
        activations: of each layer.
        outlying: rows whose error is over so many medians of their batch are not learned from; None: all are.
        code_l1: weight of the mean size of the code's numbers (sparse autoencoder, Ng 2011).
    """

    def __init__(
        self,
        learned: Inputs,
        validating: Inputs,
        widths: Sequence[int],
        activations: Sequence[Activation],
        generator: torch.Generator,
        *,
        learning_rate: float,
        gradient_norm_max: float = math.inf,
        outlying: float | None = None,
        code_l1: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        device = device or torch.device("cpu")
        self.rows = learned.shape[1]
        self._learned, self._validating = on(device, learned), on(device, validating)
        drawn = glorot(widths, generator)
        self.parameters = [
            (w.detach().to(device).requires_grad_(), b.detach().to(device).requires_grad_()) for w, b in drawn
        ]
        self._activations = activations
        self._encoder_layers = len(self.parameters) // 2
        self._outlying, self._code_l1 = outlying, code_l1
        self._adam = _Adam(list(chain.from_iterable(self.parameters)), learning_rate, gradient_norm_max)

    def kept(self) -> Sequence[torch.Tensor]:
        return self._adam.parameters

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        loss = self._loss(self._learned[:, chosen.to(self._learned.device)])
        self._adam.step(loss)
        return {"training": loss.detach()}

    def check(self) -> float | None:
        if not self._validating.shape[1]:
            return None
        with torch.no_grad():
            return float(self._loss(self._validating))

    def layers(self) -> tuple[Layer, ...]:
        """Weights (out, in) and biases (out,) of each, as they are now."""
        return as_layers(self.parameters)

    def _loss(self, rows: torch.Tensor) -> torch.Tensor:
        code, outputs = self._run(rows)
        if self._outlying is None:
            loss = nn.functional.mse_loss(outputs, rows)
        else:
            losses = (outputs - rows).square().mean(dim=0)
            loss = mean_of_usual(losses, losses, self._outlying)
        return loss + self._code_l1 * code.abs().mean() if self._code_l1 else loss

    def _run(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs, rows) → the code (code, rows), the reconstruction (inputs, rows)."""
        if not self._code_l1:
            return rows, reconstruct(self.parameters, rows, self._activations)
        middle = self._encoder_layers
        code = reconstruct(self.parameters[:middle], rows, self._activations[:middle])
        return code, reconstruct(self.parameters[middle:], code, self._activations[middle:])


class VariationalLesson:
    """The evidence lower bound (Kingma and Welling 2014), without the outliers of each batch.

    Outputs are Gaussian with one variance for all, the best one for the batch, found in closed form (σ-VAE, Rybkin,
    Daniilidis and Levine 2021), so that no weight between the two parts has to be chosen:

        −ELBO = inputs / 2 · ln(mean squared error) + KL(N(mean, deviation²) ‖ N(0, 1))

    Args: as those of DenseLesson. The code's layer is the middle one of `widths`, and is linear.
    """

    def __init__(
        self,
        learned: Inputs,
        validating: Inputs,
        widths: Sequence[int],
        activations: Sequence[Activation],
        generator: torch.Generator,
        *,
        learning_rate: float,
        gradient_norm_max: float,
        outlying: float | None,
        device: torch.device,
    ) -> None:
        self.rows = learned.shape[1]
        self._learned, self._validating = on(device, learned), on(device, validating)
        self._noise = generator
        self._middle = middle = len(widths) // 2  # the code's place, and the number of the encoder's layers
        drawn = [*glorot(widths, generator), *glorot((widths[middle - 1], widths[middle]), generator)]
        drawn = [(w.detach().to(device).requires_grad_(), b.detach().to(device).requires_grad_()) for w, b in drawn]
        self.parameters, self._deviation = drawn[:-1], drawn[-1]
        self._activations = activations
        self._outlying = outlying
        self._adam = _Adam(list(chain.from_iterable(drawn)), learning_rate, gradient_norm_max)

    def kept(self) -> Sequence[torch.Tensor]:
        return self._adam.parameters

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        rows = self._learned[:, chosen.to(self._learned.device)]
        shape = (len(self._deviation[1]), rows.shape[1])
        loss = self._loss(rows, torch.randn(shape, generator=self._noise).to(rows.device))
        self._adam.step(loss)
        return {"training": loss.detach()}

    def check(self) -> float | None:
        """Without noise: the same weights give the same loss."""
        if not self._validating.shape[1]:
            return None
        with torch.no_grad():
            return float(self._loss(self._validating, None))

    def layers(self) -> tuple[Layer, ...]:
        """Weights (out, in) and biases (out,) of each from the inputs to the mean of the outputs."""
        return as_layers(self.parameters)

    def _loss(self, rows: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        middle = self._middle
        hidden = reconstruct(self.parameters[: middle - 1], rows, self._activations[: middle - 1])
        mean = reconstruct(self.parameters[middle - 1 : middle], hidden, ("linear",))
        log_variance = reconstruct([self._deviation], hidden, ("linear",)).clamp(-20, 20)  # no overflow of exp
        code = mean if noise is None else mean + (0.5 * log_variance).exp() * noise
        outputs = reconstruct(self.parameters[middle:], code, self._activations[middle:])
        squared = (outputs - rows).square().mean(dim=0)  # (rows,)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=0)
        error = mean_of_usual(squared, squared, self._outlying)
        return 0.5 * len(rows) * (error + 1e-6).log() + mean_of_usual(squared, divergence, self._outlying)


class ModuleLesson:
    """The mean squared error of a network over images or windows, without the outliers of each batch.

    Args:
        learned, validating: (rows, channels, …).
    """

    def __init__(
        self,
        network: nn.Module,
        learned: Inputs,
        validating: Inputs,
        *,
        learning_rate: float,
        gradient_norm_max: float,
        outlying: float | None,
        batch_rows: int,
        device: torch.device,
    ) -> None:
        self.rows = len(learned)
        self.network = network.to(device)
        self._learned, self._validating = on(device, learned), on(device, validating)
        self._outlying, self._batch_rows = outlying, batch_rows
        self._adam = _Adam(list(self.network.parameters()), learning_rate, gradient_norm_max)

    def kept(self) -> Sequence[torch.Tensor]:
        return [*self.network.parameters(), *self.network.buffers()]

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        losses = self._losses(self._learned[chosen.to(self._learned.device)])
        loss = mean_of_usual(losses, losses, self._outlying)
        self._adam.step(loss)
        return {"training": loss.detach()}

    def check(self) -> float | None:
        if not len(self._validating):
            return None
        with torch.no_grad():
            losses = torch.cat([self._losses(rows) for rows in self._validating.split(self._batch_rows)])  # type: ignore[no-untyped-call]
            return float(mean_of_usual(losses, losses, self._outlying))

    def _losses(self, rows: torch.Tensor) -> torch.Tensor:
        """(rows, channels, …) → (rows,)"""
        left: torch.Tensor = self.network(rows) - rows
        return left.square().flatten(1).mean(dim=1)


def as_layers(parameters: Parameters) -> tuple[Layer, ...]:
    return tuple((w.detach().cpu().numpy().copy(), b.detach().cpu().numpy()[:, 0].copy()) for w, b in parameters)
