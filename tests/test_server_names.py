"""What servers and clients are called: nobody asks the DNS, and a unix socket's client has no name."""

import http.server
import socket
import socketserver
from typing import Any

import pytest

import hangup
from conftest import answer

ASKED = ["getfqdn", "gethostbyaddr", "getnameinfo"]


@pytest.fixture
def no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: Any) -> None:
        pytest.fail("the DNS was asked")

    for name in ASKED:
        monkeypatch.setattr(socket, name, ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)


class Six(hangup.HTTPServer):
    address_family = socket.AF_INET6


@pytest.mark.parametrize(
    ("kind", "host", "name"),
    [
        (hangup.HTTPServer, "127.0.0.1", "localhost"),
        (hangup.ThreadingHTTPServer, "127.0.0.2", "127.0.0.2"),
        (hangup.HTTPServer, "localhost", "localhost"),
        (hangup.HTTPServer, "0.0.0.0", socket.gethostname()),
        (hangup.HTTPServer, "", socket.gethostname()),
        (Six, "::1", "localhost"),
        (Six, "::", socket.gethostname()),
        (Six, "", socket.gethostname()),
    ],
)
def test_a_server_is_called_what_it_was_asked_to_bind_to(
    no_dns: None, kind: Any, host: str, name: str
) -> None:
    with kind((host, 0), hangup.BaseHTTPRequestHandler) as server:
        assert server.server_name == name
        assert server.server_port == server.server_address[1] > 0


class UnixServer(hangup.ThreadingHTTPServer):
    address_family = socket.AF_UNIX


class BoundByTheProgram(UnixServer):
    """As http.server needs it there."""

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "mine", 0


def test_a_server_on_a_unix_socket_has_a_name_and_no_port(no_dns: None, tmp_path: Any) -> None:
    with UnixServer(str(tmp_path / "a"), hangup.BaseHTTPRequestHandler) as server:  # type: ignore[arg-type]
        assert (server.server_name, server.server_port) == ("localhost", 0)
    with BoundByTheProgram(str(tmp_path / "b"), hangup.BaseHTTPRequestHandler) as server:  # type: ignore[arg-type]
        assert (server.server_name, server.server_port) == ("mine", 0)


@pytest.mark.parametrize("kind", [UnixServer, BoundByTheProgram])
def test_handlers_on_a_unix_socket_log_and_send_errors(
    serve: Any, base: Any, kind: Any, tmp_path: Any, no_dns: None, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses: list[Any] = []

    class Handler(base):  # type: ignore[misc]
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            addresses.append((self.address_string(), self.client_address))
            if self.path == "/missing":
                self.send_error(404)
                return
            if self.path == "/raise":
                raise RuntimeError
            self.log_message("hello %s", self.path)
            self.log_error("no %s", self.path)
            answer(self)

    serving = serve(Handler, kind, address=str(tmp_path / "socket"))
    for path, status in (("/", 200), ("/missing", 404), ("/raise", 500)):
        assert serving.get(path)[0] == status
    assert {address for address, _ in addresses} == {"-"}
    said = capfd.readouterr().err
    assert "- - - [" in said
    assert "hello /" in said
    assert "no /" in said
    assert "IndexError" not in said


def test_an_address_string_of_the_programs_own_is_its_own(serve: Any, tmp_path: Any, base: Any) -> None:
    class Handler(base):  # type: ignore[misc]
        def address_string(self) -> str:
            return "somebody"

        def do_GET(self) -> None:
            answer(self, self.address_string().encode())

    assert serve(Handler, UnixServer, address=str(tmp_path / "socket")).get()[1] == b"somebody"


def test_the_reference_has_a_name_for_a_client_over_tcp(serve: Any, base: Any) -> None:
    class Handler(base):  # type: ignore[misc]
        def do_GET(self) -> None:
            answer(self, self.address_string().encode())

        def log_message(self, *args: Any) -> None: ...

    assert serve(Handler).get()[1] == b"127.0.0.1"
    plain = serve(Handler, http.server.ThreadingHTTPServer)
    assert plain.get()[1] == b"127.0.0.1"
