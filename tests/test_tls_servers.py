"""TLS: the servers of http.server and of WSGI, their certificates, and the commands."""

import http.client
import http.server
import inspect
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import BASES, PATIENCE, Certificates, Peer, answer, until
from hangup import Config, ConfigError, WSGIServer
from tls_support import (
    ANY,
    TLS_1_2,
    Stage,
    TLSPeer,
    app_for,
    client_context,
    handler_for,
    server_context,
)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

pytestmark = pytest.mark.usefixtures("nothing_is_said")


# -- the servers of http.server


def test_the_servers_are_those_of_python_3_14(certificate: Certificates) -> None:
    parameters = list(inspect.signature(hangup.HTTPSServer).parameters.values())
    assert [one.name for one in parameters[:3]] == [
        "server_address", "RequestHandlerClass", "bind_and_activate",
    ]  # fmt: skip
    assert [one.name for one in parameters[3:7] if one.kind is one.KEYWORD_ONLY] == [
        "certfile", "keyfile", "password", "alpn_protocols",
    ]  # fmt: skip
    assert [one.default for one in parameters[3:7]] == [inspect.Parameter.empty, None, None, None]
    server = hangup.ThreadingHTTPSServer(
        ("127.0.0.1", 0), hangup.BaseHTTPRequestHandler, False, certfile=Path(certificate.rsa.both)
    )
    server.server_bind()
    assert type(server.socket) is socket.socket
    server.server_activate()
    assert isinstance(server.socket, ssl.SSLSocket)
    server.server_close()


