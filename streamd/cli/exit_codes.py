"""How a verb ends: the same numbers everywhere, those of sysexits.h where it has one."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the caller of `streamd` can tell apart without reading a word."""

    OK = 0
    """Done."""

    OUTPUT_CLOSED = 1
    """Whoever read the output stopped reading: `streamd tail | head`."""

    USAGE = 64
    """The command line is wrong: an unknown verb or option."""

    DATA = 65
    """The data is wrong: a file that `send` cannot read, a recording that is cut off."""

    NO_INPUT = 66
    """A file that was named is not there."""

    UNAVAILABLE = 69
    """Something that is needed is missing: the broker, an extra of the package."""

    INTERNAL = 70
    """A bug in streamd; nothing was committed."""

    CANNOT_CREATE = 73
    """A file that should be written cannot be."""

    CONFIG = 78
    """The configuration is wrong; nothing was started."""

    INTERRUPTED = 130
    """Ctrl-C, before the verb could end by itself."""

    TERMINATED = 143
    """SIGTERM, before the verb could end by itself."""
