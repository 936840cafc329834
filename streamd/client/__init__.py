"""What applications import to send their batches to streamd: kafka-python and orjson are all it needs."""

from streamd.client.outbox import Stats
from streamd.client.producer import FeatureProducer
from streamd.errors import TransientError

__all__ = ["FeatureProducer", "Stats", "TransientError"]
