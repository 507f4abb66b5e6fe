"""Handlers that fork: what the child holds on to, how it ends, and what its parent notices of it."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conftest import Certificates, until
from program_support import Program, can_bind, is_alive
from tls_support import TLSPeer

#: What requests do: GET /fork/HOW forks a child that ends so, and /status/HOW waits for that.
ACTS = """
import contextvars, http.server, multiprocessing
clients = {}
def end(how):
    if how == "live":
        say("lives", os.getpid())
        while True:
            time.sleep(0.05)  # and no pause(), which a signal that comes just before it doesn't end
    elif how == "exit":
        sys.exit(3)
    elif how == "word":
        sys.exit("a last word")
    elif how == "_exit":
        os._exit(4)
    elif how == "raise":
        raise ZeroDivisionError("the child's")
    elif how == "interrupt":
        raise KeyboardInterrupt
def fork(how):
    child = os.fork()
    if child:
        say("child", child)
    else:
        end(how)
    return child
def act(path, client):
    _, kind, *how = path.split("/")
    if kind == "fork" and not fork(how[0]):
        return b"the child's"
    if kind == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=end, args=how, daemon=True)
        process.start()
        say("child", process.pid)
    if kind == "status":
        child = fork(how[0])
        if not child:
            return b"the child's"
        return b"status %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if kind == "thread":
        run = contextvars.copy_context().run if how[1] == "context" else lambda work: work()
        thread = threading.Thread(target=run, args=(lambda: fork(how[0]),))
        thread.start()
        thread.join()
    if kind == "callback":
        client.on_disconnect(fork, how[0])
        client.wait()
    if kind == "wait":
        say("waits")
        say("left", client.wait(20))
    if kind == "own":
        return OWN(client)
    return b"%d" % os.getpid()
def OWN(client):
    return b""
"""

FRONTS = {
    "wsgi": """
