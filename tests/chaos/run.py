"""`make chaos`: the whole list on a real Kafka, its part on Tansu, and a table; with HOURS=0.5 the long run alone."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from brokers import HOW_TO_GET_KAFKA, kafka_launcher
from chaos import scenarios
from chaos.site import Site, Where, open_site
from chaos.world import Outcome
from rich.console import Console
from rich.table import Table


def main() -> int:
    arguments = _arguments()
    if arguments.hours:
        chosen = [scenarios.long(arguments.hours, calm=arguments.calm)]
    else:
        source = scenarios.selection() if arguments.selection else scenarios.everything()
        chosen = [each for each in source if not arguments.only or arguments.only in each.name]
    if arguments.list or not chosen:
        print("\n".join(scenario.name for scenario in chosen) or f"no scenario has {arguments.only!r} in its name")
        return 0 if chosen else 64
    if kafka_launcher() is None and any(scenario.where == "kafka" for scenario in chosen):
        print(HOW_TO_GET_KAFKA)
        return 69
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    outcomes: list[Outcome] = []
    sites: dict[Where, Site] = {}
    try:
        with ExitStack() as open_sites:
            for scenario in chosen:
                if scenario.where not in sites:
                    sites[scenario.where] = open_sites.enter_context(open_site(scenario.where, folder))
                outcomes.append(_played(scenario, sites[scenario.where], arguments.seed, folder))
    finally:
        if all(outcome.ok for outcome in outcomes):
            shutil.rmtree(folder, ignore_errors=True)
        Console(width=160).print(_table(outcomes))
        kept = f"; logs of what failed, and the broker's, are in {folder}" if folder.exists() else ""
        print(f"seed {arguments.seed}{kept}")
    return int(any(not outcome.ok for outcome in outcomes))


def _played(scenario: scenarios.Scenario, site: Site, seed: int, folder: Path) -> Outcome:
    started = time.monotonic()
    print(f"{time.strftime('%H:%M:%S')} {scenario.name} …", flush=True)
    try:
        outcome = scenarios.run(scenario, site, seed, folder)
    except Exception as error:
        site.start_anew()
        outcome = Outcome(
            scenario.name, seed, site.exactly_once, problems=[f"the run itself failed: {error!r}"], logs=folder
        )
    print(f"         {'passed' if outcome.ok else 'FAILED'} in {time.monotonic() - started:.0f} s", flush=True)
    if not outcome.ok:
        print(outcome, flush=True)
    return outcome


def _table(outcomes: list[Outcome]) -> Table:
    heads = (
        "scenario",
        "promised",
        "faults",
        "records",
        "told",
        "lost",
        "twice",
        "state",
        "settle",
        "drain, longest",
        "figures",
    )
    table = Table(*heads, title="Chaos: what was done, and what became of it")
    for o in outcomes:
        table.add_row(
            o.scenario if o.ok else f"[red]{o.scenario}[/]",
            "exactly once" if o.exactly_once else "at least once",
            ", ".join(f"{count} × {fault}" for fault, count in o.faults.items()),
            f"{o.records:,}",
            f"{o.told:,}",
            str(o.lost),
            str(o.twice),
            "equal" if o.state_equal else "[red]differs[/]",
            f"{o.settle_seconds:.1f} s",
            f"{max(o.drain_seconds, default=0):.1f} s",
            ", ".join(f"{name} {value}" for name, value in o.figures.items()),
        )
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="default: another one each time")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--selection", action="store_true", help="what `make test` plays")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--hours", type=float, default=0.0, help="the long version instead, for so long")
    parser.add_argument("--calm", action="store_true", help="with --hours: no faults, to see what grows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
