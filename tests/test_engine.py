"""The engine: what one partition's records lead to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from envelopes import T0, Producer

from streamd.codec.limits import Limits
from streamd.detectors.base import DetectorConfig, Reference
from streamd.detectors.judge import TwoSampleSettings
from streamd.detectors.ks import KsConfig
from streamd.detectors.quality import QualityConfig
from streamd.detectors.zscore import ZscoreConfig
from streamd.engine import PartitionEngine
from streamd.engine_settings import EngineSettings, ReferenceSettings, StreamSettings
from streamd.errors import Reason
from streamd.kept import Kept, fit_key
from streamd.model import (
    Alert,
    BatchJudged,
    Command,
    DeadLetter,
    Effect,
    Envelope,
    Reading,
    StreamChanged,
    TelemetryCounted,
)
from streamd.policy import PolicySettings
from streamd.profiles import Profiles
from streamd.state import pack, unpack

RNG = np.random.default_rng


def engine(
    detectors: Mapping[str, DetectorConfig] | None = None,
    *,
    topic: str = "streamd.features",
    first_rows: int | None = None,
    rows_max: int = 100_000,
    unasked: frozenset[str] = frozenset(),
    policy: PolicySettings | None = None,
    profiles: Profiles | None = None,
    **settings: float,
) -> PartitionEngine:
    stream = StreamSettings(
        detectors if detectors is not None else {"ks": KsConfig(type="ks", window_rows=200)},
        ReferenceSettings(first_rows=first_rows, rows_max=rows_max),
        policy or PolicySettings(),
        unasked,
    )
    return PartitionEngine(
        topic,
        0,
        "telemetry" if "telemetry" in topic else "features",
        Limits(),
        EngineSettings.model_validate(settings),
        lambda _: stream,
        profiles or Profiles(),
    )


def normal(rows: int, seed: int, shift: float = 0.0) -> dict[str, list[float]]:
    values = RNG(seed).normal(size=(2, rows))
    return {"amount": (values[0] + shift).tolist(), "age": values[1].tolist()}


def of(kind: type, effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]


def changes(effects: list[Effect]) -> list[str]:
    return [effect.what for effect in effects if isinstance(effect, StreamChanged)]


def test_a_drift_after_a_sent_reference_fires_names_the_feature_and_resolves() -> None:
    send, watch = Producer(), engine()
    assert "reference" in changes(watch.step(send.batch(normal(1000, 0), role="reference")))
    told: list[Effect] = []
    for seed in range(1, 6):
        told += watch.step(send.batch(normal(200, seed)))
    assert of(Alert, told) == []
    for seed in range(6, 8):
        told += watch.step(send.batch(normal(200, seed, shift=2.0)))
    for seed in range(8, 11):
        told += watch.step(send.batch(normal(200, seed)))
    alerts = [effect for effect in told if isinstance(effect, Alert)]
    assert [(a.status, a.severity.word) for a in alerts] == [("firing", "warning"), ("resolved", "warning")]
    assert [f.name for f in alerts[0].features] == ["amount"]
    assert (alerts[0].window.first_offset, alerts[0].window.last_offset, alerts[0].window.rows) == (6, 6, 200)
    assert alerts[0].event_time_ms == T0 + 6000


def test_same_bytes_in_gives_same_effects_out() -> None:
    runs = []
    for _ in range(2):
        send, watch = Producer(), engine(first_rows=400)
        told: list[Effect] = []
        for seed in range(8):
            told += watch.step(send.batch(normal(200, seed, shift=3.0 * (seed > 4))))
        runs.append([effect for effect in told if isinstance(effect, Alert | Command | StreamChanged)])
    assert runs[0] == runs[1]
    assert of(Alert, runs[0])


def test_a_reference_of_several_parts_is_in_force_when_the_last_part_has_come() -> None:
    send, watch = Producer(), engine()
    assert "reference" not in changes(watch.step(send.batch(normal(500, 0), role="reference", part="1/3")))
    watch.step(send.batch(normal(200, 9)))  # data in between
    assert "reference" not in changes(watch.step(send.batch(normal(500, 1), role="reference", part="3/3")))
    (change,) = of(StreamChanged, watch.step(send.batch(normal(500, 2), role="reference", part="2/3")))
    assert isinstance(change, StreamChanged)
    assert change.detail == "1500 rows from reference batches"


def test_a_reference_that_starts_over_forgets_the_parts_before() -> None:
    send, watch = Producer(), engine()
    watch.step(send.batch(normal(500, 0), role="reference", part="1/2"))
    assert "reference" not in changes(watch.step(send.batch(normal(70, 1), role="reference", part="1/2")))
    (change,) = of(StreamChanged, watch.step(send.batch(normal(30, 2), role="reference", part="2/2")))
    assert isinstance(change, StreamChanged)
    assert change.detail == "100 rows from reference batches"


def test_a_reference_over_the_limit_is_a_dead_letter() -> None:
    send, watch = Producer(), engine(rows_max=600)
    watch.step(send.batch(normal(500, 0), role="reference", part="1/2"))
    (letter,) = of(DeadLetter, watch.step(send.batch(normal(500, 1), role="reference", part="2/2")))
    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.reason) == ("validate", Reason.TOO_MANY_ROWS)
    assert "reference.rows_max = 600" in letter.error


def test_without_a_sent_reference_the_first_rows_are_the_reference() -> None:
    send, watch = Producer(), engine(first_rows=400)
    assert "reference" not in changes(watch.step(send.batch(normal(300, 0))))
    (change,) = of(StreamChanged, watch.step(send.batch(normal(300, 1))))
    assert isinstance(change, StreamChanged)
    assert change.detail == "600 rows from its own first rows"


def test_a_batch_that_alarmed_never_becomes_part_of_a_reference() -> None:
    calm = {"zscore": ZscoreConfig(type="zscore", min_batches=5)}
    send, watch = Producer(), engine(calm, first_rows=1000)
    for seed in range(8):
        watch.step(send.batch(normal(100, seed)))
    assert of(Alert, watch.step(send.batch(normal(100, 8, shift=50.0))))
    told: list[Effect] = []
    for seed in range(9, 11):
        told += watch.step(send.batch(normal(100, seed)))
    (change,) = [e for e in told if isinstance(e, StreamChanged)]
    assert change.detail == "1000 rows from its own first rows"  # ten calm batches; the loud one is not among them


def test_a_reset_forgets_reference_and_state_and_ends_the_alert() -> None:
    send, watch = Producer(), engine()
    watch.step(send.batch(normal(1000, 0), role="reference"))
    assert of(Alert, watch.step(send.batch(normal(200, 1, shift=2.0))))
    told = watch.step(send.record(b'{"stream": "fraud/7", "role": "reset"}'))
    assert [a.status for a in told if isinstance(a, Alert)] == ["resolved"]
    assert "reset" in changes(told)
    assert of(Alert, watch.step(send.batch(normal(200, 2, shift=2.0)))) == []
    assert watch.streams == 1


def test_a_stream_whose_event_time_stands_still_is_told_once() -> None:
    send, watch = Producer(), engine({"zscore": ZscoreConfig(type="zscore", min_batches=3)})
    batches = [send.batch({"amount": [float(i % 7)]}, ts=T0) for i in range(1100)]
    told = [change for envelope in batches for change in of(StreamChanged, watch.step(envelope))]
    assert [change.what for change in told if isinstance(change, StreamChanged)] == ["seen", "still"]


def test_a_bad_record_is_one_dead_letter_and_the_next_record_is_judged() -> None:
    send, watch = Producer(), engine()
    (letter,) = watch.step(send.record(b"{not json"))
    assert isinstance(letter, DeadLetter)
    assert (letter.stage, letter.reason) == ("decode", Reason.NOT_JSON)
    assert of(BatchJudged, watch.step(send.batch(normal(10, 0))))


def test_streams_do_not_touch_each_other() -> None:
    send, watch = Producer(), engine()
    for stream in ("a", "b"):
        watch.step(send.batch(normal(1000, 0), stream=stream, role="reference"))
    told = watch.step(send.batch(normal(200, 1, shift=2.0), stream="a"))
    told += watch.step(send.batch(normal(200, 1), stream="b"))
    assert [a.stream for a in told if isinstance(a, Alert)] == ["a"]


def test_beyond_the_limit_the_stream_seen_longest_ago_is_forgotten() -> None:
    send, watch = Producer(), engine(streams_max=2)
    for stream in ("a", "b", "a"):
        watch.step(send.batch(normal(10, 0), stream=stream))
    told = watch.step(send.batch(normal(10, 0), stream="c"))
    evicted = [e.stream for e in told if isinstance(e, StreamChanged) and e.what == "evicted"]
    assert evicted == ["b"]
    assert watch.streams == 2


def test_streams_with_one_reference_hold_it_once() -> None:
    profiles = Profiles()
    send, watch = Producer(), engine(profiles=profiles)
    for i in range(20):
        watch.step(send.batch(normal(1000, 0), stream=f"s{i}", role="reference"))
    assert (len(profiles._references), len(profiles._profiles)) == (1, 1)


def test_memory_is_counted_and_given_back() -> None:
    send, watch = Producer(), engine(streams_max=5)
    sizes = []
    for i in range(12):
        watch.step(send.batch(normal(1000, 0), stream=f"s{i}", role="reference"))
        sizes.append(watch.nbytes)
    assert sizes[4] == 5 * sizes[0] > 0
    assert sizes[11] == sizes[4]


def test_a_partition_waits_for_training_and_takes_its_result() -> None:
    from streamd.detectors.autoencoder import AutoencoderConfig
    from streamd.fitting import fit

    config = AutoencoderConfig(type="autoencoder")
    send, watch = Producer(), engine({"autoencoder": config})
    watch.step(send.batch(normal(400, 0), role="reference"))
    job = watch.fit_wanted
    assert job is not None
    assert (job.stream, job.detector) == ("fraud/7", "autoencoder")
    with pytest.raises(AssertionError, match="a fit is due"):
        watch.step(send.batch(normal(10, 1)))
    assert changes(watch.fitted(fit(job.config, job.reference))) == ["fitted"]
    assert watch.fit_wanted is None
    watch.step(send.batch(normal(10, 1)))


def test_data_that_cannot_be_learned_leaves_the_stream_without_that_detector() -> None:
    from streamd.detectors.autoencoder import AutoencoderConfig

    send, watch = Producer(), engine({"autoencoder": AutoencoderConfig(type="autoencoder")})
    watch.step(send.batch(normal(400, 0), role="reference"))
    (change,) = watch.fitted(None, "no column varies")
    assert change == StreamChanged("fraud/7", "not_fitted", "autoencoder could not learn: no column varies")
    watch.step(send.batch(normal(10, 1)))


def test_a_detector_that_nobody_asked_for_trains_for_a_limited_number_of_streams() -> None:
    from streamd.detectors.autoencoder import AutoencoderConfig

    config = AutoencoderConfig(type="autoencoder")
    send = Producer()
    watch = engine({"autoencoder": config}, unasked=frozenset({"autoencoder"}), fits_max=1)
    watch.step(send.batch(normal(400, 0), stream="a", role="reference"))
    assert watch.fit_wanted is not None
    watch.fitted(None, "skipped")
    told = watch.step(send.batch(normal(400, 0), stream="b", role="reference"))
    assert watch.fit_wanted is None
    assert "not_fitted" in changes(told)


def test_silence_is_told_once_and_ends_with_the_next_batch() -> None:
    send, watch = Producer(), engine({"quality": QualityConfig(type="quality", no_data_seconds=60)})
    watch.step(send.batch(normal(10, 0)))
    assert watch.tick(T0 + 60_000) is None
    (alert,) = watch.tick(T0 + 61_000) or []
    assert isinstance(alert, Alert)
    assert (alert.status, alert.test, alert.summary) == ("firing", "silence", "fraud/7: no data for 61 s (limit 60 s)")
    assert watch.tick(T0 + 120_000) is None
    told = [e for e in watch.step(send.batch(normal(10, 1))) if isinstance(e, Alert)]
    assert [(a.status, a.summary) for a in told] == [("resolved", "fraud/7: data arrives again")]


def test_an_enforced_command_that_nobody_acknowledges_raises_an_alert() -> None:
    policy = PolicySettings(mode="enforce", critical_after=1, acknowledge_seconds=30)
    send, watch = Producer(), engine(policy=policy)
    watch.step(send.batch(normal(1000, 0), role="reference"))
    (command,) = of(Command, watch.step(send.batch(normal(200, 1, shift=2.0))))
    assert isinstance(command, Command)
    assert watch.tick(T0 + 20_000) is None
    (alert,) = of(Alert, watch.tick(T0 + 40_000) or [])
    assert isinstance(alert, Alert)
    assert alert.detector == "commands"
    assert "no acknowledgement of rollback" in alert.summary


def test_an_acknowledged_command_raises_nothing() -> None:
    policy = PolicySettings(mode="enforce", critical_after=1, acknowledge_seconds=30)
    send, watch = Producer(), engine(policy=policy)
    watch.step(send.batch(normal(1000, 0), role="reference"))
    (command,) = of(Command, watch.step(send.batch(normal(200, 1, shift=2.0))))
    assert isinstance(command, Command)
    ack = f'{{"stream": "fraud/7", "role": "ack", "ack": {{"command_id": "{command.id}", "outcome": "done"}}}}'
    assert changes(watch.step(send.record(ack.encode()))) == ["acknowledged"]
    assert watch.tick(T0 + 100_000) is None


def test_telemetry_is_decoded_counted_and_judged() -> None:
    send = Producer(topic="streamd.telemetry")
    watch = engine(topic="streamd.telemetry")
    lines = b'{"run": "bert", "step": 1, "metrics": {"loss": NaN}}\n{"run": "bert", "step": 2, "metrics": {"loss": 1}}'
    told = watch.step(send.record(lines))
    assert of(TelemetryCounted, told) == [TelemetryCounted("bert", 2)]
    assert [e.severity.word for e in told if isinstance(e, Alert)] == ["critical"]


def test_an_offset_that_goes_backwards_is_our_bug_and_stops_the_process() -> None:
    send, watch = Producer(), engine()
    first, second = send.batch(normal(10, 0)), send.batch(normal(10, 1))
    watch.step(second)
    with pytest.raises(AssertionError):
        watch.step(first)


def test_readings_are_told_between_judgements() -> None:
    send, watch = Producer(), engine()
    watch.step(send.batch(normal(1000, 0), role="reference"))
    watch.step(send.batch(normal(200, 1)))
    (judged,) = of(BatchJudged, watch.step(send.batch(normal(50, 2))))
    assert isinstance(judged, BatchJudged)
    assert [type(outcome) for outcome in judged.outcomes] == [Reading]
    assert judged.severities == ()


def test_readings_that_nobody_would_see_are_left_out_and_nothing_else_changes() -> None:
    send, seen, unseen = Producer(), engine(), engine()
    for batch in (send.batch(normal(1000, 0), role="reference"), *(send.batch(normal(60, i)) for i in range(1, 9))):
        shown, hidden = of(BatchJudged, seen.step(batch)), of(BatchJudged, unseen.step(batch, shown=False))
        assert [each.severities for each in shown] == [each.severities for each in hidden]  # type: ignore[attr-defined]
        assert not any(isinstance(outcome, Reading) for each in hidden for outcome in each.outcomes)  # type: ignore[attr-defined]
    assert any(isinstance(outcome, Reading) for each in shown for outcome in each.outcomes)  # type: ignore[attr-defined]
    assert pack(unseen.snapshot()) == pack(seen.snapshot())


def test_a_restart_after_any_record_changes_nothing() -> None:
    """References, first rows, windows, incidents, trained weights: all of it goes on where it stopped."""
    from streamd.detectors.autoencoder import AutoencoderConfig
    from streamd.fitting import fit

    detectors = {
        "ks": KsConfig(type="ks", window_rows=150),
        "zscore": ZscoreConfig(type="zscore", min_batches=3),
        "autoencoder": AutoencoderConfig(judge=TwoSampleSettings(window_rows=150)),
    }
    send = Producer()
    records = [send.batch(normal(300, 0), stream="sent", role="reference", part="1/2")]
    for seed in range(1, 7):
        records.append(send.batch(normal(70, seed), stream="first"))
        if seed == 3:
            records.append(send.batch(normal(300, 99), stream="sent", role="reference", part="2/2"))
        records.append(send.batch(normal(100, seed, shift=3.0 * (seed > 3)), stream="sent"))
    weights: dict[str, bytes] = {}
    references: dict[str, Reference] = {}

    def step(watch: PartitionEngine, envelope: Envelope) -> list[Effect]:
        effects = watch.step(envelope)
        while (job := watch.fit_wanted) is not None:
            references[job.reference.key] = job.reference
            key = fit_key(job.config, job.reference)
            weights[key] = weights.get(key) or fit(job.config, job.reference)
            effects += watch.fitted(weights[key])
        return [effect for effect in effects if not isinstance(effect, BatchJudged)]

    whole = engine(detectors, first_rows=250)
    expected = [step(whole, envelope) for envelope in records]
    assert {a.stream for told in expected for a in told if isinstance(a, Alert)} == {"sent"}
    final = pack(whole.snapshot())
    for cut in range(1, len(records)):
        before = engine(detectors, first_rows=250)
        for envelope in records[:cut]:
            step(before, envelope)
        after = engine(detectors, first_rows=250)
        after.restore(unpack(pack(before.snapshot())), Kept(references, weights))
        assert [step(after, envelope) for envelope in records[cut:]] == expected[cut:]
        assert pack(after.snapshot()) == final


def test_a_detector_whose_configuration_changed_starts_anew_and_the_others_go_on() -> None:
    old = {"ks": KsConfig(type="ks", window_rows=200), "zscore": ZscoreConfig(type="zscore")}
    send, watch = Producer(), engine(old)
    watch.step(send.batch(normal(1000, 0), role="reference"))
    watch.step(send.batch(normal(100, 1)))
    reference = watch._streams["fraud/7"].reference
    assert reference is not None
    changed = engine({**old, "ks": KsConfig(type="ks", window_rows=100)})
    changed.restore(watch.snapshot(), Kept({reference.key: reference}, {}))
    detectors = changed._streams["fraud/7"].detectors
    assert detectors["zscore"].snapshot() != ZscoreConfig(type="zscore").build("zscore", None).snapshot()
    (judged,) = of(BatchJudged, changed.step(send.batch(normal(50, 2))))
    assert isinstance(judged, BatchJudged)
    assert [o for o in judged.outcomes if o.detector == "ks"] == []  # its window is empty again
