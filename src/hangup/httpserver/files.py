"""Files over HTTP: ``http.server.SimpleHTTPRequestHandler``, kept inside its directory.

To the standard library's class this adds single byte ranges (RFC 9110 §14), preconditions and entity
tags (§13, §8.8), targets in absolute form (RFC 9112 §3.2.2), ``os.sendfile``, and one promise: nothing
outside the directory is served, whatever the path says and wherever links point.
"""

import http.server
import mimetypes
import os
import posixpath
import re
import stat
import urllib.parse
from collections.abc import Sequence
from http import HTTPStatus
from io import BufferedReader, BytesIO, FileIO
from typing import Any

from .._connection.streams import ResponseStream
from .conditions import (
    Validators,
    conditions,
    precondition_status,
    validators_of,
    wanted_part,
)
from .file_window import FileWindow, open_window
from .handler import BaseHTTPRequestHandler
from .listing import ENCODING, listing

__all__ = ["SimpleHTTPRequestHandler"]

_Stock = http.server.SimpleHTTPRequestHandler
_ABSOLUTE_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*)/*")
# What ends the path of a directory: whatever it is encoded as, a redirect can't add to it.
_SLASHES = ("/", "%2f", "%2F")
# What Python 3.15 gave its class; where it has it, it has to be passed on.
_KNOWS_EXTRA = hasattr(_Stock, "_send_extra_response_headers")


class SimpleHTTPRequestHandler(BaseHTTPRequestHandler, _Stock):
    """``http.server.SimpleHTTPRequestHandler``, on hangup's engine.

    A file is served only if its real path, with every symbolic link resolved, lies inside the real
    path of ``directory``; all else is 404, as if it weren't there.  For a class with a
    :meth:`translate_path` of its own, the directory is what that makes of ``/``; what it places
    elsewhere is served as it says.
    """

    #: Of Python 3.12; the names of 3.11 are the same.
    index_pages: Sequence[str] = ("index.html", "index.htm")
    #: Of Python 3.15: the type of what has no known one.
    default_content_type = "application/octet-stream"

    def __init__(
        self,
        request: Any,
        client_address: Any,
        server: Any,
        *,
        directory: str | os.PathLike[str] | None = None,
        extra_response_headers: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self.directory = os.fspath(directory if directory is not None else os.getcwd())
        #: Of Python 3.15: sent with each file and listing that has no such field itself.
        self.extra_response_headers = extra_response_headers
        extra = {"extra_response_headers": extra_response_headers} if _KNOWS_EXTRA else {}
        super().__init__(request, client_address, server, directory=self.directory, **extra)

    def _path_in(self, target: str) -> str:
        """The path and query of a target in absolute form (RFC 9112 §3.2.2).

        A program that looks at targets itself may be a proxy; or it may decide by the path who sees
        what, and must not be passed by.  It gets them as they come, as from http.server, unless they
        name this server.
        """
        origin, path = _split(target)
        methods = (getattr(type(self), name) for name in ("do_GET", "do_HEAD", "send_head"))
        plain = all(method.__module__.startswith(("http.server", "hangup.")) for method in methods)
        return path if origin and (plain or self._is_here(origin)) else target

    def _is_here(self, origin: str) -> bool:
        """Whether an origin is this server's, as far as a server knows its names."""
        try:
            parts = urllib.parse.urlsplit(origin)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
            own = self.connection.getsockname()
        except (OSError, ValueError):
            return False
        names = (own[0], "localhost", str(getattr(self.server, "server_name", "")).lower())
        return isinstance(own, tuple) and port == own[1] and host in names

    def send_head(self) -> Any:
        """Answer with a head; return the file that is to follow it, or None."""
        path = os.fspath(self.translate_path(self.path))
        root = self._root_of(path)
        if os.path.isdir(path) and (index := self._index_of(path)) is not None:
            path = index
        if not _is_inside(path, root):
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        if os.path.isdir(path):
            return self._send_directory_head(path)
        return self._send_file_head(path, root)

    # -- what is served

    def _root_of(self, path: str) -> str | None:
        """The directory in which ``path`` must lie; None if the program alone decides that.

        A translate_path of the program's own knows another root, or many of them.  It is asked for
        the one; what lies elsewhere is where the program put it.
        """
        if getattr(self.translate_path, "__func__", None) is _Stock.translate_path:
            return self.directory
        try:
            root = os.fspath(self.translate_path("/"))
        except Exception:
            return None  # It knows some paths, and this is none of them.
        there = _steps(root)
        return root if _steps(path)[: len(there)] == there else None

    def _url_path(self) -> str:
        return self.path.partition("?")[0].partition("#")[0]

    def _index_of(self, path: str) -> str | None:
        if not self._url_path().endswith(_SLASHES):
            return None
        for name in self.index_pages:
            index = os.path.join(path, name)
            if os.path.isfile(index):
                return index
        return None

    def _send_directory_head(self, path: str) -> Any:
        """A redirect to the name that ends in a slash, or the listing."""
        url = self._url_path()
        if url.endswith(_SLASHES):
            status = precondition_status(self.command, conditions(self.headers), Validators())
            if status is None:
                return self.list_directory(path)
            self._send_no_file(status, Validators())
            return None
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        location = f"{url}/{self.path[len(url) :]}"
        if location.startswith("/"):
            # Two slashes would name a host (CVE-2021-28861), and to a browser these are slashes.
            location = "/" + location.lstrip("/").replace("\\", "%5C")
        target = self.requestline.split(" ")[1:2]
        self.send_header("Location", "".join(_split(one)[0] for one in target) + location)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def list_directory(self, path: str | os.PathLike[str]) -> Any:
        """Respond with the head of a listing; return the file that is to follow it, or None."""
        try:
            names = os.listdir(path)
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND, "No permission to list directory")
            return None
        page = listing(os.fspath(path), names, self._url_path())
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-type", f"text/html; charset={ENCODING}")
        self.send_header("Content-Length", str(len(page)))
        self._send_extra_response_headers()
        self.end_headers()
        return BytesIO(page)

    # -- a file

    def _send_file_head(self, path: str, root: str | None) -> BufferedReader | None:
        file = _open(path, root)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        try:
            return self._send_head_of(file, path)
        except BaseException:
            file.close()
            raise

    def _send_head_of(self, file: FileIO, path: str) -> BufferedReader | None:
        """The head that the request's conditions ask for; the file, or its part, if it is to follow."""
        status = os.fstat(file.fileno())
        size = status.st_size
        validators = validators_of(status)
        fields = conditions(self.headers)
        unwanted = precondition_status(self.command, fields, validators)
        if unwanted is not None:
            file.close()
            self._send_no_file(unwanted, validators)
            return None
        part, partial = wanted_part(self.command, fields, validators, size)
        if part is None:
            file.close()
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-type", self.guess_type(path))
        self.send_header("Content-Length", str(part.length))
        if partial:
            last = part.start + part.length - 1
            self.send_header("Content-Range", f"bytes {part.start}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))
        self.send_header("ETag", validators.etag)
        self._send_extra_response_headers()
        self.end_headers()
        return open_window(file, part)

    def _send_extra_response_headers(self) -> None:
        # By the name that Python 3.15 has for it: a program's methods may be copies of those.
        if self.extra_response_headers:
            lines = b"".join(self._headers_buffer).lower().split(b"\r\n")
            there = {line.partition(b":")[0] for line in lines}
            for name, value in self.extra_response_headers:
                if name.lower().encode("latin-1", "replace") not in there:
                    self.send_header(name, value)

    def _send_no_file(self, status: HTTPStatus, validators: Validators) -> None:
        """A precondition is false.  A 304 has the entity tag of the file (RFC 9110 §15.4.5)."""
        if status is HTTPStatus.PRECONDITION_FAILED:
            self.send_error(status)
            return
        self.send_response(status)
        if validators.etag is not None:
            self.send_header("ETag", validators.etag)
        self.end_headers()

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """The media type of a file, by its name."""
        extension = posixpath.splitext(path)[1]
        for known in (extension, extension.lower()):
            if known in self.extensions_map:
                return self.extensions_map[known]
        guess = getattr(mimetypes, "guess_file_type", mimetypes.guess_type)  # Python 3.13
        return guess(path)[0] or self.default_content_type

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send ``source``, from where it stands: through ``os.sendfile`` if that can be."""
        window = getattr(source, "raw", None)
        connection = self._hangup
        if (
            connection is None
            or type(outputfile) is not ResponseStream
            or type(window) is not FileWindow
        ):
            super().copyfile(source, outputfile)
            return
        at = source.tell()
        start, missing = window.part.start + at, window.part.length - at
        if not 0 <= missing <= outputfile.room:
            # Of an answer with less body than this, or with none (HEAD): the stream knows what to do.
            super().copyfile(source, outputfile)
            return
        window.file.seek(start)
        if connection.output.send_file(window.file, start, missing) < missing:
            self.close_connection = True  # It has shrunk: only closing can tell.
        outputfile.room -= missing


def _split(target: str) -> tuple[str, str]:
    """A target in absolute form (RFC 9112 §3.2.2): up to the host, and its path and query.

    All of another target is its path and query.
    """
    match = _ABSOLUTE_FORM.match(target)
    return (match[1], "/" + target[match.end() :]) if match else ("", target)


def _steps(path: str) -> list[str]:
    """A path's names, from the root on; not without its ``..``, which may lead out of what is before."""
    path = os.path.join(os.getcwd(), path)
    return [name for name in path.split(os.sep) if name not in ("", os.curdir)]


def _is_inside(path: str, root: str | None) -> bool:
    if root is None:
        return True
    try:
        real_root, real = os.path.realpath(root), os.path.realpath(path)
    except ValueError:
        return False  # a NUL, or what the file system's encoding can't say
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)


def _open(path: str, root: str | None) -> FileIO | None:
    """The file, if it is a regular one: opening a FIFO would wait for its writer."""
    if path.endswith("/"):
        return None  # translate_path keeps a trailing slash, which a file's path has not.
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        file = FileIO(path)
    except (OSError, ValueError):
        return None
    opened = f"/proc/self/fd/{file.fileno()}"
    if os.path.exists(opened) and not _is_inside(opened, root):
        # A link was put in the path's place between the look and the opening.
        file.close()
        return None
    return file
