"""One stream: its reference, its detectors, its policy, and how it comes by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from streamd.collection import Collection
from streamd.detectors.base import ByColumn, Detector, DetectorConfig, Reference, State, is_bundled
from streamd.detectors.quality import QualityConfig, no_data_verdict
from streamd.engine_settings import StreamSettings
from streamd.errors import InvalidRecord, Reason
from streamd.kept import Kept, config_key, fit_key
from streamd.model import FeatureBatch, ReferencePart, Verdict, Window
from streamd.policy import Policy
from streamd.profiles import Profiles
from streamd.seasons import PHASES, SEASONS_LEARNED, SEASONS_MS, LikeWithLike, phases_of
from streamd.table import PHASE_ROWS_MIN, Table, beside, concatenate

EARLIER_MAX = 3
"""References of a stream before the present one that can be put in force again."""

ANEW_ROWS = 2000
"""Rows that make the new reference of one column where no `first_rows` says: all that the judges keep."""


class Stream:
    """What the engine holds for one name. Everything that moves is in `snapshot()`."""

    def __init__(self, name: str, settings: StreamSettings, profiles: Profiles) -> None:
        self.name = name
        self.settings = settings
        self.policy = Policy(settings.policy, sum(config.judges for config in settings.detectors.values()))
        self.reference: Reference | None = None
        self.weights: dict[str, bytes] = {}
        self.trainings: dict[str, str] = {}  # detector -> the fit_key of what was asked for, whatever came of it
        self.last_record_ms = 0
        self.silent = False  # the silence since `last_record_ms` was already told
        self._profiles = profiles
        self._sent = Collection()
        self._first = Collection()
        self._earlier: tuple[Reference, ...] = ()  # the last is the one before the present
        self._season: LikeWithLike | None = None  # of the reference, where one is configured and its rows have times
        self.anew: tuple[str, ...] = ()  # columns that nobody judges until their next rows have become their reference
        self.detectors: dict[str, Detector] = {
            name: config.build(name, None) for name, config in settings.detectors.items() if not config.needs_reference
        }
        self._trained_configs = sum(config.needs_fit for config in settings.detectors.values())
        if settings.bundle is not None:
            self.take_reference(profiles.reference(settings.bundle.reference))

    # --- The reference ---

    def collect(self, part: ReferencePart) -> bool:
        """Keep one part of a reference that is being sent; whether it is now whole.

        Raises:
            InvalidRecord: the reference would have more rows than the limit.
        """
        collection = self._sent
        if part.parts != collection.parts or part.part in collection.tables:
            collection = self._sent = Collection(parts=part.parts)  # a new reference begins
        rows = collection.rows + part.batch.table.rows
        limit = self.settings.reference.rows_max
        if rows > limit:
            self._sent = Collection()
            raise InvalidRecord(
                Reason.TOO_MANY_ROWS,
                f"the reference of {self.name!r} has {rows} rows, over reference.rows_max = {limit}; send a sample",
            )
        collection.tables[part.part] = self._timed(part.batch)
        collection.rows = rows
        if len(collection.tables) < collection.parts:
            return False
        self._sent = Collection()
        self._adopt(concatenate([collection.tables[i] for i in sorted(collection.tables)]), "batches")
        return True

    def learn_first_rows(self, batch: FeatureBatch) -> bool:
        """Count a calm batch towards the reference that the stream's own first rows make; whether it is now whole."""
        if self.anew:
            return self._learn_anew(batch)
        wanted = self.settings.reference.first_rows
        if self.reference is not None or wanted is None or self._sent.parts or not batch.table.rows:
            return False
        first = self._first
        # A copy: the batch may be a view of a network buffer that is much larger than it.
        if (
            not first.offer(concatenate([self._timed(batch)]))
            or first.rows < wanted
            or not self._seasons_learned(first)
        ):
            return False
        self._first = Collection()
        self._adopt(concatenate(list(first.tables.values())), "first_rows")
        return True

    def _timed(self, batch: FeatureBatch) -> Table:
        """The batch's table, with its time where a season needs to know."""
        if self.settings.reference.season is None:
            return batch.table
        return replace(batch.table, times_ms=np.full(batch.table.rows, batch.event_time_ms))

    def _seasons_learned(self, first: Collection) -> bool:
        """Whether the first rows span as many seasons as they should. A long season's are thinned when they are
        over the limit."""
        season = self.settings.reference.season
        if season is None:
            return True
        times_ms = [int(table.times_ms[0]) for table in first.tables.values() if table.times_ms is not None]
        if max(times_ms) - min(times_ms) >= SEASONS_LEARNED * SEASONS_MS[season]:
            return True
        if first.rows > self.settings.reference.rows_max:
            first.thin()
        return False

    def _adopt(self, table: Table, source: str) -> None:
        reference = self._interned(table, source)
        if self.reference is None or self.reference.key != reference.key:  # the same again is nothing to undo
            self._remember()
        self.take_reference(reference)

    def _interned(self, table: Table, source: str) -> Reference:
        return self._profiles.reference(Reference(table, table.sha256(), source))

    def take_reference(self, reference: Reference) -> None:
        """Put a whole reference in force: the detectors that compare with it start anew."""
        self.anew = ()
        self._start(reference)

    def _start(self, reference: Reference) -> None:
        self.reference = reference
        season, table = self.settings.reference.season, reference.table
        known = season is not None and table.times_ms is not None
        before, self._season = self._season, None
        if known and season is not None:
            self._season = self._profiles.like_with_like(reference, season)
        if before is not self._season:  # their past is of other values
            again = {n: c for n, c in self.settings.detectors.items() if c.seasonal and not c.needs_reference}
            self.detectors.update({name: config.build(name, None) for name, config in again.items()})
        self.weights.clear()
        self.trainings.clear()
        self._first = Collection()
        for name, config in self.settings.detectors.items():
            if config.needs_reference:
                self.detectors.pop(name, None)
                if not config.needs_fit and not (self.anew and config.from_bundle):
                    self.build(name, config)

    # --- A new normal ---

    def _remember(self) -> None:
        """The reference in force is about to be an earlier one."""
        if self.reference is not None:
            self._earlier = (*self._earlier, self.reference)[-EARLIER_MAX:]

    def succeed(self, before: Stream) -> None:
        """This stream, which knows nothing yet, stands in the place of `before`, which can be put in force again."""
        before._remember()
        self._earlier = before._earlier
        self.last_record_ms, self.silent = before.last_record_ms, True  # that it is silent now is no news

    def begin_anew(self, columns: tuple[str, ...]) -> list[str]:
        """Judge nothing of these columns until their next rows have become their reference.

        Until then neither the reference nor what the detectors are given has them.

        Returns:
            the detectors that cannot go on without them: they begin anew when the columns do.
        """
        assert self.reference is not None, columns
        if not self.anew:  # else the reference in force is a makeshift
            self._remember()
        self.anew = tuple(dict.fromkeys((*self.anew, *columns)))
        before = self.detectors
        self._change(self.reference.table.without(columns), columns)
        return [name for name, old in before.items() if not isinstance(old, ByColumn)]

    def visible(self, batch: FeatureBatch) -> Callable[[str], FeatureBatch]:
        """The batch as each detector gets it, by its name."""
        whole = replace(batch, table=batch.table.without(self.anew)) if self.anew else batch
        if self._season is None:
            return lambda name: whole
        seen = {None: whole, "phases": self._season.dated(whole), "values": self._season.adjusted(whole)}
        return lambda name: seen[self.settings.detectors[name].seasonal]

    def season_words(self) -> str:
        """What a person should know of the season, as the end of a sentence; nothing where none is configured."""
        season, reference = self.settings.reference.season, self.reference
        if season is None or reference is None:
            return ""
        if self._season is None:
            return f"; no season of {season}: the reference's rows have no times"
        covered, phases = self._season.covered, PHASES[season]
        unable = ", ".join(name for name, config in self.settings.detectors.items() if config.seasonal is None)
        words = f"; season {season}{unable and f', which {unable} cannot see'}"
        if covered == phases:
            return words
        return (
            f"{words}: {covered} of {phases} hours have {PHASE_ROWS_MIN} rows or more, values of the others are not "
            "compared; send a reference over whole seasons, each part with its own ts"
        )

    def _learn_anew(self, batch: FeatureBatch) -> bool:
        """Count a calm batch towards the reference of the columns that begin anew; whether that is now whole."""
        assert self.reference is not None
        first = self._first
        table = self._timed(batch).only(self.anew)
        if not table.rows or not table.names:
            return False
        kept = first.offer(concatenate([table]))  # a copy, as above
        if not kept or first.rows < self.rows_anew or (self._season is not None and not self._seasons_learned(first)):
            return False
        columns, self.anew, self._first = self.anew, (), Collection()
        self._change(self._beside(self.reference.table, concatenate(list(first.tables.values()))), columns)
        return True

    def _beside(self, table: Table, columns: Table) -> Table:
        """The reference with those columns; where there is a season each hour with what they had in that hour."""
        season = self.settings.reference.season
        if season is None or table.times_ms is None or columns.times_ms is None:
            return beside(table, columns)
        return beside(table, columns, phases_of(table.times_ms, season), phases_of(columns.times_ms, season))

    @property
    def anew_words(self) -> str:
        """What becomes the reference of the columns that begin anew."""
        season = self.settings.reference.season
        over = "" if season is None or self._season is None else f", over {SEASONS_LEARNED} x {season} at least,"
        return f"the next {self.rows_anew} rows{over} become the reference"

    @property
    def rows_anew(self) -> int:
        """Rows that make the new reference of a column."""
        assert self.reference is not None
        return min(self.settings.reference.first_rows or ANEW_ROWS, self.reference.table.rows)

    def _change(self, table: Table, columns: tuple[str, ...]) -> None:
        """Put a reference in force that differs in `columns` alone: what was seen of the others goes on."""
        before = self.detectors
        self.detectors = {n: c.build(n, None) for n, c in self.settings.detectors.items() if not c.needs_reference}
        self._start(self._interned(table, "accepted"))
        for name, detector in self.detectors.items():
            if isinstance(detector, ByColumn) and name in before:
                detector.take_over(before[name], columns)

    def undo(self) -> bool:
        """Put the reference before the present one in force; False where none is known."""
        if not self._earlier:
            return False
        *earlier, reference = self._earlier
        self._earlier = tuple(earlier)
        self.take_reference(reference)
        return True

    def untrained(self) -> list[str]:
        """Detectors that must be trained on the reference, and that nobody was asked to train."""
        if self.reference is None or self.anew or len(self.trainings) == self._trained_configs:
            return []
        configs = self.settings.detectors.items()
        return [name for name, config in configs if config.needs_fit and name not in self.trainings]

    def build(self, name: str, config: DetectorConfig, weights: bytes | None = None) -> bool:
        """Start the detector `name` on the stream's reference, keeping the configured order.

        False where the reference gives it nothing to compare with: it is there, and silent.
        """
        assert self.reference is not None, name
        scorer = self.settings.bundle.weights if config.from_bundle and self.settings.bundle is not None else weights
        sha256 = hashlib.sha256(scorer).hexdigest() if scorer is not None else ""
        reference = self.reference
        if config.seasonal and self._season is not None:
            key = f"{reference.sha256}-{self._season.length}"
            table = self._season.reference_table if config.seasonal == "values" else reference.table
            reference = Reference(table, key, reference.source, self._season.phases, self._season.phase_rows)
        profile = self._profiles.profile(config, reference, scorer, sha256)
        built = {**self.detectors, name: config.build(name, profile)}
        self.detectors = {key: built[key] for key in self.settings.detectors if key in built}
        if weights is not None:
            self.weights[name] = weights
        return profile is not None

    # --- Silence ---

    @property
    def silence_limits(self) -> list[tuple[str, float]]:
        """The detectors that call silence a finding, each with its limit in seconds."""
        configs = self.settings.detectors.items()
        return [(n, c.no_data_seconds) for n, c in configs if isinstance(c, QualityConfig) and c.no_data_seconds]

    def silence(self, name: str, seconds: float, limit: float, place: Window) -> Verdict:
        """The finding that the stream has not spoken for `seconds`."""
        return no_data_verdict(name, seconds, limit, place)

    # --- Memory and state ---

    @property
    def nbytes(self) -> int:
        """Memory of this stream's own state in bytes, without what it shares with other streams."""
        collected = sum(_table_nbytes(t) for c in (self._sent, self._first) for t in c.tables.values())
        return collected + sum(detector.nbytes for detector in self.detectors.values())

    def snapshot(self) -> State:
        """The moving part. The reference and the weights, which seldom change, are named by their hashes."""
        return {
            "name": self.name,
            "last_record_ms": self.last_record_ms,
            "silent": self.silent,
            "reference": self.reference and self.reference.key,
            "trainings": dict(self.trainings),
            "sent": self._sent.snapshot(),
            "first": self._first.snapshot(),
            "earlier": [reference.key for reference in self._earlier],
            "anew": list(self.anew),
            "policy": self.policy.snapshot(),
            "detectors": {
                name: {"config": self._key(self.settings.detectors[name]), "state": detector.snapshot()}
                for name, detector in self.detectors.items()
            },
        }

    def kept(self) -> Kept:
        """What `restore` will want beside the snapshot."""
        held = [*self._earlier, *([] if self.reference is None else [self.reference])]
        references = {reference.key: reference for reference in held if not reference.bundled}
        if self.reference is None:
            return Kept(references, {})
        weights = {fit_key(self.settings.detectors[name], self.reference): data for name, data in self.weights.items()}
        return Kept(references, weights)

    def restore(self, state: State, kept: Kept) -> None:
        """Continue from `snapshot()`, on a new stream. Detectors whose Config has changed since start anew."""
        self.last_record_ms = state["last_record_ms"]
        self.silent = state["silent"]
        self._sent = Collection.restored(state["sent"])
        self._first = Collection.restored(state["first"])
        self.policy.restore(state["policy"])
        known = dict(kept.references)
        if self.settings.bundle is not None:
            known[self.settings.bundle.reference.key] = self.settings.bundle.reference
        earlier = [known[each] for each in state.get("earlier", ()) if each in known]
        self._earlier = tuple(map(self._profiles.reference, earlier))
        key = state["reference"]
        self.anew = tuple(state.get("anew", ()))
        if key is not None and not is_bundled(key):
            first = self._first
            self._start(self._profiles.reference(kept.references[key]))
            self._first = first
        same = key == (self.reference and self.reference.key)  # else the bundle is another one now
        for name, config in self.settings.detectors.items():
            if config.needs_reference and not same:
                continue
            trained = state["trainings"].get(name)
            if trained in kept.weights and self.reference is not None and trained == fit_key(config, self.reference):
                self.trainings[name] = trained
                self.build(name, config, kept.weights[trained])
            saved = state["detectors"].get(name)
            if saved is not None and saved["config"] == self._key(config) and name in self.detectors:
                self.detectors[name].restore(saved["state"])

    def _key(self, config: DetectorConfig) -> str:
        """Equal where state may be taken up again: for the same options, season and weights."""
        bundle, key = self.settings.bundle, config_key(config)
        if config.seasonal and self._season is not None:
            key += f"/{self._season.length}"
        if not config.from_bundle or bundle is None or bundle.weights is None:
            return key
        return f"{key}/{hashlib.sha256(bundle.weights).hexdigest()}"


def _table_nbytes(table: Table) -> int:
    columns: list[Any] = [*table.numeric.values(), *table.arrays.values()]
    columns += [c.codes for c in table.categorical.values()]
    if table.predictions is not None:
        columns.append(table.predictions.values)
    return sum(int(column.nbytes) for column in columns)
