"""The detectors of a partition that must be trained before its next record, in the order in which they came up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from streamd.detectors.base import DetectorConfig, Reference
from streamd.holdings import Holdings
from streamd.kept import fit_key, keep_weights
from streamd.model import Effect, StreamChanged
from streamd.stream import Stream


@dataclass(frozen=True, slots=True)
class FitJob:
    """A detector that must be trained before the partition's next record. Its result is a function of these."""

    stream: str
    detector: str
    config: DetectorConfig
    reference: Reference


class Trainings:
    """What is to be trained, and whose.

    Args:
        streams: of the partition.
        fits_max: streams that may have a training which nobody asked for.
    """

    def __init__(self, streams: Holdings, fits_max: int) -> None:
        self._streams = streams
        self._fits_max = fits_max
        self._jobs: deque[FitJob] = deque()
        self._unasked: set[str] = set()

    @property
    def wanted(self) -> FitJob | None:
        """What must be trained next, if anything."""
        return self._jobs[0] if self._jobs else None

    def queue(self, stream: Stream) -> list[Effect]:
        """Queue the detectors that must be trained on the stream's reference."""
        effects: list[Effect] = []
        for name in stream.untrained():
            reference, config = stream.reference, stream.settings.detectors[name]
            assert reference is not None
            stream.trainings[name] = fit_key(config, reference)
            self._unasked.intersection_update(self._streams)  # those that were forgotten count no more
            if name in stream.settings.unasked and stream.name not in self._unasked:
                if len(self._unasked) >= self._fits_max:
                    reason = f"{name} is not trained: engine.fits_max = {self._fits_max} streams have one"
                    effects.append(StreamChanged(stream.name, "not_fitted", f"{reason}; name it in the configuration"))
                    continue
                self._unasked.add(stream.name)
            self._jobs.append(FitJob(stream.name, name, config, reference))
        return effects

    def done(self, weights: bytes | None, problem: str = "") -> list[Effect]:
        """Take the result of `wanted`: the weights, or None and the `problem` that the data has."""
        job = self._jobs.popleft()
        stream = self._streams.touched(job.stream)
        assert isinstance(stream, Stream), job.stream
        if weights is None:
            return [StreamChanged(job.stream, "not_fitted", f"{job.detector} could not learn: {problem}")]
        learned = stream.build(job.detector, job.config, weights)
        self._streams.count(stream, anew=True)
        detail = f"{job.detector}: {job.config.about(weights)}"
        return [
            StreamChanged(job.stream, "fitted" if learned else "not_fitted", detail),
            keep_weights(job.config, job.reference, weights),
        ]

    def snapshot(self) -> list[str]:
        """The streams that have a training which nobody asked for."""
        return sorted(self._unasked)

    def restore(self, unasked: Iterable[str]) -> None:
        """Continue from `snapshot`."""
        self._unasked = set(unasked)
