"""``python -m http.server`` as Python 3.15 has it, for older Pythons: TLS, header fields, content type.

From 3.15 on, ``hangup run -m http.server`` runs Python's own.
"""

import argparse
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from .._logging.colors import theme_for
from ..httpserver.cgi import CGIHTTPRequestHandler
from ..httpserver.files import SimpleHTTPRequestHandler
from ..httpserver.https import ThreadingHTTPSServer
from ..httpserver.server import HTTPServer, ThreadingHTTPServer

__all__ = ["is_needed", "serve_directory"]


def is_needed() -> bool:
    """Whether this Python's own command lacks something."""
    return sys.version_info < (3, 15)


class _DualStack(HTTPServer):
    """Listens for IPv4, too, where it listens on all addresses of IPv6."""

    def server_bind(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # It is IPv4, or the system can't.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class HTTPDualStackServer(ThreadingHTTPServer, _DualStack):
    pass


class HTTPSDualStackServer(ThreadingHTTPSServer, _DualStack):
    pass


def serve_directory(args: Sequence[str]) -> None:
    """Serve until Ctrl-C.  ``args`` are what stands behind ``-m http.server``."""
    parser = _parser()
    options = parser.parse_args(args)
    password = _password(parser, options)
    info = socket.getaddrinfo(
        options.bind, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, address = info[0]
    # One class for this one server, since that is where these are set.
    base = CGIHTTPRequestHandler if getattr(options, "cgi", False) else SimpleHTTPRequestHandler
    settings = {"protocol_version": options.protocol, "default_content_type": options.content_type}
    handler = functools.partial(
        type(base.__name__, (base,), {"__module__": base.__module__, **settings}),
        directory=options.directory,
        extra_response_headers=options.header,
    )
    server: Any
    if options.tls_cert:
        HTTPSDualStackServer.address_family = family
        files = {"certfile": options.tls_cert, "keyfile": options.tls_key, "password": password}
        server = HTTPSDualStackServer(address, handler, **files)
    else:
        HTTPDualStackServer.address_family = family
        server = HTTPDualStackServer(address, handler)
    with server:
        _say_where(server, "HTTPS" if options.tls_cert else "HTTP")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nKeyboard interrupt received, exiting.")
            sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m http.server")
    add = parser.add_argument
    add("-b", "--bind", metavar="ADDRESS", help="bind to this address (default: all interfaces)")
    add("-d", "--directory", default=os.getcwd(), help="serve this directory (default: the current one)")
    add(
        "-p",
        "--protocol",
        metavar="VERSION",
        default="HTTP/1.0",
        help="conform to this HTTP version (default: %(default)s)",
    )
    add(
        "--content-type",
        default=SimpleHTTPRequestHandler.default_content_type,
        help="content type of files whose extension is unknown (default: %(default)s)",
    )
    if CGIHTTPRequestHandler is not None:
        add("--cgi", action="store_true", help="run CGI scripts")
    add("--tls-cert", metavar="PATH", help="serve HTTPS, with the certificate chain in this file")
    add("--tls-key", metavar="PATH", help="the certificate's private key")
    add("--tls-password-file", metavar="PATH", help="file with the private key's password")
    add(
        "-H",
        "--header",
        nargs=2,
        action="append",
        metavar=("HEADER", "VALUE"),
        help="header field to add to responses; may be repeated",
    )
    add("port", default=8000, type=int, nargs="?", help="bind to this port (default: %(default)s)")
    return parser


def _password(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str | None:
    for name in ("key", "password_file"):
        if getattr(options, f"tls_{name}") and not options.tls_cert:
            parser.error(f"--tls-{name.replace('_', '-')} requires --tls-cert to be set")
    if not options.tls_password_file:
        return None
    try:
        with open(options.tls_password_file, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        parser.error(f"can't read the TLS password file: {error}")


def _say_where(server: Any, protocol: str) -> None:
    host, port = server.socket.getsockname()[:2]
    in_url = f"[{host}]" if ":" in host else host
    theme = theme_for(sys.stdout)
    url = f"{theme.url}{protocol.lower()}://{in_url}:{port}/{theme.reset}"
    print(f"{theme.serving}Serving {protocol} on {host} port {port}{theme.reset} ({url}) ...")
