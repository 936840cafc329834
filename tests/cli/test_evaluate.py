"""`streamd evaluate` and `streamd badcases` on a bundle of one's own, from the command line to the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chromium import Chromium
from sklearn.metrics import average_precision_score, roc_auc_score

from streamd.cli import main
from streamd.dataset import open_dataset
from streamd.fitting.folder import BundleFolder, write
from streamd.fitting.isolation import IsolationSettings
from streamd.fitting.learning import fit
from streamd.scorers.fitted import to_bytes
from streamd.scorers.registry import load

ROWS = 2_000
OLD, RICH = slice(0, 30), slice(30, 60)  # the abnormal rows, before they are shuffled


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data.parquet` with 60 abnormal rows, and the bundle `fraud-7` fitted to it."""
    folder = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(0)
    columns = {
        "age": generator.normal(40, 12, ROWS).clip(18, 90).round(),
        "income": generator.lognormal(10, 0.3, ROWS),
        "country": generator.choice(["DE", "FR"], ROWS),
        "label": (np.arange(ROWS) < 60).astype(int),
        "sure": np.where(np.arange(ROWS) < 60, generator.beta(2, 2, ROWS), generator.beta(9, 1, ROWS)),
    }
    columns["age"][OLD] = 120
    columns["income"][RICH] *= 30
    order = generator.permutation(ROWS)
    pq.write_table(pa.table({name: values[order] for name, values in columns.items()}), folder / "data.parquet")
    rows = open_dataset(folder / "data.parquet", None, ("label", "sure")).sample(ROWS).table
    fitted = fit(IsolationSettings(), rows).fitted
    write(folder / "fraud-7", BundleFolder({}, to_bytes(fitted), rows))
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "80")
    return place


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def scores(folder: Path) -> np.ndarray:
    from streamd.fitting.folder import read
    from streamd.scorers.fitted import from_bytes

    weights = read(folder / "fraud-7").weights
    assert weights is not None
    rows = open_dataset(folder / "data.parquet", None, ("label", "sure")).sample(ROWS).table
    return load(from_bytes(weights)).score(rows).values