@pytest.fixture(scope="module")
def encrypted(certificate: Certificates, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The RSA key, encrypted with "secret"; a key that belongs to nothing lies beside it."""
    path = str(tmp_path_factory.mktemp("encrypted") / "key")
    for command in (
        ["pkcs8", "-topk8", "-in", certificate.rsa.key, "-passout", "pass:secret", "-out", path],
        ["genrsa", "-out", path + ".other", "2048"],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    "password", ["secret", b"secret", bytearray(b"secret"), lambda: "secret"], ids=range(4)
)
def test_a_password_is_whatever_ssl_takes_for_one(
    certificate: Certificates, encrypted: str, password: Any
) -> None:
    with hangup.HTTPSServer(
        ("127.0.0.1", 0),
        hangup.BaseHTTPRequestHandler,
        certfile=certificate.rsa.cert,
        keyfile=encrypted,
        password=password,
    ) as server:
        assert isinstance(server.socket, ssl.SSLSocket)


def test_https_server_serves_one_at_a_time_and_shakes_hands_with_who_comes(
    serve: Any, base: Any, certificate: Certificates
) -> None:
    stage = Stage()
    serving = serve(handler_for(base, stage), hangup.HTTPSServer, certfile=certificate.ecdsa.both)
    with TLSPeer(serving.address) as first, TLSPeer(serving.address) as second:
        first.get("/held")
        stage.begun()
        second.get("/")
        until(lambda: len(serving.engine.workers._backlog) == 1, "it waits")
        stage.proceed.release()
        assert first.response()[1] == b"ok"
        assert second.response()[1] == b"ok"


@pytest.mark.parametrize("kind", ["HTTPSServer", "WSGIServer"])
def test_a_certificate_can_be_replaced_while_it_serves(
    certificate: Certificates, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "both"
    file.write_text(Path(certificate.rsa.both).read_text())
    server: Any
    if kind == "WSGIServer":
        server = WSGIServer(app_for(Stage()), port=0, certfile=file, access_log="off")
        start, stop, address = server.start, server.close, server.address
    else:
        handler = handler_for(hangup.BaseHTTPRequestHandler, Stage())
        server = hangup.ThreadingHTTPSServer(("127.0.0.1", 0), handler, certfile=file)
        thread = threading.Thread(target=server.serve_forever)
        start, address = thread.start, server.server_address

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

    start()
    try:
        with TLSPeer(address) as old:
            assert old.get("/").response()[1] == b"ok"
            assert shown(address, certificate) == "rsa"
            file.write_text(Path(certificate.ecdsa.both).read_text())
            assert shown(address, certificate) == "rsa", "not of itself"
            server.reload_certificate()
            assert shown(address, certificate) == "ecdsa"
            file.write_text("nonsense")
            with pytest.raises(ConfigError, match="there is no certificate in PEM form in it"):
                server.reload_certificate()
            assert shown(address, certificate) == "ecdsa"
            assert old.get("/").response()[1] == b"ok"
    finally:
        stop()


def shown(address: Any, certificate: Certificates) -> str:
    """Which certificate a new connection is shown."""
    with TLSPeer(address) as peer:
        der: Any = peer.sock.tls.getpeercert(True)
    pem = ssl.DER_cert_to_PEM_cert(der)
    (name,) = (
        name for name in ("rsa", "ecdsa") if Path(getattr(certificate, name).cert).read_text() == pem
    )
    return name


# -- whom the server knows


def test_a_handler_knows_its_clients_certificate_and_what_was_agreed_on(
    serve: Any, base: Any, certificate: Certificates
) -> None:
    seen: list[Any] = []

    class Handler(base):
        def do_GET(self) -> None:
            connection = self.connection
            seen.extend((connection.getpeercert(), connection.getpeercert(True)))
            seen.extend((connection.version(), connection.cipher(), connection.selected_alpn_protocol()))
            answer(self)

    class Server(hangup.ThreadingHTTPSServer):
        def server_activate(self) -> None:
            super().server_activate()
            self.socket.context.load_verify_locations(certificate.ecdsa.cert)
            self.socket.context.verify_mode = ssl.CERT_OPTIONAL

    serving = serve(Handler, Server, certfile=certificate.rsa.both)
    context = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.load_cert_chain(certificate.ecdsa.cert, certificate.ecdsa.key)
    with TLSPeer(serving.address, context) as peer:
        assert peer.get("/").response()[1] == b"ok"
        cipher = peer.sock.tls.cipher()
    der = ssl.PEM_cert_to_DER_cert(Path(certificate.ecdsa.cert).read_text())
    assert seen[0]["subject"] == ((("commonName", "ecdsa"),),)
    assert seen[1:] == [der, "TLSv1.2", cipher, None]
    seen.clear()
    with TLSPeer(serving.address) as peer:
        assert peer.get("/").response()[1] == b"ok"
    assert seen[:3] == [None, None, "TLSv1.3"]


@pytest.mark.parametrize("context", [ANY, TLS_1_2], ids=["TLS 1.3", "TLS 1.2"])
def test_a_client_without_the_certificate_that_it_needs_gets_an_alert(
    serve_app: Any, certificate: Certificates, context: ssl.SSLContext
) -> None:
    asking = server_context(certificate.ecdsa)
    asking.load_verify_locations(certificate.rsa.cert)
    asking.verify_mode = ssl.CERT_REQUIRED
    serving = serve_app(app_for(Stage()), ssl_context=asking)
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required|handshake.failure"):  # noqa: SIM117
        with TLSPeer(serving.server.address, context) as peer:
            peer.get("/").response()
    assert serving.records == []


def test_a_program_that_refuses_a_client_closes_before_the_handshake(
    serve: Any, certificate: Certificates
) -> None:
    class Server(hangup.ThreadingHTTPSServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return False

    serving = serve(hangup.BaseHTTPRequestHandler, Server, certfile=certificate.ecdsa.both)
    with Peer(serving.address) as peer:
        assert peer.read_to_end() == b""


def test_an_application_is_told_that_it_is_https(serve_app: Any, certificate: Certificates) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [f"{environ['wsgi.url_scheme']} {environ['HTTPS']}".encode()]

    files = certificate.rsa
    for options in ({"certfile": files.both}, {"ssl_context": server_context(files)}):
        serving = serve_app(app, **options)
        assert serving.server.url == f"https://127.0.0.1:{serving.server.port}"
        with TLSPeer(serving.server.address) as peer:
            assert peer.get("/").response()[1] == b"https on"


# -- what is wrong with a certificate


WRONG = [
    ("missing", None, None, "can't read missing: No such file or directory"),
    (".", None, None, "can't read .: Is a directory"),
    ("rsa.cert", "missing", None, "can't read missing: No such file or directory"),
    ("rsa.cert", None, None, "can't use rsa.cert for TLS: there is no private key in PEM form in it"),
    ("rsa.key", None, None, "can't use rsa.key for TLS: there is no certificate in PEM form in it"),
    ("rsa.cert", "ecdsa.key", None, "the private key doesn't belong to the certificate"),
    ("rsa.cert", "other.key", None, "the private key doesn't belong to the certificate"),
    ("rsa.cert", "secret.key", None, "secret.key is encrypted, and there is no password for it"),
    ("rsa.cert", "secret.key", "wrong", "the private key's password is another one"),
    ("nonsense", "rsa.key", None, "can't use nonsense for TLS: there is no certificate in PEM form"),
]


@pytest.fixture
def files(
    certificate: Certificates, encrypted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A directory with files to use and not to use; the test runs in it."""
    for name, one in certificate._asdict().items():
        for part, path in one._asdict().items():
            (tmp_path / f"{name}.{part}").write_text(Path(path).read_text())
    (tmp_path / "secret.key").write_text(Path(encrypted).read_text())
    (tmp_path / "nonsense").write_bytes(bytes(range(256)))
    (tmp_path / "other.key").write_text(Path(encrypted + ".other").read_text())
    (tmp_path / "hello.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '5')])\n"
        "    return [environ['wsgi.url_scheme'].encode()]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_can_not_be_used_is_one_line_whoever_is_asked_to_use_it(files: Path) -> None:
    for cert, key, password, message in WRONG:
        for start in (
            lambda: hangup.HTTPSServer(
                ("127.0.0.1", 0),
                hangup.BaseHTTPRequestHandler,
                certfile=cert,  # noqa: B023
                keyfile=key,  # noqa: B023
                password=password,  # noqa: B023
            ),
            lambda: WSGIServer(
                app_for(Stage()),
                port=0,
                certfile=cert,  # noqa: B023
                keyfile=key,  # noqa: B023
                keyfile_password=password,  # noqa: B023
            ),
        ):
            with pytest.raises(ConfigError) as error:
                start()
            assert message in str(error.value), (cert, key)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["client", "no context", "both"])
def test_what_is_no_context_for_servers_is_one_line(files: Path, kind: str) -> None:
    options, message = {
        "client": ({"ssl_context": client_context()}, "ssl_context is one for clients"),
        "no context": ({"ssl_context": "rsa.both"}, "must be an ssl.SSLContext, not 'rsa.both'"),
        "both": (
            {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "certfile": "rsa.both"},
            "certfile can't be given besides",
        ),
    }[kind]
    with pytest.raises(ConfigError, match=re.escape(message)):
        WSGIServer(app_for(Stage()), port=0, **options)  # type: ignore[arg-type]


# -- commands


def hangup_serve(*args: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hangup", "serve", "--port", "0", *args, "hello:app"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its status, and the rest of what it said."""
    process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=3 * PATIENCE)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, said


@pytest.mark.parametrize("number", [0, 7, 8])
def test_the_command_ends_with_one_line_and_status_2(files: Path, number: int) -> None:
    cert, key, password, message = WRONG[number]
    options = {"--certfile": cert, "--keyfile": key, "--keyfile-password": password}
    process = hangup_serve(*(word for pair in options.items() if pair[1] for word in pair))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said.startswith("Error: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("way", ["options", "environment"])
def test_the_command_serves_tls(files: Path, way: str) -> None:
    settings = {"certfile": "rsa.cert", "keyfile": "secret.key", "keyfile-password": "secret"}
    if way == "options":
        process = hangup_serve(*(word for name in settings for word in (f"--{name}", settings[name])))
    else:
        names = {f"HANGUP_{name.upper().replace('-', '_')}": settings[name] for name in settings}
        process = hangup_serve(**names)
    try:
        assert process.stderr is not None
        found = re.search(r"https://127\.0\.0\.1:(\d+)", process.stderr.readline())
        assert found
        context = ssl.create_default_context(cafile="rsa.cert")
        connection = http.client.HTTPSConnection("localhost", int(found[1]), context=context)
        for _ in range(2):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"https"
        connection.close()
    finally:
        status, said = end(process)
    assert (status, said) == (0, "")


def test_gunicorns_worker_serves_tls_and_keeps_connections(files: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "hangup.gunicorn.Worker",
         "--certfile", "ecdsa.cert", "--keyfile", "ecdsa.key", "-b", "127.0.0.1:0", "hello:app"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = ""
        assert process.stderr is not None
        while "Booting worker" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        found = re.search(r"Listening at: https://127\.0\.0\.1:(\d+)", said)
        assert found
        address = "127.0.0.1", int(found[1])
        with TLSPeer(address) as peer:
            for _ in range(3):
                assert peer.get("/").response()[1] == b"https"
        with Peer(address) as peer:
            assert peer.send(GET).read_to_end().startswith(b"HTTP/1.1 400 ")
    finally:
        status, rest = end(process)
    assert status == 0
    assert "Traceback" not in rest
    assert "[ERROR]" not in rest


# -- servers in the standard library's own loop


@pytest.mark.parametrize("base", list(BASES.values()), ids=list(BASES))
def test_a_program_that_decides_on_threads_itself_shakes_hands_in_them(
    serve: Any, base: Any, certificate: Certificates
) -> None:
    context = server_context(certificate.ecdsa)
    threads: list[threading.Thread] = []

    class Server(hangup.ThreadingHTTPServer):
        def server_activate(self) -> None:
            super().server_activate()
            self.socket = context.wrap_socket(self.socket, server_side=True)

        def process_request(self, request: Any, client_address: Any) -> None:
            target = self.process_request_thread
            threads.append(threading.Thread(target=target, args=(request, client_address)))
            threads[-1].start()

    serving = serve(handler_for(base, Stage()), Server, config=Config(handshake_timeout=0.2))
    with Peer(serving.address) as silent, TLSPeer(serving.address) as peer:
        for _ in range(2):
            assert peer.get("/").response()[1] == b"ok"
        assert silent.read_to_end() == b""
        with Peer(serving.address) as plain:
            plain.send(GET).read_to_end()
        peer.goodbye()
    for thread in threads:
        thread.join(PATIENCE)
