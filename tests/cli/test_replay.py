"""`streamd replay`: what it reads, what it says, and how it ends."""

from __future__ import annotations

import datetime
import itertools
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from envelopes import T0, Producer
from kafka import KafkaProducer

from streamd.cli import replay, replay_sources, verbs
from streamd.cli.batches import Columns, DataFile
from streamd.cli.exit_codes import ExitCode
from streamd.cli.replay_sources import TableOptions, TableSource
from streamd.codec.encode import encode_features
from streamd.model import Envelope
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.recording import write_recording

ROWS = 3000
EVENT = range(1500, 2100)  # rows in which `amount` is another
SETTINGS = """
detectors:
  ks: {window_rows: 100}
  autoencoder: null
  zscore: null
  entropy: null
"""


def table(rows: int = ROWS, event: range = EVENT) -> pa.Table:
    generator = np.random.default_rng(0)
    amount = generator.normal(size=rows)
    amount[event.start : event.stop] += 3.0
    return pa.table(
        {
            "amount": amount,
            "country": pa.array(generator.choice(["DE", "FR"], size=rows)).dictionary_encode(),
            "p": generator.uniform(size=rows),
            "id": pa.array([f"t-{i}" for i in range(rows)]),
            "at": pa.array([T0 + 1000 * i for i in range(rows)], pa.timestamp("ms")),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With `data.parquet`, `ref.parquet` and `streamd.yaml`."""
    pq.write_table(table(), tmp_path / "data.parquet")
    pq.write_table(table(1000, range(0)).append_column("label", pa.array([1] * 1000)), tmp_path / "ref.parquet")
    (tmp_path / "streamd.yaml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The verb in that folder: exit code, lines of stdout, stderr."""
    monkeypatch.chdir(folder)

    def run(*arguments: str, config: str = "streamd.yaml") -> tuple[int, list[str], str]:
        code = verbs.run(["replay", *arguments, "-c", config])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err

    return run


FULL = ("--reference", "ref.parquet", "--rows", "100", "--exclude", "id,p", "--time", "at", "--stream", "fraud/7")


# --- A table --------------------------------------------------------------------------------------


def test_an_alert_on_a_table_names_its_rows(run: Callable[..., Any]) -> None:
    code, lines, error = run("data.parquet", *FULL)
    assert code == ExitCode.OK
    assert error == "left out, since data.parquet has no such column: label\n"
    firing = [line for line in lines if "amount" in line]
    assert len(firing) == 2
    assert firing[0].startswith("2025-11-22 00:26:39 warning   fraud/7: amount drifted up (KS D=")
    assert firing[0].endswith(" · rows 1,500–1,599")
    assert firing[1].endswith(" → rollback (shadow) · rows 1,700–1,799")
    assert lines[2].endswith("back to normal after 12 min · rows 2,200–2,299")
    assert lines[4].startswith("31 records, 3,000 rows judged in ")
    assert lines[5:] == [
        "alerts: 1 critical, 1 warning, 1 resolved (ks 3)",
        "commands: rollback (shadow) 1",
        "references: fraud/7 1000 rows from reference batches",
        "dead letters: none",
    ]


def test_json_is_the_alert_as_published_and_its_rows(run: Callable[..., Any]) -> None:
    code, lines, error = run("data.parquet", *FULL, "--json")
    assert code == ExitCode.OK
    found = [orjson.loads(line) for line in lines]
    assert [(a["severity"], a["status"], a["table_rows"]) for a in found] == [
        ("warning", "firing", {"first": 1500, "last": 1599}),
        ("critical", "firing", {"first": 1700, "last": 1799}),
        ("critical", "resolved", {"first": 2200, "last": 2299}),
    ]
    assert "dead letters: none" in error  # the summary does not stand among the alerts


def test_the_rows_of_a_window_that_the_batches_do_not_fit_are_those_of_its_batches(run: Callable[..., Any]) -> None:
    _, lines, _ = run("data.parquet", *FULL[:2], *FULL[4:], "--rows", "70", "--json")
    first = orjson.loads(lines[0])["table_rows"]
    assert first["first"] % 70 == 0
    assert (first["last"] + 1) % 70 == 0
    assert first["first"] <= EVENT.start < first["last"]
    assert orjson.loads(lines[0])["window"]["rows"] == 100


def test_without_times_the_rows_stand_first(run: Callable[..., Any]) -> None:
    _, lines, _ = run("data.parquet", *FULL[:4], "--exclude", "id,p,at")
    assert lines[0].startswith("1,500–1,599         warning   data: amount drifted up")


def test_on_a_terminal_no_line_is_wider_than_it(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.report, "terminal_width", lambda: 80)
    _, lines, _ = run("data.parquet", *FULL)
    assert max(len(line.replace("\x1b[33m", "").replace("\x1b[0m", "")) for line in lines) <= 95
    assert len(lines) > 10


def test_without_a_reference_the_first_rows_are_it(run: Callable[..., Any]) -> None:
    _, lines, _ = run("data.parquet", "--exclude", "id,p,at", config="streamd.yaml")
    assert "references: data 2048 rows from its own first rows" in lines


@pytest.mark.parametrize("suffix", ["csv", "arrow"])
def test_other_kinds_of_file_give_the_same_alerts(run: Callable[..., Any], folder: Path, suffix: str) -> None:
    write = {"csv": pa.csv.write_csv, "arrow": pa.feather.write_feather}[suffix]
    write(table(), folder / f"other.{suffix}")
    arguments = [*FULL, "--json", "--ids", "id"]
    arguments[arguments.index("id,p")] = "p"
    expected = run("data.parquet", *arguments)[1]
    assert len(expected) == 3
    assert run(f"other.{suffix}", *arguments)[1] == expected


def test_a_table_gives_the_alerts_of_the_records_that_the_client_would_send(
    run: Callable[..., Any], folder: Path
) -> None:
    """`send` writes JSON, `replay` Arrow: what is in the batches is the same, to the last bit of every statistic."""
    producer = Producer()
    columns = Columns(("amount", "country"), (), (), ("p",), "id", "at")

    def record(path: str, rows: int, columns: Columns, parts: int = 0) -> Any:
        for number, batch in enumerate(DataFile(folder / path, columns).batches(rows), start=1):
            value, headers = encode_features(
                "fraud/7",
                batch.features,
                probabilities=batch.probabilities,
                ids=batch.ids,
                ts_ms=batch.ts,
                role="reference" if parts else None,
                part=(number, parts) if parts else None,
            )
            made = producer.record(value, key=b"fraud/7")
            yield Envelope(made.topic, 0, made.offset, batch.ts or T0, made.key, value, tuple(headers))

    sent = itertools.chain(
        record("ref.parquet", 1000, Columns(("amount", "country"), (), (), ("p",)), parts=1),
        record("data.parquet", 100, columns),
    )
    write_recording(folder / "sent.rec", sent)
    _, recorded, _ = run("sent.rec", "--json")
    _, direct, _ = run(
        "data.parquet", *FULL[:4], "--time", "at", "--ids", "id", "--probabilities", "p", *FULL[-2:], "--json"
    )
    assert len(recorded) == 3
    assert [line.rpartition(',"table_rows"')[0] + "}" for line in direct] == recorded


def test_batches_without_times_are_a_minute_apart_or_as_told(folder: Path) -> None:
    def times(seconds: float) -> list[int]:
        options = TableOptions("s", Columns(("amount",)), None, 1000, seconds)
        return [envelope.timestamp_ms for envelope in TableSource(folder / "data.parquet", options, "t").envelopes()]

    assert times(60.0) == [0, 60_000, 120_000]
    assert times(0.5) == [0, 500, 1000]


def test_rows_without_an_id_are_named_by_their_number(folder: Path) -> None:
    options = TableOptions("s", Columns(("amount",)), folder / "ref.parquet", 1000, 1.0)
    first, *others = TableSource(folder / "data.parquet", options, "t").envelopes()
    assert dict(first.headers)["streamd-part"] == b"1/1"
    last = pa.ipc.open_stream(others[-1].value).read_all()
    assert last.column("streamd.ids").to_pylist()[-1] == "2999"


# --- A recording ----------------------------------------------------------------------------------


def recorded(path: Path, batches: int = 20, partitions: int = 2) -> list[Envelope]:
    """Drift in the middle, on two partitions whose records take turns."""
    generator = np.random.default_rng(1)
    producers = [Producer(partition=i) for i in range(partitions)]
    records = [
        p.batch({"x": generator.normal(size=500)}, stream=f"s/{p.partition}", role="reference") for p in producers
    ]
    for i in range(batches):
        shift = 3.0 * (batches // 2 <= i < batches // 2 + 4)
        records += [p.batch({"x": generator.normal(shift, size=100)}, stream=f"s/{p.partition}") for p in producers]
    write_recording(path, records)
    return records


def test_alerts_on_records_name_their_offsets(run: Callable[..., Any], folder: Path) -> None:
    recorded(folder / "week.rec")
    code, lines, _ = run("week.rec")
    assert code == ExitCode.OK
    assert sum(" · streamd.features/0/" in line for line in lines) == 3
    assert "over 100 rows), alarm level 2e-7" in lines[0]
    assert lines[0].endswith(" · streamd.features/0/11")
    assert any(line.startswith("references: s/0 500 rows from reference batches; s/1 500 rows") for line in lines)


@pytest.mark.parametrize(("start", "end"), [(None, None), (3, None), (None, 7), (3, 7), (9, 9), (100, None)])
@pytest.mark.parametrize("by_time", [False, True])
def test_a_stretch_of_a_recording_is_cut_partition_by_partition(
    folder: Path, start: int | None, end: int | None, by_time: bool
) -> None:
    records = recorded(folder / "week.rec")

    def place(offset: int | None) -> Any:
        if offset is None or not by_time:
            return offset
        return datetime.datetime.fromtimestamp((T0 + 1000 * offset) / 1000, datetime.UTC)

    expected = [r for r in records if (start or 0) <= r.offset < (1000 if end is None else end)]
    found = list(replay_sources.recording(folder / "week.rec", place(start), place(end)).envelopes())
    assert found == expected


def test_a_recording_that_was_cut_short_gives_what_it_has_and_ends_with_65(
    run: Callable[..., Any], folder: Path
) -> None:
    recorded(folder / "week.rec", batches=2000)
    whole = (folder / "week.rec").read_bytes()
    (folder / "week.rec").write_bytes(whole[: len(whole) * 2 // 3])
    code, lines, error = run("week.rec")
    assert code == ExitCode.DATA
    assert "week.rec: " in error
    assert len(error.splitlines()) == 1
    assert any("rows judged" in line for line in lines)


def test_the_first_of_each_kind_of_dead_letter_is_explained(run: Callable[..., Any], folder: Path) -> None:
    records = recorded(folder / "week.rec")
    producer = Producer()
    producer.offset = 100
    write_recording(folder / "bad.rec", [*records, *(producer.record(value) for value in (b"hello", b"{", b""))])
    code, lines, _ = run("bad.rec")
    assert code == ExitCode.OK
    assert "dead letters: not_json 2, empty 1" in lines
    assert any(line.startswith("  first not_json: streamd.features/0/100: ") for line in lines)
    assert any(line.startswith("  first empty: streamd.features/0/102: ") for line in lines)


def test_what_is_saved_is_what_json_prints(run: Callable[..., Any], folder: Path) -> None:
    recorded(folder / "week.rec")
    _, lines, _ = run("week.rec", "--json", "--out", "alerts.jsonl")
    assert (folder / "alerts.jsonl").read_text().splitlines() == lines
    assert len(lines) == 6


def test_ctrl_c_says_how_far_it_came_and_exits_130(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(folder / "week.rec")
    read = replay_sources.read_recording

    def interrupted(path: Path) -> Any:
        yield from itertools.islice(read(path), 30)
        raise KeyboardInterrupt

    monkeypatch.setattr(replay_sources, "read_recording", interrupted)
    code, lines, error = run("week.rec")
    assert code == ExitCode.INTERRUPTED
    assert error == "streamd: interrupted\n"
    assert any(line.startswith("30 records, 2,800 rows judged in ") for line in lines)


# --- Two configurations ---------------------------------------------------------------------------


def test_two_configurations_are_told_apart(run: Callable[..., Any], folder: Path) -> None:
    """The new one has larger windows and no `quality`; the old one has no `chi2`."""
    (folder / "old.yaml").write_text(SETTINGS + "  chi2: null\n")
    (folder / "new.yaml").write_text(SETTINGS.replace("100", "300") + "  quality: null\n")
    data = table()
    late = np.arange(ROWS) >= 1500
    many = np.random.default_rng(2).uniform(size=ROWS) < 0.9
    data = data.set_column(1, "country", pa.array(np.where(late & many, "FR", data.column("country").to_pylist())))
    data = data.append_column("label", pa.array(np.ones(ROWS), mask=late))
    pq.write_table(data, folder / "data.parquet")
    code, lines, _ = run("data.parquet", *FULL, "--against", "old.yaml", config="new.yaml")
    assert code == ExitCode.OK
    titles = [line for line in lines if line.endswith((" incident", " incidents"))]
    assert titles == ["only with new.yaml: 1 incident", "only with old.yaml: 1 incident", "with both: 1 incident"]
    new, old, both = (lines[lines.index(title) + 1] for title in titles)
    assert "country" in new
    assert "label: " in old
    assert both.endswith(
        " · rows 1,500–1,799; with old.yaml warning at 2025-11-22 00:26:39 · rows 1,500–1,599, later critical"
    )
    assert {"with new.yaml:", "with old.yaml:"} < set(lines)


def test_a_configuration_against_itself_has_no_difference(run: Callable[..., Any], folder: Path) -> None:
    (folder / "old.yaml").write_text(SETTINGS)
    _, lines, _ = run("data.parquet", *FULL, "--against", "old.yaml", "--json")
    (line,) = [orjson.loads(line) for line in lines]
    assert line["in"] == "both"
    assert line["new"] == line["old"]
    assert [a["severity"] for a in line["new"]] == ["warning", "critical", "critical"]


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no.parquet"], ExitCode.NO_INPUT, "there is no file no.parquet"),
        (["./streamd.features"], ExitCode.NO_INPUT, "there is no file ./streamd.features"),
        (["data.parquet", "--reference", "no.csv"], ExitCode.NO_INPUT, "there is no file no.csv"),
        (["data.parquet", "--columns", "amuont"], ExitCode.DATA, "did you mean 'amount'?"),
        (["data.parquet", "--exclude", "amuont"], ExitCode.DATA, "did you mean 'amount'?"),
        (["data.parquet", "--time", "when"], ExitCode.DATA, "has no column 'when'"),
        (["data.parquet", "--time", "p", "--exclude", "at"], ExitCode.DATA, "--time wants timestamps"),
        (["data.parquet"], ExitCode.DATA, "column 'at' is timestamp[ms], which is no feature"),
        (["data.parquet", "--reference", "narrow.parquet", *FULL[4:]], ExitCode.DATA, "has no column 'country'"),
        (["old.parquet", "--time", "year"], ExitCode.DATA, "no batch of the table can be used: `ts` is 2016"),
        (["empty.parquet"], ExitCode.DATA, "empty.parquet has no rows"),
        (["nothing.rec"], ExitCode.DATA, "nothing.rec is empty"),
        (["nothing.csv"], ExitCode.DATA, "nothing.csv is empty"),
        (["blank.rec"], ExitCode.DATA, "blank.rec is a recording of no records"),
        (["streamd.yaml"], ExitCode.DATA, "streamd.yaml is neither a recording"),
        (["text.parquet"], ExitCode.DATA, "text.parquet is not a readable parquet file"),
        (["."], ExitCode.NO_INPUT, "Is a directory"),
        (["data.parquet", *FULL, "--reference", "many.parquet"], ExitCode.DATA, "many.parquet cannot be the reference"),
        (["data.parquet", "--from", "3"], ExitCode.USAGE, "--from means nothing"),
        (["blank.rec", "--time", "at"], ExitCode.USAGE, "--time means nothing"),
        (["data.parquet", "--logits", "p", "--probabilities", "p"], ExitCode.USAGE, "not both"),
        (["data.parquet", *FULL, "--out", "no/where"], ExitCode.CANNOT_CREATE, "no/where"),
        (["data.parquet", "--against", "no.yaml"], ExitCode.CONFIG, "no.yaml"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_a_sentence(
    run: Callable[..., Any],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: ExitCode,
    words: str,
) -> None:
    monkeypatch.setenv("STREAMD_REFERENCE__ROWS_MAX", "1500")
    monkeypatch.setenv("COLUMNS", "200")
    pq.write_table(table().select(["amount"]), folder / "narrow.parquet")
    pq.write_table(table(2000), folder / "many.parquet")
    pq.write_table(pa.table({"x": [1.0], "year": [2016]}), folder / "old.parquet")
    pq.write_table(table(0, range(0)), folder / "empty.parquet")
    write_recording(folder / "blank.rec", [])
    for name in ("nothing.rec", "nothing.csv"):
        (folder / name).write_bytes(b"")
    (folder / "text.parquet").write_text("hello")
    found, lines, error = run(*arguments)
    assert (found, lines) == (code, [])
    assert words in " ".join(error.split())
    assert "Traceback" not in error


# --- A topic --------------------------------------------------------------------------------------


def test_without_a_broker_it_ends_with_69_and_says_what_it_was_looking_for(run: Callable[..., Any]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, _, error = run("week.rek", "--bootstrap-servers", f"127.0.0.1:{port}")
    assert code == ExitCode.UNAVAILABLE
    assert error.startswith("streamd: there is no file week.rek, so it was taken for a topic; ")
    assert len(error.splitlines()) == 1


@pytest.mark.broker
@pytest.mark.slow
def test_a_name_that_is_neither_a_file_nor_a_topic_is_66(
    run: Callable[..., Any], embedded_broker: EmbeddedBroker
) -> None:
    code, _, error = run(f"no-{uuid.uuid4().hex}", "--bootstrap-servers", embedded_broker.bootstrap_servers)
    assert (code, error[:46]) == (ExitCode.NO_INPUT, "streamd: there is neither a file nor a topic n")


@pytest.mark.broker
@pytest.mark.slow
def test_a_stretch_of_a_topic_is_replayed(
    run: Callable[..., Any], folder: Path, embedded_broker: EmbeddedBroker
) -> None:
    topic = f"replay-{uuid.uuid4().hex[:8]}"
    records = recorded(folder / "week.rec", partitions=1)
    producer = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    for record in records:
        producer.send(topic, record.value, record.key, list(record.headers), 0).get(30)
    producer.close()
    code, lines, error = run(topic, "--to", "13", "--bootstrap-servers", embedded_broker.bootstrap_servers)
    assert (code, error) == (ExitCode.OK, "")
    assert f" · {topic}/0/11" in lines[0]
    assert lines[2].startswith("13 records, 1,200 rows judged in ")
