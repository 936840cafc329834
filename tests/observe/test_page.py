"""The page for people, in a real browser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from chromium import Chromium
from live import TOPIC, Live
from prometheus_client import CollectorRegistry

from streamd.observe.admin import AdminServer, create_app
from streamd.observe.live.page import CONTENT_SECURITY_POLICY, PAGE

pytestmark = pytest.mark.slow

STATES = "[...document.querySelectorAll('.state b')].map(word => word.textContent)"
NAMES = "[...document.querySelectorAll('.name')].map(name => name.textContent)"
FOCUSED = "document.activeElement.parentElement.dataset.key || document.activeElement.id"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium) -> Iterator[Chromium]:
    browser.console.clear()
    yield browser
    browser.open("about:blank")


@pytest.fixture
def live() -> Iterator[Live]:
    with Live() as live:
        yield live


def rows(count: int) -> str:
    return f"document.querySelectorAll('.row').length === {count}"


def key(stream: str) -> str:
    return f"{TOPIC}/0/{stream}"


def opened(stream: str) -> str:
    return f"/#open={quote(key(stream), safe='')}"


def test_the_page_is_one_document_that_needs_nothing_from_elsewhere() -> None:
    assert "http://" not in PAGE
    assert "https://" not in PAGE
    assert "innerHTML" not in PAGE
    assert "'unsafe" not in CONTENT_SECURITY_POLICY
    assert "{{" not in PAGE


def test_streams_are_shown_worst_first_with_the_sentence_of_the_alert(page: Chromium, live: Live) -> None:
    live.watched("calm", "bad", "worst")
    live.reference("silent")
    live.send("bad", shift=2.0)
    for _ in range(3):
        live.send("worst", shift=2.0)
    page.open(live.url)
    page.wait(rows(4))
    assert page.run(STATES) == ["critical", "warning", "quiet", "unknown"]
    assert page.run(NAMES) == ["worst", "bad", "calm", "silent"]
    assert "amount drifted up (KS D=" in page.run("document.querySelector('.sentence').textContent")
    assert page.run("document.querySelector('.line').getAttribute('d').length") > 5
    assert page.run("document.title") == "(2) streamd"
    assert page.console == []


def test_a_name_is_text_whatever_is_in_it(page: Chromium, live: Live) -> None:
    names = ["<script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">", "a&amp;b"]
    live.watched(*names)
    page.open(live.url + opened(names[0]))
    page.wait("document.querySelector('.detail')")
    assert sorted(page.run(NAMES)) == sorted(names)
    assert page.run("document.querySelectorAll('img, li script').length") == 0
    assert page.run("document.title") == "streamd"
    assert page.console == []


def test_the_policy_runs_no_other_script(page: Chromium, live: Live) -> None:
    page.open(live.url)
    page.run("(() => { const s = document.createElement('script'); s.textContent = 'window.ran = true';"
             " document.body.append(s); })()")  # fmt: skip
    assert page.run("window.ran") is None
    page.wait("true")
    assert any("Content Security Policy" in line for line in page.console)


def test_what_happens_is_seen_without_a_reload_and_the_focus_stays(page: Chromium, live: Live) -> None:
    live.watched("a", "b")
    page.open(live.url)
    page.wait(rows(2))
    page.press("ArrowDown")
    page.press("ArrowDown")
    assert page.run(FOCUSED) == key("b")
    for _ in range(3):
        live.send("b", shift=2.0)
    page.wait(f"{STATES}[0] === 'critical'")
    assert page.run(NAMES) == ["b", "a"]
    assert page.run(FOCUSED) == key("b")
    assert page.run("document.getElementById('announce').textContent") == "1 stream critical, 0 at warning"


def test_the_keyboard_alone_finds_opens_and_closes_a_stream(page: Chromium, live: Live) -> None:
    live.watched("fraud/7", "churn/1")
    page.open(live.url)
    page.wait(rows(2))
    page.press("/")
    for letter in "raud":
        page.press(letter)
    page.wait(rows(1))
    page.press("ArrowDown")
    assert page.run(FOCUSED) == key("fraud/7")
    page.press("Enter")
    page.wait("document.querySelectorAll('.detail .bars > *').length > 0")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Escape")
    page.wait("!document.querySelector('.detail')")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "false"
    page.press("ArrowUp")
    page.press("Escape")
    page.wait(rows(2))


def test_an_open_stream_shows_reference_and_window_of_its_worst_feature(page: Chromium, live: Live) -> None:
    live.watched("a")
    live.send("a", shift=2.0)
    page.open(live.url + opened("a"))
    page.wait("document.querySelector('.histogram')")
    assert page.run("document.querySelector('figcaption').textContent") == "amount"
    legend = page.run("document.querySelector('.legend').innerText").split("\n")
    assert [text.strip() for text in legend if text.strip()] == ["reference, 2,000 rows", "now, 1,000 rows"]
    before = page.run("document.querySelector('.histogram .window').getAttribute('d')")
    live.send("a", shift=-2.0)
    page.wait(f"document.querySelector('.histogram .window').getAttribute('d') !== '{before}'")
    assert "amount" in page.run("document.querySelector('.detail .alerts').innerText")
    assert page.run("document.querySelectorAll('.detail tbody tr').length") == 3  # chi2 makes two tests


def test_ten_thousand_streams_are_fifty_rows_to_search_and_to_leaf_through(page: Chromium, live: Live) -> None:
    live.heard(10_000)
    page.open(live.url)
    page.wait(rows(50))
    assert page.run("document.getElementById('shown').textContent") == "1 to 50 of 10,000"
    assert page.run("document.querySelectorAll('*').length") < 1500
    page.run("document.getElementById('after').click()")
    page.wait(f"{NAMES}[0] === 'tenant-00050'")
    assert page.run("document.getElementById('before').disabled") is False
    page.press("/")
    for letter in "0777":
        page.press(letter)
    page.wait(rows(11))  # 00777, 07770 to 07779
    page.run("document.querySelector('[data-state=learning]').click()")
    page.wait("document.querySelector('[data-state=learning]').getAttribute('aria-pressed') === 'true'")
    assert page.run("location.hash") == "#search=0777&state=learning"
    assert page.console == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_read_in_the_scheme_that_is_wanted(page: Chromium, live: Live, dark: bool) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    live.watched("calm", "bad")
    live.reference("silent")
    live.send("bad", shift=2.0)
    live.train("bert-42", [2.0, math.nan])
    live.train("vit", [2.0])
    live.end("vit")
    page.open(live.url + opened("bad"), dark=dark)
    page.wait("document.querySelector('.histogram')")
    ratios = page.run(
        """(() => {
          const channel = value => (value /= 255) <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
          const light = color => color.match(/[\\d.]+/g).slice(0, 3).map(Number).map(channel)
            .reduce((sum, value, i) => sum + value * [.2126, .7152, .0722][i], 0);
          const back = node => { const color = getComputedStyle(node).backgroundColor;
            return color === 'rgba(0, 0, 0, 0)' && node.parentElement ? back(node.parentElement) : color; };
          const found = {};
          for (const node of document.querySelectorAll('body *')) {
            if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
            if (!node.offsetParent || node.closest('script')) continue;
            const [one, two] = [light(getComputedStyle(node).color), light(back(node))];
            found[node.tagName + '.' + node.className + ' ' + node.textContent.slice(0, 20)] =
              (Math.max(one, two) + .05) / (Math.min(one, two) + .05);
          }
          return found;
        })()"""
    )
    assert len(ratios) > 30
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
    lightness = page.run("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (lightness < 60) is dark


@pytest.mark.parametrize("width", [320, 390, 820, 1280, 1920])
def test_nothing_is_wider_than_the_window(page: Chromium, live: Live, width: int) -> None:
    long = "recommendations/home/a-very-long-name-of-a-model-that-somebody-has-chosen/" + "x" * 100
    live.watched("a", long)
    live.send(long, shift=2.0)
    page.open(live.url + opened(long), width=width)
    page.wait("document.querySelector('.histogram')")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_everything_that_takes_the_focus_has_a_name(page: Chromium, live: Live) -> None:
    live.watched("a")
    live.heard(60)
    page.open(live.url + opened("a"))
    page.wait("document.querySelector('.detail')")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    focusable = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if any(each["name"] == "focusable" and each["value"]["value"] for each in node.get("properties", ()))
    ]
    assert len(focusable) > 50
    assert [each for each in focusable if not each[1]] == []
    assert ("list", "Streams, worst first") in focusable


def test_a_daemon_that_ends_is_told_and_its_return_is_seen(page: Chromium, live: Live) -> None:
    live.watched("a")
    page.open(live.url)
    page.wait(rows(1))
    host, port = live.server.address
    live.server.stop()
    page.wait("document.getElementById('health').dataset.state === 'lost'")
    assert page.run("document.getElementById('problem').hidden") is False
    live.server = AdminServer(create_app(CollectorRegistry(), live.board, live.health, dict, "2"), host, port)
    live.server.start()
    page.wait("document.getElementById('health').dataset.state === 'running'")
    assert page.run("document.getElementById('problem').hidden") is True


def test_a_picture_of_the_page_is_not_blank(page: Chromium, live: Live, tmp_path: Path) -> None:
    live.watched("a")
    page.open(live.url)
    page.wait(rows(1))
    picture = page.screenshot()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_a_run_shows_its_step_its_last_loss_and_where_it_was_no_number(page: Chromium, live: Live) -> None:
    live.train("bert-42", [2.0, 1.5, 1.25], lr=0.00035)
    live.train("gpt-1", [2.0, math.nan, math.nan])
    live.train("vit", [0.5])
    live.end("vit")
    page.open(f"{live.url}/#open={quote('streamd.telemetry/0/gpt-1', safe='')}")
    page.wait(rows(3) + " && document.querySelector('.curve')")
    assert page.run(STATES) == ["critical", "quiet", "ended"]
    values = page.run("[...document.querySelectorAll('.value')].map(value => value.innerText)")
    assert values == ["NaN loss\nstep 3", "1.25 loss\nstep 3", "0.5 loss\nstep 1"]
    assert "is not a number any more" in page.run("document.querySelector('.alerts').innerText")
    gaps = "document.querySelector('.curve .reference').getAttribute('d').split('M').length - 1"
    assert page.run(gaps) == 2
    assert page.run("document.querySelector('.trace .limit').getAttribute('d').split('M').length - 1") == 2
    assert "checkpoint × 1 in shadow, pause × 1 in shadow" in page.run("document.querySelector('dl').innerText")
    assert page.run("document.querySelector('.metrics').innerText").split() == ["loss", "NaN"]
    page.run("document.querySelectorAll('.row')[1].click()")
    page.wait("(document.querySelector('.metrics') || document.body).innerText.includes('3.5e-4')")
    assert page.console == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_run_without_a_loss_and_one_with_many_metrics_fit_the_window(page: Chromium, live: Live, dark: bool) -> None:
    live.train("many", [1.0, 0.5], **{f"layers/{i}/a_rather_long_name_of_a_metric": i * 1e8 for i in range(80)})
    live.train("none", [None, None], score=0.5)  # type: ignore[list-item]
    for run in ("many", "none"):
        page.open("about:blank")
        page.open(f"{live.url}/#open={quote(f'streamd.telemetry/0/{run}', safe='')}", width=390, dark=dark)
        page.wait("document.querySelector('.detail .metrics tr')")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("document.querySelectorAll('.metrics tr').length") <= 50
        nodes = page.send("Accessibility.getFullAXTree")["nodes"]
        assert [
            node["role"]["value"]
            for node in nodes
            if any(each["name"] == "focusable" and each["value"]["value"] for each in node.get("properties", ()))
            and not node["name"]["value"]
        ] == []
    assert page.console == []
