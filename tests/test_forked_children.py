"""What a forked child may do: it waits for no lock of its parent's, and ends no connection."""

import functools
import os
import signal
import sys
from typing import Any

import pytest

from conftest import Certificates, Peer, until
from program_support import Program, is_dead
from test_fork import ACTS, FRONTS, forked, source_of, start
from tls_support import TLSPeer

__all__ = ["start"]


LOCKED = """
import logging
logging.basicConfig()
from hangup._connection import exchange as _exchange
from hangup._disconnect import interrupt as _interrupt
from hangup._disconnect import peer as _peer
def OWN(client):
    engine = server.engine if hasattr(server, "engine") else server._engine
    with client.on_disconnect(print):
        loop, workers, callbacks = engine.loop, engine.workers, engine._callbacks
        locks = [loop.lock, workers._lock, callbacks._lock, client.lock]
        locks += [_exchange._making, _peer._noting]
        holding, done = threading.Event(), threading.Event()
        def hold():
            for lock in locks: lock.acquire()
            holding.set()
            done.wait()
            for lock in locks: lock.release()
        thread = threading.Thread(target=hold)
        thread.start()
        holding.wait()
        child = os.fork()
        if child:
            done.set()
        else:
            signal.alarm(10)
            logging.getLogger("hangup").error("from the child")
            assert not client.wait(0.01) and not client.disconnected
            with client.on_disconnect(print):
                hangup.sleep(0.01)
            hangup.raise_if_disconnected()
            if not _interrupt.refusal():
                with client.interrupting():
                    pass
    if not child:
        threading.Thread(target=print).start()
        client.on_disconnect(print).unregister()
        sys.exit(5)
    status = os.waitpid(child, 0)[1]
    thread.join()
    return b"%d" % os.waitstatus_to_exitcode(status)
"""


@pytest.mark.parametrize("front", ["wsgi", "own", "stock"])
def test_a_child_waits_for_no_lock_that_another_thread_held(start: Any, front: str) -> None:
    # The front end's own use of the locks is over when it forks; no thread waits for one meanwhile.
    program = start(front, LOCKED)
    assert program.get("/own") == "5", program.said
    program.wait_for("ERROR:hangup:from the child|from the child")


RUNNING = """
def OWN(client):
    began, end = threading.Event(), threading.Event()
    def callback():
        began.set()
        end.wait()
    with client.on_disconnect(callback):
        say("registered")
        began.wait()
        child = os.fork()
        if not child:
            signal.alarm(10)
        else:
            end.set()
    if not child:
        os._exit(6)
    say("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return b""
"""


def test_a_child_waits_for_no_callback_that_its_parent_runs(start: Any) -> None:
    program = start("wsgi", RUNNING)
    peer = program.connect().get("/own")
    program.wait_for("registered")
    peer.fin()
    program.wait_for("ended with 6")


def test_a_child_that_closes_its_sockets_closes_its_own(start: Any) -> None:
    more = """
import gc
def OWN(client):
    child = os.fork()
    if not child:
        for one in gc.get_objects():
            if type(one) is hangup._connection.streams.ClientSocket: one.close()
        server.socket.close()
        os._exit(0)
    os.waitpid(child, 0)
    return b"whole"
"""
    program = start("own", more)
    with program.connect() as peer:
        assert peer.get("/own").response()[1] == b"whole"
        assert peer.get("/").response()[1] == b"%d" % program.process.pid


def test_a_child_of_hangup_serve_is_ended_by_a_signal(tmp_path: Any) -> None:
    (tmp_path / "forking.py").write_text(
        "from program_support import HEAD\nexec(HEAD)\n" + ACTS + FRONTS["wsgi"].partition("server =")[0]
    )
    here = os.path.dirname(__file__)
    program = Program(
        "", sys.executable, "-m", "hangup", "serve", "--port", "0", "--access-log", "off",
        "--app-dir", str(tmp_path), "forking:app", PYTHONPATH=here,
    )  # fmt: skip
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            child = forked(program)
            program.wait_for(f"lives {child}")  # A signal in the middle of a fork is lost.
            os.kill(child, number)
            until(functools.partial(is_dead, child), "it has ended")
        with Peer(program.address) as peer:
            sent = peer.get("/status/exit", "Connection: close").read_to_end()
            assert sent.endswith(b"status 3")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    finally:
        program.stop()


RETURNS = """
def OWN(client):
    child = os.fork()
    if child:
        return b"status %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_over_tls_a_child_that_returns_says_no_goodbye_for_its_parent(
    certificate: Certificates,
) -> None:
    cert = certificate.ecdsa
    source = source_of("own", RETURNS, repr({"certfile": cert.cert, "keyfile": cert.key}))
    program = Program(source.replace("hangup.ThreadingHTTPServer((", "hangup.ThreadingHTTPSServer(("))
    try:
        with TLSPeer(program.address) as peer:
            assert peer.get("/own").response()[1] == b"status 0"
            assert peer.get("/").response()[1] == b"%d" % program.process.pid
    finally:
        program.stop()
