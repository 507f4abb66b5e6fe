"""A thread that waits for the next request of one connection, instead of giving it back.

So do the threads of connections that one thread keeps as long as they last, and handlers with a loop of
their own.
"""

import socket
from time import monotonic

from .._disconnect.peer import ClientState
from ..records import Outcome
from .arrival import Arrival, has_begun
from .delivery import Delivery
from .transport import Transport

__all__ = ["stop_waiting", "wait_for_request"]


def wait_for_request(
    arrival: Arrival, delivery: Delivery, transport: Transport, idle_timeout: float
) -> bool:
    """Block until a request is at hand; False if the client left, or was idle for ``idle_timeout`` s."""
    link, parser = transport.link, arrival.parser
    deadline = monotonic() + idle_timeout
    begun = False
    loop = link.loop
    if loop.forked:
        return False  # The next request is the parent's.
    loop.waiting[link] = None  # Before the look at `draining`, see EventLoop.drain.
    try:
        while True:
            # Before the look, not after it: a request may have come, and a FIN behind it.
            had_left = link.peer.state is not ClientState.OPEN
            link.drained = False
            if arrival.advance():
                return True
            if had_left or not link.keep_open or loop.draining:
                break
            if not begun and has_begun(parser.buffer):
                begun, deadline = True, monotonic() + link.config.request_header_timeout
            left = max(0.0, deadline - monotonic())
            open_still = link.peer.state is ClientState.OPEN
            if open_still and not transport.wait_readable(left):
                _time_out(arrival, delivery, transport)
                break
    finally:
        with loop.lock:
            del loop.waiting[link]
    if link.peer.state is not ClientState.OPEN:
        delivery.tell_unfinished(arrival.unfinished())
    return False


def _time_out(arrival: Arrival, delivery: Delivery, transport: Transport) -> None:
    """408 for a request that has begun to come, and did not come whole in time."""
    exchange = arrival.unfinished()
    if exchange is not None:
        transport.link.keep_open = False
        delivery.respond_at_once(transport, exchange, Outcome.TIMED_OUT, 408, "Request Timeout")


def stop_waiting(transport: Transport) -> None:
    """Have a thread that is in :func:`wait_for_request` return, unless a request comes.

    Any thread.  With ``loop.lock``, as the thread may be done with waiting just now, and this would end
    what it reads next.
    """
    link = transport.link
    with link.loop.lock:
        if link not in link.loop.waiting or transport.has_news():
            return
        try:
            # Only its waiting side: what it has sent is not touched.
            socket.socket.shutdown(link.sock, socket.SHUT_RD)
        except OSError:
            pass  # It is closed already.
