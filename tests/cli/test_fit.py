from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamd.cli import verbs
from streamd.fitting.folder import read
from streamd.transport.embedded import EmbeddedBroker

ROWS = 600


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    amount = generator.normal(size=ROWS)
    label = (np.arange(ROWS) % 20 == 7).astype(int)
    rows = {"amount": amount + 8 * label, "country": generator.choice(["DE", "FR"], ROWS), "label": label}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


class Verb:
    """Runs `streamd …`: the exit code, and all that it printed, in one line."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str]:
        code = verbs.run([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        return code, " ".join((printed.out + printed.err).replace("│", " ").split())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Verb:
    return Verb(capsys)


FOREST = ("--scorer", "isolation", "--set", "trees=10")


def test_a_bundle_says_what_it_is_and_what_to_do_next(run: Verb, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "monitors" / "fraud-7"
    code, said = run("fit", data, *FOREST, "--labels", "label", "--out", out, "--threshold", "best_f1")
    assert code == 0, said
    assert f"{out} is written" in said
    assert "streamd evaluate" in said
    bundle = read(out)
    assert bundle.description["scorer"]["trees"] == 10
    assert bundle.description["threshold"]["method"] == "best_f1"
    assert bundle.description["columns"] == {"numeric": ["amount"], "categorical": ["country"], "arrays": {}}
    assert bundle.reference.numeric["amount"].max() < 7  # no row that is labelled abnormal
    assert bundle.description["rows"]["there"] == ROWS


def test_columns_are_chosen_and_left_out(run: Verb, data: Path, tmp_path: Path) -> None:
    run("fit", data, *FOREST, "--columns", "amount", "--out", tmp_path / "a")
    run("fit", data, *FOREST, "--exclude", "label,country", "--out", tmp_path / "b")
    assert list(read(tmp_path / "a").reference.numeric) == ["amount"] == list(read(tmp_path / "b").reference.numeric)


def test_a_long_file_is_sampled(run: Verb, data: Path, tmp_path: Path) -> None:
    code, said = run("fit", data, *FOREST, "--exclude", "label", "--rows-max", 100, "--out", tmp_path / "a")
    assert code == 0
    assert "100 of 600 rows" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none.parquet"], 66, "there is no file none.parquet"),
        (["{data}", "--exclude", "amuont"], 65, "did you mean 'amount'"),
        (["{data}", "--labels", "country"], 65, "the label 'FR' in 'country' is neither 0 or 1"),
        (["{data}", "--scorer", "forest"], 64, "--scorer is one of"),
        (["{data}", "--scorer", "isolation", "--set", "tree=3"], 64, "isolation has trees"),
        (["{data}", "--threshold", "evt:q=1"], 64, "--threshold"),
        (["{data}", "--from-topic", "streamd.features"], 64, "a file, or --from-topic"),
        (["--from-topic", "streamd.features"], 64, "needs --stream"),
        (["{data}", "--scorer", "isolation", "--exclude", "label,country,amount"], 65, "no column that is a feature"),
    ],
)
def test_what_is_wrong_is_said(
    run: Verb,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, said = run("fit", *(argument.format(data=data) for argument in arguments), "--out", tmp_path / "out")
    assert ended == code, said
    assert sentence in said
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_is_there_stays_unless_told(run: Verb, data: Path, tmp_path: Path) -> None:
    arguments = ("fit", data, *FOREST, "--exclude", "label", "--out", tmp_path / "a")
    run(*arguments)
    code, said = run(*arguments)
    assert code == 73
    assert "--replace" in said
    assert run(*arguments, "--replace")[0] == 0


def test_bundles_are_shown_verified_and_compared(run: Verb, data: Path, tmp_path: Path) -> None:
    for name, trees in (("a", 10), ("b", 20)):
        run(
            "fit",
            data,
            "--scorer",
            "isolation",
            "--set",
            f"trees={trees}",
            "--exclude",
            "label",
            "--out",
            tmp_path / name,
        )
    _, shown = run("bundle", "show", tmp_path / "a", "--json")
    assert orjson.loads(shown)["scorer"]["type"] == "isolation"
    assert "is whole" in run("bundle", "verify", tmp_path / "a")[1]
    code, said = run("bundle", "diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert "10 → 20" in said
    assert run("bundle", "diff", tmp_path / "a", tmp_path / "a")[0] == 0
    weights = tmp_path / "a" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    code, said = run("bundle", "verify", tmp_path / "a")
    assert code == 65
    assert "is not what was written" in said


@pytest.mark.broker
@pytest.mark.slow
def test_a_stream_in_a_topic_is_learned_from(
    run: Verb, data: Path, tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    topic, broker = f"fit-{uuid.uuid4().hex[:8]}", ("--bootstrap-servers", embedded_broker.bootstrap_servers)
    for stream, exclude in (("fraud/7", "label"), ("other/1", "amount")):
        sent = ("send", data, "--stream", stream, "--exclude", exclude, "--topic", topic, "--rows", 100)
        assert run(*sent, *broker)[0] == 0
    arguments = ("fit", "--from-topic", topic, "--stream", "fraud/7", *FOREST, "--out", tmp_path / "a", *broker)
    code, said = run(*arguments, "--rows-max", 250)
    assert code == 0, said
    assert f"{topic} (fraud/7): 300 of 600 rows" in said  # the last whole batches
    assert read(tmp_path / "a").description["columns"]["numeric"] == ["amount"]
    code, said = run("fit", "--from-topic", topic, "--stream", "nobody", "--out", tmp_path / "b", *broker)
    assert code == 65
    assert "has no rows of the stream 'nobody'" in said


@pytest.mark.slow
def test_a_folder_of_pictures_is_learned_from(run: Verb, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    for number in range(120):
        grey = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        image.fromarray(grey).save(tmp_path / "pictures" / f"{number:02}.png")
    options = ("--scorer", "conv", "--set", "epochs_max=2", "--out", tmp_path / "a")
    code, said = run("fit", tmp_path / "pictures", *options)
    assert code == 0, said
    assert read(tmp_path / "a").description["columns"]["arrays"] == {"image": [8, 8]}
    assert read(tmp_path / "a").pictures["loss.svg"].startswith(b"<svg")
