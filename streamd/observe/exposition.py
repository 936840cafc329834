"""Several processes' metrics as one page: the label `worker` is put into each sample, and families are told once.

Labelled and not summed: when one worker starts again, its counters begin at 0. Prometheus sees through that series by
series; in a sum the drop of one would look like a restart of all, and `rate()` would show a rise that never was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAME = re.compile(r"[^{ ]+")
_END = "# EOF"  # of an OpenMetrics page


def merged(pages: Iterable[tuple[str | None, str]]) -> str:
    """One page of Prometheus text or OpenMetrics, all of `pages` being the same of the two.

    Args:
        pages: the value of the label `worker`, or None where samples stay as they are; and the text.

    >>> page = "# HELP rows Rows.\\n# TYPE rows gauge\\nrows 1.0\\n"
    >>> print(merged([("0", page), ("1", page)]), end="")
    # HELP rows Rows.
    # TYPE rows gauge
    rows{worker="0"} 1.0
    rows{worker="1"} 1.0
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    open_metrics = False
    for worker, text in pages:
        family = ""
        for line in text.split("\n"):  # not splitlines: a label's value may hold U+2028
            if line == _END:
                open_metrics = True
            elif line.startswith("# "):
                _, keyword, family, *_ = line.split(" ", 3)
                head = heads.setdefault(family, [])
                samples.setdefault(family, [])
                if not any(known.startswith(f"# {keyword} ") for known in head):
                    head.append(line)
            elif line:
                samples[family].append(line if worker is None else _labelled(line, worker))
    lines = [line for family, head in heads.items() for line in (*head, *samples[family])]
    if open_metrics:
        lines.append(_END)
    return "".join(f"{line}\n" for line in lines)


def _labelled(sample: str, worker: str) -> str:
    """`name{a="b"} 1` or `name 1` with one more label in front."""
    found = _NAME.match(sample)
    assert found is not None, sample
    name, rest = found[0], sample[found.end() :]
    if rest.startswith("{"):
        return f'{name}{{worker="{worker}",{rest[1:]}'
    return f'{name}{{worker="{worker}"}}{rest}'
