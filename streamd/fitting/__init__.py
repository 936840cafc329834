"""Offline training: what a detector learns from a reference before it can judge."""

from __future__ import annotations

from streamd.detectors.base import DetectorConfig, Reference


def fit(config: DetectorConfig, reference: Reference) -> bytes:
    """The weights that `config.profile(reference, weights)` wants, for a Config with `needs_fit`.

    A pure function, seconds long, safe to run in a thread of its own. safetensors bytes.

    Raises:
        TypeError: nothing here can fit this Config.
    """
    from streamd.detectors.autoencoder import AutoencoderConfig

    if isinstance(config, AutoencoderConfig):
        from streamd.fitting.autoencoder import fit as fit_autoencoder

        return fit_autoencoder(config, reference)
    raise TypeError(f"nothing is known about fitting {type(config).__name__}")
