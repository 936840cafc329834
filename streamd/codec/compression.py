"""Undo `content-encoding`, and stop a bomb at the limit."""

from __future__ import annotations

import zlib

from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason

_GZIP_WINDOW = 31  # zlib's code for: a gzip header, the largest window

# Memory that a frame may demand before its first byte: what RFC 8878 (3.1.1.1.2) wants every decoder to grant.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024


def decompress(value: bytes, encoding: str, limits: Limits) -> bytes:
    """The decoded value.

    Raises:
        InvalidRecord: BAD_ENCODING where the encoding is unknown, or the bytes are broken or cut short;
            TOO_LARGE where more than `limits.decoded_bytes` come out (no more than that is ever held).
    """
    if encoding in ("", "identity"):
        decoded = value
        if len(decoded) > limits.decoded_bytes:
            raise _too_large(limits)
    elif encoding in ("gzip", "x-gzip"):
        decoded = _gunzip(value, limits)
    elif encoding == "zstd":
        decoded = _unzstd(value, limits)
    else:
        raise InvalidRecord(
            Reason.BAD_ENCODING, f"content-encoding {encoding[:40]!r} is not known here: send gzip, zstd or none"
        )
    return decoded


def _gunzip(value: bytes, limits: Limits) -> bytes:
    parts: list[bytes] = []
    room = limits.decoded_bytes + 1
    rest = value
    # A gzip file may be several members, one after another.
    while rest and room > 0:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            parts.append(member.decompress(rest, room))
        except zlib.error as error:
            raise InvalidRecord(Reason.BAD_ENCODING, f"the value is not gzip as its header says: {error}") from None
        room -= len(parts[-1])
        if room > 0 and not member.eof:
            raise InvalidRecord(Reason.BAD_ENCODING, "the gzip value is cut short")
        rest = member.unused_data
    if room <= 0:
        raise _too_large(limits)
    return b"".join(parts)


def _unzstd(value: bytes, limits: Limits) -> bytes:
    import zstandard  # few records need it

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    try:
        size = zstandard.frame_content_size(value)
        if size > limits.decoded_bytes:
            raise _too_large(limits)
        if size >= 0:
            return decompressor.decompress(value, allow_extra_data=False)
        # The frame does not say how much it holds: count first, within bounds, then decode it whole.
        with decompressor.stream_reader(value) as reader:
            if len(reader.read(limits.decoded_bytes + 1)) > limits.decoded_bytes:
                raise _too_large(limits)
        frame = decompressor.decompressobj()
        decoded = frame.decompress(value)
    except zstandard.ZstdError as error:
        raise InvalidRecord(Reason.BAD_ENCODING, f"the value is not zstd as its header says: {error}") from None
    if not frame.eof or frame.unused_data:
        raise InvalidRecord(Reason.BAD_ENCODING, "the zstd value is cut short, or is more than one frame")
    return decoded


def _too_large(limits: Limits) -> InvalidRecord:
    return InvalidRecord(
        Reason.TOO_LARGE, f"the value is over {limits.decoded_bytes} bytes when decoded: send smaller batches"
    )
