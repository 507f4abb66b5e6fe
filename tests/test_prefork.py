"""Servers that are made before a fork, and what is handed on, or left alone, by a fork on purpose."""

import functools
import os
import signal
from typing import Any

import pytest

from conftest import PATIENCE, Peer, until
from program_support import Program, can_bind, is_alive, is_dead
from test_fork import ACTS, ALL, FRONTS, RUN, source_of, start

__all__ = ["start"]


PREFORK = """
os.set_blocking(0, True)
for number in range(3):
    child = os.fork()
    if not child:
        run()
        signal.pause()
    say("child", child)
say("port", port)
"""


@pytest.mark.parametrize("front", ALL)
def test_a_server_made_before_a_fork_serves_in_each_child(start: Any, front: str) -> None:
    source = source_of(front).replace(RUN, PREFORK + "signal.pause()")
    program = Program(source)
    try:
        children = {str(child) for child in program.children(3)}
        program.wait_for("port ")
        # Whichever answers first is killed, which takes nothing from the others.
        while children:
            with program.connect() as peer:
                answered = peer.get("/").response()[1].decode()
                assert peer.get("/").response()[1] == answered.encode()
            children.remove(answered)
            os.kill(int(answered), signal.SIGKILL)
            until(functools.partial(is_dead, int(answered)), "it has ended")
    finally:
        program.stop()


def test_a_unix_socket_is_removed_by_the_process_that_made_it_alone(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    program = Program(
        f"""
server = hangup.WSGIServer(lambda *_: [], uds={path!r}, access_log="off")
child = os.fork()
if not child:
    server.start()
    server.close()
    os._exit(0)
os.waitpid(child, 0)
say("there", os.path.exists({path!r}))
server.close()
say("there", os.path.exists({path!r}))
"""
    )
    try:
        assert program.wait_for("there (.*)", 2) == ["True", "False"]
    finally:
        program.stop()


def test_a_listener_that_is_inheritable_is_handed_on(start: Any) -> None:
    more = """
def OWN(client):
    server.socket.set_inheritable(True)
    child = os.fork()
    if not child:
        os._exit(server.socket.fileno())
    return b"%d %d" % (server.socket.fileno(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    first, second = start("wsgi", more).get("/own").split()
    assert first == second


def test_under_gunicorn_children_hold_on_to_nothing(gunicorn: Any) -> None:
    app = (
        f"from program_support import HEAD\nexec(HEAD)\n{ACTS}" + FRONTS["wsgi"].partition("server =")[0]
    )
    program = gunicorn(app=app, PYTHONPATH=os.path.dirname(__file__)).ready()
    (worker,) = program.wait_for(r"Booting worker with pid: (\d+)")
    with Peer(program.address) as other, Peer(program.address) as peer:
        assert other.get("/").response()[1] == worker.encode()
        for how, status in (("exit", "3"), ("_exit", "4"), ("raise", "1")):
            assert program.get(f"/status/{how}")[1] == f"status {status}"
        # It says "child" on a stdout that nobody reads: found as the worker's only child.
        peer.get("/fork/live", "Connection: close")
        assert peer.read_to_end().endswith(worker.encode())
        (child,) = map(int, find(worker))
        try:
            program.process.send_signal(signal.SIGTERM)
            assert program.process.wait(2 * PATIENCE) == 0
            assert other.sock.recv(1) == b""
            assert is_alive(child)
            until(lambda: can_bind(program.address), "the port is free")
        finally:
            os.kill(child, signal.SIGKILL)


def find(parent: str) -> list[str]:
    """The children of any of a process's threads."""
    found: list[str] = []
    for thread in os.listdir(f"/proc/{parent}/task"):
        with open(f"/proc/{parent}/task/{thread}/children") as file:
            found += file.read().split()
    return found
