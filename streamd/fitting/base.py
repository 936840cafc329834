"""What every fit is: settings that learn a scorer from rows that are mostly normal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from numpy.typing import NDArray

from streamd.errors import StreamdError
from streamd.settings import Settings
from streamd.table import Table


class FitError(StreamdError):
    """The data cannot be learned from; the text says what is wrong, where, and what to do."""


class Epoch(NamedTuple):
    """One pass over the rows: what a progress bar and the loss curve show."""

    number: int
    most: int
    losses: Mapping[str, float]
    """By name: `training`, `validation`; of a GAN `generator`, `critic`."""


Progress = Callable[[Epoch], None]


def unwatched(epoch: Epoch) -> None:
    """The Progress of a fit that nobody looks at."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What a scorer's kind needs to score again: see `scorers.fitted.Fitted`."""

    described: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    note: str


class ScorerSettings(Settings):
    """The base of the settings of a fit. A subclass adds `type: Literal["…"]` and its fields.

    The union in `fitting.registry` is what `streamd fit --scorer` offers, and `scorers.registry` knows how what it
    learned is read. To add a scorer: its settings, its scorer, and one line in each of the two.
    """

    @property
    def kind(self) -> str:
        """The key in `scorers.registry` of what this fits."""
        raise NotImplementedError

    def candidates(self) -> tuple[ScorerSettings, ...]:
        """What `--search` tries: these settings first, then others near them."""
        return (self,)

    def comparable(self) -> ScorerSettings | None:
        """These settings, their scores on one scale with those of the other candidates: a reconstruction error in
        the same units. None where there are none, and only labels can tell which is better."""
        return None

    def varied(self, tried: Mapping[str, tuple[Any, ...]]) -> tuple[ScorerSettings, ...]:
        """Every combination of these values; an option that was given is kept. Of an option the first is the usual."""
        free = {name: values for name, values in tried.items() if name not in self.model_fields_set}
        return tuple(self.model_copy(update=dict(zip(free, each, strict=True))) for each in product(*free.values()))

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        """Fit to `learned`; `validating` decides when to stop. A pure function: all that is random is seeded.

        Raises:
            FitError: nothing can be learned from these rows.
        """
        raise NotImplementedError
