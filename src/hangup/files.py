"""Files over HTTP: ``http.server.SimpleHTTPRequestHandler``, kept inside its directory.

To the standard library's class this adds single byte ranges (RFC 9110 §14), ``os.sendfile``, and one
promise: nothing outside the directory is served, whatever the path says and wherever links point.
"""

import email.utils
import http.server
import os
import re
import stat
import urllib.parse
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple

from ._streams import AnswerStream
from .handler import BaseHTTPRequestHandler

__all__ = ["SimpleHTTPRequestHandler"]

# 18 digits are more than any file has, and fewer than int() objects to.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_PIECE_SIZE = 65536


class _Part(NamedTuple):
    """What is to be sent of a file."""

    start: int
    length: int


class SimpleHTTPRequestHandler(BaseHTTPRequestHandler, http.server.SimpleHTTPRequestHandler):
    """``http.server.SimpleHTTPRequestHandler``, on hangup's engine.

    A file is served only if its real path, with every symbolic link resolved, lies inside the real
    path of ``directory``; all else is 404, as if it weren't there.
    """

    #: Of Python 3.12; the names of 3.11 are the same.
    index_pages = ("index.html", "index.htm")

    _part: _Part | None = None

    def __init__(
        self,
        request: Any,
        client_address: Any,
        server: Any,
        *,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        self.directory = os.fspath(directory if directory is not None else os.getcwd())
        super().__init__(request, client_address, server, directory=self.directory)

    def send_head(self) -> Any:
        """Answer with a head; return the file that is to follow it, or None."""
        self._part = None
        path = self.translate_path(self.path)
        if os.path.isdir(path) and (index := self._index_of(path)) is not None:
            path = index
        if not self._is_inside(path):
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        if os.path.isdir(path):
            return self._send_directory_head(path)
        return self._send_file_head(path)

    def _send_directory_head(self, path: str) -> Any:
        """A redirect to the name that ends in a slash, or the listing."""
        parts = urllib.parse.urlsplit(self.path)
        if parts.path.endswith("/"):
            return self.list_directory(path)
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        url = urllib.parse.urlunsplit(parts._replace(path=parts.path + "/"))
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _is_inside(self, path: str) -> bool:
        try:
            root = os.path.realpath(self.directory)
            real = os.path.realpath(path)
        except ValueError:
            return False  # a NUL, or what the file system's encoding can't say
        return real == root or real.startswith(root.rstrip(os.sep) + os.sep)

    def _index_of(self, path: str) -> str | None:
        if not urllib.parse.urlsplit(self.path).path.endswith("/"):
            return None
        for name in self.index_pages:
            index = os.path.join(path, name)
            if os.path.isfile(index):
                return index
        return None

    def _send_file_head(self, path: str) -> BinaryIO | None:
        file = self._open(path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        try:
            status = os.fstat(file.fileno())
            if self._is_unchanged(status):
                self.send_response(HTTPStatus.NOT_MODIFIED)
                self.end_headers()
                file.close()
                return None
            part = self._wanted_part(status)
            if part is None:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{status.st_size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                file.close()
                return None
            self._part = part
            self._send_success(path, status, part)
        except BaseException:
            file.close()
            raise
        return file

    def _open(self, path: str) -> BinaryIO | None:
        """The file, if it is a regular one: opening a FIFO would wait for its writer."""
        if path.endswith("/"):
            return None  # translate_path keeps a trailing slash, which a file's path has not.
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return None
            file = open(path, "rb")  # noqa: SIM115 - its caller closes it
        except OSError:
            return None
        opened = f"/proc/self/fd/{file.fileno()}"
        if os.path.exists(opened) and not self._is_inside(opened):
            # A link was put in the path's place between the look and the opening.
            file.close()
            return None
        return file

    def _send_success(self, path: str, status: os.stat_result, part: _Part) -> None:
        partial = part.length != status.st_size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        self.send_header("Content-type", self.guess_type(path))
        self.send_header("Content-Length", str(part.length))
        if partial:
            last = part.start + part.length - 1
            self.send_header("Content-Range", f"bytes {part.start}-{last}/{status.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))
        self.end_headers()

    def _is_unchanged(self, status: os.stat_result) -> bool:
        """``If-Modified-Since``; ignored beside ``If-None-Match`` (RFC 9110 §13.1.3)."""
        if "If-Modified-Since" not in self.headers or "If-None-Match" in self.headers:
            return False
        try:
            since = email.utils.parsedate_to_datetime(self.headers["If-Modified-Since"])
        except (TypeError, IndexError, OverflowError, ValueError):
            return False
        if since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        changed = datetime.fromtimestamp(status.st_mtime, UTC).replace(microsecond=0)
        return since.tzinfo is UTC and changed <= since

    def _wanted_part(self, status: os.stat_result) -> _Part | None:
        """The part that ``Range`` asks for, or all; None if the file has no such part.

        More than one range, or something else than bytes, is answered with the whole file, which RFC
        9110 §14.2 permits; and so is a range of another version than this (``If-Range``, §13.1.5).
        """
        whole = _Part(0, status.st_size)
        wish = self.headers.get("Range", "")
        match = _RANGE.fullmatch(wish.strip()) if self.command == "GET" else None
        if match is None or match[0] == "bytes=-":
            return whole
        version = self.headers.get("If-Range")
        if version is not None and version != self.date_time_string(status.st_mtime):
            return whole
        if not match[1]:
            length = min(int(match[2]), status.st_size)
            return _Part(status.st_size - length, length) if length else None
        start = int(match[1])
        last = min(int(match[2]), status.st_size - 1) if match[2] else status.st_size - 1
        if match[2] and int(match[2]) < start:
            return whole  # not a range at all (§14.1.1)
        return _Part(start, last - start + 1) if start < status.st_size else None

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Send ``source``: the part that was asked for, through ``os.sendfile`` if that can be."""
        part = self._part
        if part is None:
            super().copyfile(source, outputfile)
        elif self._hangup is not None and type(outputfile) is AnswerStream:
            if self._hangup.send_file(source, part.start, part.length) < part.length:
                self.close_connection = True  # It has shrunk: only closing can tell.
        else:
            self._copy_part(source, outputfile, part)

    @staticmethod
    def _copy_part(source: Any, outputfile: Any, part: _Part) -> None:
        source.seek(part.start)
        missing = part.length
        while missing and (data := source.read(min(missing, _PIECE_SIZE))):
            outputfile.write(data)
            missing -= len(data)
