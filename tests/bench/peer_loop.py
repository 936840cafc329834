"""What one would write without streamd: kafka-python, orjson, alibi-detect and scikit-learn; the peers' Python.

References first, then batches of numbers and logits. Drift of every column, of the predictions' entropy and of the
reconstruction errors by KSDrift over the last 1,000 rows, z-scores of batch means; alerts and offsets in one
transaction a poll.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import deque
from typing import Any

import peer_turns  # first: it takes stdout for itself

import numpy as np  # isort: skip
import orjson
from alibi_detect.cd import KSDrift
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

WINDOW_ROWS, EFFECT, P_VALUE, PAST, LINE = 1000, 0.2, 0.001, 100, 3.0


class Stream:
    """One stream's reference, models and past."""

    def __init__(self, features: np.ndarray, logits: np.ndarray) -> None:
        self.scaler = StandardScaler().fit(features)
        scaled = self.scaler.transform(features)
        self.network = MLPRegressor(hidden_layer_sizes=(32, 16, 8, 16, 32), max_iter=20, random_state=0).fit(
            scaled, scaled
        )
        scores = self.scores(features, logits)
        self.detectors = [KSDrift(score, p_val=P_VALUE) for score in scores]
        self.window: deque[list[np.ndarray]] = deque()
        self.rows = 0
        self.unjudged = 0
        self.means: deque[np.ndarray] = deque(maxlen=PAST)
        self.deviation = features.std(axis=0)

    def scores(self, features: np.ndarray, logits: np.ndarray) -> list[np.ndarray]:
        """What is compared with the reference: the columns, the entropy, the reconstruction error."""
        scaled = self.scaler.transform(features)
        errors = ((self.network.predict(scaled) - scaled) ** 2).mean(axis=1)
        unsure = entropy(softmax(logits, axis=1), axis=1)
        return [np.column_stack([features, logits]), unsure[:, None], errors[:, None]]

    def judge(self, features: np.ndarray, logits: np.ndarray, every_batch: bool) -> bool:
        """Whether this batch is news."""
        loud = self._far(features.mean(axis=0))
        self.window.append(self.scores(features, logits))
        self.rows += len(features)
        self.unjudged += len(features)
        while self.rows - len(self.window[0][0]) >= WINDOW_ROWS:
            self.rows -= len(self.window.popleft()[0])
        if self.rows < WINDOW_ROWS or not (every_batch or self.unjudged >= WINDOW_ROWS):
            return loud
        self.unjudged = 0
        for detector, parts in zip(self.detectors, zip(*self.window, strict=True), strict=True):
            found = detector.predict(np.concatenate(parts)[-WINDOW_ROWS:])["data"]
            loud |= bool(found["is_drift"]) and bool((found["distance"] > EFFECT).any())
        return loud

    def _far(self, means: np.ndarray) -> bool:
        """Whether a mean is far from those before it; if not, it is learned."""
        past, far = np.array(self.means), False
        if len(past) >= 30:
            z = (means - past.mean(axis=0)) / past.std(axis=0, ddof=1)
            far = bool(((np.abs(z) > LINE) & (np.abs(means - past.mean(axis=0)) > self.deviation / 2)).any())
        if not far:
            self.means.append(means)
        return far


def main(servers: str, topic: str, every: str, seconds: str) -> None:
    warnings.simplefilter("ignore")  # fits that end early
    name = f"loop-{time.time_ns()}"
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=name,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
        max_poll_interval_ms=600_000,
    )
    consumer.subscribe([topic])
    producer = KafkaProducer(bootstrap_servers=servers, transactional_id=name, acks="all", retry_backoff_ms=5)
    producer.init_transactions()

    def turn(_: dict[str, Any]) -> dict[str, Any]:
        return _run(consumer, producer, topic, every == "batch", float(seconds))

    peer_turns.serve({}, turn)


def _run(consumer: Any, producer: Any, topic: str, every_batch: bool, seconds: float) -> dict[str, Any]:
    """Rows judged once every stream is trained, for about so many seconds or to the end."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    streams: dict[str, Stream] = {}
    loud: set[str] = set()
    rows, spent, silent = 0, 0.0, 0
    while spent < seconds and silent < 20:
        started = time.perf_counter()
        polled = consumer.poll(100, max_records=64)
        records = [record for each in polled.values() for record in each]
        silent = 0 if records or not parts else silent + 1  # joining the group may take seconds
        producer.begin_transaction()
        judged = 0
        for record in records:
            batch = orjson.loads(record.value)
            name = batch["stream"]
            features = np.column_stack([np.asarray(c, np.float64) for c in batch["features"].values()])
            logits = np.asarray(batch["logits"], np.float64)
            if "streamd-role" in dict(record.headers):
                parts.setdefault(name, []).append((features, logits))
                continue
            if name not in streams:
                streams[name] = Stream(*(np.concatenate(each) for each in zip(*parts[name], strict=True)))
            if streams[name].judge(features, logits, every_batch):
                loud.add(name)
                alert = {"stream": name, "partition": record.partition, "offset": record.offset}
                producer.send(f"{topic}-loop", orjson.dumps(alert), name.encode())
            judged += len(features)
        offsets = {p: OffsetAndMetadata(consumer.position(p), "", -1) for p in polled}
        if offsets:
            producer.flush()
            producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()
        if judged and len(streams) == len(parts):  # a training is not what is compared
            rows += judged
            spent += time.perf_counter() - started
    return {"rows": rows, "seconds": spent, "streams": sorted(loud)}


if __name__ == "__main__":
    main(*sys.argv[1:])
