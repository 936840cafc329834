"""What `streamd screen` says in a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from screenings import clean, screening

from streamd.cli.screen_report import report
from streamd.screening.model import Finding, Screening, Severity


def said(found: Screening, most: int = 25, width: int = 80, colours: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=colours, highlight=False, markup=False)
    report(console, found, most)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_finding_is_its_severity_a_sentence_and_what_to_do_worst_first() -> None:
    assert said(screening()) == (
        "orders.parquet\n"
        "20,000 rows × 5 columns, screened in 4.2 s\n"
        "Do not train on this: 1 finding is critical.\n"
        "\n"
        "critical  'age' alone predicts 'label': AUROC 0.9996 over 20,000 rows.\n"
        "          → Leave it out, or find out how it came to know the label.\n"
        "\n"
        "warning   'country' has 5 values a day, and 200 on 2018-04-01.\n"
        "          → Look at the rows of that day: is another field written into it?\n"
        "\n"
        "warning   143 rows (0.7 %) of 'amount' lie outside of 110 to 130 (IQR); the\n"
        "          farthest is 1,000,000 in row 17.\n"
        "          → Look at these rows: a wrong unit, or a sentinel?\n"
        "\n"
        "info      'age' is missing in 1,204 rows (6 %).\n"
        "          → Decide how the model shall treat them.\n"
    )


def test_it_is_never_wider_than_80_columns_nor_than_the_terminal() -> None:
    for width in (200, 80, 50):
        assert max(map(len, said(screening(50), width=width).splitlines())) <= min(width, 80)


def test_what_is_not_shown_is_counted() -> None:
    assert "3 more findings (2 warning, 1 info): --top 4, or --html FILE." in said(screening(), most=1)


def test_clean_data_is_called_so() -> None:
    assert said(clean()) == "orders.parquet\n20,000 rows × 1 column\nNothing odd was found.\n"


def test_a_warning_and_what_is_worth_knowing_have_their_verdicts() -> None:
    findings = screening().findings
    assert "\nLook at 2 warnings before you train.\n" in said(replace(screening(), findings=findings[1:]))
    one = replace(screening(), findings=findings[3:])
    assert "\nNothing speaks against training; 1 thing is worth knowing.\n" in said(one)


def test_colours_are_for_terminals_alone() -> None:
    assert "\x1b[" not in said(screening())
    assert "\x1b[1;31mcritical" in said(screening(), colours=True)


def test_names_cannot_steer_the_terminal() -> None:
    evil = Finding("zeros", Severity.INFO, ("x",), {}, "\x1b[2Jx [red]y[/]", "\x1b]0;t\x07 Look.")
    text = said(replace(clean(), source="\x1b[2J", findings=(evil,)))
    assert "\x1b" not in text
    assert "[red]y[/]" in text
