"""Exactly once on a real Kafka: cut at every request of a transaction, thrown out of the group, stopped for long."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest
from brokers import HOW_TO_GET_KAFKA, RealKafka, kafka_launcher
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.protocol.producer import EndTxnRequest
from kafka.record.memory_records import MemoryRecords
from needs import unavailable
from proxy import Action, Api, Cut, Proxy, Side

from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.transport import kafka_admin, kafka_consumer
from streamd.transport.base import Assigned, Outgoing, Partition, Revoked
from streamd.transport.kafka import KafkaTransport
from streamd.transport.kafka_range import read_range
from streamd.transport.kafka_transactions import TransactionalProducer
from streamd.transport.settings import KafkaSettings

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # kafka-python leaves a socket that could not connect to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

_DELAY_SECONDS = 1.5  # longer than the client waits for an answer, shorter than a transaction may take


@dataclass
class Cluster:
    """A broker with two doors: `through` a proxy, and `direct`."""

    broker: RealKafka
    proxy: Proxy

    def settings(self, group: str, *, direct: bool = False, **more: object) -> KafkaSettings:
        port = self.broker.ports["direct"] if direct else self.proxy.port
        quick = {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 500, "producer_request_timeout_ms": 500}
        quick |= {"delivery_timeout_ms": 1_500, "transaction_timeout_ms": 3_000, "request_timeout_ms": 1_000}
        return KafkaSettings(bootstrap_servers=(f"127.0.0.1:{port}",), group_id=group, **(quick | more))  # type: ignore[arg-type]

    def visible(self, topic: str) -> list[bytes | None]:
        """What a careful reader sees, in order, partition by partition."""
        records = list(read_range(self.settings("reader", direct=True), topic, None, None))
        return [record.value for record in sorted(records, key=lambda record: (record.partition, record.offset))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    launcher = kafka_launcher()
    if launcher is None:
        unavailable(HOW_TO_GET_KAFKA)
    proxy = Proxy()
    listeners = "PLAINTEXT://127.0.0.1:{port},DIRECT://127.0.0.1:{direct},CONTROLLER://127.0.0.1:{controller}"
    broker = RealKafka(
        launcher,
        tmp_path_factory.mktemp("kafka"),
        f"listeners={listeners}",
        f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy.port},DIRECT://127.0.0.1:{{direct}}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=DIRECT",
        more=("direct",),
    )
    proxy.target = ("127.0.0.1", broker.port)
    broker.start()
    yield Cluster(broker, proxy)
    broker.kill()
    proxy.close()


class Work:
    """Two partitions of input, one topic of output, and members of a group that carry values from one to the other."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = uuid.uuid4().hex
        self.source, self.sink = f"{self.name}-in", f"{self.name}-out"
        self.settings = cluster.settings(self.name)
        self.direct = cluster.settings(self.name, direct=True)
        self.partitions = [Partition(self.source, n) for n in range(2)]
        kafka_admin.create_topics(self.direct, {self.source: 2, self.sink: 2})
        self._members: list[KafkaTransport] = []

    def member(self, settings: KafkaSettings | None = None) -> KafkaTransport:
        member = KafkaTransport(settings or self.settings, [self.source])
        member.open()
        self._members.append(member)
        return member

    def write(self, count: int) -> list[bytes]:
        values = [b"%d" % i for i in range(count)]
        writer = KafkaTransport(self.direct.model_copy(update={"delivery": "at_least_once"}), [self.source])
        writer.deliver([Outgoing(self.source, value, value) for value in values], {})
        writer.close()
        return values

    def poll_until(
        self, member: KafkaTransport, done: Callable[[list[Envelope], list[object]], bool]
    ) -> list[Envelope]:
        """The records that came until then."""
        records: list[Envelope] = []
        changes: list[object] = []
        deadline = time.monotonic() + 30
        while not done(records, changes):
            assert time.monotonic() < deadline, (len(records), changes)
            try:
                polled = member.poll(0.1)
            except TransientError:
                continue
            records += polled.records
            changes += polled.changes
        return records

    def outgoing(self, records: list[Envelope]) -> list[Outgoing]:
        return [Outgoing(self.sink, record.key, record.value) for record in records]

    def offsets(self, member: KafkaTransport) -> dict[Partition, int]:
        return {partition: member.position(partition) for partition in self.partitions}

    def committed(self) -> dict[Partition, int]:
        """Where a new member begins."""
        member = self.member(self.direct)
        starts: dict[Partition, int] = {}

        def all_assigned(_: list[Envelope], changes: list[object]) -> bool:
            for change in changes:
                if isinstance(change, Assigned):
                    starts.update(change.positions)
            return len(starts) == 2

        self.poll_until(member, all_assigned)
        return starts

    def close(self) -> None:
        self.cluster.proxy.disarm()
        for member in self._members:
            member.close()


