"""A fitted adversarial scorer: read from its parts, brought to its device, and asked about rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from streamd.scorers.adversarial.architecture import Architecture
from streamd.scorers.adversarial.comparison import Comparison
from streamd.scorers.adversarial.judges import DiscriminatorJudge, EncoderJudge, Judge, SearchJudge
from streamd.scorers.adversarial.layers import Discriminating, plain, plain_discriminator
from streamd.scorers.arrays import ArrayTransform
from streamd.scorers.ferry import Ferry
from streamd.scorers.fitted import Fitted
from streamd.scorers.lanes import Forward
from streamd.scorers.registry import Device
from streamd.scorers.transform import Inputs, Transform
from streamd.table import FloatArray, Table

KIND = "adversarial"
ROWS_MAX = 4096  # of one pass: the memory that a batch takes has a bound
Method = Literal["encoder", "search", "discriminator"]
AnyTransform = Transform | ArrayTransform
Network = TypeVar("Network", bound=nn.Module)


class AdversarialScores:
    """The scores of one batch. See `base.Scores`."""

    def __init__(self, scorer: AdversarialScorer, inputs: Inputs, values: FloatArray) -> None:
        self.values = values
        self._scorer = scorer
        self._inputs = inputs

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        return self._scorer.shares(self._inputs[:, rows])


class AdversarialScorer:
    """See `base.Scorer`.

    Args:
        ferry: to the device where the judge's networks are.
    """

    def __init__(self, transform: AnyTransform, judge: Judge, ferry: Ferry) -> None:
        self.features = transform.features
        self._transform = transform
        self._judge = judge
        self._ferry = ferry

    @property
    def shrunk(self) -> bool:
        """Whether batches are scored in parts, because the device's memory was exhausted."""
        return self._ferry.shrunk

    def score(self, table: Table) -> AdversarialScores:
        inputs = flat_inputs(self._transform, table)
        values = self._asked(self._judge.score, inputs).astype(np.float64)
        unknown = self._transform.unknown_rows(table)
        if unknown is not None:
            values[unknown] = np.nan
        return AdversarialScores(self, inputs, values)

    def shares(self, inputs: Inputs) -> FloatArray:
        """(inputs, rows) → (features, rows): see `base.Scores.explain`. Images and windows have but one feature."""
        if isinstance(self._transform, ArrayTransform):
            return np.ones((1, inputs.shape[1]))
        return self._transform.by_feature(self._asked(self._judge.shares, inputs).reshape(inputs.shape))

    def _asked(self, question: Forward, inputs: Inputs) -> NDArray[np.float32]:
        """What the judge says of (inputs, rows)."""
        return self._ferry.carry(question, np.ascontiguousarray(inputs)) if inputs.shape[1] else np.empty(0, np.float32)


def flat_inputs(transform: AnyTransform, table: Table) -> Inputs:
    """(inputs, rows) float32, whatever the shape of a row."""
    inputs = transform(table)
    if isinstance(transform, Transform):
        return inputs
    return np.ascontiguousarray(inputs.reshape(len(inputs), -1).T)


def load(fitted: Fitted, device: Device = "auto") -> AdversarialScorer:
    """The scorer that was fitted, on its device.

    Raises:
        ValueError: its parts do not fit each other.
        RuntimeError: `cuda` is asked for and there is none.
    """
    ferry = Ferry(device, rows_axis=-1, rows_max=ROWS_MAX)
    described = fitted.described
    try:
        reader = ArrayTransform if "array" in described["transform"] else Transform
        transform: AnyTransform = reader.from_parts(described["transform"], fitted.tensors)
        architecture = Architecture.from_described(described["architecture"])
        if transform.inputs != architecture.inputs:
            raise ValueError(f"its columns make {transform.inputs} inputs, its networks take {architecture.inputs}")
        judge = _judge(described, architecture, fitted.tensors, ferry.device)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this adversarial scorer lacks a part: {error!r}") from error
    return AdversarialScorer(transform, judge, ferry)


def _judge(
    described: Mapping[str, Any], architecture: Architecture, tensors: Mapping[str, NDArray[Any]], device: torch.device
) -> Judge:
    method: Method = described["method"]
    taught = _filled(architecture.discriminator, "discriminator", tensors, device)
    discriminator: Discriminating = plain_discriminator(taught)
    if method == "discriminator":
        return DiscriminatorJudge(discriminator)
    comparison = Comparison(discriminator, described["norm"], described["alpha"])
    generator = plain(_filled(architecture.generator, "generator", tensors, device))
    if method == "search":
        starts = torch.tensor(tensors["starts"], device=device)
        if starts.ndim != 2 or len(starts) != architecture.latent:
            raise ValueError(f"its search begins at {tuple(starts.shape)}, its generator takes {architecture.latent}")
        return SearchJudge(generator, comparison, starts, described["steps"], described["step_size"])
    if method == "encoder":
        encoder = plain(_filled(lambda: architecture.encoder(described["codes"]), "encoder", tensors, device))
        return EncoderJudge(encoder, generator, comparison, architecture.latent)
    raise ValueError(f"rows cannot be scored by {method!r}")


def _filled(
    make: Callable[[], Network], prefix: str, tensors: Mapping[str, NDArray[Any]], device: torch.device
) -> Network:
    """The network with the weights whose names begin with its own."""
    with torch.device("meta"):  # no weights yet: torch would draw them from the global generator
        network = make()
    weights = {
        name.removeprefix(f"{prefix}."): torch.tensor(values, device=device)
        for name, values in tensors.items()
        if name.startswith(f"{prefix}.")
    }
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:  # a name or a shape
        raise ValueError(f"the {prefix}'s weights do not fit: {error}") from error
    return network.requires_grad_(False)