def test_the_figures_are_told_in_80_columns(capsys, here):
    code, out, _ = outcome(capsys, "evaluate", "fraud-7", "data.parquet")
    assert code == 0
    assert "2,000 labelled rows, 60 of them abnormal" in out
    assert "AUROC" in out
    assert "average precision" in out
    assert "accuracy" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_json_is_that_of_scikit_learn(capsys, here):
    code, out, _ = outcome(capsys, "evaluate", "fraud-7", "data.parquet", "--json", "-")
    told = json.loads(out)
    labels = pq.read_table("data.parquet")["label"].to_numpy()
    assert code == 0
    assert told["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores(here)))
    assert told["average_precision"]["value"] == pytest.approx(average_precision_score(labels, scores(here)))


def test_another_threshold_can_be_tried(capsys, here):
    _, out, _ = outcome(capsys, "evaluate", "fraud-7", "data.parquet", "--threshold", "1e9", "--json", "-")
    assert json.loads(out)["at"]["caught"] == 0


def test_labels_of_one_kind_are_a_sentence_and_not_a_failure(capsys, here):
    table = pq.read_table("data.parquet")
    pq.write_table(table.filter(pa.array(table["label"].to_numpy() == 0)), "normal.parquet")
    code, out, _ = outcome(capsys, "evaluate", "fraud-7", "normal.parquet")
    assert code == 0
    assert "No row is labelled abnormal" in out


def test_a_column_that_is_gone_is_told(capsys, here):
    pq.write_table(pq.read_table("data.parquet").drop_columns(["income"]), "renamed.parquet")
    _, out, _ = outcome(capsys, "evaluate", "fraud-7", "renamed.parquet")
    assert "The data lacks 1 column that the scorer reads (income)" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["evaluate", "fraud-7", "nothing.parquet"], 66, "there is no file nothing.parquet"),
        (["evaluate", "nowhere", "data.parquet"], 66, "nowhere is not there"),
        (["evaluate", "fraud-7", "data.parquet", "--labels", "labels"], 65, "did you mean 'label'?"),
        (["evaluate", "fraud-7", "data.parquet", "--labels", "age"], 65, "in 'age' is neither 0 or 1"),
        (["badcases", "fraud-7", "data.parquet", "--model", "model"], 65, "module:function"),
        (["badcases", "fraud-7", "data.parquet", "--model", "nothing.onnx"], 65, "there is no model nothing.onnx"),
        (["badcases", "fraud-7", "data.parquet", "--probabilities", "surely"], 65, "did you mean 'sure'?"),
    ],
)
def test_what_is_wrong_is_a_sentence(capsys, here, arguments, code, sentence):
    found, out, err = outcome(capsys, *arguments)
    assert (found, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err


def test_data_without_a_column_of_the_scorer_is_65(capsys, here):
    pq.write_table(pa.table({"label": [0, 1], "other": [1.0, 2.0]}), "other.parquet")
    code, _, err = outcome(capsys, "evaluate", "fraud-7", "other.parquet")
    assert code == 65
    assert "none of the columns that the scorer reads: age, income, country" in err


@pytest.mark.slow
def test_the_page_of_an_evaluation_has_its_pictures_and_needs_nothing_from_elsewhere(capsys, here, browser):
    assert outcome(capsys, "evaluate", "fraud-7", "data.parquet", "--html", "page.html")[0] == 0
    _looked_at(browser, here / "page.html")
    assert browser.run("document.querySelectorAll('figure svg').length") == 3
    assert browser.run("document.querySelector('.matrix td b').textContent") != ""


@pytest.mark.slow
def test_bad_cases_are_told_with_what_drove_them_on_a_page_and_in_a_parquet_file(capsys, here, browser):
    arguments = ["--probabilities", "sure", "--exclude", "label", "--explain", "60", "--out", "report"]
    code, out, _ = outcome(capsys, "badcases", "fraud-7", "data.parquet", *arguments)
    assert code == 0
    assert "100 of 2,000 rows, by isolation" in out
    assert "The model is less sure on the worst rows" in out
    assert "income = " in out
    assert max(map(len, out.splitlines())) <= 80
    rows = pq.read_table("report/badcases.parquet").to_pydict()
    every = scores(here)
    assert rows["streamd.row"] == np.argsort(-every, kind="stable")[:100].tolist()
    assert rows["streamd.decision"] == pytest.approx((-every[rows["streamd.row"]]).tolist())
    source = pq.read_table("data.parquet").to_pydict()
    assert rows["income"] == [source["income"][row] for row in rows["streamd.row"]]
    abnormal = [why for why, age in zip(rows["streamd.reason_1"], rows["age"], strict=True) if age == 120 and why]
    assert abnormal
    assert set(abnormal) == {"age = 120"}
    _looked_at(browser, here / "report" / "badcases.html")
    assert browser.run("document.body.innerText.includes('age = 120 (')")
    assert browser.run("document.querySelectorAll('figure svg').length") == 3


def _looked_at(browser: Chromium, page: Path) -> None:
    """Both schemes and a telephone: no error, nothing asked for, nothing wider than the window, text to be read."""
    assert page.stat().st_size < 1_000_000
    for dark, width in ((False, 1280), (True, 1280), (False, 390)):
        browser.console.clear()
        browser.open(page.as_uri(), width=width, dark=dark)
        assert browser.console == []
        assert browser.run("performance.getEntriesByType('resource').length") == 0
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        back, text = (browser.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
        light = sum(map(int, back[4:-1].split(","))) > sum(map(int, text[4:-1].split(",")))
        assert light != dark


def test_a_function_of_ones_own_is_asked(capsys, here):
    (here / "own_model.py").write_text("def ask(columns):\n    return columns['age'] / 200\n")
    code, out, _ = outcome(
        capsys, "badcases", "fraud-7", "data.parquet", "--exclude", "label", "--model", "own_model:ask"
    )
    assert code == 0
    assert "The model is" in out


def test_an_onnx_file_is_asked(capsys, here):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["rows"], ["logits"])],
        "model",
        [helper.make_tensor_value_info("rows", floats, [None, 2])],
        [helper.make_tensor_value_info("logits", floats, [None, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, "model.onnx")
    arguments = ["--exclude", "label,sure", "--model", "model.onnx"]
    code, out, err = outcome(capsys, "badcases", "fraud-7", "data.parquet", *arguments)
    assert (code, err) == (0, "")
    assert "as sure on the worst rows as elsewhere" in " ".join(out.split())  # income dwarfs age: always sure
    code, _, err = outcome(capsys, "badcases", "fraud-7", "data.parquet", "--exclude", "label", "--model", "model.onnx")
    assert code == 65
    assert "does not take these rows" in err