@pytest.fixture
def work(cluster: Cluster) -> Iterator[Work]:
    work = Work(cluster)
    yield work
    work.close()


def persist(member: KafkaTransport, outgoing: list[Outgoing], offsets: dict[Partition, int]) -> int:
    """Deliver as the pump does, polling between the attempts, until it is done; how many attempts failed."""
    deadline = time.monotonic() + 30
    failures = 0
    member.pause(offsets.keys())
    while True:
        try:
            member.deliver(outgoing, offsets)
            break
        except TransientError:
            failures += 1
            assert time.monotonic() < deadline
        try:
            assert not member.poll(0.05).records
        except TransientError:
            continue
    member.resume(offsets.keys())
    return failures


_REQUESTS = (
    Api.INIT_PRODUCER_ID,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.PRODUCE,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)
_CUTS: list[tuple[Api, Side, Action]] = [(api, "request", "reset") for api in _REQUESTS]
_CUTS += [(api, "response", "reset") for api in _REQUESTS]
_CUTS += [(Api.PRODUCE, "response", "black_hole"), (Api.END_TXN, "response", "black_hole")]
_CUTS += [(Api.TXN_OFFSET_COMMIT, "request", "black_hole"), (Api.INIT_PRODUCER_ID, "response", "black_hole")]
_CUTS += [(Api.TXN_OFFSET_COMMIT, "request", "delay"), (Api.END_TXN, "request", "delay")]


@pytest.mark.parametrize(("api", "side", "action"), _CUTS, ids=lambda value: getattr(value, "name", value))
def test_a_transaction_cut_at_any_request_is_visible_once_with_its_offsets(
    work: Work, api: Api, side: Side, action: Action
) -> None:
    values = work.write(10)
    member = work.member()
    records = work.poll_until(member, lambda records, _: len(records) == 10)
    first, second = records[:5], records[5:]
    half = {p: sum(r.partition == p.number for r in first) for p in work.partitions}
    if api is not Api.INIT_PRODUCER_ID:  # which only a new producer asks for
        persist(member, [], dict.fromkeys(work.partitions, 0))
    cut = Cut(api, side, action, seconds=_DELAY_SECONDS)
    work.cluster.proxy.arm(cut)
    persist(member, work.outgoing(first), half)
    assert cut.done.is_set()
    # What is late must not end, or change, a transaction that is open when it arrives.
    until = time.monotonic() + (_DELAY_SECONDS + 0.2 if action == "delay" else 0.0)
    while True:
        persist(member, [], half)
        if time.monotonic() > until:
            break
    persist(member, work.outgoing(second), work.offsets(member))
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)
    end = work.offsets(member)
    member.close()
    assert work.committed() == end


