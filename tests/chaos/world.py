"""One chaos run: a broker behind a proxy, members of one group, the driver, the witnesses, and what it came to."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from chaos.driver import Driver, Payloads, Topic
from chaos.oracle import METRICS, Expected, compare, expect, expected_states, restored
from chaos.site import Site
from chaos.witness import Offsets, Reader, Seen, everything_is_decided, read_again
from daemons import Daemon
from prometheus_client.parser import text_string_to_metric_families

from streamd import config_loading
from streamd.config import Config
from streamd.transport.kafka_admin import ensure_topics

SETTLE_SECONDS = 120.0
EXIT_STUCK = 70

NO_DATA = "STREAMD_DETECTORS__QUALITY__NO_DATA_SECONDS"
SMALL: Mapping[str, str] = {
    # Windows of a few records: alerts by the hundred.
    "STREAMD_DETECTORS__KS__WINDOW_ROWS": "50",
    "STREAMD_DETECTORS__CHI2__WINDOW_ROWS": "50",
    "STREAMD_DETECTORS__ZSCORE__MIN_BATCHES": "10",
    "STREAMD_DETECTORS__ZSCORE__LOOKS": "10",
    "STREAMD_DETECTORS__QUALITY__ROWS_MIN": "10",
    "STREAMD_DETECTORS__QUALITY__LOOKS": "10",
    NO_DATA: "1.5",  # a nap is silence
    "STREAMD_DETECTORS__ENTROPY": "null",
    "STREAMD_DETECTORS__AUTOENCODER": "null",
    "STREAMD_REFERENCE__FIRST_ROWS": "100",
    "STREAMD_POLICY__COOLDOWN_SECONDS": "0",
    "STREAMD_POLICY__RESOLVE_AFTER": "1",
    "STREAMD_POLICY__CRITICAL_AFTER": "2",
    "STREAMD_ENGINE__SNAPSHOT_RECORDS": "60",
    "STREAMD_ENGINE__TICK_SECONDS": "0.25",
    "STREAMD_KAFKA__MAX_POLL_RECORDS": "20",
    "STREAMD_KAFKA__PARTITIONS": "3",
}
QUICK: Mapping[str, str] = {
    # The same deadlines as by default, in the same order, each at half.
    "STREAMD_KAFKA__PRODUCER_REQUEST_TIMEOUT_MS": "2000",
    "STREAMD_KAFKA__DELIVERY_TIMEOUT_MS": "4000",
    "STREAMD_KAFKA__TRANSACTION_TIMEOUT_MS": "5000",
    "STREAMD_KAFKA__REQUEST_TIMEOUT_MS": "5000",
}


@dataclass
class Outcome:
    """What a run came to."""

    scenario: str
    seed: int
    exactly_once: bool = True
    faults: Counter[str] = field(default_factory=Counter)
    records: int = 0
    told: int = 0
    lost: int = 0
    twice: int = 0
    state_equal: bool = False
    settle_seconds: float = float("nan")
    drain_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    logs: Path | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.scenario}, seed {self.seed}: {len(self.problems)} problems; logs in {self.logs}"]
        return "\n  - ".join([*lines, *self.problems])


class World:
    """Everything of one run.

    Args:
        site: the broker, running.
        folder: for logs, which stay when something was wrong.
        seed: of payloads and faults.
        environment: of the daemons, over SMALL.
        patience: how much longer than on a quiet machine anything may take.
    """

    def __init__(
        self, site: Site, folder: Path, name: str, seed: int, environment: Mapping[str, str], patience: float
    ) -> None:
        self.site = site
        self.patience = patience
        self.proxy = site.proxy
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.outcome = Outcome(name, seed, site.exactly_once, logs=folder)
        self.members: list[Daemon] = []
        self._environment = {**SMALL, **environment}
        first = self._daemon(None)
        self.name = first.name
        environ = first.environment | {"STREAMD_KAFKA__BOOTSTRAP_SERVERS": site.direct}
        self.config: Config = config_loading.load(None, environ).config
        ensure_topics(self.config.kafka, self.config.topics, create=True)
        self.offsets = Offsets(self.config)
        self.reader = Reader(self.config)
        self.payloads: Payloads | None = None
        self.driver: Driver | None = None

    def _daemon(self, name: str | None) -> Daemon:
        return Daemon(self.site.members, self.folder, name, **self._environment)

    # --- Members ---

    def start_member(self, *, wait: bool = True) -> Daemon:
        member = self._daemon(self.name)
        self.members.append(member)
        member.start()
        if wait:
            self.until(lambda: member.get("/readyz")[0] == 200, 60, f"{member.log.name} is ready")
        return member

    def one(self) -> Daemon:
        """Any of them."""
        return self.members[int(self.rng.integers(len(self.members)))]

    def played(self, fault: str) -> None:
        self.outcome.faults[fault] += 1

    def problem(self, sentence: str) -> None:
        self.outcome.problems.append(sentence)

    def nurse(self) -> None:
        """A supervisor: what ended by itself is started again, and counts as a problem unless it was stuck."""
        for member in self.members:
            process = member._process
            if process is not None and (code := process.poll()) is not None:
                if code == EXIT_STUCK:
                    self.played("ended as stuck")
                else:
                    self.problem(f"{member.log.name} ended by itself with {code}: {member.tail()[-1500:]}")
                member.start()

    # --- Waiting ---

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> bool:
        """Wait for it; a problem when it does not come."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > seconds * self.patience:
                self.problem(f"not within {time.monotonic() - started:.0f} s: {what}")
                return False
            time.sleep(0.05)
        return True

    def pause(self, low: float, high: float) -> None:
        time.sleep(float(self.rng.uniform(low, high)))

    def progress(self, records: int = 50, seconds: float = 60.0) -> None:
        """Until that many more records are committed, so that the next fault meets a group that works."""
        goal = self.offsets.total() + records
        self.until(lambda: self.nurse() or self.offsets.total() >= goal, seconds, f"{records} more records committed")

    # --- The run ---

    def begin(self, payloads: Payloads, records: int, per_second: float, members: int) -> None:
        self.reader.start()
        self.offsets.start()
        for _ in range(members):
            self.start_member(wait=False)
        for member in self.members:
            self.until(lambda m=member: m.get("/readyz")[0] == 200, 90, f"{member.log.name} is ready")
        self.payloads = payloads
        topics: dict[Topic, str] = {"features": self.config.topics.features, "telemetry": self.config.topics.telemetry}
        self.driver = Driver(self.site.direct, topics, payloads, records, per_second)
        self.driver.start()

    def end(self, *, check_metrics: bool) -> Outcome:
        """Faults off; settle; stop; compare."""
        assert self.driver is not None
        self.proxy.disarm()
        self.driver.finish()
        settled = self._settle()
        sums = self._measure()
        for member in self.members:
            self.stop(member)
        after = self._read_again()
        expected = expect(self.config, after.ticks)
        self.outcome.records = expected.counts["records"]
        self.outcome.told = expected.total
        self.outcome.figures["ticks with effects"] = str(expected.counts["ticks"])
        self._compare(expected, after)
        for name, metric in METRICS.items() if check_metrics else ():
            if sums[metric] != expected.counts[name]:
                self.problem(f"{metric} sums to {sums[metric]:g}, should be {expected.counts[name]}")
        for witness in (self.reader, self.offsets):
            witness.stop()
        if settled:
            self._state(expected)
        return self.outcome

    def _settle(self) -> bool:
        """Until the group has committed the whole input, and told of every stream that nothing comes any more."""
        assert self.driver is not None
        started, ends = time.monotonic(), self.driver.ends

        def settled() -> bool:
            self.nurse()
            return all(self.offsets.committed.get(partition) == end for partition, end in ends.items())

        done = self.until(settled, SETTLE_SECONDS, f"everything committed: {ends}; it is {self.offsets.committed}")
        self.outcome.settle_seconds = time.monotonic() - started
        if self._environment[NO_DATA] != "null":
            assert self.payloads is not None
            streams = self.payloads.left_behind(self.driver.sent)
            what = f"every stream is told to be silent: {sorted(streams)}"
            done &= self.until(lambda: self.reader.seen.silent >= streams, SETTLE_SECONDS, what)
        return done

    def _measure(self) -> Counter[str]:
        """What the members say of themselves, while they can still be asked, added up."""
        pages = [member.get("/metrics")[1].decode() for member in self.members]
        sums: Counter[str] = Counter()
        for page in pages:
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    key = f"{sample.name}{{le={sample.labels['le']}}}" if "le" in sample.labels else sample.name
                    sums[key] += sample.value
        self.outcome.figures["commit p50 / p99"] = " / ".join(quantile(sums, q) for q in (0.5, 0.99))
        if sums["streamd_records_skipped_total"]:
            self.problem(f"{sums['streamd_records_skipped_total']:g} records were skipped as unreadable")
        return sums

    def stop(self, member: Daemon) -> None:
        """SIGTERM: it must go, with 0, and soon."""
        # Before it listens it is still importing, and a signal ends it as it ends any program.
        self.until(lambda: member.get("/livez")[0] == 200, 60, f"{member.log.name} listens")
        started = time.monotonic()
        try:
            code = member.stop()
        except Exception as error:
            self.problem(f"{member.log.name} does not stop: {error!r}")
            member.close()
            return
        self.outcome.drain_seconds.append(time.monotonic() - started)
        if code != 0:
            self.problem(f"{member.log.name} stopped with {code}: {member.tail()[-1500:]}")

    def _read_again(self) -> Seen:
        """What a careful reader finds when all is over; what one got meanwhile must be the same."""
        self.until(lambda: everything_is_decided(self.config), 60, "no transaction is open any more")
        after, during = read_again(self.config), self.reader.seen.told
        self.until(lambda: len(during) >= len(after.told) or self.reader.error is not None, 60, "the reader is through")
        if self.reader.error is not None:
            self.problem(f"the reader failed: {self.reader.error!r}")
        if during != after.told:
            only = next(iter(during.items() ^ after.told.items()))
            self.problem(
                f"a reader got {len(during)} records meanwhile and {len(after.told)} afterwards, such as {only}"
            )
        return after

    def _compare(self, expected: Expected, after: Seen) -> None:
        difference = compare(expected.told, [after.told[place] for place in sorted(after.told)])
        self.outcome.lost, self.outcome.twice = len(difference.lost), len(difference.twice)
        if text := difference.problem(exactly_once=self.site.exactly_once):
            self.problem(text)
        if self.offsets.backwards:
            self.problem(f"committed offsets went back: {self.offsets.backwards[:5]}")
        if self.offsets.error is not None:
            self.problem(f"the offsets could not be followed: {self.offsets.error!r}")

    def _state(self, expected: Expected) -> None:
        wanted, found = expected_states(expected), restored(expected)
        different = [f"{p.topic}/{p.number}" for p in wanted if wanted[p] != found[p]]
        self.outcome.state_equal = not different
        if different:
            self.problem(f"the restored state of {different} differs from that of a process that never stopped")
            for partition in wanted:
                (self.folder / f"expected-{partition.number}.state").write_bytes(wanted[partition])
                (self.folder / f"found-{partition.number}.state").write_bytes(found[partition])

    def close(self) -> None:
        """Nothing stays behind but the logs of a run that went wrong."""
        self.reader.stop()
        self.offsets.stop()
        for member in self.members:
            member.close()
        if self.outcome.ok:
            shutil.rmtree(self.folder, ignore_errors=True)


def quantile(sums: Mapping[str, float], q: float, name: str = "streamd_delivery_seconds") -> str:
    """Of a histogram, in milliseconds; within a bucket a straight line, as Prometheus has it."""
    prefix = f"{name}_bucket{{le="
    buckets = sorted((float(key[len(prefix) : -1]), n) for key, n in sums.items() if key.startswith(prefix))
    below, lower = 0.0, 0.0
    for upper, n in buckets:
        if n > 0 and n >= q * buckets[-1][1]:
            if upper == float("inf"):
                return f"> {lower * 1000:g} ms"
            return f"{(lower + (upper - lower) * (q * buckets[-1][1] - below) / (n - below)) * 1000:.1f} ms"
        below, lower = n, upper
    return "–"
