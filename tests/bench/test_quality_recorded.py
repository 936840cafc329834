from __future__ import annotations

import json
from pathlib import Path

import pytest

SETS = ("1_a", "2_b")
SEVEN = tuple(f"{number}_a" for number in range(7))
PROTOCOLS = ("contaminated", "normals")


def lines(model: str, auroc: float, ap: float = 0.5, sets: tuple[str, ...] = SETS) -> list[dict[str, object]]:
    return [
        {"model": model, "set": name, "seed": seed, "protocol": protocol, "auroc": auroc, "ap": ap}
        for name in sets
        for seed in (0, 1)
        for protocol in PROTOCOLS
    ]


def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *recorded: list[dict[str, object]]) -> bool:
    import quality_recorded

    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for each in recorded for line in each))
    monkeypatch.setattr(quality_recorded, "RECORDED", file)
    return quality_recorded.table()


def test_a_set_with_more_seeds_does_not_count_for_more() -> None:
    from quality_recorded import mean, told

    found = told([*lines("vae", 0.9, sets=("1_a",)), *lines("vae", 0.5, sets=("2_b",))[:2]])
    assert mean(found["vae", "normals"], ("1_a", "2_b")).tolist() == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"auroc": 0.95, "ap": 0.5}, {"auroc": 0.9, "ap": 0.5}, True),
        ({"auroc": 0.95, "ap": 0.4}, {"auroc": 0.9, "ap": 0.5}, False),
        ({"auroc": 0.92, "ap": 0.5}, {"auroc": 0.95, "ap": 0.5}, False),
        ({"auroc": 0.90, "ap": 0.6}, {"auroc": 0.8, "ap": 0.5}, False),  # the best autoencoder is below 0.91
    ],
)
def test_it_holds_where_no_mean_is_below_that_of_the_peer(
    ours: dict[str, float],
    theirs: dict[str, float],
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (
        held(
            tmp_path, monkeypatch, lines("autoencoder", **ours, sets=SEVEN), lines("AutoEncoder", **theirs, sets=SEVEN)
        )
        is expected
    )


def test_two_are_compared_on_the_sets_that_both_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = (*SEVEN, "7_b")
    recorded = lines("vae", 0.95, sets=every), lines("anogan", 0.8, sets=SEVEN), lines("anogan", 0.0, sets=every[-1:])
    assert held(tmp_path, monkeypatch, *recorded, lines("AnoGAN", 0.7, sets=SEVEN))
    assert not held(tmp_path, monkeypatch, *recorded, lines("AnoGAN", 0.75, sets=every))


def test_fewer_sets_than_seven_are_told_and_decide_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert held(tmp_path, monkeypatch, lines("vae", 0.95), lines("anogan", 0.7), lines("AnoGAN", 0.8))
    assert "anogan is 0.100 behind PyOD's AnoGAN in AUROC, all rows, 2 sets" in capsys.readouterr().out


def test_what_was_recorded_holds() -> None:
    import quality_recorded

    assert quality_recorded.table()
