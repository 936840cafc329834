"""A Keras model and its optimizer as a checkpoint holds them. Needs keras and torch, whatever Keras's backend."""

from __future__ import annotations

from typing import Any

import keras
import torch


class KerasWeights:
    """All variables of the model and of its optimizer, in their order."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._model.optimizer.variables]

    def state_dict(self) -> dict[str, Any]:
        arrays = [keras.ops.convert_to_numpy(variable).copy() for variable in self._variables()]
        return {f"{i}": torch.from_numpy(array) for i, array in enumerate(arrays)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for i, variable in enumerate(self._variables()):
            variable.assign(state[f"{i}"].numpy())
