"""Which network a row of an n-dimensional column goes through: a description that a bundle carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from streamd.scorers.networks.convolutional import ConvolutionalAutoencoder
from streamd.scorers.networks.recurrent import RecurrentAutoencoder


def network(described: Mapping[str, Any]) -> nn.Module:
    """The network of that description, without its weights where torch's device is `meta`.

    Raises:
        ValueError: it is not known to this version.
        TypeError: it lacks a size, or has another.
    """
    sizes = {name: value for name, value in described.items() if name != "network"}
    match described["network"]:
        case "convolutional":
            return ConvolutionalAutoencoder(**sizes)
        case "recurrent":
            return RecurrentAutoencoder(**sizes)
    raise ValueError(f"a network {described['network']!r} is not known to this version: fit it anew")
