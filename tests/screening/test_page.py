"""The page: everything is in it, in a real browser, whatever the names are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from chromium import Chromium
from screenings import STRANGE, clean, numeric, screening

from streamd.screening.model import Finding, Screening, Severity
from streamd.screening.page import notebook, page
from streamd.screening.page_findings import FINDINGS_MAX

SEEN_FINDINGS = "[...document.querySelectorAll('.finding')].filter(f => !f.hidden).map(f => f.dataset.severity)"
NAMES = "[...document.querySelectorAll('#rows .name span')].map(name => name.textContent)"


def test_the_page_is_one_document_that_loads_nothing() -> None:
    text = page(screening())
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "unsafe" not in text
    assert "innerHTML" not in text
    assert "default-src &#x27;none&#x27;" in text


def test_findings_stand_in_the_document_worst_first_and_need_no_script() -> None:
    text = page(screening())
    words = re.findall(r'<li class="finding (\w+)"', text)
    assert words == ["critical", "warning", "warning", "info"]
    assert "&#x27;age&#x27; alone predicts &#x27;label&#x27;: AUROC 0.9996 over 20,000 rows." in text
    assert "Leave it out, or find out how it came to know the label." in text
    assert "<dt>auroc</dt><dd>1</dd>" in text
    assert "Do not train on this: 1 finding is critical." in text


def test_text_is_text_whatever_is_in_it() -> None:
    strange = Finding(STRANGE, Severity.INFO, (STRANGE,), {STRANGE: [STRANGE]}, STRANGE, STRANGE)
    found = screening(name=STRANGE)
    text = page(replace(found, source=STRANGE, findings=(strange, *found.findings)))
    assert "<script>alert" not in text


def test_clean_data_is_called_so() -> None:
    assert "Nothing odd was found." in page(clean())


def test_of_very_many_findings_the_worst_are_shown_and_the_others_counted() -> None:
    found = clean()
    many = [Finding("zeros", Severity.INFO, ("amount",), {}, f"Finding {i}.", "Look.") for i in range(FINDINGS_MAX + 7)]
    text = page(replace(found, findings=tuple(many)))
    assert text.count('<li class="finding') == FINDINGS_MAX
    assert "7 more are in the JSON" in text


def test_a_notebook_shows_the_page_in_a_frame_of_its_own() -> None:
    found = screening()
    shown = found._repr_html_()
    assert shown == notebook(found)
    assert 'sandbox="allow-scripts"' in shown
    inner = re.fullmatch(r'<iframe srcdoc="([^"]*)".*></iframe>', shown, re.DOTALL)
    assert inner is not None
    assert unescape(inner[1]) == page(found)


@pytest.mark.slow
def test_a_thousand_columns_are_under_ten_megabytes() -> None:
    assert len(page(screening(1_000)).encode()) < 10e6


# --- In a browser ---------------------------------------------------------------------------------

Opened = Callable[..., Chromium]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def opened(browser: Chromium, tmp_path: Path) -> Iterator[Opened]:
    """Opens the page of a screening from disk; at the end nothing may have gone wrong in it."""

    def open_page(found: Screening, width: int = 1280, text: str | None = None, anchor: str = "") -> Chromium:
        file = tmp_path / "page.html"
        file.write_text(page(found) if text is None else text, encoding="utf-8")
        browser.open(f"file://{file}{anchor}", width)
        return browser

    browser.console.clear()
    yield open_page
    assert browser.console == []
    browser.open("about:blank")


@pytest.mark.slow
def test_columns_are_drawn_with_histogram_box_plot_marks_series_and_cardinality(opened: Opened) -> None:
    page = opened(screening())
    page.wait("document.querySelectorAll('.detail').length === 5")
    assert page.run(NAMES) == ["age", "amount", "country", "at", "embedding"]  # the gravest findings first
    drawn = "document.querySelector('#detail-1 {}')"
    for part in ("svg .area", "svg .box", "svg .whisker", "svg .median", "svg .far", "svg .band", "svg .thin"):
        assert page.run(f"Boolean({drawn.format(part)})"), part
    assert "to 1,000,000" in page.run("document.querySelector('#detail-1').textContent")
    assert page.run("document.querySelector('#detail-1 circle.dot title').textContent").startswith("2018-03-12: ")
    assert page.run("document.querySelectorAll('#detail-3 rect.bars').length") == 6
    assert "Different values over time" in page.run("document.querySelector('#detail-3').textContent")
    assert not page.run("/NaN|undefined|Infinity|null/.test(document.querySelector('main').outerHTML.replace("
                        "document.getElementById('data').outerHTML, ''))")  # fmt: skip


@pytest.mark.slow
def test_pictures_are_drawn_when_they_are_scrolled_into_view(opened: Opened) -> None:
    page = opened(screening(1_000))
    page.wait("document.querySelectorAll('#rows > tr').length === 100")
    assert page.run("document.querySelectorAll('#rows svg').length") < 50
    page.run("document.querySelectorAll('#rows > tr')[60].scrollIntoView()")
    page.wait("document.querySelectorAll('#rows > tr')[60].querySelector('svg')")
    page.run("document.getElementById('more-columns').scrollIntoView()")
    page.wait("document.querySelectorAll('#rows > tr').length >= 200")


@pytest.mark.slow
def test_findings_and_columns_are_searched_and_findings_filtered(opened: Opened) -> None:
    page = opened(screening(30))
    search = "document.getElementById('search').value = '{}';" \
             "document.getElementById('search').dispatchEvent(new Event('input'))"  # fmt: skip
    page.run(search.format("COUNTRY"))
    assert page.run(SEEN_FINDINGS) == ["warning"]
    assert page.run(NAMES) == ["country"]
    assert page.run("document.getElementById('columns-told').textContent") == "1 of 35"
    page.run(search.format("no such thing"))
    assert page.run("document.getElementById('no-findings').hidden") is False
    assert page.run("document.getElementById('no-columns').hidden") is False
    page.run(search.format(""))
    page.run("document.querySelector('.chip.info').click()")
    assert page.run(SEEN_FINDINGS) == ["critical", "warning", "warning"]
    assert page.run("document.querySelector('.chip.info').getAttribute('aria-pressed')") == "false"


@pytest.mark.slow
def test_columns_are_sorted_by_the_keyboard_and_the_order_is_announced(opened: Opened) -> None:
    page = opened(screening(30))
    assert page.run("document.querySelector('th.found').getAttribute('aria-sort')") == "descending"
    page.run("document.querySelector('th[data-sort=name] button').focus()")
    page.press("Enter")
    assert page.run("document.querySelector('th[data-sort=name]').getAttribute('aria-sort')") == "ascending"
    assert page.run("document.querySelector('th.found').getAttribute('aria-sort')") is None
    assert page.run(NAMES)[:4] == ["age", "amount", "at", "country"]
    page.press("Enter")
    assert page.run(NAMES)[0] == "feature_0029"
    page.run("document.querySelector('th[data-sort=missing] button').click()")
    assert page.run(NAMES)[0] == "age"


@pytest.mark.slow
def test_everything_can_be_done_by_the_keyboard_and_the_focus_is_seen(opened: Opened) -> None:
    page = opened(screening(30))
    page.press("/")
    assert page.run("document.activeElement.id") == "search"
    page.press("Escape")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "chip critical"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.run("document.querySelector('#column-2 .name').focus()")
    page.press("Enter")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.run("document.activeElement.getAttribute('aria-controls')") == "detail-2"
    page.press("Enter")
    assert page.run("document.getElementById('detail-2')") is None


@pytest.mark.slow
def test_a_findings_column_is_a_link_that_opens_it_and_the_way_back_is_one_too(opened: Opened) -> None:
    page = opened(screening(1_000))
    page.run("document.querySelector('#finding-2 a').click()")
    page.wait("document.getElementById('detail-1')")
    assert page.run("document.activeElement.textContent") == "amount"
    assert page.run("location.hash") == "#column-1"
    page.run("document.querySelector('.chip.warning').click()")
    page.run("document.querySelector('#detail-1 .sayings a').click()")
    assert page.run("document.getElementById('finding-2').hidden") is False
    page.run("document.querySelector('#finding-2 a').click()")


@pytest.mark.slow
def test_a_link_leads_to_a_column_that_the_search_hides(opened: Opened) -> None:
    page = opened(screening(30))
    page.run("document.getElementById('search').value = 'country';"
             "document.getElementById('search').dispatchEvent(new Event('input'))")  # fmt: skip
    page.run("document.querySelector('#finding-2 a').click()")
    assert page.run("document.activeElement.textContent") == "amount"
    assert page.run("document.getElementById('search').value") == ""


@pytest.mark.slow
def test_an_address_opens_a_column_far_down(opened: Opened) -> None:
    page = opened(screening(1_000), anchor="#column-1003")
    page.wait("document.getElementById('detail-1003')")
    assert 0 <= page.run("document.getElementById('column-1003').getBoundingClientRect().top") < 450


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(opened: Opened, width: int) -> None:
    long = replace(numeric("x" * 300, 5, far=-1e300), stored="y" * 50)
    found = screening()
    page = opened(replace(found, columns=(long, *found.columns)), width)
    page.wait("document.querySelectorAll('.detail').length === 6")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('#rows .name').getBoundingClientRect().width") > 100


@pytest.mark.slow
def test_the_page_works_in_the_frame_of_a_notebook(opened: Opened) -> None:
    framed = notebook(screening()).replace(
        '"allow-scripts"', '"allow-scripts allow-same-origin"'
    )  # so that we can look
    page = opened(clean(), text=f"<!doctype html><title>notebook</title>{framed}")
    inside = "document.querySelector('iframe').contentDocument"
    page.wait(f"{inside} && {inside}.querySelectorAll('.detail').length === 5")
    page.run(f"{inside}.querySelector('#finding-2 a').click()")
    page.wait(f"{inside}.activeElement.textContent === 'amount'")
    assert page.run(f"{inside}.location.href") == "about:srcdoc"
