"""What the detectors find and do not find, on real data and on healthy data that depends on its own past.

    make quality            # ../shared/data, or STREAMD_TEST_DATA=folder; ARGS="census budget" for these parts alone

Each line is a promise; the exit code says whether all of them held.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import quality_images
import quality_recorded
import quality_scorers
import quality_screening
import quality_series
import quality_training
import torch

from streamd.codec.encode import encode_features
from streamd.config import Config
from streamd.engine import PartitionEngine
from streamd.fitting import fit
from streamd.model import Alert, BatchJudged, Effect, Envelope, Kind, Severity, Verdict
from streamd.transport.base import Partition
from streamd.wiring import engine_factory

DATA = Path(os.environ.get("STREAMD_TEST_DATA", Path(__file__).parents[3] / "shared/data"))
T0 = 1_500_000_000_000
TOPIC = "streamd.features"

EVENT = range(133_620, 143_890)
NO_FEATURES = ["id", "employed", "year", "prediction", "predicted_probability"]


@dataclass
class Run:
    """One stream through the very engine of the daemon, with the default configuration."""

    engine: PartitionEngine = field(default_factory=lambda: engine_factory(Config())(Partition(TOPIC, 0), 0))
    offset: int = 0

    def send(self, features: object, probabilities: object = None, **more: object) -> list[Effect]:
        """Send one batch, and train what is to be trained."""
        ts = T0 + 60_000 * self.offset
        value, headers = encode_features("s", features, probabilities=probabilities, ts_ms=ts, format="arrow", **more)  # type: ignore[arg-type]
        envelope = Envelope(TOPIC, 0, self.offset, ts, b"s", value, tuple(headers))
        self.offset += 1
        effects = self.engine.step(envelope)
        while (job := self.engine.fit_wanted) is not None:
            effects += self.engine.fitted(fit(job.config, job.reference))
        return effects


def judged(effects: list[Effect]) -> Iterator[tuple[Verdict, Severity]]:
    """The verdicts with their grades."""
    for effect in effects:
        if isinstance(effect, BatchJudged):
            verdicts = [outcome for outcome in effect.outcomes if isinstance(outcome, Verdict)]
            yield from zip(verdicts, effect.severities, strict=True)


def read_census(data: Path, name: str) -> tuple[pa.Table, np.ndarray]:
    """The features and (rows, 2) probabilities of one of its files."""
    table = pq.read_table(data / f"nannyml_census/employment_MA_{name}.pq")
    employed = table["predicted_probability"].to_numpy().astype(float)
    table = table.drop_columns([c for c in NO_FEATURES if c in table.column_names])
    columns = {c: table[c] if c == "AGEP" else table[c].combine_chunks().cast(pa.string()) for c in table.column_names}
    return pa.table(columns), np.column_stack([1 - employed, employed])


def census() -> bool:
    """The census employment model: quiet for years, but for one real event."""
    reference, reference_probabilities = read_census(DATA, "reference")
    analysis, probabilities = read_census(DATA, "analysis")
    run = Run()
    parts = -(-reference.num_rows // 10_000)
    for i in range(parts):
        rows = slice(i * 10_000, (i + 1) * 10_000)
        run.send(
            reference.slice(rows.start, 10_000), reference_probabilities[rows], role="reference", part=(i + 1, parts)
        )
    started = time.perf_counter()
    quiet: Counter[str] = Counter()
    loud_in_quiet: Counter[str] = Counter()
    largest: dict[str, float] = {}
    first_alert: dict[str, int] = {}
    for first in range(0, analysis.num_rows, 1000):
        effects = run.send(analysis.slice(first, 1000), probabilities[first : first + 1000])
        touched = first < EVENT.stop and first + 1000 > EVENT.start
        for verdict, severity in judged(effects):
            if touched:
                continue
            key = name_of(verdict)
            quiet[key] += 1
            loud_in_quiet[key] += severity >= Severity.WARNING
            with np.errstate(all="ignore"):
                largest[key] = max(largest.get(key, 0.0), float(np.nanmax([0.0, *verdict.effects])))
        for effect in effects:
            if isinstance(effect, Alert) and effect.status == "firing" and touched:
                first_alert.setdefault(effect.detector, first + 1000 - EVENT.start)
    rate = analysis.num_rows / (time.perf_counter() - started)
    print(f"\nCensus employment model: {analysis.num_rows:,} rows, reference 2015, {rate:,.0f} rows/s")
    print(f"{'judge':<32}{'quiet judgements':>17}{'loud':>6}{'largest effect':>16}")
    for key, count in quiet.items():
        print(f"{key:<32}{count:>17}{loud_in_quiet[key]:>6}{largest[key]:>16.3f}")
    good = sum(loud_in_quiet.values()) == 0
    for detector in ("ks", "chi2", "entropy", "autoencoder"):
        delay = first_alert.get(detector)
        good &= delay is not None and delay <= 2000
        print(f"the event is found by {detector:<12} {'never' if delay is None else f'after {delay:,} rows'}")
    return good


def dependent() -> bool:
    """Healthy AR(1) columns: nothing happens, so nothing may be said."""
    print(f"\nHealthy AR(1), 16 columns, reference 2,000, 200 windows of 1,000\n{'':<24}{'judgements':>11}{'loud':>6}")
    good = True
    for rho in (0.0, 0.5, 0.9, 0.97):
        for name in ("normal", "t5"):
            rng = np.random.default_rng([int(rho * 100), len(name)])
            rows = 202_000
            noise = rng.normal(size=(rows, 16)) if name == "normal" else rng.standard_t(5, size=(rows, 16))
            values = autoregressive(noise, rho)
            run = Run()
            names = [f"x{i}" for i in range(16)]
            run.send(values[:2000], names=names, role="reference")
            count, loud = 0, Counter[str]()
            for first in range(2000, rows, 1000):
                for verdict, severity in judged(run.send(values[first : first + 1000], names=names)):
                    count += 1
                    if severity >= Severity.WARNING:
                        loud[name_of(verdict)] += 1
            good &= not loud
            print(f"rho {rho:<5}{name:<15}{count:>11}{sum(loud.values()):>6}  {dict(loud) or ''}")
    return good


def autoregressive(noise: np.ndarray, rho: float) -> np.ndarray:
    """x[t] = rho x[t-1] + noise[t], started in its stationary state."""
    from scipy.signal import lfilter

    start = noise[:1] * (rho / np.sqrt(1 - rho**2))
    return lfilter([1.0], [1.0, -rho], noise, axis=0, zi=start)[0]


def name_of(verdict: Verdict) -> str:
    kind = "" if verdict.kind is Kind.FEATURES else f" {verdict.kind.value}"
    return f"{verdict.detector}{kind} ({verdict.test})"


def budget(sizes: str) -> bool:
    import quality_budget

    return quality_budget.table(DATA, quality_budget.SIZES[sizes])


PARTS: dict[str, Callable[[str], bool]] = {
    "census": lambda sizes: census(),
    "dependent": lambda sizes: dependent(),
    "training": lambda sizes: quality_training.table(DATA / "train_telemetry"),
    "screening": lambda sizes: quality_screening.table(),
    "budget": budget,
    "scorers": lambda sizes: quality_recorded.table() and quality_scorers.again(),
    "images": quality_images.table,
    "series": quality_series.table,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without any")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", dest="sizes", action="store_const", const="full", help="as much as a release: hours")
    size.add_argument("--tiny", dest="sizes", action="store_const", const="tiny", help="whether it runs at all")
    parser.set_defaults(sizes="default")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    if not DATA.is_dir():
        print(f"no data at {DATA}: say where it is with STREAMD_TEST_DATA=folder", file=sys.stderr)
        return 66
    held = [PARTS[part](arguments.sizes) for part in arguments.parts or PARTS]
    print("\nall of it held" if all(held) else "\nNOT all of it held")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