def test_what_the_broker_may_have_left_open_is_aborted_before_it_is_written_again(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker forgets to abort where a partition has no leader: a second abort marker ends what it left open."""
    values = work.write(10)
    member = work.member()
    records = work.poll_until(member, lambda records, _: len(records) == 10)
    with monkeypatch.context() as broken:
        broken.setattr(TransactionalProducer, "send_offsets_to_transaction", Mock(side_effect=KafkaTimeoutError))
        with pytest.raises(TransientError):
            member.deliver(work.outgoing(records), work.offsets(member))
    member.deliver(work.outgoing(records), work.offsets(member))
    expected = ["records", "abort", "abort", "records", "commit"]
    deadline = time.monotonic() + 10  # the broker answers before it has written its markers
    while (kinds := [_batches(work, number) for number in range(2)]) != [expected] * 2:
        assert time.monotonic() < deadline, kinds
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)


def _batches(work: Work, number: int) -> list[str]:
    """What the log of an output partition holds: records, and the broker's markers."""
    log = work.cluster.broker.data / "logs" / f"{work.sink}-{number}" / f"{0:020}.log"
    batches, kinds = MemoryRecords(log.read_bytes()), []
    while batches.has_next():
        batch = batches.next_batch()
        # A marker's key: its version, and 0 where it aborts.
        kinds += ["commit" if r.key[-1] else "abort" for r in batch] if batch.is_control_batch else ["records"]
    return kinds


def test_an_answer_that_nobody_waited_for_is_not_taken_for_a_later_one(work: Work) -> None:
    """K17: the client keeps a question for committed offsets that timed out, and gives its answer to the next one."""
    member = work.member()
    work.poll_until(member, lambda _, changes: bool(changes))
    member.deliver([], {work.partitions[0]: 1})
    before = member._consumer.committed_metadata(work.partitions[:1], 5)
    work.cluster.proxy.delay_seconds = 0.5
    with pytest.raises(KafkaTimeoutError):
        member._consumer._client.committed(TopicPartition(*work.partitions[0]), timeout_ms=300)
    work.cluster.proxy.delay_seconds = 0.0
    (kept,) = member._consumer._client._coordinator._offset_fetch_futures.values()
    deadline = time.monotonic() + 10
    while not kept.is_done:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    member.deliver([], {work.partitions[0]: 2})
    after = member._consumer.committed_metadata(work.partitions[:1], 5)
    assert after != before


def test_the_end_of_a_transaction_that_comes_late_does_not_end_the_next_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends it again when its connection breaks; the first one may still be on its way (KIP-890)."""
    member = work.member()
    work.poll_until(member, lambda _, changes: bool(changes))
    ended: list[EndTxnRequest] = []
    commit = TransactionalProducer.commit_transaction

    def commit_and_remember(producer: TransactionalProducer) -> None:
        now = producer._transaction_manager.producer_id_and_epoch
        ids = {"producer_id": now.producer_id, "producer_epoch": now.epoch}
        ended.append(EndTxnRequest(transactional_id=producer.config["transactional_id"], committed=True, **ids))
        commit(producer)

    def meet_the_late_one(producer: TransactionalProducer, *_: object) -> None:
        arrived = threading.Event()
        client, coordinator = producer._sender._client, producer._transaction_manager._transaction_coordinator
        client.send(coordinator, ended[0]).add_both(lambda _: arrived.set())
        producer._sender.wakeup()
        assert arrived.wait(5)
        raise RuntimeError("so much for this transaction")

    monkeypatch.setattr(TransactionalProducer, "commit_transaction", commit_and_remember)
    work.cluster.proxy.arm(Cut(Api.END_TXN, "response", "reset"))
    member.deliver([Outgoing(work.sink, b"k", b"first")], {work.partitions[0]: 0})
    monkeypatch.setattr(TransactionalProducer, "send_offsets_to_transaction", meet_the_late_one)
    with pytest.raises(TransientError, match="so much"):
        member.deliver([Outgoing(work.sink, b"k", b"not yet")], {work.partitions[0]: 1})
    monkeypatch.undo()
    member.deliver([Outgoing(work.sink, b"k", b"second")], {work.partitions[0]: 1})
    assert work.cluster.visible(work.sink) == [b"first", b"second"]


def test_a_delivery_that_fails_for_good_shows_neither_its_records_nor_its_offsets(work: Work) -> None:
    work.write(10)
    member = work.member()
    records = work.poll_until(member, lambda records, _: len(records) == 10)
    for api in (Api.PRODUCE, Api.END_TXN):
        work.cluster.proxy.arm(Cut(api, "request", "black_hole", times=100))
        with pytest.raises(TransientError):
            member.deliver(work.outgoing(records), work.offsets(member))
        work.cluster.proxy.disarm()
    member.close()
    assert work.committed() == dict.fromkeys(work.partitions, 0)
    work.member(work.direct).deliver([Outgoing(work.sink, b"k", b"other")], {})
    # Behind what the dead transactions have written: it is seen once the broker has ended them.
    deadline = time.monotonic() + 30
    while (seen := work.cluster.visible(work.sink)) != [b"other"]:
        assert seen == []
        assert time.monotonic() < deadline


def test_a_loss_to_retention_is_told_after_the_delivery_that_is_in_doubt(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is in doubt would be dropped, or told a second time from an older offset."""
    values = work.write(10)
    member = work.member(work.direct.model_copy(update={"fetch_max_wait_ms": 1}))
    records = work.poll_until(member, lambda records, _: len(records) == 10)
    offsets = work.offsets(member)
    member.pause(offsets)
    commit = TransactionalProducer.commit_transaction

    def commit_unheard(producer: TransactionalProducer) -> None:
        commit(producer)
        raise KafkaTimeoutError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(TransactionalProducer, "commit_transaction", commit_unheard)
        with pytest.raises(TransientError):
            member.deliver(work.outgoing(records), offsets)
    for _ in range(5):
        member.poll(0.05)  # what was asked for before the pause has been answered
    work.write(10)
    admin = KafkaAdminClient(bootstrap_servers=work.direct.bootstrap_servers)
    admin.delete_records({TopicPartition(*partition): member.bounds(partition)[1] for partition in offsets})
    admin.close()
    assert [member.poll(0.05).lost for _ in range(5)] == [frozenset()] * 5
    member.deliver(work.outgoing(records), offsets)
    member.resume(offsets)
    lost: set[Partition] = set()
    deadline = time.monotonic() + 10
    while lost != set(work.partitions):
        assert time.monotonic() < deadline, lost
        polled = member.poll(0.1)
        assert not polled.records
        lost |= polled.lost
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)
    member.close()
    assert work.committed() == offsets


