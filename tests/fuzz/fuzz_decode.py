"""An atheris target: any bytes and headers either decode or raise InvalidRecord.

atheris is not a dependency (it needs clang's runtime). In an environment of its own:

    pip install atheris -e '.[daemon]'
    python tests/fuzz/fuzz_decode.py -max_len=4096 -max_total_time=600 corpus/

The first bytes of an input choose the topic's kind and the headers, the rest is the value. A finding is the
input that atheris leaves as `crash-…`; run the script with that file as its only argument to see it again.
"""

from __future__ import annotations

import sys

from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord
from streamd.model import Envelope

# Small, so that a bomb is found for what it is before the fuzzer calls it slow.
LIMITS = Limits(decoded_bytes=1 << 20, cells=1 << 20, containers=1 << 16)

CONTENT_TYPES = (
    None,
    b"application/json",
    b"application/vnd.apache.arrow.stream",
    b"application/cloudevents+json",
    b"application/x-ndjson",
)
ENCODINGS = (None, b"gzip", b"zstd")
ROLES = (None, b"reference", b"ack", b"reset", b"end")


def check(data: bytes) -> None:
    """Decode `data` as a record; let anything but InvalidRecord through."""
    choice, rest = (*data[:4], 0, 0, 0, 0)[:4], data[4:]
    headers = (
        ("content-type", CONTENT_TYPES[choice[0] % len(CONTENT_TYPES)]),
        ("content-encoding", ENCODINGS[choice[1] % len(ENCODINGS)]),
        ("streamd-role", ROLES[choice[2] % len(ROLES)]),
        ("streamd-part", rest[:3] if choice[2] & 64 else None),
    )
    key = rest[:8] if choice[3] & 2 else b"key"
    envelope = Envelope("fuzz", 0, 0, 1_763_769_600_123, key, rest, headers)
    try:
        decode(envelope, LIMITS, "telemetry" if choice[3] & 1 else "features")
    except InvalidRecord:
        return


def main() -> None:
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
