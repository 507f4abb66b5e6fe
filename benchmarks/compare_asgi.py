"""The probe's target as an ASGI application: the same paths, and the same events.

It is told by ``http.disconnect``, and then stops, as a good ASGI program does: what it would send then
goes nowhere, and raises nothing.
"""

import asyncio
import json
import os
import time
from typing import Any
from urllib.parse import parse_qs

WORK = 0.6
LARGE = bytes(16 * 1024 * 1024)
BLOCKS, EACH = 30, 0.05
BLOCK = b"data: " + b"x" * 1000 + b"\n\n"


class Request:
    """One request, what is told of it, and whether its client is still there."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        self.path = scope["path"]
        self._about = {"path": self.path, "mark": query.get("probe", [""])[0]}
        self._receive, self._send = receive, send
        self._gone: asyncio.Task[None] | None = None
        self.tell("began")

    def tell(self, event: str, **more: Any) -> None:
        about = {"event": event, "at": time.time(), **self._about, **more}
        os.write(2, f"hangup-probe {json.dumps(about)}\n".encode())

    async def read(self) -> int | None:
        """How many bytes the body has; None if the client left before its end."""
        total = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.tell("told")
                return None
            total += len(message.get("body", b""))
            if not message.get("more_body"):
                return total

    async def pause(self, seconds: float) -> bool:
        """Work for so long, or until the client leaves: True then.  The body has been read."""
        if self._gone is None:
            self._gone = asyncio.ensure_future(self._wait_until_gone())
        await asyncio.wait([self._gone], timeout=seconds)
        return self._gone.done()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.tell("told")

    async def start(self, status: int, *fields: tuple[bytes, bytes]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": fields})

    async def body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, status: int, data: bytes) -> None:
        length = (b"content-length", str(len(data)).encode())
        await self.start(status, (b"content-type", b"text/plain"), length)
        await self.body(data, more=False)

    def end(self, *, stopped: bool) -> None:
        if self._gone is not None:
            self._gone.cancel()
        self.tell("ended", stopped=stopped)


async def stream(request: Request) -> bool:
    """Whether it was sent to its end."""
    await request.start(200, (b"content-type", b"text/event-stream"))
    for _ in range(BLOCKS):
        if await request.pause(EACH):
            return False
        await request.body(BLOCK, more=True)
    await request.body(b"", more=False)
    return True


async def whole(request: Request) -> bool:
    """Whether the answer was made to its end."""
    size = await request.read()
    if size is None:
        return False
    match request.path:
        case "/":
            await request.answer(200, b"hello\n")
        case "/slow":
            if await request.pause(WORK):
                await request.answer(200, b"done, early\n")
                return False
            await request.answer(200, b"done\n")
        case "/large":
            await request.answer(200, LARGE)
        case "/stream":
            return await stream(request)
        case "/upload":
            await request.answer(200, b"%d bytes\n" % size)
        case _:
            await request.answer(404, b"no such path\n")
    return True


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    request = Request(scope, receive, send)
    done = False
    try:
        done = await whole(request)
    finally:
        request.end(stopped=not done)
