"""`streamd screen`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft7Validator
from kafka import KafkaConsumer, TopicPartition

from streamd.cli import verbs
from streamd.client import FeatureProducer
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.fitting.folder import read
from streamd.model import Envelope, ReferencePart
from streamd.transport.embedded import EmbeddedBroker

ROWS = 2_000
Run = Callable[..., tuple[int, str, str]]


def frame(seed: int = 0) -> pd.DataFrame:
    """Clean, but that one column knows the label."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, ROWS)
    return pd.DataFrame(
        {
            "amount": generator.normal(100.0, 10.0, ROWS),
            "country": generator.choice(["DE", "FR"], ROWS),
            "refund": label * 10.0 + generator.normal(0.0, 0.1, ROWS),
            "churned": label,
        }
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    frame().to_parquet(tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `streamd screen …`: the exit code, and what it printed to stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def screen(*arguments: object) -> tuple[int, str, str]:
        code = verbs.run(["screen", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return screen


def test_the_summary_names_what_is_wrong_and_the_exit_code_is_0(run: Run, data: Path) -> None:
    code, out, err = run(data, "--label", "churned", "--no-forest")
    assert (code, err) == (0, "")
    assert "2,000 rows × 4 columns, screened in" in out
    assert "Do not train on this" in out
    assert "refund" in out.partition("critical  ")[2].splitlines()[0]
    assert max(map(len, out.splitlines())) <= 80 or str(data) in out


def test_fail_on_makes_the_exit_code_1_where_a_finding_is_that_grave(run: Run, data: Path, tmp_path: Path) -> None:
    arguments = (data, "--label", "churned", "--no-forest")
    assert run(*arguments, "--fail-on", "critical")[0] == 1
    assert run(*arguments, "--fail-on", "warning")[0] == 1
    frame()[["amount", "country"]].to_parquet(tmp_path / "clean.parquet")
    assert run(tmp_path / "clean.parquet", "--no-forest", "--fail-on", "warning")[0] == 0


def test_the_json_fits_its_schema_and_can_be_written_to_stdout_alone(run: Run, data: Path, tmp_path: Path) -> None:
    schema = json.loads(files("streamd").joinpath("schemas/screening.json").read_text())
    arguments = (data, "--label", "churned")
    run(*arguments, "--json", tmp_path / "out.json")
    _, out, _ = run(*arguments, "--json", "-")
    written, printed = json.loads((tmp_path / "out.json").read_text()), json.loads(out)
    assert written == printed
    Draft7Validator(schema).validate(written)
    leak = written["findings"][0]
    assert (leak["severity"], leak.get("column") or leak["columns"][0]) == ("critical", "refund")
    assert leak["sentence"] != ""
    assert leak["remedy"] != ""
    assert [column["name"] for column in written["columns"]] == ["amount", "country", "refund", "churned"]


def test_the_json_has_no_number_that_json_has_no_word_for(run: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [None] * 50, "y": [np.inf, *range(49)]}), tmp_path / "x.parquet")
    code, out, _ = run(tmp_path / "x.parquet", "--json", "-")
    assert code == 0

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(out, parse_constant=refuse)


def test_the_page_the_profile_and_the_split_are_written_and_named(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    code, printed, err = run(data, "--label", "churned", "--exclude", "refund", "--html", out / "a.html",
                             "--profile", out / "profile", "--split", out / "split")  # fmt: skip
    assert code == 0
    assert (out / "a.html").read_text().startswith("<!doctype html>")
    assert list(read(out / "profile").reference.numeric) == ["amount"]
    split = [pq.read_table(out / "split" / f"{name}.parquet") for name in ("clean", "suspicious")]
    assert sum(part.num_rows for part in split) == ROWS
    for written in ("a.html", "profile", "split"):
        assert str(out / written) in printed + err


def test_a_profile_that_is_there_stays_unless_told(run: Run, data: Path, tmp_path: Path) -> None:
    arguments = (data, "--no-forest", "--profile", tmp_path / "out")
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments)
    assert code == 73
    assert "--replace" in err
    assert run(*arguments, "--replace")[0] == 0


@pytest.mark.parametrize("kind", ["csv", "feather", "arrow", "npz", "folder", "partitions"])
def test_every_format_gives_the_same_rows(run: Run, tmp_path: Path, kind: str) -> None:
    data, path = frame(), tmp_path / f"data.{kind}"
    match kind:
        case "csv":
            data.to_csv(path, index=False)
        case "feather":
            feather.write_feather(pa.Table.from_pandas(data), path)
        case "arrow":
            table = pa.Table.from_pandas(data)
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case "npz":
            np.savez(path, **{name: data[name].to_numpy() for name in ("amount", "refund", "churned")})
        case "folder":
            path.mkdir()
            for part in range(2):
                data.iloc[part * 1_000 : (part + 1) * 1_000].to_parquet(path / f"{part}.parquet")
        case "partitions":
            data.to_parquet(path, partition_cols=["country"])
    code, out, err = run(path, "--label", "churned", "--no-forest", "--json", "-")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["rows"] == ROWS
    amount = next(column for column in told["columns"] if column["name"] == "amount")["numbers"]
    assert amount["mean"] == pytest.approx(float(data["amount"].mean()))
    assert "refund" in told["findings"][0]["sentence"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none.parquet"], 66, "there is no file none.parquet"),
        ([], 64, "name a file, or --from-topic"),
        (["{data}", "--from-topic", "t"], 64, "name a file, or --from-topic"),
        (["--from-topic", "t"], 64, "--from-topic needs --stream"),
        (["{data}", "--label", "chruned"], 65, "did you mean 'churned'?"),
        (["{data}", "--reference", "none.parquet"], 66, "there is no file none.parquet"),
        (["{data}", "--rules", "none.yaml"], 66, "there is no file none.yaml"),
        (["{data}", "--fail-on", "info"], 64, "--fail-on"),
        (["empty.csv"], 65, "empty.csv"),
        (["{data}", "--html", "{data}/a.html"], 73, "cannot be written"),
        (["{data}", "--split", "{data}"], 73, "cannot be written"),
        (["{data}", "--exclude", "amount,country,refund,churned", "--profile", "out"], 65, "to make a profile of"),
    ],
)
def test_what_is_wrong_is_said(
    run: Run,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    ended, _, err = run(*(argument.format(data=data) for argument in arguments))
    assert ended == code, err
    assert sentence in " ".join(err.replace("│", " ").split())


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that anybody may enter, with a file and folders that only root, or nobody at all, may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("shut", "outer/inner", "entered"):
            (folder / part).mkdir(parents=True)
        for file in ("file.parquet", "shut/a.parquet", "outer/a.parquet", "outer/inner/b.parquet", "entered/c.parquet"):
            frame().to_parquet(folder / file)
        every = [folder, *folder.rglob("*")]
        for path in every:
            path.chmod(0o755 if path.is_dir() else 0o644)
        forbidden = (folder / "file.parquet", folder / "shut", folder / "outer/inner", folder / "entered/c.parquet")
        for path in forbidden:
            path.chmod(0)
        yield folder
        for path in forbidden:
            path.chmod(0o700)


# Root may read everything: the process becomes nobody. It imports before that, since nobody may not read the package
# where it lies in root's home; a first run, on data that anybody may read, imports what is imported late.
_AS_NOBODY = """
import os, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from streamd.cli import verbs
readable, closed, *verb = sys.argv[1:]
with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
    if verb == ["screen"]:
        verbs.run([*verb, readable])
    verbs.run([*verb, readable + ".none"])
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
sys.exit(verbs.run([*verb, closed]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("file.parquet", "file.parquet"),
        ("shut", "shut"),
        ("shut/a.parquet", "shut/a.parquet"),
        ("outer", "outer/inner"),
        ("entered", "entered/c.parquet"),
    ],
    ids=["file", "folder", "file in such a folder", "folder in a folder", "file of a folder"],
)
def test_what_may_not_be_read_is_66(closed: Path, data: Path, name: str, named: str) -> None:
    arguments = [sys.executable, "-c", _AS_NOBODY, str(data), str(closed / name), "screen"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (66, ""), done.stderr
    assert f"{closed / named} may not be read: give yourself the right to read it" in done.stderr.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("verb", [["fit"], ["send", "--stream", "fraud/7"]], ids=["fit", "send"])
def test_the_verbs_that_read_the_same_files_say_the_same(closed: Path, data: Path, verb: list[str]) -> None:
    arguments = [sys.executable, "-c", _AS_NOBODY, str(data), str(closed / "file.parquet"), *verb]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (66, ""), done.stderr
    assert "file.parquet may not be read: give yourself the right to read it" in done.stderr.replace("\n", " ")


def test_json_on_stdout_stands_alone(run: Run, data: Path, tmp_path: Path) -> None:
    _, out, err = run(data, "--no-forest", "--json", "-", "--html", tmp_path / "a.html", "--split", tmp_path / "s")
    assert json.loads(out)["rows"] == ROWS
    assert err.count("written: ") == 2


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.run(["schema", "screening"]) == 0
    Draft7Validator.check_schema(json.loads(capsys.readouterr().out))


@pytest.mark.slow
def test_the_verb_as_a_process_ends_with_1_and_writes_no_colours_into_a_pipe(data: Path) -> None:
    arguments = [sys.executable, "-m", "streamd", "screen", str(data), "--label", "churned", "--no-forest"]
    done = subprocess.run([*arguments, "--fail-on", "critical"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\x1b" not in done.stdout


# --- Kafka ----------------------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.slow
def test_published_rows_are_the_reference_of_the_stream(
    run: Run, data: Path, embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"screen-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("STREAMD_TOPICS__FEATURES", topic)
    code, out, err = run(data, "--label", "churned", "--exclude", "refund", "--publish", "churn/1",
                         "--bootstrap-servers", embedded_broker.bootstrap_servers)  # fmt: skip
    assert (code, err) == (0, "")
    assert "reference of churn/1: " in out
    parts = [decode(envelope, Limits(), "features") for envelope in envelopes(embedded_broker, topic)]
    assert all(isinstance(part, ReferencePart) for part in parts)
    assert [(part.part, part.parts) for part in parts] == [(1, 2), (2, 2)]
    sent = np.concatenate([part.batch.table.numeric["amount"] for part in parts])
    np.testing.assert_array_equal(sent, frame()["amount"][: len(sent)])
    assert {name for part in parts for name in part.batch.table.numeric} == {"amount"}
    assert {name for part in parts for name in part.batch.table.categorical} == {"country"}


@pytest.mark.broker
@pytest.mark.slow
def test_a_slice_of_a_topic_is_screened(run: Run, embedded_broker: EmbeddedBroker) -> None:
    topic = f"screen-{uuid.uuid4().hex[:8]}"
    producer = FeatureProducer(embedded_broker.bootstrap_servers, topic)
    for first in range(0, ROWS, 500):
        producer.send("churn/1", frame().iloc[first : first + 500], wait_seconds=10.0)
    producer.send("other", {"x": [1.0]}, wait_seconds=10.0)
    assert producer.flush(20.0)
    producer.close(5.0)
    where = ("--from-topic", topic, "--stream", "churn/1", "--bootstrap-servers", embedded_broker.bootstrap_servers)
    code, out, err = run(*where, "--label", "churned", "--json", "-")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["rows"] == ROWS
    assert told["source"] == f"{topic} (churn/1)"
    assert "refund" in told["findings"][0]["sentence"]
    assert run(*where, "--from", "2", "--json", "-")[1].count('"rows": 1000') >= 1


def envelopes(broker: EmbeddedBroker, topic: str) -> list[Envelope]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    most = sum(consumer.end_offsets(partitions).values())
    found: list[Envelope] = []
    while len(found) < most:
        for batch in consumer.poll(timeout_ms=1000).values():
            found += [
                Envelope(topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch
            ]
    consumer.close()
    return found
