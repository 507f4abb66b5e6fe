"""What the tests of TLS share: a client that decides over each byte, and servers by each way in."""

import hashlib
import http.server
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest

import hangup
from conftest import PATIENCE, Certificate, Certificates, Peer, Serving, ServingApp, answer
from hangup import ClientDisconnected, Config, RequestRecord

BIG = os.urandom(10_000_000)
PIECE = 65536


def client_context(**settings: Any) -> ssl.SSLContext:
    """For clients that take any certificate; ``settings`` are the context's attributes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return context


ANY = client_context()
TLS_1_2 = client_context(maximum_version=ssl.TLSVersion.TLSv1_2)


class Wire:
    """TLS in memory over a plain socket, with those of a socket's methods that :class:`Peer` uses."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self.raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def flight(self) -> bytes:
        """What the client has to say next in the handshake; nothing while it waits for the server."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self._out.read()

    def hear(self) -> bool:
        """Take what the server says next; False at its end."""
        data = self.raw.recv(PIECE)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        return bool(data)

    def last_flight(self) -> bytes:
        """Shake hands, and keep back the client's last word; the server waits for it alone (TLS 1.3)."""
        flight = self.flight()
        while self.tls.version() != "TLSv1.3" or self.tls.cipher() is None or not flight:
            self.raw.sendall(flight)
            assert self.hear(), "the server has left the handshake"
            flight = self.flight()
        return flight

    def shake_hands(self, each: int = PIECE) -> None:
        """``each`` is how many bytes are sent at a time."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.trickle(self._out.read(), each)
                self.hear()
            else:
                self.trickle(self._out.read(), each)
                return

    def trickle(self, data: bytes, each: int) -> None:
        for start in range(0, len(data), each):
            self.raw.sendall(data[start : start + each])

    def encrypted(self, *pieces: bytes | memoryview) -> bytes:
        """Each piece in a record of its own, or in several if it is long."""
        for piece in pieces:
            self.tls.write(piece)
        return self._out.read()

    def goodbye(self) -> bytes:
        """A close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass  # It wants the server's, which nobody waits for here.
        return self._out.read()

    # -- as a socket

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self.raw.sendall(self.encrypted(view[start : start + PIECE]))

    def recv(self, size: int) -> bytes:
        """Raises :exc:`ssl.SSLEOFError` for an end without a goodbye."""
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLWantReadError:
                self.hear()
            except ssl.SSLZeroReturnError:
                return b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class TLSPeer(Peer):
    """A client over TLS.  ``half_close`` is TCP's; ``goodbye`` is TLS's, and leaves the socket open."""

    sock: Wire  # type: ignore[assignment]

    def __init__(self, address: Any, context: ssl.SSLContext = ANY, *, shake: bool = True) -> None:
        super().__init__(address)
        self.raw: socket.socket = self.sock  # type: ignore[assignment]
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = Wire(self.raw, context)
        if shake:
            try:
                self.sock.shake_hands()
            except BaseException:
                self.raw.close()
                raise

    def goodbye(self) -> Self:
        self.raw.sendall(self.sock.goodbye())
        return self

    def leave(self, manner: str) -> None:
        """In one of :data:`MANNERS`."""
        if manner.startswith("goodbye"):
            self.goodbye()
        if manner == "rst":
            self.rst()
        elif manner != "goodbye":
            self.fin()

    def end(self) -> bytes:
        """What comes until the server closes, not decrypted."""
        data = b""
        while piece := self.raw.recv(PIECE):
            data += piece
        return data


#: How a client leaves once TLS is there: it says so and stays, says so and goes, or just goes.
MANNERS = ["goodbye", "goodbye and fin", "fin", "rst"]


