"""How much a producer may ask for: a limit on everything that it controls."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamd.settings import Settings

Count = Annotated[int, Field(ge=1)]


class Limits(Settings):
    """Limits on one record. What is over them is one dead letter, and costs no more than reading it."""

    decoded_bytes: Count = 32 * 1024 * 1024
    """Bytes of the value after decompression. Thirty times Kafka's default for a whole message, and as Python
    objects still below 1 GB whatever they hold."""

    rows: Count = 100_000
    """Rows of one batch. One batch is one forward pass; at 32 features this many take 26 MB as doubles."""

    columns: Count = 10_000
    """Features, metrics or tensors of one record. Each costs every detector its state, for as long as the stream
    lives."""

    cells: Count = 10_000_000
    """Rows times columns, n-dimensional features and predictions included: 80 MB as doubles. Few bytes can stand
    for many cells: rows that name a different column each, Arrow columns of nulls."""

    classes: Count = 10_000
    """Columns of logits or probabilities: ImageNet-21k is not judged class by class."""

    depth: Annotated[int, Field(ge=4, le=200)] = 32
    """Levels of nesting in JSON. A feature of images needs 6. 200 is what Python's stack surely carries."""

    containers: Count = 1_000_000
    """JSON arrays and objects in one record: an empty one is 2 bytes on the wire and 64 in memory."""

    stream_chars: Count = 200
    """Characters of a stream's or run's name: it becomes a key, a label and a part of every alert."""

    name_chars: Count = 256
    """Characters of the name of a column, metric, tensor, and of a row's id."""

    category_chars: Count = 4096
    """Characters of one categorical value: what a reference remembers of each."""

    headers: Count = 100
    """Headers of one record. Tracing and CloudEvents together need about 20."""

    points: Count = 10_000
    """Telemetry points of one record: a run that logs ten times a second, silent for a quarter of an hour."""

    parts: Count = 10_000
    """Parts of one reference: kept until the last has come."""

    ahead_seconds: Annotated[int, Field(ge=0)] = 86_400
    """How far a payload's time may lie ahead of the record's own. One `ts` in 2099 would end every event-time
    window of its stream; a day forgives any clock that is only in the wrong zone."""

    logits_names: tuple[str, ...] = ("logits",)
    """Names of the Open Inference outputs that are logits."""

    probabilities_names: tuple[str, ...] = ("probabilities",)
    """Names of the Open Inference outputs that are probabilities."""
