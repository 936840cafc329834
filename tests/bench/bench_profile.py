"""Where the time goes, for the rows that fall short: the functions with the most time of their own."""

from __future__ import annotations

import cProfile
import pstats
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench_table import Row

TOP = 5
_WAITS = re.compile("built-in .*(acquire|sleep|poll|select|wait)")


def explained(row: Row, work: Callable[[], object], times: int) -> Row:
    """The row; where it missed its target, with a profile of `times` runs of `work`."""
    if row.met is not False:
        return row
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(times):
        work()
    profile.disable()
    return with_profile(row, pstats.Stats(profile))


def with_profile(row: Row, stats: pstats.Stats, by_package: bool = False) -> Row:
    """The row with the top entries, and what would have to go for the next factor of two.

    `by_package`: by packages first, where functions are many; what is built in counts for the package that calls it.
    """
    functions: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    waited = 0.0
    for place, (_, _, own_seconds, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if _WAITS.match(_name(*place)):
            waited += own_seconds
            continue
        functions[_name(*place)] += own_seconds
        if place[0] == "~":
            for caller, (_, _, seconds, _) in callers.items():
                packages[_package(caller[0])] += seconds
        else:
            packages[_package(place[0])] += own_seconds
    own = packages if by_package else functions
    busy = functions.total() or 1.0
    where = [f"{seconds / busy:.0%} {name}" for name, seconds in own.most_common(TOP)]
    if by_package:
        where += [f"of it {seconds / busy:.0%} {name}" for name, seconds in functions.most_common(TOP)]
    if waited > 0.05 * (busy + waited):
        where.append(f"and {waited / (busy + waited):.0%} of the whole waiting: broker, client's thread, others")
    return replace(row, where=tuple(where), next_step=_half_of(own))


def _half_of(own: Counter[str]) -> str:
    """The fewest entries that hold half of the busy time."""
    wanted, names = own.total() / 2, []
    for name, seconds in own.most_common():
        if wanted <= 0:
            break
        wanted -= seconds
        names.append(name)
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"half of the busy time is in {shown}: twice as fast is to do without"


def _name(file: str, _line: int, function: str) -> str:
    """`detectors/judge.py _push`, or `built-in orjson.loads`."""
    if file == "~":
        plain = function.strip("<>").replace("built-in method ", "").replace("method ", "")
        return "built-in " + plain.replace("'", "")
    return f"{'/'.join(_inside(file))} {function}"


def _package(file: str) -> str:
    """`streamd/codec`, `kafka`, `threading.py`."""
    parts = _inside(file)
    if "streamd" in Path(file).parts and "site-packages" not in Path(file).parts:
        return "/".join(["streamd", *parts[: max(1, len(parts) - 1)]])
    return parts[0]


def _inside(file: str) -> tuple[str, ...]:
    """The file's path from the package that it belongs to."""
    parts = Path(file).parts
    for root in ("site-packages", "streamd"):
        if root in parts:
            return parts[len(parts) - parts[::-1].index(root) :]
    return parts[-1:]