def app(environ, start_response):
    body = act(environ["PATH_INFO"], environ["hangup.client"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
server = hangup.WSGIServer(app, port=0, access_log="off", **OPTIONS)
port, stop = server.port, server.close
run = server.start
""",
    "own": """
class Handler(BASE):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = act(self.path, self.client)
        if body is None:
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
server = SERVER(("127.0.0.1", 0), Handler, **OPTIONS)
port = server.server_port
def stop():
    server.shutdown()
    server.server_close()
def run():
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
""",
}
HTTP = {
    "own": ("hangup.BaseHTTPRequestHandler", "hangup.ThreadingHTTPServer"),
    "stock": ("http.server.BaseHTTPRequestHandler", "hangup.ThreadingHTTPServer"),
    "serial": ("hangup.BaseHTTPRequestHandler", "hangup.HTTPServer"),
    "thread each": ("hangup.BaseHTTPRequestHandler", "Pool"),
}
POOL = """
class Pool(hangup.ThreadingHTTPServer):
    def process_request(self, *args):
        threading.Thread(target=self.process_request_thread, args=args, daemon=True).start()
"""
RUN = """
run()
say("port", port)
# Not sys.stdin, which multiprocessing's children close: its lock may be taken when they are forked.
for line in open(0, closefd=False):
    if line.strip() == "stop":
        stop()
        say("stopped")
    else:
        fork(line.strip())
"""
ALL = ["wsgi", *HTTP]


def source_of(front: str, more: str = "", options: str = "{}") -> str:
    base, server = HTTP.get(front, ("", ""))
    body = FRONTS["own" if base else front]
    body = body.replace("BASE", base).replace("SERVER", server).replace("OPTIONS", options)
    return ACTS + POOL + more + body + RUN


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start_one(front: str, more: str = "", options: str = "{}", **environment: str) -> Program:
        started.append(Program(source_of(front, more, options), **environment))
        return started[-1]

    yield start_one
    for program in started:
        program.stop()


def forked(program: Program, path: str = "/fork/live") -> int:
    """Have a handler fork; returns the child."""
    before = program.said.count("child ")
    program.get(path)
    return program.children(before + 1)[-1]


@pytest.mark.parametrize("poller", ["epoll", "poll"])
@pytest.mark.parametrize("kind", ["fork", "multiprocessing"])
@pytest.mark.parametrize("front", ALL)
def test_the_client_sees_the_end_at_once_though_a_child_lives(
    start: Any, front: str, kind: str, poller: str
) -> None:
    program = start(front, HANGUP_POLLER=poller)
    with program.connect() as peer, program.connect() as kept:
        assert peer.get(f"/{kind}/live", "Connection: close").response()[0].status == 200
        assert peer.read_to_end() == b""
        if front != "serial":
            assert kept.get(f"/{kind}/live").response()[0].status == 200
        assert kept.get("/").response()[1] == b"%d" % program.process.pid
        assert kept.get("/", "Connection: close").response()[0].status == 200
        assert kept.read_to_end() == b""
    assert all(map(is_alive, program.children()))


@pytest.mark.parametrize("front", ALL)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_child_keeps_neither_the_port_nor_other_clients(start: Any, front: str, end: str) -> None:
    program = start(front)
    with program.connect() as other, program.connect() as silent:
        assert other.get("/").response()[0].status == 200
        if front == "thread each":
            silent.get("/").response()
        child = forked(program)
        if end == "stop":
            program.tell("stop")
            program.wait_for("stopped")
        else:
            program.process.kill()
        for peer in (other, silent):
            assert peer.sock.recv(1) == b""
        until(lambda: can_bind(program.address), "the port is free")
        assert is_alive(child)


@pytest.mark.parametrize(
    ("how", "status"),
    [("exit", 3), ("word", 1), ("_exit", 4), ("raise", 1), ("interrupt", 1)],
)
@pytest.mark.parametrize("front", ALL)
def test_how_a_child_ends(start: Any, front: str, how: str, status: int) -> None:
    program = start(front)
    with program.connect() as peer:
        # Of the child, no byte: the parent's response is the only one.
        sent = peer.get(f"/status/{how}", "Connection: close").read_to_end()
        assert sent.endswith(b"\r\n\r\nstatus %d" % status), sent
        assert sent.count(b"HTTP/1.1") == 1
    assert program.get("/") == str(program.process.pid)
    if how == "raise":
        program.wait_for("ZeroDivisionError: the child's")


@pytest.mark.parametrize("front", ALL)
def test_a_child_may_answer_and_ends_when_its_handler_returns(start: Any, front: str) -> None:
    program = start(front)
    with program.connect() as peer:
        sent = peer.get("/status/return", "Connection: close").read_to_end()
    assert [part.partition(b"\r\n\r\n")[2] for part in sent.split(b"HTTP/1.1 ")[1:]] == [
        b"the child's", b"status 0",
    ]  # fmt: skip
    assert program.get("/") == str(program.process.pid)


STEPS = """
run = lambda: threading.Thread(target=loop, daemon=True).start()
def loop():
    while True:
        server.handle_request()
"""


def test_a_child_ends_also_where_the_program_asks_for_each_request(start: Any) -> None:
    source = source_of("serial").replace(RUN, STEPS + RUN)
    program = Program(source)
    try:
        assert program.get("/status/exit") == "status 3"
        with program.connect() as peer:
            assert peer.get("/status/return").read_until(b"status 0")
    finally:
        program.stop()


@pytest.mark.parametrize("front", ["wsgi", "own", "stock", "thread each"])
def test_the_parent_goes_on_also_when_a_child_is_killed(start: Any, front: str) -> None:
    program = start(front)
    with program.connect() as waiting, program.connect() as kept:
        waiting.get("/wait")
        program.wait_for("waits")
        assert kept.get("/").response()[0].status == 200
        child = forked(program)
        os.kill(child, signal.SIGKILL)
        for _ in range(20):
            assert kept.get("/").response()[1] == b"%d" % program.process.pid
            assert program.get("/") == str(program.process.pid)
        child = forked(program)
        waiting.fin()
        program.wait_for("left True")
        assert is_alive(child)


@pytest.mark.parametrize("way", ["main", "/thread/HOW/context", "/thread/HOW/plain", "/callback/HOW"])
@pytest.mark.parametrize("front", ["wsgi", "own"])
def test_forks_outside_of_a_handler(start: Any, front: str, way: str) -> None:
    program = start(front)

    def fork(how: str) -> None:
        if way == "main":
            program.tell(how)
        elif way.startswith("/callback"):
            program.connect().get(way.replace("HOW", how)).fin()
        else:
            assert program.get(way.replace("HOW", how)) == str(program.process.pid)

    with program.connect() as other:
        assert other.get("/").response()[0].status == 200
        fork("live")
        (living,) = program.children()
        if way != "main":  # where the child goes on as the program it is
            fork("return")
            returned = program.children(2)[1]
            until(lambda: not is_alive(returned), "it has ended")
        fork("exit")
        exited = program.children(2 if way == "main" else 3)[-1]
        until(lambda: not is_alive(exited), "it has ended")
        assert program.get("/") == str(program.process.pid)
        program.process.kill()
        assert other.sock.recv(1) == b""
        until(lambda: can_bind(program.address), "the port is free")
        assert is_alive(living)


@pytest.mark.parametrize("moment", ["not loop.draining", "loop.listeners"])
@pytest.mark.parametrize("front", ["wsgi", "own"])
def test_a_fork_while_the_server_drains(start: Any, front: str, moment: str) -> None:
    more = """
def OWN(client):
    say("held")
    while not held: time.sleep(0.001)
    return b"%d" % fork("live")
held = []
hangup.ThreadingHTTPServer.daemon_threads = False  # Requests in progress are waited for.
"""
    drains = f"""
def drain():
    loop = (server.engine if hasattr(server, "engine") else server._engine).loop
    closing = threading.Thread(target=stop)
    closing.start()
    while {moment}: time.sleep(0.001)
    held.append(1)
    closing.join()
    say("stopped")
    os._exit(0)
"""
    source = source_of(front, more).replace(
        "for line in open(0, closefd=False):",
        drains + "for line in open(0, closefd=False):\n    drain()",
    )
    program = Program(source)
    try:
        with program.connect() as peer:
            peer.get("/own")
            program.wait_for("held")
            program.tell()
            assert peer.response()[1] == b"%d" % program.children()[0]
            assert peer.read_to_end() == b""
        program.wait_for("stopped")
        until(lambda: can_bind(program.address), "the port is free")
        assert is_alive(program.children()[0])
    finally:
        program.stop()


def test_over_tls_a_child_says_nothing_in_its_parents_name(
    start: Any, certificate: Certificates
) -> None:
    cert = certificate.ecdsa
    options = repr({"certfile": cert.cert, "keyfile": cert.key})
    # It returns from its handler, having said nothing: nor does it say goodbye.
    more = """
def OWN(client):
    child = os.fork()
    if not child:
        raise ZeroDivisionError
    return b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    program = start("wsgi", more, options)
    with TLSPeer(program.address) as peer, TLSPeer(program.address) as other:
        assert other.get("/").response()[0].status == 200
        assert peer.get("/own").response()[1] == b"1"
        assert peer.get("/fork/live").response()[0].status == 200
        assert peer.get("/", "Connection: close").response()[1] == b"%d" % program.process.pid
        assert peer.read_to_end() == b""  # with a close_notify, or this raises
        assert other.get("/").response()[0].status == 200
