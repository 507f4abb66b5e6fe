"""The client of one request, as the code that works for it sees it.

A :class:`Client` lasts as long as its request.  It is made when somebody asks for it, which few
requests do, and told of a departure by whichever thread notices.
"""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..exceptions import ClientDisconnected
from .callbacks import Callbacks, Registration
from .interrupt import Interruption
from .peer import ClientState, DisconnectReason, Peer

__all__ = ["Client", "current_client", "raise_if_disconnected", "sleep"]


class Client:
    """The client of the request that is being handled.

    All of it may be used by any thread, and copied contexts carry it into threads that a handler
    starts.  When its request has ended it stays as it was then; it never tells of the next request
    on the same connection.

    ``lock`` guards all that is written here, and the client's registrations and interruptions.
    ``disconnected_at`` is written last, so that whoever finds it set, without the lock, finds state
    and reason.
    """

    __slots__ = (
        "_callbacks",
        "_registrations",
        "_waiters",
        "address",
        "disconnected_at",
        "ended",
        "interruptions",
        "lock",
        "reason",
        "state",
    )

    def __init__(self, address: Any, callbacks: Callbacks | None = None) -> None:
        #: As :meth:`socket.socket.accept` gives it.
        self.address = address
        #: What is known of it, a :class:`ClientState`.
        self.state = ClientState.OPEN
        #: How its state was reached, a :class:`DisconnectReason`; None while it is OPEN.
        self.reason: DisconnectReason | None = None
        #: When it left, on the clock of :func:`time.monotonic`; None while it has not.
        self.disconnected_at: float | None = None
        #: Whether the request has ended.
        self.ended = False
        self.interruptions: list[Interruption] = []
        self._callbacks = callbacks
        # In the order of registration; a dict, so that one in the middle can go cheaply.
        self._registrations: dict[Registration, None] = {}
        self._waiters: list[threading.Lock] = []
        # Last: while a blank client is being made, another thread may come upon it. It asks for the lock
        # first, which sends it to wait until all of it is there; with the lock in its hand it would wait
        # for the one that makes the client, who may need the lock.
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Client {self.address!r} {self.state.value}>"

    @property
    def disconnected(self) -> bool:
        """Whether the client has left.

        True from EOF on, when it has closed at least its sending side; with ``half_close="ignore"``
        from GONE on.
        """
        return self.disconnected_at is not None

    def raise_if_disconnected(self) -> None:
        """Raise :exc:`~hangup.ClientDisconnected` if the client has left."""
        if self.disconnected_at is not None:
            raise ClientDisconnected

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the client leaves, for ``timeout`` seconds at the most; None: no limit.

        Returns True the moment it leaves, or at once if it has left.  Returns False when the time is
        over, or when the request ends meanwhile (in a thread that outlives it).
        """
        if self.disconnected_at is None:
            waiter = threading.Lock()
            waiter.acquire()
            with self.lock:
                if self.disconnected_at is not None or self.ended:
                    return self.disconnected_at is not None
                self._waiters.append(waiter)
            if not waiter.acquire(timeout=_acquire_timeout(timeout)):
                with self.lock:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)
        return self.disconnected_at is not None

    def on_disconnect(self, callback: Callable[..., object], *args: Any) -> Registration:
        """Have ``callback(*args)`` called when the client leaves; at once, if it has left.

        For a ``with`` statement: the callback is registered for as long as the block runs, and the
        block's end waits for one that is running.  Without ``with`` it is registered until the
        request ends, or ``unregister()`` is called on what this returns.

        Each callback is called exactly once, in a thread of its own, in a copy of this context.  What
        it raises is logged.

        Raises :exc:`TypeError` if ``callback`` can't be called.
        """
        registration = Registration(self, callback, args)
        with self.lock:
            for interruption in self.interruptions:
                if interruption.shield_locked():
                    registration.shielded = interruption
        # Nothing breaks in from here on, neither into this nor into starting a thread.
        if self._callbacks is not None:
            self._callbacks.prepare()
        with self.lock:
            if self.disconnected_at is None and self.ended:
                return registration
            self._registrations[registration] = None
            late = self.disconnected_at is not None and registration.fall_due_locked()
        if late and self._callbacks is not None:
            self._callbacks.start(registration.run)
        return registration

    def forget_locked(self, registration: Registration) -> None:
        """A registration is over."""
        self._registrations.pop(registration, None)

    def interrupting(self) -> Interruption:
        """Break off pure-Python work when the client leaves: for a ``with`` statement.

        :exc:`~hangup.ClientDisconnected` is raised inside the block, wherever the thread is at that
        moment, and never outside of it; at once, if the client has left.  A call into C that blocks
        is not broken off: the exception comes when it returns.  A registration of
        :meth:`on_disconnect` inside the block holds the interruption back until it is left.

        Raises :exc:`NotImplementedError` where Python is not CPython, and on CPython 3.14, which may
        leave a lock locked whose ``with`` statement an exception interrupts (CPython issue 148874).
        """
        return Interruption(self)

    # -- for the engine

    def note(self, peer: Peer) -> None:
        """The peer's state has changed.  Any thread; it does not wait."""
        with self.lock:
            if self.ended:
                return
            self.reason = peer.reason
            self.state = peer.state
            if self.disconnected_at is not None or peer.disconnected_at is None:
                return
            self.disconnected_at = peer.disconnected_at
            for waiter in self._waiters:
                waiter.release()
            self._waiters.clear()
            due = [one for one in self._registrations if one.fall_due_locked()]
            for interruption in self.interruptions:
                interruption.send_locked()
        if self._callbacks is not None:
            for registration in due:
                self._callbacks.start(registration.run)

    def after_fork(self) -> None:
        """In a forked child: the locks are nobody's, and the callbacks the parent's to run."""
        self.lock = threading.Lock()
        for registration in list(self._registrations):
            registration.end_locked()
        self._registrations.clear()
        self._waiters.clear()

    def end(self) -> None:
        """The request has ended; waits for its callbacks that are running."""
        with self.lock:
            self.ended = True
            for waiter in self._waiters:
                waiter.release()
            self._waiters.clear()
            for interruption in self.interruptions:
                interruption.end_locked()
            registrations = list(self._registrations)
        for registration in registrations:
            registration.unregister()


