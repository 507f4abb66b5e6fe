"""What comes once leaves nothing behind: no cache holds what never comes again.

Objects that outlive their request fill the collector's oldest generation, and then it looks at all of an
application's heap again and again.
"""

import gc
import ssl
from typing import Any

import pytest

import hangup
from conftest import Peer, answer

ROUNDS = 1000
#: What interpreter and logging may keep for themselves.
FEW = 60


def app(environ: dict[str, Any], start: Any) -> list[bytes]:
    body = b"x" * (int(environ["PATH_INFO"].rpartition("/")[2]) % 700)
    fields = [("Content-Length", str(len(body))), ("ETag", f'"{environ["PATH_INFO"]}"')]
    start("200 OK", [*fields, ("Set-Cookie", f"session={environ['HTTP_COOKIE']}")])
    return [body]


class Handler(hangup.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer(self, self.headers["Cookie"].encode())

    def log_message(self, *args: Any) -> None: ...


def ask(peer: Peer, first: int) -> None:
    for number in range(first, first + ROUNDS):
        cookie, request_id = f"Cookie: session={number * 7919:x}", f"X-Request-ID: {number:032x}"
        referer = f"Referer: http://test/articles/{number - 1}"
        assert peer.get(f"/articles/{number}", cookie, request_id, referer).response()[0].status == 200


@pytest.mark.parametrize("door", ["wsgi", "handler"])
def test_requests_that_differ_leave_no_objects_behind(door: str, serve: Any, serve_app: Any) -> None:
    serving = serve_app(app) if door == "wsgi" else serve(Handler)
    with serving.connect() as peer:
        ask(peer, 0)
        serving.wait_for_records(ROUNDS)
        serving.records.clear()  # which are the test's own
        gc.collect()
        gc.freeze()
        try:
            ask(peer, ROUNDS)
            serving.wait_for_records(ROUNDS)
            serving.records.clear()
            gc.collect()
            assert len(gc.get_objects()) < FEW  # since the freeze
        finally:
            gc.unfreeze()


@pytest.mark.parametrize("door", ["wsgi", "handler"])
@pytest.mark.parametrize("tls", [False, True])
def test_connections_that_close_leave_nothing_to_the_collector(
    door: str, tls: bool, serve: Any, serve_app: Any, certificate: Any
) -> None:
    """A connection and its parts refer to each other, and let go of that when it closes."""
    files = certificate.ecdsa
    options = {"certfile": files.cert, "keyfile": files.key} if tls else {}
    if door == "wsgi":
        serving = serve_app(app, **options)
    else:
        serving = serve(
            Handler, hangup.ThreadingHTTPSServer if tls else hangup.ThreadingHTTPServer, **options
        )
    address = serving.server.address if door == "wsgi" else serving.address
    context = ssl.create_default_context(cafile=files.cert)

    def ask_once(number: int) -> None:
        with Peer(address) as peer:
            if tls:
                peer.sock = context.wrap_socket(peer.sock, server_hostname="localhost")
            peer.get(f"/{number}", "Cookie: a", "Connection: close").response()
            assert peer.sock.recv(1) == b""

    ask_once(0)
    serving.wait_for_records(1)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 20):
            ask_once(number)
        serving.wait_for_records(20)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("hangup")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert kinds <= {"Exchange"}
