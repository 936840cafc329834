"""Asks another process of ours over HTTP, without holding a thread while it answers.

HTTP/1.0, so that the answer ends where the connection does: what comes for hours (server-sent events) is passed on
as it comes, and nothing has to be taken apart.
"""

from __future__ import annotations

import asyncio
import http.client
import io
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit

_CHUNK_BYTES = 65536
_HOP_BY_HOP = ("connection", "date", "server", "transfer-encoding", "keep-alive")


class Answer:
    """Status and headers of an answer, and its body as it comes. Read it to its end, or `close` it.

    Attributes:
        status: the code.
        headers: by lower-case name, without those that are between two ends of one connection.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader
        self._writer = writer

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._reader.read(_CHUNK_BYTES):
                yield chunk
        finally:
            self.close()

    async def body(self) -> bytes:
        """All of it. Raises ConnectionError where it is cut off."""
        whole = b"".join([chunk async for chunk in self.chunks()])
        if len(whole) != int(self.headers.get("content-length", len(whole))):
            raise ConnectionError("the answer is cut off")
        return whole

    def close(self) -> None:
        self._writer.close()


async def ask(url: str, target: str, headers: Mapping[str, str]) -> Answer:
    """GET `target` (path and query, quoted) of the server at `url`, up to the headers of its answer.

    Raises:
        ConnectionError: nobody listens there, or it is no HTTP.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        lines = [f"GET {target} HTTP/1.0", f"Host: {address.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
        assert not any("\n" in line or "\r" in line for line in lines), lines
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
        status_line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        status = int(status_line.split()[1])
        found = http.client.parse_headers(io.BytesIO(rest))
    except (EOFError, ValueError, IndexError, http.client.HTTPException, asyncio.LimitOverrunError) as error:
        writer.close()
        raise ConnectionError(f"no answer in HTTP: {error}") from error
    except BaseException:  # a time-out cancels this
        writer.close()
        raise
    kept = {name.lower(): value for name, value in found.items() if name.lower() not in _HOP_BY_HOP}
    return Answer(status, kept, reader, writer)


async def fetch(url: str | None, target: str, headers: Mapping[str, str], seconds: float) -> tuple[int, bytes] | None:
    """Status and body; None: there is no whole answer within `seconds`."""
    if url is None:
        return None
    try:
        async with asyncio.timeout(seconds):
            answer = await ask(url, target, headers)
            return answer.status, await answer.body()
    except (OSError, TimeoutError):
        return None
