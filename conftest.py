"""The adapters of the client import what a training job brings along: their own tests import them, and say when."""

from __future__ import annotations

collect_ignore_glob = [f"streamd/client/{name}.py" for name in ("keras", "lightning", "mlflow", "transformers")] + [
    "streamd/client/training/keras_weights.py"
]
