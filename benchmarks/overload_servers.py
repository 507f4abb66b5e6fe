"""The servers that ``overload.py`` measures, and under which storms."""

import functools
import importlib.metadata
import sys
from dataclasses import dataclass

import wsgi_servers
from wsgi_servers import Server

APP = "overload_app:app"
THREADS = 8
#: How many times the server's capacity arrives.
OVERLOAD = 2


@dataclass(frozen=True, slots=True)
class Load:
    """A storm: how long each handler sleeps, and whom it is for (none: all)."""

    sleep: float
    only: tuple[str, ...] = ()

    @property
    def capacity(self) -> float:
        """Answers a second that the threads can give."""
        return THREADS / self.sleep

    @property
    def rate(self) -> int:
        """Arrivals a second."""
        return round(OVERLOAD * self.capacity)


LOADS = (Load(0.1), Load(0.4, ("hangup", "gunicorn-40", "waitress-40", "cheroot-40")))

# What a server with a queue in order needs lest it serve only the departed. It is right for one load: 40
# requests of 0.1 s wait for half a second, which is in time, and of 0.4 s for two.
GUNICORN_40 = ("--worker-connections", "40", "--backlog", "8")
WAITRESS_40 = ("connection_limit=42", "backlog=8")
CHEROOT_40 = ("accepted_queue_size=40", "accepted_queue_timeout=0")


def gunicorns() -> list[Server]:
    """The worker of hangup's, in the gunicorn that is installed beside it; none if there is none."""
    try:
        version = importlib.metadata.version("gunicorn")
    except importlib.metadata.PackageNotFoundError:
        return []
    command = functools.partial(
        wsgi_servers.gunicorn, app=APP, python=sys.executable, worker="hangup.gunicorn.Worker"
    )
    title = "hangup.gunicorn.Worker"
    return [Server("hangup-gunicorn", title, "hangup", command, f"1 worker, in gunicorn {version}")]


gunicorn = functools.partial(wsgi_servers.gunicorn, app=APP)
gunicorn_40 = functools.partial(wsgi_servers.gunicorn, app=APP, settings=GUNICORN_40)
waitress = wsgi_servers.from_code("waitress", app=APP)
waitress_40 = wsgi_servers.from_code("waitress", app=APP, settings=WAITRESS_40)
cheroot = wsgi_servers.from_code("cheroot", app=APP)
cheroot_40 = wsgi_servers.from_code("cheroot", app=APP, settings=CHEROOT_40)
granian = functools.partial(wsgi_servers.granian, app=APP)

ALL = (
    Server("hangup", "hangup", "hangup", functools.partial(wsgi_servers.hangup, app=APP)),
    *gunicorns(),
    Server("gunicorn", "gunicorn gthread", "gunicorn", gunicorn, "1 worker"),
    Server("waitress", "waitress", "waitress", waitress),
    Server("cheroot", "cheroot", "cheroot", cheroot, "1,024 connections in its backlog, instead of 5"),
    Server(
        "granian",
        "granian",
        "granian",
        granian,
        "1 worker; it takes no backlog below 128, too many to be bounded here",
    ),
    Server(
        "gunicorn-40",
        "bounded gunicorn gthread",
        "gunicorn",
        gunicorn_40,
        f"1 worker, `{' '.join(GUNICORN_40)}`",
    ),
    Server("waitress-40", "bounded waitress", "waitress", waitress_40, f"`{', '.join(WAITRESS_40)}`"),
    Server("cheroot-40", "bounded cheroot", "cheroot", cheroot_40, f"`{', '.join(CHEROOT_40)}`"),
)
