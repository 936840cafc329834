"""The dashboards say what they must, and name nothing that observe/ does not declare."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql
import pytest
from promql import DASHBOARDS, Expression

UIDS = {f"streamd-{name}" for name in ("overview", "feature-drift", "predictions", "training", "alerts", "daemon")}
BOARDS = promql.dashboards()
PANELS = [pytest.param(panel, id=f"{uid}/{panel['title']}") for uid, b in BOARDS.items() for panel in promql.panels(b)]


def test_the_dashboards_in_the_tree_are_what_the_generator_makes(tmp_path: Path) -> None:
    """If not: `python grafana/generate.py`."""
    subprocess.run([sys.executable, "-B", DASHBOARDS / "generate.py", tmp_path], check=True)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text() for file in DASHBOARDS.glob("*.json")}


@pytest.mark.parametrize("expression", promql.everything(), ids=str)
def test_a_dashboard_or_rule_names_only_what_is_declared(expression: Expression) -> None:
    assert promql.undeclared(expression.text) == set()


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("sum by (stream) (rate(streamd_alrets_total[5m]))", {"streamd_alrets_total"}),
        ("streamd_alerts_total / on (job) group_left (version) streamd_info", {"streamd_info"}),
        ('streamd_alerts_total{stream="a", status=~"x{2}"}', {"streamd_alerts_total{stream}"}),
        ("streamd_delivery_seconds > 1 and up == 0", {"streamd_delivery_seconds"}),
        ("histogram_quantile(0.5, sum by (le) (rate(streamd_delivery_seconds_bucket[5m]))) or absent(nope)", {"nope"}),
    ],
)
def test_a_name_that_is_not_declared_is_found(expr: str, wrong: set[str]) -> None:
    assert promql.undeclared(expr) == wrong


def test_there_are_six_with_fixed_uids() -> None:
    assert BOARDS.keys() == UIDS


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_dashboard_has_its_variables_annotations_and_links_to_all_others(board: Any) -> None:
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "stream"} <= variables
    used = set(re.findall(r"\$\{?(\w+)", str(board)))
    assert {name for name in used if not name.startswith("__")} <= variables
    annotations = [annotation["name"] for annotation in board["annotations"]["list"]]
    more = ["Not a number", "Commands"] if board["uid"] == "streamd-training" else []
    assert annotations == ["Alerts", "streamd itself", *more]
    linked = {link["url"].removeprefix("/d/") for link in board["links"]}
    assert linked == UIDS - {board["uid"]}
    assert set(re.findall(r"/d/([\w-]+)", str(board))) <= UIDS
    assert board["description"].endswith(".")


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_short_title_a_unit_thresholds_and_says_what_to_conclude(panel: Any) -> None:
    assert 0 < len(panel["title"]) <= 40
    assert len(panel["description"]) > 50
    assert panel["description"].endswith((".", "?"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_do_not_overlap_and_their_numbers_are_their_own(board: Any) -> None:
    cells: list[tuple[int, int]] = []
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells += [(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("panel", PANELS)
def test_a_window_follows_the_scrape_interval_and_what_is_counted_in_bars_is_counted_once(panel: Any) -> None:
    """`$__rate_interval` is never under four scrapes; bars of `$__interval` would be empty below two."""
    for target in panel["targets"]:
        for function, window in re.findall(r"(\w+)\([^()]*\[([^]]+)\]", target["expr"]):
            if window == "$__interval":
                assert function == "increase"
                assert panel["interval"] == "1m"
            else:
                assert (function, window) in {
                    ("rate", "$__rate_interval"),
                    ("increase", "1h"),
                    ("increase", "24h"),
                }
