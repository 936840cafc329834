"""For the scripts that run under the peers' Python: say that we are ready, then answer line by line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

_ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer


def serve(ready: dict[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    say(ready)
    for line in sys.stdin:
        say(answer(json.loads(line)))


def say(what: dict[str, Any]) -> None:
    _ANSWERS.write(json.dumps(what) + "\n")
    _ANSWERS.flush()
