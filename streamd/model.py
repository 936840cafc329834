"""The nouns: what travels through the daemon, from a record of bytes to an alert.

Imported by applications through `streamd.client`, so it needs the standard library alone at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamd.errors import Reason
    from streamd.table import FloatArray, Table

Header = tuple[str, bytes | None]
Direction = Literal["up", "down", "changed"]
Mode = Literal["shadow", "enforce"]
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


# --- In -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """One record as the transport got it. `timestamp_ms` is the record's own, epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBatch:
    """Rows that a model was served, with its predictions when there are any."""

    stream: str
    event_time_ms: int
    offset: int
    table: Table
    ids: tuple[str, ...] | None = None  # one per row, come back in alerts
    phase: int | None = None  # of the season, where there is one: see streamd.seasons
    phase_rows: int = 0  # of the reference in that phase; 0: there is no season


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePart:
    """Part `part` of `parts` (counted from 1) of what normal looks like."""

    batch: FeatureBatch
    part: int = 1
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget the stream's reference and state; of some `columns` alone where it names any. What a person asks for, who
    is its `author`, can be undone; a reset without one leaves nothing behind."""

    stream: str
    event_time_ms: int
    author: str | None = None
    columns: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Undo:
    """Put the stream's reference before the present one in force again."""

    stream: str
    event_time_ms: int
    author: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The receiver's answer to a command, in the stream's own partition."""

    stream: str
    event_time_ms: int
    command_id: str
    outcome: Literal["done", "refused", "failed", "expired"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TelemetryPoint:
    """What a training run measured at one step. Values may be NaN or infinite: that is the news."""

    run: str
    event_time_ms: int
    step: int
    epoch: float | None
    metrics: Mapping[str, float]
    tensors: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The points of one record, in its order."""

    points: tuple[TelemetryPoint, ...]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A training run says that it is over. `step`: its last, where it says so."""

    run: str
    event_time_ms: int
    step: int | None
    outcome: Literal["done", "failed"]


Observation = FeatureBatch | ReferencePart | Reset | Undo | Acknowledgement | Telemetry | RunEnded


# --- What detectors say ---------------------------------------------------------------------------


class Severity(IntEnum):
    """How grave a finding is. The order is the meaning: NONE < INFO < WARNING < CRITICAL."""

    NONE = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Kind(StrEnum):
    """What an alert is about."""

    FEATURES = "features"
    PREDICTIONS = "predictions"
    TRAINING = "training"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class Window:
    """The records that a judgement rests on: offsets are inclusive."""

    first_offset: int
    last_offset: int
    rows: int


@dataclass(frozen=True, slots=True)
class RowFinding:
    """One row that stands out.

    Attributes:
        id: its own, or its place `offset:index` where it had none.
        features: the values of those that matter most.
        contributions: their shares of the score, where the scorer says.
        confidence: the probability that the model gave to its most likely class, where predictions came along.
    """

    id: str
    score: float
    features: Mapping[str, float | str | None]
    contributions: Mapping[str, float] | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A statistic between two judgements: shown, never graded. `statistics` is (columns,), NaN: not yet."""

    detector: str
    columns: tuple[str, ...]
    statistics: FloatArray
    threshold: float


@dataclass(frozen=True, slots=True)
class Ask:
    """A command that a finding asks for."""

    command: str
    args: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """A judgement over one window.

    A column is loud where its adjusted p-value AND its effect pass: a p-value says that it is not
    chance, an effect says that it matters. A rule has no p-value: `adjusted` is None and the effect decides.

    Attributes:
        detector: the configured name.
        test: how it judged: `ks_2samp`, `chi2`, `t`, `binomial`, `rule`, …
        columns: what was judged, k names.
        statistics: (k,) the test's statistic; NaN where a column could not be judged.
        p_values: (k,) raw, or None.
        adjusted: (k,) after the correction for many columns, or None. This is what is graded.
        effects: (k,) the effect size, never negative, in units that `effect_name` names.
        effect_threshold: an effect matters when it is greater than this.
        directions: k words.
        window: what it rests on.
        finding: a sentence without its subject: `amount drifted up (KS D=0.31, p=1e-9 over 1000 rows)`.
        rows: the worst rows, at most a configured few.
        model_sha256: of the weights that scored, if any did.
        severity: how grave it is, from a rule that knows; None: p-values, effects and repetition say.
        asks: the commands that a rule asks for.
        step: of a training run.
        first_step: where what is wrong with the run began.
        looks: judgements among which one false alarm would count where no budget says how many may be.
    """

    detector: str
    test: str
    kind: Kind
    columns: tuple[str, ...]
    statistics: FloatArray
    p_values: FloatArray | None
    adjusted: FloatArray | None
    effects: FloatArray
    effect_name: str
    effect_threshold: float
    directions: tuple[Direction, ...]
    window: Window
    finding: str
    rows: tuple[RowFinding, ...] = ()
    model_sha256: str | None = None
    severity: Severity | None = None
    asks: tuple[Ask, ...] = ()
    step: int | None = None
    first_step: int | None = None
    looks: int = 1


