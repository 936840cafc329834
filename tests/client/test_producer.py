"""FeatureProducer against a sink in memory, and against nobody at all."""

from __future__ import annotations

import datetime
import gc
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from streamd.client import FeatureProducer, TransientError
from streamd.client.courier import Settled
from streamd.client.outbox import Message

WAIT_SECONDS = 30.0  # a deadline that a healthy run never comes near


class MemorySink:
    """Acknowledges everything, or nothing while `gate` is shut."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail: str | None = None
        self.broken = False

    def ready(self) -> None:
        if not self.gate.is_set():
            raise TransientError("the gate is shut")

    def send(self, message: Message, settled: Settled) -> None:
        self.messages.append(message)
        settled(self.fail)

    def close(self, *, abandon: bool) -> None:
        pass

    def payloads(self) -> list[Any]:
        return [orjson.loads(message.value) for message in self.messages]


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def producer(sink: MemorySink) -> Iterator[FeatureProducer]:
    producer = FeatureProducer("unused:1", connect=lambda: sink)
    yield producer
    producer.close(0.0)


def test_a_batch_arrives_keyed_by_its_stream(producer: FeatureProducer, sink: MemorySink) -> None:
    assert producer.send(
        "fraud/7", {"amount": [12.5, 3.0]}, logits=[[0.1, 2.3], [1.0, -0.4]], ids=["a", "b"], ts=1_763_769_600_123
    )
    assert producer.flush(WAIT_SECONDS)
    (message,) = sink.messages
    assert message.key == b"fraud/7"
    assert sink.payloads() == [
        {
            "stream": "fraud/7",
            "ts": 1_763_769_600_123,
            "features": {"amount": [12.5, 3.0]},
            "logits": [[0.1, 2.3], [1.0, -0.4]],
            "ids": ["a", "b"],
        }
    ]
    assert dict(message.headers)["content-type"] == b"application/json"


def test_batches_arrive_in_the_order_of_the_calls(producer: FeatureProducer, sink: MemorySink) -> None:
    for i in range(500):
        producer.send("s", {"x": [float(i)]})
    assert producer.flush(WAIT_SECONDS)
    assert [payload["features"]["x"] for payload in sink.payloads()] == [[float(i)] for i in range(500)]
    assert producer.stats.sent == 500


def test_an_array_may_be_changed_as_soon_as_send_returns(producer: FeatureProducer, sink: MemorySink) -> None:
    sink.gate.clear()
    column = np.array([1.0, 2.0])
    producer.send("s", {"x": column})
    column[:] = 99.0
    sink.gate.set()
    assert producer.flush(WAIT_SECONDS)
    assert sink.payloads()[0]["features"]["x"] == [1.0, 2.0]


def test_the_records_time_is_that_of_the_call_and_not_of_the_delivery(
    producer: FeatureProducer, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_000_123_456_789)
    producer.send("s", {"x": [1.0]})
    assert producer.flush(WAIT_SECONDS)
    assert sink.messages[0].timestamp_ms == 1_700_000_000_123


def test_ts_may_be_an_aware_datetime(producer: FeatureProducer, sink: MemorySink) -> None:
    producer.send("s", {"x": [1.0]}, ts=datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC))
    assert producer.flush(WAIT_SECONDS)
    assert sink.payloads()[0]["ts"] == 1_795_305_600_000


@pytest.mark.parametrize(
    ("ts", "error"),
    [(datetime.datetime(2026, 1, 1), ValueError), ("now", TypeError), (1.5, TypeError), (True, TypeError)],
)
def test_a_ts_that_could_be_misread_is_refused_at_once(
    producer: FeatureProducer, ts: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="ts"):
        producer.send("s", {"x": [1.0]}, ts=ts)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"bootstrap_servers": ""}, ValueError, "bootstrap_servers"),
        ({"bootstrap_servers": "a:b:c"}, ValueError, "host:port"),
        ({"bootstrap_servers": [1]}, TypeError, "bootstrap_servers"),
        ({"topic": "two words"}, ValueError, "topic"),
        ({"format": "xml"}, ValueError, "format"),
        ({"queue_max_bytes": 0}, ValueError, "queue_max_bytes"),
        ({"queue_max_batches": 0}, ValueError, "queue_max_batches"),
        ({"sasl_user": "x"}, TypeError, "sasl_user"),
        ({"transactional_id": "x"}, TypeError, "transactional_id"),
    ],
)
def test_wrong_settings_are_refused_before_anything_else(
    arguments: dict[str, Any], error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        FeatureProducer(**{"bootstrap_servers": "localhost:9092", **arguments})


def test_ten_thousand_batches_to_a_closed_port_return_and_only_the_newest_are_kept(
    closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    producer = FeatureProducer(f"127.0.0.1:{closed_port}", queue_max_batches=100)
    assert all(producer.send("s", {"x": [float(i)]}) for i in range(10_000))
    stats = producer.stats
    assert (stats.sent, stats.failed, stats.dropped, stats.queued) == (0, 0, 9_900, 100)
    assert stats.queued_bytes < 100 * 200
    producer.close(0.0)
    assert producer.stats.dropped == 10_000
    assert sum("cannot send" in record.getMessage() for record in caplog.records) <= 1


@pytest.mark.slow
def test_a_broker_that_is_away_is_mentioned_once(closed_port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    producer = FeatureProducer(f"127.0.0.1:{closed_port}")
    producer.send("s", {"x": [1.0]})
    with pytest.raises(TransientError, match="refused"):
        producer.connect(1.0)
    producer.close(0.0)
    assert [record.name for record in caplog.records] == ["streamd.client"]
    assert f"127.0.0.1:{closed_port}" in caplog.text


def test_the_oldest_are_dropped_first_and_the_newest_arrive(sink: MemorySink) -> None:
    sink.gate.clear()
    producer = FeatureProducer("unused:1", queue_max_batches=5, connect=lambda: sink)
    for i in range(20):
        producer.send("s", {"x": [i]})
    assert producer.stats.dropped == 15
    sink.gate.set()
    assert producer.close(WAIT_SECONDS)
    assert [payload["features"]["x"] for payload in sink.payloads()] == [[i] for i in range(15, 20)]


def test_the_queue_is_bounded_in_bytes(sink: MemorySink) -> None:
    sink.gate.clear()
    producer = FeatureProducer("unused:1", queue_max_bytes=50_000, connect=lambda: sink)
    for _ in range(100):
        producer.send("s", {"x": list(range(1000))})
    stats = producer.stats
    assert 45_000 < stats.queued_bytes <= 50_000
    assert stats.dropped + stats.queued == 100
    producer.close(0.0)


def test_a_batch_larger_than_the_queue_is_dropped_without_an_error(sink: MemorySink) -> None:
    producer = FeatureProducer("unused:1", queue_max_bytes=100, connect=lambda: sink)
    assert not producer.send("s", {"x": list(range(1000))})
    assert producer.stats.dropped == 1


def test_what_the_broker_refuses_is_counted_and_not_raised(producer: FeatureProducer, sink: MemorySink) -> None:
    sink.fail = "not authorised"
    producer.send("s", {"x": [1.0]})
    assert producer.flush(WAIT_SECONDS)
    assert producer.stats.failed == 1


def test_a_producer_that_was_never_used_has_no_thread_and_closes_at_once(sink: MemorySink) -> None:
    before = threading.active_count()
    producer = FeatureProducer("unused:1", connect=lambda: sink)
    assert threading.active_count() == before
    assert producer.close(0.0)


def test_close_gives_up_at_its_deadline_and_counts_what_it_left_behind(closed_port: int) -> None:
    producer = FeatureProducer(f"127.0.0.1:{closed_port}")
    for _ in range(3):
        producer.send("s", {"x": [1.0]})
    assert not producer.close(0.1)
    assert (producer.stats.dropped, producer.stats.queued) == (3, 0)


@pytest.mark.slow
def test_a_broker_that_accepts_and_never_answers_holds_up_neither_send_nor_close() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        producer = FeatureProducer(f"127.0.0.1:{port}", queue_max_batches=10, bootstrap_timeout_ms=500)
        for _ in range(1000):
            producer.send("s", {"x": [1.0]})
        assert (producer.stats.queued, producer.stats.dropped) == (10, 990)
        assert not producer.close(0.1)
        assert producer.stats.dropped == 1000
        assert producer._thread is not None
        producer._thread.join(WAIT_SECONDS)
        assert not producer._thread.is_alive()
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kafka-io")]


def test_close_may_be_called_twice_and_later_batches_are_dropped(producer: FeatureProducer) -> None:
    producer.send("s", {"x": [1.0]})
    assert producer.close(WAIT_SECONDS)
    assert producer.close(WAIT_SECONDS)
    assert not producer.send("s", {"x": [1.0]})
    assert (producer.stats.sent, producer.stats.dropped) == (1, 1)


def test_the_context_manager_delivers_what_was_sent_inside(sink: MemorySink) -> None:
    with FeatureProducer("unused:1", connect=lambda: sink) as producer:
        producer.send("s", {"x": [1.0]})
    assert len(sink.messages) == 1


def test_a_forgotten_producer_still_sends_what_it_holds_and_its_thread_ends(sink: MemorySink) -> None:
    producer = FeatureProducer("unused:1", connect=lambda: sink)
    producer.send("s", {"x": [1.0]})
    thread = producer._thread
    assert thread is not None
    del producer
    gc.collect()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert len(sink.messages) == 1


# --- References and resets ------------------------------------------------------------------------


def test_a_reference_is_cut_into_numbered_parts_that_hold_every_row_once(
    producer: FeatureProducer, sink: MemorySink
) -> None:
    rows = np.arange(2500.0)
    parts = producer.send_reference(
        "s", {"x": rows}, probabilities=np.stack([rows, 1 - rows], axis=1), rows_per_batch=1000
    )
    assert parts == 3
    headers = [dict(message.headers) for message in sink.messages]
    assert [h["streamd-part"] for h in headers] == [b"1/3", b"2/3", b"3/3"]
    assert {h["streamd-role"] for h in headers} == {b"reference"}
    payloads = sink.payloads()
    assert [value for payload in payloads for value in payload["features"]["x"]] == rows.tolist()
    assert [len(payload["probabilities"]) for payload in payloads] == [1000, 1000, 500]


def test_a_reference_waits_for_room_and_for_its_acknowledgement(sink: MemorySink) -> None:
    producer = FeatureProducer("unused:1", queue_max_batches=2, connect=lambda: sink)
    assert producer.send_reference("s", {"x": list(range(50))}, rows_per_batch=5) == 10
    assert (producer.stats.sent, producer.stats.dropped) == (10, 0)
    producer.close(0.0)


def test_a_reference_that_does_not_get_through_in_time_raises_and_is_withdrawn(closed_port: int) -> None:
    producer = FeatureProducer(f"127.0.0.1:{closed_port}", queue_max_batches=4)
    with pytest.raises(TransientError, match="3 of 3"):
        producer.send_reference("s", {"x": [1.0, 2.0, 3.0]}, rows_per_batch=1, timeout_seconds=0.05)
    with pytest.raises(TransientError, match="full"):
        producer.send_reference("s", {"x": list(range(9))}, rows_per_batch=1, timeout_seconds=0.05)
    assert producer.stats.queued == 0
    producer.close(0.0)


def test_a_part_that_the_broker_refuses_raises(producer: FeatureProducer, sink: MemorySink) -> None:
    sink.fail = "too large"
    with pytest.raises(TransientError, match="too large"):
        producer.send_reference("s", {"x": [1.0]})


def test_parts_of_a_reference_are_never_dropped_for_data(sink: MemorySink) -> None:
    sink.gate.clear()
    producer = FeatureProducer("unused:1", queue_max_batches=3, connect=lambda: sink)
    producer.send("s", {"x": [0]}, part=(1, 2))
    producer.send("s", {"x": [1]}, part=(2, 2))
    for i in range(10):
        producer.send("s", {"x": [i]})
    with pytest.raises(TransientError, match="full"):
        producer.send("s", {"x": [2]}, part=(1, 1))
    sink.gate.set()
    assert producer.close(WAIT_SECONDS)
    assert [payload["features"]["x"] for payload in sink.payloads()] == [[0], [1], [9]]


def test_an_empty_reference_is_refused(producer: FeatureProducer) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        producer.send_reference("s", {"x": []})


@pytest.mark.slow
@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "torch", "rows"])
def test_a_reference_may_come_from_any_library(library: str, producer: FeatureProducer, sink: MemorySink) -> None:
    values, names = np.arange(10.0), None
    table: Any
    if library == "rows":
        table = [{"x": float(value)} for value in values]
    elif library == "numpy":
        table, names = values[:, None], ["x"]
    elif library == "torch":
        table, names = pytest.importorskip("torch").as_tensor(values[:, None]), ["x"]
    elif library == "pandas":
        table = pytest.importorskip("pandas").DataFrame({"x": values}, index=range(100, 110))
    else:
        table = pytest.importorskip("polars").DataFrame({"x": values})
    assert producer.send_reference("s", table, names=names, rows_per_batch=4) == 3
    got = [payload.get("features") or {"x": [row["x"] for row in payload["rows"]]} for payload in sink.payloads()]
    assert [value for columns in got for value in columns["x"]] == values.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "torch", "pyarrow", "lists", "rows"])
def test_a_reference_with_times_is_sent_in_their_order_in_parts_of_an_hour(
    library: str, producer: FeatureProducer, sink: MemorySink
) -> None:
    values, names = np.array([3.0, 0.0, 2.0, 1.0, 4.0]), None
    times: Any = [1_763_769_600_000 + int(value) * 1_800_000 for value in values]  # half an hour apart
    table: Any = {"x": values.tolist()}
    if library == "rows":
        table = [{"x": float(value)} for value in values]
    elif library == "numpy":
        table, names, times = values[:, None], ["x"], np.array(times)
    elif library == "torch":
        table, names = pytest.importorskip("torch").as_tensor(values[:, None]), ["x"]
    elif library == "pandas":
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame({"x": values}, index=range(100, 105))
        times = pandas.Series(pandas.to_datetime(times, unit="ms", utc=True), index=table.index)
    elif library == "polars":
        table = pytest.importorskip("polars").DataFrame({"x": values})
    elif library == "pyarrow":
        table = pytest.importorskip("pyarrow").table({"x": values})
    logits = np.stack([values, -values], axis=1)
    assert producer.send_reference("s", table, logits=logits, ts=times, names=names) == 3
    payloads = sink.payloads()
    assert [payload["features"]["x"] for payload in payloads] == [[0.0, 1.0], [2.0, 3.0], [4.0]]
    assert [payload["logits"][-1][1] for payload in payloads] == [-1.0, -3.0, -4.0]
    assert [payload["ts"] - 1_763_769_600_000 for payload in payloads] == [1_800_000, 3 * 1_800_000, 4 * 1_800_000]
    assert [dict(m.headers)["streamd-part"] for m in sink.messages] == [b"1/3", b"2/3", b"3/3"]


def test_a_reference_with_one_time_has_it_in_all_its_parts(producer: FeatureProducer, sink: MemorySink) -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert producer.send_reference("s", {"x": [1.0, 2.0, 3.0]}, ts=moment, rows_per_batch=2) == 2
    assert [payload["ts"] for payload in sink.payloads()] == [1_767_225_600_000] * 2


def test_a_reference_without_times_has_none(producer: FeatureProducer, sink: MemorySink) -> None:
    producer.send_reference("s", {"x": [1.0, 2.0]})
    assert "ts" not in sink.payloads()[0]


def test_a_reference_with_too_few_times_is_refused_and_nothing_is_sent(
    producer: FeatureProducer, sink: MemorySink
) -> None:
    with pytest.raises(ValueError, match="there are 3 rows, and ts has 2 times"):
        producer.send_reference("s", {"x": [1.0, 2.0, 3.0]}, ts=[1, 2])
    assert sink.messages == []


def test_a_reset_is_sent_and_acknowledged(producer: FeatureProducer, sink: MemorySink) -> None:
    producer.reset("fraud/7")
    (message,) = sink.messages
    assert message.key == b"fraud/7"
    assert sink.payloads()[0]["role"] == "reset"


def test_a_reset_that_is_not_acknowledged_raises(closed_port: int) -> None:
    producer = FeatureProducer(f"127.0.0.1:{closed_port}")
    with pytest.raises(TransientError, match="reset of s"):
        producer.reset("s", timeout_seconds=0.05)
    producer.close(0.0)


# --- Processes ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_begins_anew_and_the_parent_keeps_its_queue(sink: MemorySink) -> None:
    sink.gate.clear()
    producer = FeatureProducer("unused:1", connect=lambda: sink)
    producer.send("s", {"x": [1.0]})
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            sink.gate.set()
            began_empty = producer.stats.queued == 0
            producer.send("s", {"x": [2.0]})
            delivered = producer.flush(WAIT_SECONDS)
            code = 0 if began_empty and delivered and len(sink.messages) == 1 else 1
        finally:
            os._exit(code)  # in any case: the child must not go on as a second pytest
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert producer.stats.queued == 1
    producer.close(0.0)
