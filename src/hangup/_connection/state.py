"""The states of a connection, and who may change it from one to the next: one table.

A connection has one owner at a time, which alone reads, sends and changes it.  Its state says who that
is.  :data:`TRANSITIONS` has every edge, with the thread that takes it and the lock that is held; the
table in docs/architecture.md is made from it (``tests/test_state.py``).  Where the event loop closes an
idle connection by itself, it takes the worker's part: it makes it HANDLED, and goes on from there.
"""

import enum
from typing import NamedTuple

__all__ = ["OWNERS", "TRANSITIONS", "State", "Transition"]


class State(enum.Enum):
    """Who owns a connection, and what for."""

    IDLE = "between requests, or receiving one"
    HANDLED = "a thread handles its request, a step of its handshake, or its end"
    SENDING = "the event loop sends the end of a response"
    LINGERING = "answered and closed on this side; what comes is read and dropped"
    ENDING = "waits for a worker to close it"
    CLOSED = "closed"


#: The thread that owns a connection in each state.
OWNERS = {
    State.IDLE: "event loop",
    State.HANDLED: "worker",
    State.SENDING: "event loop",
    State.LINGERING: "event loop",
    State.ENDING: "event loop",
    State.CLOSED: "nobody",
}


class Transition(NamedTuple):
    """One edge: its owner takes it, so that a lock is needed where another thread looks at the state."""

    source: State
    target: State
    thread: str
    lock: str
    event: str


_LOOP = "event loop"
_WORKER = "worker"
_LOCK = "loop.lock"

TRANSITIONS = (
    Transition(State.IDLE, State.HANDLED, _LOOP, "", "a request is ready, or bytes of a handshake"),
    Transition(State.IDLE, State.ENDING, _LOOP, "", "it ends, which runs code of the program's"),
    Transition(State.IDLE, State.CLOSED, _LOOP, _LOCK, "it ends"),
    Transition(State.HANDLED, State.IDLE, _WORKER, _LOCK, "the response is sent"),
    Transition(State.HANDLED, State.SENDING, _WORKER, _LOCK, "the socket takes no more of the response"),
    Transition(State.HANDLED, State.LINGERING, _WORKER, _LOCK, "no request follows, bytes may be left"),
    Transition(State.HANDLED, State.CLOSED, _WORKER, _LOCK, "no request follows"),
    Transition(State.SENDING, State.HANDLED, _LOOP, "", "all is sent: it goes on as behind any"),
    Transition(State.SENDING, State.ENDING, _LOOP, "", "the client is gone, or reads too slowly"),
    Transition(State.SENDING, State.CLOSED, _LOOP, _LOCK, "the client is gone, or reads too slowly"),
    Transition(State.LINGERING, State.ENDING, _LOOP, "", "the client has closed, or time is over"),
    Transition(State.LINGERING, State.CLOSED, _LOOP, _LOCK, "the client has closed, or time is over"),
    Transition(State.ENDING, State.HANDLED, _LOOP, "", "a worker takes it up, to close it"),
    Transition(State.ENDING, State.CLOSED, _LOOP, _LOCK, "the server ends"),
)
