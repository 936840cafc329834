"""The pictures: ticks are round, marks stay inside, and text from strangers is text."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from streamd.pages import sheet, svg
from streamd.pages.svg import Axis, Bars, Box, Curve, Mark

UNIT = Axis("x", 0.0, 1.0)
STRANGE = "<script>alert(1)</script> & \"'"


def pictures() -> dict[str, str]:
    return {
        "curves": svg.curves(STRANGE, UNIT, UNIT, [Curve("one", [(0, 0), (1, 1)], True)], [Mark(0.5, 0.5, STRANGE)]),
        "histogram": svg.histogram("t", Axis(STRANGE, 0.1, 1e4, log=True), UNIT, [0.1, 1, 1e4], [Bars("two", [0.2, 1])],
                                   [Mark(3.0, None, STRANGE)]),
        "bars": svg.bars("t", [(STRANGE, 3.0, STRANGE), ("b", 0.0, "0")]),
        "boxes": svg.boxes("t", UNIT, [Box(STRANGE, 0, 0.2, 0.4, 0.6, 0.8, [1.0])]),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["curves", "histogram", "bars", "boxes"])
def test_every_picture_is_well_formed_whatever_text_is_in_it(kind):
    picture = pictures()[kind]
    root = ElementTree.fromstring(picture)
    assert root.tag == "svg"
    assert "<script" not in picture
    assert root.get("aria-label")
    assert re.findall(r"nan|inf\b|None", picture) == []


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 1, False), (-3.7, 12.2, False), (1e-9, 3e-9, False), (0.02, 300, True), (1, 3, True), (1e-9, 1e12, True)],
)
def test_ticks_are_few_rising_and_inside(low, high, log):
    found = svg.ticks(low, high, log)
    assert 2 <= len(found) <= 12
    assert found == sorted(set(found))
    assert all(low * (1 - 1e-6) - 1e-12 <= tick <= high * (1 + 1e-6) + 1e-12 for tick in found)


def test_an_axis_without_length_has_one_tick():
    assert svg.ticks(2.0, 2.0) == [2.0]


def test_what_lies_beyond_an_axis_is_drawn_at_its_end():
    inside, beyond = (svg.curves("t", UNIT, UNIT, [], [Mark(x, 0.5, "m")]) for x in (1.0, 50.0))
    assert inside == beyond


def test_numbers_are_short():
    told = [svg.number(value) for value in (0.0, 120.0, 1_340_905.4, 0.03129, 2.1e-7, -5e9, math.inf, math.nan)]
    assert told == ["0", "120", "1,340,905", "0.0313", "2.1e-7", "-5e9", "∞", "none"]


def test_a_page_escapes_every_text_and_lets_nothing_be_loaded():
    parts = [
        sheet.paragraph(STRANGE),
        sheet.notes([STRANGE]),
        sheet.tiles([sheet.Tile(STRANGE, STRANGE, STRANGE)]),
        sheet.section(STRANGE, sheet.figure(STRANGE, "", STRANGE, [("one", STRANGE)])),
        sheet.table([STRANGE], [[STRANGE]], STRANGE, numbers=[0]),
    ]
    page = sheet.page(STRANGE, STRANGE, parts, STRANGE)
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page
    assert "http://" not in page
    assert "https://" not in page
