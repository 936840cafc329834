"""streamd watches machine-learning models over Kafka: their data, their training and their service."""

__version__ = "0.1.0"
