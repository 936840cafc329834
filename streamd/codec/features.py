"""Feature batches in JSON: by columns, by rows; Open Inference is in a module of its own."""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import Any

from streamd.codec.columns import TableBuilder, row_ids
from streamd.codec.limits import Limits
from streamd.codec.names import check_count
from streamd.codec.open_inference import read_open_inference
from streamd.codec.record import Content
from streamd.errors import InvalidRecord, Reason


def read_features(document: dict[str, Any], limits: Limits) -> Content:
    """The batch that `document` holds, in whichever of the three layouts its keys tell.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    if "features" not in document and "rows" not in document and ("inputs" in document or "outputs" in document):
        return read_open_inference(document, limits)
    builder = TableBuilder(limits)
    for name, values in _columns(document, limits).items():
        builder.add(name, values)
    # With both, logits: the probabilities follow from them.
    if document.get("logits") is not None:
        builder.set_predictions("logits", document["logits"])
    elif document.get("probabilities") is not None:
        builder.set_predictions("probabilities", document["probabilities"])
    table = builder.build()
    return Content(
        table,
        row_ids(document.get("ids"), table.rows, limits),
        document.get("stream"),
        document.get("ts"),
        document.get("role"),
        document.get("version"),
    )


def _columns(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    features, rows = document.get("features"), document.get("rows")
    if features is not None and rows is not None:
        raise InvalidRecord(Reason.BAD_SCHEMA, "both `features` and `rows` are in it: send one of them")
    if rows is not None:
        return _turn(rows, limits)
    if features is None and document.get("logits") is None and document.get("probabilities") is None:
        found = ", ".join(sorted(document)[:10]) or "none"
        raise InvalidRecord(
            Reason.BAD_SCHEMA,
            f"none of `features`, `rows`, `inputs`, `logits`, `probabilities` is in it; its keys: {found[:200]}",
        )
    if features is None:
        return {}
    if not isinstance(features, dict):
        raise InvalidRecord(
            Reason.BAD_SCHEMA,
            f"`features` is a {type(features).__name__}, it must be an object of columns (for rows there is `rows`)",
        )
    check_count(len(features), "columns", limits.columns, Reason.TOO_MANY_COLUMNS)
    return features


def _turn(rows: Any, limits: Limits) -> dict[str, Any]:
    """Rows to columns, in the order in which the names first appear. A name that a row lacks is null there."""
    if not isinstance(rows, list) or not set(map(type, rows)) <= {dict}:
        raise InvalidRecord(Reason.BAD_SCHEMA, "`rows` must be an array of objects, one a row")
    check_count(len(rows), "rows", limits.rows, Reason.TOO_MANY_ROWS)
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    check_count(len(names), "columns", limits.columns, Reason.TOO_MANY_COLUMNS)
    check_count(len(names) * len(rows), "cells", limits.cells, Reason.TOO_LARGE)
    if len(names) > 1:
        try:
            return dict(zip(names, map(list, zip(*map(itemgetter(*names), rows), strict=True)), strict=True))
        except KeyError:
            pass  # some row lacks a name
    return {name: [row.get(name) for row in rows] for name in names}
