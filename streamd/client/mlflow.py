"""Rolls a served model back in an MLflow registry. Needs mlflow-skinny or mlflow."""

from __future__ import annotations

from typing import Any

from mlflow.tracking import MlflowClient

from streamd.client.commands import Refused
from streamd.model import Command


class AliasMover:
    """Moves an alias to the version before the one that it points to; for RollbackHandler.

    A stream that is called `model/version` must be of the version that the alias points to: a command about a model
    that is not served any more moves nothing.

    Args:
        model: the registered model's name.
        alias: what the servers load by.
        client: an MlflowClient; None: of the environment (MLFLOW_TRACKING_URI).
    """

    def __init__(self, model: str, alias: str = "champion", client: Any = None) -> None:
        self._model = model
        self._alias = alias
        self._client = client or MlflowClient()

    def __call__(self, command: Command) -> str:
        """Move it. Raises Refused where there is nothing to go back to."""
        current = int(self._client.get_model_version_by_alias(self._model, self._alias).version)
        about = command.target.rpartition("/")[2]
        if about.isdecimal() and int(about) != current:
            raise Refused(f"{self._alias} of {self._model} points to version {current}, not to {about}")
        found = self._client.search_model_versions(f"name='{self._model}'")
        earlier = [int(version.version) for version in found if int(version.version) < current]
        if not earlier:
            raise Refused(f"{self._model} has no version before {current}")
        self._client.set_registered_model_alias(self._model, self._alias, str(max(earlier)))
        return f"{self._alias} of {self._model}: version {current} → {max(earlier)}"
