"""CGI scripts: what a script reads and writes by its descriptors, on hangup's connections."""

import functools
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

import hangup
from conftest import Certificates, Peer, Serving
from hangup.httpserver.cgi import CGIHTTPRequestHandler

pytestmark = [
    pytest.mark.skipif(CGIHTTPRequestHandler is None, reason="Python 3.15 has no CGI"),
    # A fork among threads, and a class that goes: the standard library's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SCRIPT = r"""#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
printf '%s %s %s|' "$REQUEST_METHOD" "$CONTENT_LENGTH" "$QUERY_STRING"
exec cat
"""


@pytest.fixture
def directory() -> Iterator[str]:
    """For everybody to read: as root, http.server runs its scripts as the user nobody."""
    path = tempfile.mkdtemp()
    folder = os.path.join(path, "cgi-bin")
    os.mkdir(folder)
    script = os.path.join(folder, "echo.sh")
    with open(script, "w") as file:
        file.write(SCRIPT)
    for name in (path, folder, script):
        os.chmod(name, 0o755)
    with open(os.path.join(path, "page.txt"), "w") as file:
        file.write("page")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def scripts(serve: Any, directory: str) -> Serving:
    cls = type("Handler", (CGIHTTPRequestHandler,), {"protocol_version": "HTTP/1.1"})
    serving: Serving = serve(functools.partial(cls, directory=directory))
    return serving


def post(peer: Peer, *fields: str, body: bytes = b"", target: str = "/cgi-bin/echo.sh?a=b") -> Any:
    head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: x", *fields, "", ""])
    return peer.send(head.encode() + body).response()


def test_a_script_gets_the_body_that_has_been_read_ahead(scripts: Serving) -> None:
    with scripts.connect() as peer:
        response, body = post(peer, "Content-Length: 5", body=b"hello")
    assert (response.status, body) == (200, b"POST 5 a=b|hello")
    assert response.headers["Content-Type"] == "text/plain"


def test_a_script_gets_a_body_that_comes_late_and_is_long(scripts: Serving) -> None:
    data = bytes(range(256)) * 4000
    with scripts.connect() as peer:
        peer.send(
            f"POST /cgi-bin/echo.sh HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n".encode()
        )
        peer.send(b"\r\n").send(data[:7])
        peer.send(data[7:])
        assert peer.response()[1] == b"POST %d |" % len(data) + data


def test_a_body_in_chunks_is_one_with_a_length_to_a_script(scripts: Serving) -> None:
    with scripts.connect() as peer:
        _, body = post(peer, "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert body == b"POST 5 a=b|abcde"


def test_what_follows_a_body_is_no_part_of_it(scripts: Serving) -> None:
    """Whatever is pipelined: the script alone knows where its answer ends, so it is the last one."""
    with scripts.connect() as peer:
        following = b"GET /page.txt HTTP/1.1\r\nHost: x\r\n\r\n"
        response, body = post(peer, "Content-Length: 2", body=b"ab" + following)
        assert body == b"POST 2 a=b|ab"
        assert response.headers["Connection"] == "close"
        assert peer.read_to_end() == b""


def test_a_script_without_a_body_reads_its_end(scripts: Serving) -> None:
    assert scripts.get("/cgi-bin/echo.sh?x") == (200, b"GET  x|")


def test_a_script_by_a_target_in_absolute_form_is_run_and_not_shown(scripts: Serving) -> None:
    with scripts.connect() as peer:
        response, body = post(peer, "Content-Length: 2", body=b"ab", target="http://x/cgi-bin/echo.sh")
    assert (response.status, body) == (200, b"POST 2 |ab")
    assert scripts.get("http://x/cgi-bin/echo.sh?x") == (200, b"GET  x|")


def test_what_is_no_script_is_a_file(scripts: Serving) -> None:
    with scripts.connect() as peer:
        response, body = peer.get("/page.txt", "Range: bytes=1-2").response()
        assert (response.status, body) == (206, b"ag")
        assert post(peer, "Content-Length: 2", body=b"ab", target="/page.txt")[0].status == 501
    with scripts.connect() as peer:
        assert post(peer, "Content-Length: 2", body=b"ab", target="/cgi-bin/no")[0].status == 404


def test_over_tls_what_a_script_writes_is_encrypted(
    serve: Any, directory: str, certificate: Certificates
) -> None:
    handler = functools.partial(CGIHTTPRequestHandler, directory=directory)
    serving = serve(handler, hangup.ThreadingHTTPSServer, certfile=certificate.rsa.both)
    context = ssl.create_default_context(cafile=certificate.rsa.cert)
    peer = serving.connect()
    with context.wrap_socket(peer.sock, server_hostname="localhost") as peer.sock:
        response, body = post(peer, "Content-Length: 5", body=b"hello")
    assert (response.status, body) == (200, b"POST 5 a=b|hello")


def test_on_another_server_it_is_the_standard_librarys(directory: str) -> None:
    import http.server
    import threading

    stock = http.server.HTTPServer
    with stock(
        ("127.0.0.1", 0), functools.partial(CGIHTTPRequestHandler, directory=directory)
    ) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with Peer(server.server_address) as peer:
            head = b"POST /cgi-bin/echo.sh HTTP/1.0\r\nContent-Length: 5\r\n\r\n"
            peer.send(head + b"hello").half_close()
            assert peer.response()[1] == b"POST 5 |hello"
        thread.join()