class BlankClient(Client):
    """A client that nobody has asked anything yet.

    WSGI puts one into each environ, and few applications look at it.  It has no state until somebody
    reads a part of it: then ``request`` makes it the request's client, which from then on it is.
    """

    __slots__ = ("_request",)

    def __init__(self, request: "_MakesClient") -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        # Called for a part that is not there yet. That it is blank shows when it is asked for its lock,
        # and the making takes a lock of its own: two threads may come here at once.
        if name not in Client.__slots__:
            raise AttributeError(f"a client has no {name!r}")
        made = self._request.make_client(self)
        if made is not self:
            # The request had ended before, and another client was made for it since.
            for part in Client.__slots__:
                setattr(self, part, getattr(made, part))
        return getattr(self, name)


def _acquire_timeout(timeout: float | None) -> float:
    """A time-out as locks have it."""
    if timeout is None or timeout >= threading.TIMEOUT_MAX:
        return -1
    return max(0.0, timeout)


class _HasClient(Protocol):
    @property
    def client(self) -> Client:
        """The request's client."""


class _MakesClient(Protocol):
    def make_client(self, blank: Client | None) -> Client:
        """The request's client, made of a blank one unless it is made already."""


_TRACEBACK_NAMES = f"{ClientDisconnected.__module__}.{ClientDisconnected.__qualname__}"
_current: contextvars.ContextVar[_HasClient] = contextvars.ContextVar("hangup request")
#: Make an exchange the current one.
set_current = _current.set


def find_request() -> Any:
    """The request that this code works for, or None outside of one."""
    return _current.get(None)


def reports_disconnect(text: str) -> bool:
    """Whether a text that is about to be logged is the traceback of the current request's disconnect.

    A framework reports each exception that an application lets out, also that its client has left.
    """
    request = find_request() if _TRACEBACK_NAMES in text else None
    return request is not None and request.client_has_left


def find_client() -> Client | None:
    """The client of the request that this code works for, or None outside of one."""
    request = _current.get(None)
    return None if request is None else request.client


def current_client() -> Client:
    """The client of the request that this code works for.

    In a handler, and in threads that run in a copy of its context
    (``Thread(target=contextvars.copy_context().run, args=(work,))``).

    Raises :exc:`LookupError` outside of a request that hangup handles.
    """
    client = find_client()
    if client is None:
        raise LookupError("there is no current client: hangup handles no request here")
    return client


def raise_if_disconnected() -> None:
    """Raise :exc:`~hangup.ClientDisconnected` if the current request's client has left.

    Outside of a request it does nothing, so that library code can call it anywhere.
    """
    client = find_client()
    if client is not None:
        client.raise_if_disconnected()


def sleep(seconds: float) -> None:
    """:func:`time.sleep`, broken off when the current request's client leaves.

    Raises :exc:`~hangup.ClientDisconnected` the moment that it leaves, or at once if it has left.
    Outside of a request, and after its end, it sleeps as :func:`time.sleep` does.
    """
    client = find_client()
    if client is None or not seconds >= 0:  # which time.sleep refuses
        time.sleep(seconds)
        return
    deadline = time.monotonic() + seconds
    if client.wait(seconds):
        raise ClientDisconnected
    if (left := deadline - time.monotonic()) > 0:
        time.sleep(left)  # The request has ended, and with it what could break this off.
