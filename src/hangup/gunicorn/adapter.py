"""The engine's way into an application under gunicorn: its environ, its hooks, its count of requests."""

import itertools
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

from gunicorn.http import wsgi
from gunicorn.sock import ssl_context

from .._connection.connection import Connection
from .._connection.exchange import Exchange
from .._connection.loop import Loop
from .._engine.listener import Accept
from .._http1.proxy_protocol import ProxiedRequestParser, ProxyHeader
from .._http1.request import Request
from .._http1.response_head import field_line
from .._system.tls import ContextOf, check_context
from ..exceptions import RequestRejected
from ..wsgi.adapter import WSGIDoor
from ..wsgi.environ import environ_fields, environ_of
from ..wsgi.input import send_interim
from .fields import FieldPolicy, mount, trusts
from .log import ErrorStream, response_of

__all__ = ["GunicornDoor"]


class Serving(Protocol):
    """The worker, as its requests know it."""

    cfg: Any
    log: Any
    nr: int
    max_requests: int

    def end_soon(self) -> None:
        """This worker has served its share."""


class GunicornDoor(WSGIDoor):
    """What gunicorn's settings ask for beyond a WSGI application's own.

    ``keeps_environ`` says whether somebody reads an environ when its request has ended.
    """

    def __init__(
        self, worker: Serving, app: Callable[..., Iterable[bytes]], *, keeps_environ: bool
    ) -> None:
        cfg = worker.cfg
        super().__init__(app, multiprocess=cfg.workers > 1, context_of=_context_of(cfg))
        self.server_line = f"Server: {wsgi.SERVER}\r\n"
        self._base["SERVER_SOFTWARE"] = wsgi.SERVER_SOFTWARE
        self._base["wsgi.errors"] = ErrorStream(cfg)
        if cfg.sendfile is False:
            self._base["wsgi.file_wrapper"] = wsgi.FileWrapper  # which is read block by block
        self._worker = worker
        self._numbers = itertools.count(1)
        self._policy = FieldPolicy(cfg)
        self._mounted = os.environ.get("SCRIPT_NAME", "")
        # Before gunicorn 24 it was a switch, for version 1.
        mode = cfg.proxy_protocol
        self._proxy_protocol = ("v1" if mode else "off") if isinstance(mode, bool) else mode
        self._may_proxy = trusts(cfg.proxy_allow_ips)
        self._hooked = any(_is_set(cfg, name) for name in ("pre_request", "post_request"))
        self._keeps_environ = keeps_environ
        # The environs of requests that are being handled, for post_request; each by its own thread.
        self._environs: dict[Exchange, dict[str, Any]] = {}
        self._completes = True

    # -- a connection

    def acceptor(self, sock: socket.socket) -> Accept:
        take = super().acceptor(sock)
        on_path = sock.family not in (socket.AF_INET, socket.AF_INET6)
        if self._proxy_protocol == "off" and not on_path:
            return take

        def take_from_proxy(loop: Loop) -> Connection | None:
            connection = take(loop)
            if connection is not None:
                if on_path:
                    del connection.handler["REMOTE_PORT"]  # gunicorn has none either
                if self._proxy_protocol != "off":
                    told = partial(self._note_proxy, connection)
                    connection.read_through(
                        ProxiedRequestParser(loop.config, loop.heads, self._proxy_protocol, told)
                    )
            return connection

        return take_from_proxy

    def _note_proxy(self, connection: Connection, header: ProxyHeader) -> None:
        """A proxy says whose connection this is."""
        if not self._may_proxy(connection.peer.host):
            raise RequestRejected(403, "PROXY headers are not taken from this address")
        about = connection.handler
        about["PROXY_PROTOCOL"] = header.protocol
        if header.client:
            about["REMOTE_ADDR"], about["REMOTE_PORT"] = header.client, str(header.client_port)
            about["PROXY_ADDR"], about["PROXY_PORT"] = header.proxy, str(header.proxy_port)

    # -- a request

    def handle(self, connection: Connection) -> None:
        if connection.request is None:
            if connection.refusal is not None:
                self._log_refusal(connection, connection.refusal)
        else:
            worker = self._worker
            worker.nr = number = next(self._numbers)
            if number == worker.max_requests:
                worker.end_soon()
            if self._hooked:
                self._handle_hooked(connection, connection.request)
                return
        super().handle(connection)

    def environ_of(self, request: Request, connection: Connection) -> dict[str, Any]:
        try:
            return self._environ_of(request, connection)
        except RequestRejected as refusal:
            self._log_refusal(connection, refusal)
            raise

    def _environ_of(self, request: Request, connection: Connection) -> dict[str, Any]:
        policy = self._policy
        if not policy.concerns(request):
            environ = environ_of(request, connection.handler)
            if self._mounted:
                mount(environ, self._mounted)
            return environ
        judged = policy.judge(request.items, connection.peer.host)
        base = connection.handler
        if judged.scheme is not None:
            base = {**base, "wsgi.url_scheme": judged.scheme}
            base.pop("HTTPS", None)
            if judged.scheme == "https":
                base["HTTPS"] = "on"
        environ = environ_of(request, base, environ_fields(judged.items, underscores=True))
        if judged.script_name:
            if not mount(environ, judged.script_name):
                raise RequestRejected(500, "The request's path does not begin with its SCRIPT_NAME")
        elif judged.script_name is None and self._mounted:
            mount(environ, self._mounted)
        return environ

    def complete(self, environ: dict[str, Any], connection: Connection) -> None:
        super().complete(environ, connection)
        exchange = connection.exchange
        assert exchange is not None
        environ["wsgi.early_hints"] = partial(_send_early_hints, connection, exchange)
        if self._keeps_environ:
            exchange.environ = environ
        if self._hooked:
            self._environs[exchange] = environ

    def _log_refusal(self, connection: Connection, refusal: RequestRejected) -> None:
        """In the words of gunicorn's own workers."""
        self._worker.log.warning("Invalid request from ip=%s: %s", connection.peer.host, refusal.reason)

    # -- hooks

    def _handle_hooked(self, connection: Connection, request: Request) -> None:
        cfg, worker, exchange = self._worker.cfg, self._worker, connection.exchange
        assert exchange is not None
        seen = _request_of(request, connection)
        try:
            cfg.pre_request(worker, seen)
            if seen.headers != _upper(request):
                # What the hook adds reaches the application, as it does with gunicorn's own workers.
                request = request.with_items(seen.headers)
                connection.request = request
            super().handle(connection)
        finally:
            environ = self._environs.pop(exchange, {})
            try:
                cfg.post_request(worker, seen, environ, response_of(exchange))
            except Exception:
                worker.log.exception("Exception in post_request hook")