def test_what_a_member_has_when_another_joins_is_committed_while_the_group_waits_for_it(work: Work) -> None:
    values = work.write(10)
    one = work.member(work.direct)
    records = work.poll_until(one, lambda records, _: len(records) == 10)
    two = work.member(work.direct)
    for _ in range(5):
        two.poll(0.1)  # the broker waits for `one` to join again
    one.deliver(work.outgoing(records), work.offsets(one))
    deadline = time.monotonic() + 20
    joined = False
    while not joined:
        assert time.monotonic() < deadline
        one.poll(0.05)
        joined = any(isinstance(change, Assigned) for change in two.poll(0.05).changes)
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)


def test_a_member_that_was_thrown_out_commits_nothing_and_hears_of_it_by_a_poll(work: Work) -> None:
    """It was deaf for longer than its session, and the other one has done its work."""
    values = work.write(10)
    one = work.member()
    records = work.poll_until(one, lambda records, _: len(records) == 10)
    offsets = work.offsets(one)
    work.cluster.proxy.mode = "black_hole"
    two = work.member(work.direct)
    taken = work.poll_until(two, lambda records, _: len(records) == 10)
    two.deliver(work.outgoing(taken), work.offsets(two))
    work.cluster.proxy.mode = "pass"
    one.pause(work.partitions)
    changes: list[object] = []
    deadline = time.monotonic() + 30
    while not any(isinstance(change, Revoked) for change in changes):
        with pytest.raises(TransientError):
            one.deliver(work.outgoing(records), offsets)
        assert time.monotonic() < deadline
        try:
            changes += one.poll(0.1).changes
        except TransientError:
            continue
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)


