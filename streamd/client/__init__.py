"""What applications import to send their batches and telemetry to streamd: kafka-python and orjson are all it needs."""

from streamd.client.commands import Refused
from streamd.client.monitor import TrainingMonitor
from streamd.client.outbox import Stats
from streamd.client.producer import FeatureProducer
from streamd.client.summaries import class_summaries
from streamd.client.telemetry import TelemetryProducer
from streamd.errors import TransientError

__all__ = [
    "FeatureProducer",
    "Refused",
    "Stats",
    "TelemetryProducer",
    "TrainingMonitor",
    "TransientError",
    "class_summaries",
]