def _is_set(cfg: Any, name: str) -> bool:
    setting = cfg.settings[name]
    return setting.get() is not setting.default


def _context_of(cfg: Any) -> ContextOf | None:
    if not cfg.is_ssl:
        return None
    context = check_context(ssl_context(cfg))  # With gunicorn's own settings and hook.
    context.set_alpn_protocols(["http/1.1"])  # whatever http_protocols says
    return lambda: context


def _upper(request: Request) -> list[tuple[str, str]]:
    return [(name.upper(), value) for name, value in request.items]


def _request_of(request: Request, connection: Connection) -> Any:
    """A request as gunicorn's hooks find it."""
    path, _, query = request.target.partition("?")
    address = connection.address
    return SimpleNamespace(
        method=request.method,
        uri=request.target,
        path=path,
        query=query,
        fragment="",
        version=(1, int(request.protocol[-1])),
        headers=_upper(request),
        trailers=[],
        scheme="https" if connection.transport.encrypts else "http",
        peer_addr=address,
        remote_addr=address,
        proxy_protocol_info=None,
    )


def _send_early_hints(
    connection: Connection, exchange: Exchange, headers: Iterable[tuple[str, str]]
) -> None:
    """``wsgi.early_hints``: send a 103 with these fields (RFC 8297); too late, it does nothing.

    Raises :exc:`ValueError` for what can't be a header field.
    """
    lines = [field_line(name, value) for name, value in headers]
    if connection.exchange is not exchange or exchange.response_began:
        return
    if exchange.request.protocol == "HTTP/1.1":
        send_interim(connection, exchange, b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % b"".join(lines))
