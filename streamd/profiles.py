"""References and what is prepared from them, held once per content however many streams share them."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from streamd.detectors.base import DetectorConfig, Reference
from streamd.seasons import LikeWithLike


class Profiles:
    """Interned immutable values. They live as long as a stream holds them.

    Shared by the engines of a process: sharing what never changes shares no state.
    """

    def __init__(self) -> None:
        self._references: WeakValueDictionary[str, Reference] = WeakValueDictionary()
        self._seasons: WeakValueDictionary[tuple[str, str], LikeWithLike] = WeakValueDictionary()
        self._profiles: WeakValueDictionary[tuple[str, str, str], Any] = WeakValueDictionary()

    def reference(self, reference: Reference) -> Reference:
        """The one Reference of this content and source."""
        return self._references.setdefault(reference.key, reference)

    def like_with_like(self, reference: Reference, length: str) -> LikeWithLike:
        """The one LikeWithLike of this reference, which has the times of its rows."""
        key = (reference.sha256, length)
        season = self._seasons.get(key)
        if season is None:
            season = self._seasons[key] = LikeWithLike(length, reference.table)
        return season

    def profile(self, config: DetectorConfig, reference: Reference, weights: bytes | None, weights_sha256: str) -> Any:
        """The one profile of this Config, reference and weights."""
        key = (config.model_dump_json(), reference.sha256, weights_sha256)
        profile = self._profiles.get(key)
        if profile is None:
            profile = config.profile(reference, weights)
            reference.table.forget_matrices()
            if profile is not None:
                self._profiles[key] = profile
        return profile