class Stage:
    """What handlers and applications do, and where they meet the test."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.proceed = threading.Semaphore(0)
        self.told: list[tuple[bool, hangup.ClientState]] = []
        self.caught: list[BaseException] = []

    def body(self, path: str) -> bytes:
        if path == "/wait":
            client = hangup.current_client()
            self.began.release()
            self.told.append((client.wait(PATIENCE), client.state))
        elif path.startswith("/held"):
            self.began.release()
            assert self.proceed.acquire(timeout=PATIENCE)
        return BIG if path.endswith("big") else b"ok"

    def begun(self) -> None:
        """A handler has begun."""
        assert self.began.acquire(timeout=PATIENCE)

    def digest(self, read: Callable[[int], bytes], size: int | None) -> bytes:
        """Of a body that is read in pieces; ``size`` is None if its reader knows its end."""
        self.began.release()
        digest = hashlib.sha256()
        while size is None or size > 0:
            data = read(PIECE if size is None else min(PIECE, size))
            if not data:
                break
            digest.update(data)
            size = None if size is None else size - len(data)
        return digest.hexdigest().encode()


def handler_for(base: Any, stage: Stage) -> Any:
    class Handler(base):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/endless":
                answer(self, stage.body(self.path))
                return
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            stage.began.release()
            try:
                while True:
                    self.wfile.write(bytes(PIECE))
            except ClientDisconnected as error:
                stage.caught.append(error)
                raise

        def do_POST(self) -> None:
            length = self.headers["Content-Length"]
            answer(self, stage.digest(self.rfile.read, None if length is None else int(length)))

    return Handler


def app_for(stage: Stage) -> Any:
    def endless() -> Any:
        stage.began.release()
        try:
            while True:
                yield bytes(PIECE)
        except GeneratorExit as error:
            stage.caught.append(error)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/endless":
            start_response("200 OK", [])
            return endless()
        if environ["REQUEST_METHOD"] == "POST":
            body = stage.digest(environ["wsgi.input"].read, None)
        else:
            body = stage.body(path)
        if path == "/chunked/big":
            start_response("200 OK", [])
            return (body[start : start + 100_000] for start in range(0, len(body), 100_000))
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


class Wrapped(hangup.ThreadingHTTPServer):
    """The idiom of http.server's users."""

    def __init__(self, *args: Any, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(*args, **options)
        self.socket = context.wrap_socket(self.socket, server_side=True)


def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


class Door:
    """A server that speaks TLS, by one of the ways into it: own, stock, wrapped, or wsgi."""

    def __init__(
        self, kind: str, serve: Any, serve_app: Any, certificate: Certificate, **limits: Any
    ) -> None:
        self.kind = kind
        self.stage = stage = Stage()
        config = Config(**limits)
        files = {"certfile": certificate.cert, "keyfile": certificate.key}
        self.serving: Serving | ServingApp
        if kind == "wsgi":
            self.serving = serve_app(app_for(stage), config=config, **files)
        elif kind == "wrapped":
            handler = handler_for(hangup.BaseHTTPRequestHandler, stage)
            context = server_context(certificate)
            self.serving = serve(handler, Wrapped, config=config, context=context)
        else:
            base = hangup.BaseHTTPRequestHandler if kind == "own" else http.server.BaseHTTPRequestHandler
            handler = handler_for(base, stage)
            self.serving = serve(handler, hangup.ThreadingHTTPSServer, config=config, **files)

    @property
    def address(self) -> Any:
        server = self.serving.server
        return server.address if self.kind == "wsgi" else server.server_address

    @property
    def url(self) -> str:
        return f"https://localhost:{self.address[1]}"

    @property
    def engine(self) -> Any:
        return self.serving.server.engine if self.kind == "wsgi" else self.serving.engine

    def connect(self, context: ssl.SSLContext = ANY, *, shake: bool = True) -> TLSPeer:
        return TLSPeer(self.address, context, shake=shake)

    def get(self, path: str = "/") -> tuple[int, bytes]:
        with self.connect() as peer:
            response, body = peer.get(path, "Connection: close").response()
            return response.status, body

    def connections(self) -> list[Any]:
        """Those that are watched; one that is quickly done with never is."""
        entries = list(self.engine.loop._entries.values())
        return [entry for entry in entries if hasattr(entry, "peer")]

    def records(self, count: int) -> list[RequestRecord]:
        return self.serving.wait_for_records(count)


def opener(
    param: str, serve: Any, serve_app: Any, certificate: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Door]:
    """Opens a door, by the way in that ``param`` names, and with the portable poller if it says so."""
    kind, _, fallback = param.partition(", ")
    monkeypatch.setenv("HANGUP_POLLER", "poll" if fallback else "")

    def start(key: str = "ecdsa", **limits: Any) -> Door:
        return Door(kind, serve, serve_app, getattr(certificate, key), **limits)

    return start