def test_a_member_that_has_lost_its_coordinator_shows_a_sign_of_life_as_soon_as_it_has_found_it(work: Work) -> None:
    """Its session ran on while there was no network, and would run out in the rest of a heartbeat's interval."""
    hours = {"session_timeout_ms": 1_500_000, "heartbeat_interval_ms": 500_000, "max_poll_interval_ms": 1_500_000}
    member = work.member(work.settings.model_copy(update=hours))
    work.poll_until(member, lambda _, changes: bool(changes))
    beat = Cut(Api.HEARTBEAT, "request", "delay", seconds=0)
    work.cluster.proxy.arm(beat)
    member._consumer._client._coordinator.coordinator_dead("no network")
    work.poll_until(member, lambda *_: beat.done.is_set())


def test_connections_that_died_without_a_word_are_left_and_the_member_stays_one(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(kafka_consumer, "_PING_SECONDS", 0.5)
    hours = {"session_timeout_ms": 1_500_000, "max_poll_interval_ms": 1_500_000, "request_timeout_ms": 500_000}
    member = work.member(work.settings.model_copy(update=hours))
    work.poll_until(member, lambda _, changes: bool(changes))
    work.cluster.proxy.mode = "black_hole"

    def poll_on() -> None:
        for _ in range(100):
            member.poll(0.1)

    with pytest.raises(TransientError, match="ping"):
        poll_on()
    work.cluster.proxy.mode = "pass"  # for new connections: what is in flight on the old ones is never answered
    values = work.write(10)
    # A change would be that it was thrown out.
    records = work.poll_until(member, lambda records, changes: bool(changes) or len(records) == 10)
    assert sorted(record.value or b"" for record in records) == sorted(values)


_ZOMBIE = """
import sys
from streamd.errors import TransientError
from streamd.transport.base import Assigned, Outgoing, Partition, Revoked
from streamd.transport.kafka import KafkaTransport
from streamd.transport.settings import KafkaSettings

settings, source, sink = KafkaSettings.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]
transport = KafkaTransport(settings, [source])
transport.open()
records = []
while len(records) < 10:
    records += transport.poll(0.1).records
offsets = {Partition(source, n): transport.position(Partition(source, n)) for n in range(2)}
transport.deliver([], dict.fromkeys(offsets, 0))
print("has polled", flush=True)
sys.stdin.readline()
transport.pause(offsets)
attempts, revoked = 0, False
while not revoked:
    try:
        transport.deliver([Outgoing(sink, b"k", b"zombie")], offsets)
        print("delivered", flush=True)
        sys.exit(1)
    except TransientError as error:
        attempts += 1
    try:
        revoked = any(isinstance(change, Revoked) for change in transport.poll(0.1).changes)
    except TransientError:
        pass
print("refused", attempts, flush=True)
transport.close()
"""


def test_a_process_that_was_stopped_for_longer_than_its_session_and_continued_commits_nothing(
    work: Work, tmp_path: Path
) -> None:
    values = work.write(10)
    script = tmp_path / "zombie.py"
    script.write_text(_ZOMBIE)
    arguments = [sys.executable, str(script), work.direct.model_dump_json(), work.source, work.sink]
    zombie = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert zombie.stdout is not None
        assert zombie.stdout.readline() == "has polled\n"
        zombie.send_signal(signal.SIGSTOP)
        member = work.member(work.direct)
        taken = work.poll_until(member, lambda records, _: len(records) == 10)
        member.deliver(work.outgoing(taken), work.offsets(member))
        zombie.send_signal(signal.SIGCONT)
        answer, _ = zombie.communicate("go on\n", timeout=30)
        assert answer.startswith("refused")
    finally:
        zombie.kill()
        zombie.wait()
    assert sorted(value or b"" for value in work.cluster.visible(work.sink)) == sorted(values)


def test_k9_transactions_follow_each_other_without_waiting_for_a_whole_back_off(work: Work) -> None:
    member = work.member(work.direct)
    work.poll_until(member, lambda _, changes: bool(changes))
    taken = []
    for offset in range(40):
        started = time.perf_counter()
        member.deliver([Outgoing(work.sink, b"k", b"v")], {work.partitions[0]: offset})
        taken.append(time.perf_counter() - started)
    assert statistics.median(taken) < 0.06, "the client's own back-off is 0.1 s"
