"""The WSGI application that every server of ``overload.py`` serves: ``/storm?0.1`` sleeps 0.1 s.

It counts the storm's requests that it has begun, and tells the number on ``/count``.
"""

import time
from collections.abc import Callable
from typing import Any

BODY = b"done"
#: The storm's path, which is counted, and that of the client after it, which is the same work.
STORM, HEALTHY, COUNT = "/storm", "/healthy", "/count"

#: When each began. To append is atomic, so the handlers' threads need no lock.
_begun: list[float] = []


def app(environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], Any]) -> list[bytes]:
    if environ["PATH_INFO"] == COUNT:
        body = str(len(_begun)).encode()
    else:
        if environ["PATH_INFO"] == STORM:
            _begun.append(time.monotonic())
        time.sleep(float(environ["QUERY_STRING"]))
        body = BODY
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
