"""From an order to a run: the server is found or started, probed, and stopped."""

import datetime as dt
import shlex
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .exceptions import ProbeError
from .log import Log
from .paths import NEEDED, Paths
from .points import Manner, Point
from .preflight import look
from .prober import Prober
from .results import Run
from .subject import PORT, Command, Subject, wait_for_command
from .target import PATHS
from .trial import Setting
from .visitor import Broken, Place, Visitor

__all__ = ["Order", "probe"]

_HERE = "127.0.0.1"
_NOT_YET = {502, 503}


@dataclass(slots=True)
class Order:
    """What is to be probed, and how.

    ``url`` or ``command`` says where, or both: then the command is reached by the URL, in which its port
    is filled in, too.  ``paths`` are by their use; ``ready_made``: the server serves the target.
    """

    url: str | None
    command: list[str] | None
    pairs: list[tuple[Point, Manner]]
    paths: dict[str, str] = field(default_factory=dict)
    ready_made: bool = False
    title: str | None = None
    repeat: int = 3
    patience: float = 3.0
    start_timeout: float = 20.0
    logs: list[str] = field(default_factory=list)
    version: str = ""


def probe(order: Order, screen: Callable[[str], AbstractContextManager[Any]]) -> Run:
    """Probe a server, from its start to its end.

    ``screen(title)`` gives what is told of each cell, by its ``started`` and ``finished``, while the run
    lasts.  Raises :exc:`ProbeError` for what can't be probed.
    """
    port = _free_port() if order.command is not None else 0
    place, path = _place(order, port)
    paths = Paths(_paths(order, path))
    log = Log(order.logs)
    subject = Subject()
    try:
        setting = Setting(place, paths, log, subject, order.repeat, order.patience, order.ready_made)
        if order.command is not None:
            command = setting.subject = subject = Command(order.command, port, log)
            command.start()
            wait_for_command(command, lambda: _answers(place), order.start_timeout)
        return _run(order, setting, screen)
    finally:
        subject.stop()
        log.close()


def _run(order: Order, setting: Setting, screen: Callable[[str], AbstractContextManager[Any]]) -> Run:
    target = _target(order)
    run = Run(
        title=order.title or target,
        target=target,
        began=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        repeat=order.repeat,
        paths=dict(setting.paths.named),
        version=order.version,
    )
    began = time.monotonic()
    skipped, run.notes = look(setting)
    if not setting.log.readable:
        run.notes.append("The server's log was not seen: give its command behind --, or --log FILE.")
    if setting.subject.usage() is None:
        run.notes.append(
            "Its descriptors and threads were not seen: for that, give its command behind --."
        )
    prober = Prober(setting, skipped)
    with screen(run.title) as showing:
        run.cells = prober.run(order.pairs, showing.started, showing.finished)
    run.seconds = round(time.monotonic() - began, 1)
    return run


def _target(order: Order) -> str:
    if order.command is None:
        return order.url or ""
    return shlex.join("python" if word == sys.executable else word for word in order.command)


def _place(order: Order, port: int) -> tuple[Place, str]:
    """Where to ask, and the plain path."""
    command, text = order.command, order.url or f"http://{_HERE}:{PORT}/"
    if command is not None and PORT in text and not any(PORT in word for word in command):
        raise ProbeError(f"the command has no {PORT}: say where its port belongs")
    text = text.replace(PORT, str(port))
    if "://" not in text:
        raise ProbeError(f"{text} is no URL: it begins with http:// or https:// (a command: behind --)")
    try:
        url = urlsplit(text)
        number = url.port or (443 if url.scheme == "https" else 80)
    except ValueError as error:
        raise ProbeError(f"{text} is no URL: {error}") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ProbeError(f"{text} is no URL: it begins with http:// or https://, and names a host")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    address = _address(url.hostname, number)
    return Place(address, number, url.scheme == "https", url.hostname), path


def _address(host: str, port: int) -> str:
    """An address of the host's, one that answers if there is any."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProbeError(f"{host} is not known: {reason}") from None
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        try:
            socket.create_connection((address, port), 1.0).close()
        except OSError:
            continue
        return address
    # A command is still to be started: it will most likely listen where everybody does.
    return _HERE if _HERE in addresses else addresses[0]


def _paths(order: Order, plain: str) -> dict[str, str]:
    paths = {**(PATHS if order.ready_made else {}), **order.paths}
    paths["plain"] = plain
    for use, path in paths.items():
        if not path.startswith("/") or not path.isascii() or any(letter <= " " for letter in path):
            raise ProbeError(f"{NEEDED[use]} {path}: a path begins with a slash, and has no spaces")
    return paths


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((_HERE, 0))
        return int(sock.getsockname()[1])


def _answers(place: Place) -> bool:
    """Whether a server is there and speaks; not a proxy whose own server is still to come."""
    with Visitor(place, 1.0) as visitor:
        try:
            visitor.connect()
            visitor.send(visitor.head("GET", "/", "Connection: close"))
            return visitor.read_head().status not in _NOT_YET
        except (OSError, Broken):
            return False
