"""The state of river's objects as JSON values and arrays, exactly, without pickle.

A drift detector is a tree of Python attributes with a few leaves of other kinds. The tree is walked; a new
object of the same parameters has the same tree, so only values are written back, never classes.

    PageHinkley ─┬─ numbers            ADWIN ─┬─ numbers             HalfSpaceTrees ─┬─ trees: grown anew from the
                 └─ stats.Mean ─ …            └─ Rust window: bytes                  │  seed, then their masses
                                                                                     └─ counter, random.Random
"""

from __future__ import annotations

from collections import deque
from inspect import ismethod
from typing import Any

import numpy as np

State = dict[str, Any]


class NotCapturableError(TypeError):
    """An object whose state cannot be written as values."""


def capture(subject: Any) -> State:
    """Everything that `subject` will do next, apart from its parameters. Shares no memory.

    Raises:
        NotCapturableError: it holds something that is neither a value, nor river's, nor known here.
    """
    if type(subject).__name__ == "HalfSpaceTrees":
        return _capture_trees(subject)
    if hasattr(subject, "__dict__"):
        return {name: _captured(value) for name, value in vars(subject).items() if not ismethod(value)}
    state = subject.__getstate__()
    if not isinstance(state, bytes):
        raise NotCapturableError(f"{type(subject).__name__} does not give its state as bytes")
    return {"bytes": np.frombuffer(state, np.uint8).copy()}


def reinstate(subject: Any, state: State) -> None:
    """Make a newly built `subject` continue from `capture`."""
    if type(subject).__name__ == "HalfSpaceTrees":
        _reinstate_trees(subject, state)
    elif hasattr(subject, "__dict__"):
        for name, value in state.items():
            setattr(subject, name, _reinstated(getattr(subject, name, None), value))
    else:
        subject.__setstate__(state["bytes"].tobytes())


def is_generator(value: Any) -> bool:
    """Whether it is a random.Random: known by name, as detectors have no use for that module."""
    return type(value).__module__ == "random" and hasattr(value, "setstate")


def _captured(value: Any) -> Any:
    """One attribute: a plain value as it is, anything else as {"is": kind, …}."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple | deque):
        return {"is": type(value).__name__, "items": [_captured(item) for item in value]}
    if isinstance(value, dict):
        return {"is": "dict", "keys": [_captured(key) for key in value], "values": list(map(_captured, value.values()))}
    if is_generator(value):
        version, words, spare = value.getstate()
        return {"is": "random", "version": version, "words": np.array(words, np.uint32), "spare": spare}
    if type(value).__module__.split(".")[0] == "river":
        return {"is": "object", "state": capture(value)}
    if isinstance(getattr(value, "__getstate__", dict)(), bytes):  # an object of river's Rust part
        return {"is": "object", "state": capture(value)}
    raise NotCapturableError(f"a {type(value).__name__} has no state that could be written down")


def _reinstated(present: Any, value: Any) -> Any:
    """`value` as `_captured` wrote it; `present` is what a new object has in its place."""
    if not isinstance(value, dict):
        return value
    kind = value["is"]
    if kind in ("list", "tuple", "deque"):
        items = [_reinstated(None, item) for item in value["items"]]
        return deque(items, present.maxlen) if kind == "deque" else tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return dict(zip(value["keys"], (_reinstated(None, item) for item in value["values"]), strict=True))
    if kind == "random":
        present.setstate((value["version"], tuple(value["words"].tolist()), value["spare"]))
        return present
    reinstate(present, value["state"])
    return present


def grow(trees: Any, features: tuple[str, ...]) -> None:
    """Have a new HalfSpaceTrees grow its trees now, as its first row would, and forget that row."""
    trees.learn_one(dict.fromkeys(features, 0.5))
    _write_masses(trees, np.zeros_like(_masses(trees)))
    trees.counter, trees._first_window = 0, True


def _capture_trees(trees: Any) -> State:
    """Only masses change once the trees have grown, and the seed and the features say how they grow."""
    return {
        "masses": _masses(trees),
        "counter": trees.counter,
        "first_window": trees._first_window,
    }


def _reinstate_trees(trees: Any, state: State) -> None:
    _write_masses(trees, state["masses"])
    trees.counter, trees._first_window = state["counter"], state["first_window"]


def _masses(trees: Any) -> Any:
    """(trees, nodes, 2): the mass that is being learned, and the one that scores."""
    return np.array([[(node.l_mass, node.r_mass) for node in nodes] for nodes in trees._tree_nodes], np.int64)


def _write_masses(trees: Any, masses: Any) -> None:
    for nodes, of_tree in zip(trees._tree_nodes, masses.tolist(), strict=True):
        for node, (learned, scoring) in zip(nodes, of_tree, strict=True):
            node.l_mass, node.r_mass = learned, scoring
