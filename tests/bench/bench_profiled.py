"""streamd with a profile of its main thread: SIGUSR1 begins it, SIGUSR2 writes it to the file BENCH_PROFILE."""

from __future__ import annotations

import cProfile
import os
import signal
import sys
from pathlib import Path

from streamd.cli import main

if __name__ == "__main__":
    profile, file = cProfile.Profile(), Path(os.environ["BENCH_PROFILE"])

    def write() -> None:
        profile.disable()
        part = file.with_suffix(".part")
        profile.dump_stats(part)
        part.rename(file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, lambda *_: write())
    sys.exit(main())
