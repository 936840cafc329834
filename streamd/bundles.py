"""The bundles that a configuration names: read once, checked, and joined to the settings of their streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from streamd.config import Config
from streamd.detectors.base import Reference
from streamd.detectors.scorer import ScorerConfig
from streamd.engine_settings import Bundle, StreamSettings
from streamd.errors import ConfigError
from streamd.fitting.folder import BundleError, read
from streamd.scorers.fitted import from_bytes
from streamd.scorers.registry import load

SCORER = "scorer"  # the name of the detector that a bundle's scorer gets where the configuration names none


def with_bundles(config: Config) -> Callable[[str], StreamSettings]:
    """What applies to a stream, by its name, bundles included.

    Raises:
        ConfigError: a bundle that cannot be used, or a detector of type `scorer` without one.
    """
    read_ones: dict[str, Bundle] = {}
    whole: dict[int, StreamSettings] = {}
    for _, settings in config.settings_by_rule:
        name = settings.reference.bundle
        if name is not None and name not in read_ones:
            read_ones[name] = _bundle(name)
        whole[id(settings)] = _joined(settings, read_ones)

    def for_stream(stream: str) -> StreamSettings:
        return whole[id(config.for_stream(stream))]

    return for_stream


def _bundle(name: str) -> Bundle:
    try:
        folder = read(Path(name))
    except BundleError as error:
        raise ConfigError(f"reference.bundle: {error}") from error
    return Bundle(Reference(folder.reference, folder.reference.sha256(), "bundle"), folder.weights)


def _joined(settings: StreamSettings, bundles: Mapping[str, Bundle]) -> StreamSettings:
    """The settings with their bundle; its scorer takes the place of an autoencoder that nobody asked for."""
    name = settings.reference.bundle
    bundle = bundles[name] if name is not None else None
    scored = [key for key, config in settings.detectors.items() if isinstance(config, ScorerConfig)]
    if scored and (bundle is None or bundle.weights is None):
        what = "reference.bundle names none" if bundle is None else f"{name} has none"
        raise ConfigError(f"detectors.{scored[0]}: a detector of type scorer runs the scorer of a bundle, and {what}")
    if bundle is None:
        return settings
    detectors = dict(settings.detectors)
    if bundle.weights is not None:
        detectors = {n: c for n, c in detectors.items() if not (c.needs_fit and n in settings.unasked)}
        if not scored:
            detectors[SCORER] = ScorerConfig()
        for config in detectors.values():
            if isinstance(config, ScorerConfig):
                _check(f"reference.bundle: {name}", bundle.weights, config)
    return replace(settings, detectors=detectors, bundle=bundle)


def _check(what: str, weights: bytes, config: ScorerConfig) -> None:
    """Raises ConfigError where the scorer cannot be made: better now than at a stream's first record."""
    try:
        load(from_bytes(weights), config.device)
    except (ValueError, RuntimeError) as error:  # parts that do not fit; a device that is not there
        raise ConfigError(f"{what}: {error}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(f"{what} needs the package {error.name}: install it") from error
