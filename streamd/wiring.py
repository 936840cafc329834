"""Config → objects: the only module that names concrete classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry

from streamd import __version__
from streamd.bundles import with_bundles
from streamd.config import Config
from streamd.detectors.base import DetectorConfig, Reference
from streamd.engine import PartitionEngine
from streamd.engine_settings import StreamSettings
from streamd.model import Effect
from streamd.observe.admin import AdminServer, create_app
from streamd.observe.board import Board
from streamd.observe.health import Health
from streamd.observe.metrics import Metrics
from streamd.profiles import Profiles
from streamd.pump import Pump
from streamd.seating import Fit
from streamd.seats import Seats
from streamd.sinks.records import outgoing
from streamd.stream import Stream
from streamd.table import Predictions, Table
from streamd.transport.base import Outgoing, Partition, Transport


def engine_factory(config: Config) -> Callable[[Partition, int], PartitionEngine]:
    """Builds the engine of a partition from its first offset; prepared references are shared among all of them."""
    profiles = Profiles()
    for_stream = with_bundles(config)

    def new_engine(partition: Partition, offset: int) -> PartitionEngine:
        return PartitionEngine(
            partition.topic,
            partition.number,
            "telemetry" if partition.topic == config.topics.telemetry else "features",
            config.limits,
            config.engine,
            for_stream,
            profiles,
            next_offset=offset,
        )

    return new_engine


@dataclass(frozen=True)
class Parts:
    """What one process runs."""

    pump: Pump
    admin: AdminServer
    health: Health


def seats(config: Config, transport: Transport) -> Seats:
    """What makes the seats of assigned partitions under this configuration."""
    return Seats(transport, engine_factory(config), config.kafka.group_id, config.topics.state, config.engine)


def build(config: Config, transport: Transport, reload: Callable[[], Config]) -> Parts:
    """Everything of one process but its transport. `reload` reads the configuration again; raises ConfigError."""
    registry, board, health = CollectorRegistry(), Board(), Health()
    metrics = Metrics(registry, config.metrics, board)
    in_force = config

    def reseated() -> Seats:
        nonlocal in_force
        reloaded = reload()
        made = seats(reloaded, transport)  # may refuse it: a bundle that is not there
        in_force = reloaded
        return made

    def to_records(effects: Iterable[Effect]) -> list[Outgoing]:
        return outgoing(effects, config.topics, config.kafka.group_id)

    pump = Pump(
        transport,
        seats(config, transport),
        to_records,
        trainer(),
        metrics,
        board,
        health,
        reseated,
        poll_seconds=config.kafka.poll_timeout_ms / 1000,
        on_offset_loss=config.kafka.on_offset_loss,
    )
    app = create_app(registry, board, health, lambda: in_force.model_dump(mode="json"), __version__)
    return Parts(pump, AdminServer(app, config.admin.host, config.admin.port), health)


def warm_up(config: Config) -> None:
    """What must not be left to the first batch, and what its numbers depend on: kernels, the number of threads."""
    import scipy.fft
    import scipy.special  # noqa: F401 - else the first verdict would

    from streamd.detectors import kernels, kernels_columns

    kernels.warm_up()
    kernels_columns.warm_up()
    if any(_computes(settings) for _, settings in config.settings_by_rule):
        import torch

        torch.set_num_threads(1)  # one process a core; and the same sums in the same order on every machine


def _computes(settings: StreamSettings) -> bool:
    """Whether a network may run on the stream: one that is trained, or a bundle's."""
    trained = any(detector.needs_fit for detector in settings.detectors.values())
    return trained or settings.reference.bundle is not None


def trainer() -> Fit:
    """Trains detectors; torch is imported with the first one."""

    def fit(config: DetectorConfig, reference: Reference) -> bytes:
        from streamd.fitting import fit

        return fit(config, reference)

    return fit


def stream_nbytes(settings: StreamSettings, columns: int = 32) -> int:
    """Memory of one stream's own state in bytes, measured on one of `columns` numeric features and two classes.

    Detectors that train are not counted: their window is one column.
    """
    generator = np.random.Generator(np.random.PCG64(0))
    values = generator.normal(size=(columns, 256))
    logits = Predictions("logits", generator.normal(size=(256, 2)))
    table = Table(256, {f"f{i}": row for i, row in enumerate(values)}, predictions=logits)
    stream = Stream("estimate", settings, Profiles())
    stream.take_reference(Reference(table, table.sha256(), "batches"))
    return stream.nbytes