Outcome = Verdict | Reading


# --- Out ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ColumnFinding:
    """One column in an alert, worst first."""

    name: str
    statistic: float
    p_value: float | None
    direction: Direction


@dataclass(frozen=True, slots=True)
class Alert:
    """What CONTRACT says of `streamd.alerts`. `id` is made from coordinates: a redelivery has the same one."""

    id: str
    status: Literal["firing", "resolved"]
    severity: Severity
    action: str
    mode: Mode
    stream: str
    kind: Kind
    detector: str
    test: str
    consecutive: int
    statistic: float
    threshold: float
    p_value: float | None
    effect_name: str
    effect: float
    features: tuple[ColumnFinding, ...]
    topic: str
    partition: int
    window: Window
    event_time_ms: int
    started_at_ms: int
    rows: tuple[RowFinding, ...]
    model_sha256: str | None
    summary: str
    step: int | None = None  # of a training run
    first_step: int | None = None
    level: float | None = None  # what p_value had to be at most; None: no p-value decided


@dataclass(frozen=True, slots=True)
class Command:
    """What should be done. Idempotent by id."""

    id: str
    command: str
    target_kind: Literal["stream", "run"]
    target: str
    args: Mapping[str, JsonValue]
    mode: Mode
    alert_id: str
    reason: str
    issued_at_ms: int
    expires_at_ms: int
    author: str | None = None  # the person who sent it, where it was one


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used, byte for byte, and why."""

    envelope: Envelope
    stage: Literal["decode", "validate", "process"]
    reason: Reason
    error: str


@dataclass(frozen=True, slots=True)
class Spending:
    """A stream's budget of false alarms so far.

    Attributes:
        judgements: those that it paid for.
        spent: the sum of their levels: false alarms to be expected at most.
        earned: false alarms that were allowed.
        still: judgements since event time last moved.
    """

    judgements: int
    spent: float
    earned: float
    still: int

    @property
    def ratio(self) -> float:
        """Of what was allowed, how much was spent: 0 to 1."""
        return self.spent / self.earned


@dataclass(frozen=True, slots=True, eq=False)
class BatchJudged:
    """A feature batch went through its stream's detectors. For metrics and the live view, not for a topic."""

    stream: str
    event_time_ms: int
    rows: int
    outcomes: tuple[Outcome, ...]
    severities: tuple[Severity, ...]  # one per Verdict in `outcomes`, in order
    spending: Spending | None = None  # None: no budget is set


@dataclass(frozen=True, slots=True)
class TelemetryCounted:
    """Points of a training run were decoded."""

    run: str
    points: int


@dataclass(frozen=True, slots=True, eq=False)
class RunJudged:
    """The points of one run in one record went through its rules. For metrics and the live view, not for a topic.

    Attributes:
        step, metrics: the last of what was measured, by name.
        verdicts: those with a finding, calm ones left out.
        severities: one per verdict.
        nonfinite: values that are NaN or infinite, in all of its points.
    """

    run: str
    event_time_ms: int
    step: int
    metrics: Mapping[str, float]
    verdicts: tuple[Verdict, ...]
    severities: tuple[Severity, ...]
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class StreamChanged:
    """Something happened to a stream that an operator should be able to read in the log."""

    stream: str
    what: Literal[
        "seen", "reference", "reset", "evicted", "fitted", "not_fitted", "acknowledged", "unanswered", "ended", "still"
    ]
    detail: str
    outcome: Literal["done", "refused", "failed", "expired", "none"] | None = None  # of a command; none: not in time


@dataclass(frozen=True, slots=True)
class Keep:
    """Something that the state needs and that seldom changes: a reference, trained weights. Kept by its content."""

    name: str  # `reference/<key>`, `weights/<key>`
    data: bytes


Effect = Alert | Command | DeadLetter | BatchJudged | TelemetryCounted | RunJudged | StreamChanged | Keep
