"""Files: what http.server's class does, ranges, and never a byte from outside."""

import email.utils
import functools
import http.server
import io
import os
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

import hangup
from conftest import Serving, answer
from hangup._connection import sendfile as _sendfile

DATA = bytes(range(256)) * 400  # 100 KiB
SECRET = b"nobody outside may read this"


@pytest.fixture
def root(tmp_path: Any) -> Any:
    inside = tmp_path / "served"
    inside.mkdir()
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "served-too").mkdir()
    (tmp_path / "served-too" / "secret.txt").write_bytes(SECRET)
    (inside / "data.bin").write_bytes(DATA)
    (inside / "empty").write_bytes(b"")
    (inside / "sub").mkdir()
    (inside / "sub" / "page.html").write_text("<p>page")
    (inside / "with-index").mkdir()
    (inside / "with-index" / "index.html").write_text("<p>index")
    (inside / "out-link").symlink_to(tmp_path / "secret.txt")
    (inside / "out-dir").symlink_to(tmp_path)
    (inside / "in-link").symlink_to(inside / "data.bin")
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "bad-index").mkdir()
    (inside / "bad-index" / "index.html").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(inside / "fifo")
    return inside


@pytest.fixture
def files(serve: Any, root: Any) -> Serving:
    class Handler(hangup.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

    serving: Serving = serve(functools.partial(Handler, directory=root))
    return serving


def fetch(serving: Serving, path: str, *fields: str, method: str = "GET") -> tuple[Any, bytes]:
    with serving.connect() as peer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields, "", ""]
        peer.send("\r\n".join(lines).encode("latin-1"))
        return peer.response(method)


def test_a_file_a_page_a_listing_and_a_redirect(files: Serving) -> None:
    response, body = fetch(files, "/data.bin")
    assert (response.status, body) == (200, DATA)
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["Content-type"] == "application/octet-stream"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert fetch(files, "/in-link")[1] == DATA
    assert fetch(files, "/sub/page.html")[0].headers["Content-type"] == "text/html"
    assert fetch(files, "/with-index/")[1] == b"<p>index"
    assert b"page.html" in fetch(files, "/sub/")[1]
    response, _ = fetch(files, "/sub?x=1")
    assert (response.status, response.headers["Location"]) == (301, "/sub/?x=1")
    assert fetch(files, "/empty")[1] == b""
    assert fetch(files, "/none")[0].status == 404
    assert fetch(files, "/data.bin/")[0].status == 404


def test_head_tells_all_and_sends_nothing(files: Serving) -> None:
    response, body = fetch(files, "/data.bin", method="HEAD")
    assert response.headers["Content-Length"] == str(len(DATA))
    assert body == b""


def test_if_modified_since(files: Serving) -> None:
    response, _ = fetch(files, "/data.bin")
    modified = response.headers["Last-Modified"]
    at = email.utils.parsedate_to_datetime(modified).timestamp()
    earlier = email.utils.formatdate(at - 60, usegmt=True)
    assert fetch(files, "/data.bin", f"If-Modified-Since: {modified}")[0].status == 304
    assert fetch(files, "/data.bin", f"If-Modified-Since: {earlier}")[0].status == 200
    assert fetch(files, "/data.bin", "If-Modified-Since: never")[0].status == 200
    without_zone = modified.replace("GMT", "-0000")
    assert fetch(files, "/data.bin", f"If-Modified-Since: {without_zone}")[0].status == 304
    both = (f"If-Modified-Since: {modified}", 'If-None-Match: "x"')
    assert fetch(files, "/data.bin", *both)[0].status == 200


SIZE = len(DATA)


@pytest.mark.parametrize(
    ("wish", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        (f"bytes={SIZE - 1}-{SIZE + 100}", 206, slice(SIZE - 1, None)),
        # All of it, and a part all the same: Safari takes no 200 for it (RFC 9110 §14.2).
        (f"bytes=-{SIZE + 1}", 206, slice(None)),
        ("bytes=0-", 206, slice(None)),
        (f"bytes=0-{SIZE - 1}", 206, slice(None)),
        (f"bytes=0-{2**64 - 1}", 206, slice(None)),
        ("Bytes=0-9", 206, slice(0, 10)),
        ("bytes= 0-9 ,", 206, slice(0, 10)),
        (f"bytes={SIZE}-", 416, slice(0)),
        ("bytes=-0", 416, slice(0)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes", 200, slice(None)),
        (f"bytes={'9' * 40}-", 416, slice(0)),
        ("bytes=a-b", 200, slice(None)),
    ],
)
def test_ranges(files: Serving, wish: str, status: int, part: slice) -> None:
    response, body = fetch(files, "/data.bin", f"Range: {wish}")
    assert response.status == status
    assert body == DATA[part]
    if status == 206:
        start, stop, _ = part.indices(SIZE)
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    elif status == 416:
        assert response.headers["Content-Range"] == f"bytes */{SIZE}"


def test_an_empty_file_has_no_parts_and_is_sent_whole(files: Serving) -> None:
    # No Content-Range can name a part of nothing. nginx, Go and Werkzeug do the same.
    for wish in ("bytes=0-", "bytes=0-9", "bytes=-5", "bytes=5-"):
        response, body = fetch(files, "/empty", f"Range: {wish}")
        assert (response.status, body) == (200, b"")


def test_a_range_is_for_get_alone(files: Serving) -> None:
    response, _ = fetch(files, "/data.bin", "Range: bytes=0-1", method="HEAD")
    assert (response.status, response.headers["Content-Length"]) == (200, str(SIZE))


def settle(root: Any, seconds: int = 784111777) -> None:
    """Make the file an old one: its entity tag is a strong one then."""
    os.utime(root / "data.bin", (seconds, seconds))


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["If-Match: *"], 200),
        (["If-Match: TAG"], 200),
        (['If-Match: "x", TAG'], 200),
        (['If-Match: "x"', "If-Match: TAG"], 200),
        (['If-Match: "x"'], 412),
        (["If-Match: W/TAG"], 412),
        (["If-Match: none"], 412),
        (['If-Match: "x,TAG'], 412),
        ([f"If-Unmodified-Since: {DATE}"], 200),
        ([f"If-Unmodified-Since: {AFTER}"], 200),
        ([f"If-Unmodified-Since: {BEFORE}"], 412),
        (["If-Unmodified-Since: Sunday, 06-Nov-94 08:49:36 GMT"], 412),
        (["If-Unmodified-Since: Sun Nov  6 08:49:36 1994"], 412),
        (["If-Unmodified-Since: never"], 200),
        (["If-Unmodified-Since: Sun, 99 Nov 1994 99:49:36 GMT"], 200),
        (["If-Match: TAG", f"If-Unmodified-Since: {BEFORE}"], 200),
        (["If-None-Match: *"], 304),
        (["If-None-Match: TAG"], 304),
        (["If-None-Match: W/TAG"], 304),
        (['If-None-Match: "x,y", W/TAG ,'], 304),
        (['If-None-Match: "x"', "If-None-Match: TAG"], 304),
        (['If-None-Match: "x"'], 200),
        (['If-None-Match: ""'], 200),
        (["If-None-Match:"], 200),
        (['If-None-Match: "x"', f"If-Modified-Since: {AFTER}"], 200),
        (["If-None-Match: TAG", f"If-Modified-Since: {BEFORE}"], 304),
        ([f"If-Modified-Since: {DATE}"], 304),
        ([f"If-Modified-Since: {BEFORE}"], 200),
        (["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"], 304),
        (["If-Modified-Since: Sun Nov  6 08:49:37 1994"], 304),
        (["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 +0100"], 200),
        ([f"If-Modified-Since: {DATE}", f"If-Modified-Since: {DATE}"], 200),
        (["If-Modified-Since:"], 200),
        (['If-Match: "x"', "If-None-Match: TAG"], 412),
        ([f"If-Unmodified-Since: {BEFORE}", "If-None-Match: TAG"], 412),
        ([f"If-Unmodified-Since: {AFTER}", "If-None-Match: TAG"], 304),
    ],
)
def test_preconditions_in_their_order(files: Serving, root: Any, fields: list[str], status: int) -> None:
    """RFC 9110 §13.2.2; with a range beside them, which comes last, and for HEAD."""
    settle(root)
    tag = fetch(files, "/data.bin")[0].headers["ETag"]
    fields = [field.replace("TAG", tag) for field in fields]
    response, body = fetch(files, "/data.bin", *fields)
    assert response.status == status
    assert (body == DATA) == (status == 200)
    assert fetch(files, "/data.bin", *fields, method="HEAD")[0].status == status
    response, body = fetch(files, "/data.bin", "Range: bytes=0-1", *fields)
    assert response.status == (206 if status == 200 else status)
    beyond, _ = fetch(files, "/data.bin", f"Range: bytes={SIZE}-", *fields)
    assert beyond.status == (416 if status == 200 else status)
    assert fetch(files, "/none", *fields)[0].status == 404


def test_an_old_date_with_two_digits_is_of_this_century_if_that_is_near(
    files: Serving, root: Any
) -> None:
    """RFC 9110 §5.6.7: more than 50 years ahead is the past."""
    this_year = datetime.now(UTC).year
    for year, status in [(this_year + 49, 304), (this_year + 51, 200)]:
        field = f"If-Modified-Since: Monday, 01-Jan-{year % 100:02} 00:00:00 GMT"
        assert fetch(files, "/data.bin", field)[0].status == status


def test_a_304_has_what_a_cache_needs(files: Serving, root: Any) -> None:
    settle(root)
    whole, _ = fetch(files, "/data.bin")
    response, _ = fetch(files, "/data.bin", "If-None-Match: *")
    assert response.headers["ETag"] == whole.headers["ETag"]
    assert response.headers["Date"]
    assert "Content-Length" not in response.headers


def test_a_tag_is_a_strong_one_only_when_the_file_has_settled(files: Serving, root: Any) -> None:
    """Two versions within a tick of the clock have one time stamp (RFC 9110 §8.8.1)."""
    now = time.time()
    settle(root, int(now) + 60)
    weak = fetch(files, "/data.bin")[0].headers["ETag"]
    assert weak.startswith('W/"')
    assert fetch(files, "/data.bin", f"If-None-Match: {weak}")[0].status == 304
    assert fetch(files, "/data.bin", f"If-Match: {weak}")[0].status == 412
    assert fetch(files, "/data.bin", "Range: bytes=0-1", f"If-Range: {weak}")[0].status == 200
    settle(root, int(now) - 60)
    strong = fetch(files, "/data.bin")[0].headers["ETag"]
    settle(root, int(now) - 59)
    other = fetch(files, "/data.bin")[0].headers["ETag"]
    assert strong != other
    assert strong[0] == other[0] == '"'


def test_preconditions_of_a_listing(files: Serving) -> None:
    assert fetch(files, "/sub/", "If-Match: *")[0].status == 200
    assert fetch(files, "/sub/", 'If-Match: "x"')[0].status == 412
    assert fetch(files, "/sub/", "If-None-Match: *")[0].status == 304
    assert fetch(files, "/sub/", 'If-None-Match: "x"')[0].status == 200
    assert fetch(files, "/sub/", f"If-Modified-Since: {AFTER}")[0].status == 200
    assert fetch(files, "/sub/", f"If-Unmodified-Since: {BEFORE}")[0].status == 200
    assert fetch(files, "/sub", 'If-Match: "x"')[0].status == 301


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        ("http://x/sub/page.html", 200, None),
        ("HTTPS://user.example:81/sub/page.html?q", 200, None),
        ("http://x/sub/p%61ge.html", 200, None),
        ("http://x//sub/page.html", 200, None),
        ("http://x", 200, None),
        ("http://x?q=http://y/z", 200, None),
        ("http://x/none", 404, None),
        ("http://x/http://x/sub/page.html", 404, None),
        ("http://x/sub", 301, "http://x/sub/"),
        ("http://x/sub?a=/b?c", 301, "http://x/sub/?a=/b?c"),
        ("http://x//sub", 301, "http://x/sub/"),
        ("http://x//evil.example/%2e%2e/sub", 301, "http://x/evil.example/%2e%2e/sub/"),
        ("//evil.example/%2f..", 301, "/evil.example/%2f../"),
        ("/\\evil.example/%2f..", 301, "/%5Cevil.example/%2f../"),
        ("http://x/\\evil.example/%2f..", 301, "http://x/%5Cevil.example/%2f../"),
    ],
)
def test_a_target_in_absolute_form_is_the_path_in_it(
    files: Serving, target: str, status: int, location: str | None
) -> None:
    """RFC 9112 §3.2.2; and no target leads to another host (CVE-2021-28861)."""
    response, _ = fetch(files, target)
    assert (response.status, response.headers["Location"]) == (status, location)


def test_a_program_that_looks_at_targets_finds_those_of_others_as_they_come(
    serve: Any, root: Any
) -> None:
    """It may be a proxy, or keep a part of the directory to itself: nobody gets past it."""

    class Handler(hangup.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if "proxied" in self.path:
                answer(self, self.path.encode())
            elif self.path.startswith("/sub"):
                self.send_error(403)
            else:
                super().do_GET()

    serving = serve(functools.partial(Handler, directory=root))
    port = serving.address[1]
    assert fetch(serving, "http://x/proxied?y")[1] == b"http://x/proxied?y"
    assert fetch(serving, "http://x/sub/page.html")[0].status == 404
    for host in (f"127.0.0.1:{port}", f"LocalHost:{port}"):
        assert fetch(serving, f"http://{host}/sub/page.html")[0].status == 403
        assert fetch(serving, f"http://{host}/data.bin")[1] == DATA
    for host in ("127.0.0.1", f"127.0.0.2:{port}", "[::1]", "x:99999"):
        assert fetch(serving, f"http://{host}/data.bin")[0].status in (400, 404)


def test_a_range_of_another_version_is_the_whole_file(files: Serving, root: Any) -> None:
    modified = fetch(files, "/data.bin")[0].headers["Last-Modified"]
    assert fetch(files, "/data.bin", "Range: bytes=0-1", f"If-Range: {modified}")[0].status == 206
    assert fetch(files, "/data.bin", "Range: bytes=0-1", 'If-Range: "other"')[0].status == 200
    settle(root)
    tag = fetch(files, "/data.bin")[0].headers["ETag"]
    for version, status in [
        (tag, 206),
        (f"W/{tag}", 200),
        ("*", 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 206),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 206),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ("a year ago", 200),
    ]:
        response, _ = fetch(files, "/data.bin", "Range: bytes=0-1", f"If-Range: {version}")
        assert response.status == status, version
    # Beyond the end of another version: that version's client gets the whole of this one.
    assert fetch(files, "/data.bin", f"Range: bytes={SIZE}-", 'If-Range: "x"')[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/....//secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/../served-too/secret.txt",
        "/out-link",
        "/out-dir/secret.txt",
        "/out-dir/",
        "/out-dir",
        "/bad-index/index.html",
        "/loop",
        "/fifo",
        "/data.bin%00.html",
        "/%00",
        "//secret.txt",
        "{absolute}",
        "/{absolute}",
        "http://x{absolute}",
        "%2f{absolute}",
    ],
)
def test_nothing_outside_is_served(files: Serving, root: Any, path: str) -> None:
    response, body = fetch(files, path.format(absolute=root.parent / "secret.txt"))
    assert response.status in (400, 404)
    assert SECRET not in body
    assert b"secret.txt" not in body or path != "/out-dir/"


def test_an_index_that_leads_outside_is_no_index(files: Serving) -> None:
    response, body = fetch(files, "/bad-index/")
    assert SECRET not in body
    assert response.status == 404


def test_keep_alive_survives_files(files: Serving) -> None:
    with files.connect() as peer:
        for _ in range(3):
            assert peer.get("/data.bin").response()[1] == DATA
            assert peer.get("/data.bin", "Range: bytes=1-2").response()[1] == DATA[1:3]
        assert peer.get("/none").response()[0].status == 404


def test_without_sendfile_a_file_is_read_in_pieces(
    files: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(_sendfile.os, "sendfile")
    assert fetch(files, "/data.bin")[1] == DATA
    assert fetch(files, "/data.bin", "Range: bytes=5-70000")[1] == DATA[5:70001]


def test_into_a_buffered_wfile(serve: Any, root: Any) -> None:
    class Handler(hangup.SimpleHTTPRequestHandler):
        wbufsize = -1

    serving = serve(functools.partial(Handler, directory=root))
    assert fetch(serving, "/data.bin", "Range: bytes=5-70000")[1] == DATA[5:70001]


def test_a_file_that_shrinks_ends_the_connection(files: Serving, root: Any) -> None:
    big = root / "big"
    size = 64 << 20
    with open(big, "wb") as file:
        file.truncate(size)
    with files.connect() as peer:
        peer.get("/big")
        peer.read(1 << 20)
        os.truncate(big, 2 << 20)
        rest = peer.read_to_end()
    assert len(rest) < size


def test_a_client_that_leaves_a_download(files: Serving, root: Any) -> None:
    with open(root / "big", "wb") as file:
        file.truncate(64 << 20)
    peer = files.connect().get("/big")
    peer.read(1 << 20)
    peer.rst()
    record = files.record()
    assert record.outcome is hangup.Outcome.DISCONNECTED
    assert record.phase is hangup.Phase.RESPONSE
    assert fetch(files, "/empty")[0].status == 200


def test_a_client_that_stalls_in_a_download_is_given_up(serve: Any, root: Any) -> None:
    with open(root / "big", "wb") as file:
        file.truncate(64 << 20)
    handler = functools.partial(hangup.SimpleHTTPRequestHandler, directory=root)
    serving = serve(handler, config=hangup.Config(write_timeout=0.1))
    with serving.connect() as peer:
        peer.get("/big")
        assert serving.record().outcome is hangup.Outcome.DISCONNECTED


def test_the_sockets_own_sendfile(serve: Any, base: Any, root: Any) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with open(root / "data.bin", "rb") as file:
                sent.append(self.connection.sendfile(file, 10, 20))

    sent: list[int] = []
    assert serve(Handler).get() == (200, DATA[10:30])
    assert sent == [20]


def test_the_directory_is_the_current_one_unless_given(
    serve: Any, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert fetch(serve(hangup.SimpleHTTPRequestHandler), "/empty")[0].status == 200


def test_a_path_that_no_file_can_have(files: Serving) -> None:
    assert fetch(files, "/%ed%a0%80")[0].status == 404
    assert fetch(files, "/data.bin", "Range: bytes=0-" + "9" * 5000)[0].status == 200


def test_what_sendfile_cannot_send_is_read(serve: Any, base: Any) -> None:
    class Handler(base):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            reading, writing = os.pipe()
            os.write(writing, b"from a pipe")
            os.close(writing)
            with open(reading, "rb") as file:
                self.connection.sendfile(file)

    assert serve(Handler).get() == (200, b"from a pipe")


def test_other_index_pages(serve: Any, root: Any) -> None:
    class Handler(hangup.SimpleHTTPRequestHandler):
        index_pages = ("page.html",)

    serving = serve(functools.partial(Handler, directory=root))
    assert fetch(serving, "/sub/")[1] == b"<p>page"
    response, body = fetch(serving, "/bad-index/")
    assert response.status == 200
    assert SECRET not in body


# -- programs that change how it is done


def modified_root(serve: Any, root: Any, **methods: Any) -> Serving:
    """A server of ``root`` by a subclass that has these methods, on connections that last."""
    bases = (hangup.SimpleHTTPRequestHandler,)
    cls = type("Handler", bases, {"protocol_version": "HTTP/1.1", **methods})
    serving: Serving = serve(functools.partial(cls, directory=root))
    return serving


def test_translate_path_to_another_root(
    serve: Any, root: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The usual recipe; and links lead out of that root no more than out of the directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    class Handler(hangup.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            path = super().translate_path(path)
            return os.path.join(root, os.path.relpath(path, os.getcwd()))

    serving = serve(Handler)
    assert fetch(serving, "/data.bin")[1] == DATA
    assert fetch(serving, "/with-index/")[1] == b"<p>index"
    assert fetch(serving, "/sub")[0].headers["Location"] == "/sub/"
    assert fetch(serving, "/in-link")[1] == DATA
    assert b"data.bin" in fetch(serving, "/")[1]
    for path in ("/out-link", "/out-dir/secret.txt", "/../secret.txt", "/bad-index/"):
        assert SECRET not in fetch(serving, path)[1]


def test_translate_path_without_a_look_at_dots(serve: Any, root: Any) -> None:
    """A mapping that forgets them has the root all the same."""
    serving = modified_root(serve, root, translate_path=lambda _self, path: f"{root}/./{path}")
    assert fetch(serving, "/data.bin")[1] == DATA
    for path in ("/../secret.txt", "/sub/../../secret.txt", "/../served-too/secret.txt"):
        assert fetch(serving, path)[0].status == 404


def test_translate_path_to_many_roots(serve: Any, root: Any, tmp_path: Any) -> None:
    """One that knows no root at all, or several: it decides alone."""
    (tmp_path / "link").symlink_to(root / "data.bin")
    places = {"/": str(root), "/a": str(tmp_path / "served-too"), "/b": str(tmp_path / "link")}
    for known in (places, {name: place for name, place in places.items() if name != "/"}):

        def translate(self: Any, path: str, known: Any = known) -> str:
            head, _, tail = path[1:].partition("/")
            return os.path.join(known["/" + head], tail) if tail else str(known["/" + head])

        serving = modified_root(serve, root, translate_path=translate)
        assert fetch(serving, "/a/secret.txt")[1] == SECRET
        assert fetch(serving, "/b")[1] == DATA


def test_translate_path_that_falls_back_to_a_page(serve: Any, root: Any) -> None:
    def translate(self: Any, path: str) -> str:
        found: str = hangup.SimpleHTTPRequestHandler.translate_path(self, path)
        return found if os.path.isfile(found) else str(root / "sub" / "page.html")

    serving = modified_root(serve, root, translate_path=translate)
    assert fetch(serving, "/")[1] == fetch(serving, "/some/view")[1] == b"<p>page"
    assert fetch(serving, "/data.bin")[1] == DATA
    assert fetch(serving, "/out-link")[1] == SECRET  # It has no directory: its word alone counts.


def test_a_path_and_a_directory_that_are_set_for_one_request(serve: Any, root: Any) -> None:
    def do_get(self: Any) -> None:
        if self.path == "/too":
            self.directory, self.path = str(root.parent / "served-too"), "secret.txt"
        elif not os.path.exists(self.translate_path(self.path)):
            self.path = "/sub/page.html?x"
        hangup.SimpleHTTPRequestHandler.do_GET(self)

    serving = modified_root(serve, root, do_GET=do_get)
    assert fetch(serving, "/some/view")[1] == b"<p>page"
    assert fetch(serving, "/too")[1] == SECRET
    assert fetch(serving, "/data.bin")[1] == DATA


def test_a_directory_that_the_constructor_sets(serve: Any, root: Any) -> None:
    class Handler(hangup.SimpleHTTPRequestHandler):
        extensions_map: ClassVar[Any] = {".bin": "application/x-data"}
        default_content_type = "text/x-unknown"

        def __init__(self, *args: Any, **options: Any) -> None:
            options["extra_response_headers"] = [("X-Extra", "yes")]
            super().__init__(*args, directory=root, **options)

    response, body = fetch(serve(Handler), "/data.bin")
    assert body == DATA
    assert response.headers["Content-type"] == "application/x-data"
    assert response.headers["X-Extra"] == "yes"
    assert fetch(serve(Handler), "/empty")[0].headers["Content-type"] == "text/x-unknown"


EXTRA = [("X-Extra", "a"), ("Set-Cookie", "b"), ("Set-Cookie", "c"), ("content-TYPE", "no/no"),
         ("Date", "never"), ("Server", "another")]  # fmt: skip


@pytest.mark.parametrize("kind", ["own", "stock"])
def test_extra_fields_are_added_to_files_and_listings(serve: Any, root: Any, kind: str) -> None:
    """Of Python 3.15: each response has them, those that it has itself excepted."""
    base: Any = hangup.SimpleHTTPRequestHandler
    if kind == "stock":
        base = http.server.SimpleHTTPRequestHandler
        if sys.version_info < (3, 15):
            pytest.skip("this http.server has no extra_response_headers")

    class Handler(base):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(root), extra_response_headers=EXTRA)

    with serve(Handler).connect() as peer:
        # The fields of one response are no news of the next one: a redirect's Location, say.
        data = ("/data.bin", "application/octet-stream")
        for path, media_type in [data, ("/sub", ""), ("/sub/", "text/html"), data]:
            response, _ = peer.get(path).response()
            headers = response.headers
            if not media_type:
                assert "X-Extra" not in headers
                continue
            assert response.status == 200
            assert headers["X-Extra"] == "a"
            assert headers.get_all("Set-Cookie") == ["b", "c"]
            assert [each.partition(";")[0] for each in headers.get_all("Content-Type")] == [media_type]
            assert len(headers.get_all("Date")) == len(headers.get_all("Server")) == 1


def test_a_listing_is_that_of_the_newest_python(serve: Any, root: Any) -> None:
    odd = 'a <b> & "c" ü'
    (root / "odd").mkdir()
    (root / "odd" / odd).write_bytes(b"")
    (root / "odd" / "B").mkdir()
    (root / "odd" / "c").symlink_to(root)
    serving = modified_root(serve, root)
    response, body = fetch(serving, "/odd/?sort=%3Cname%3E")
    text = body.decode()
    assert response.headers["Content-Type"] == f"text/html; charset={sys.getfilesystemencoding()}"
    assert "<title>Directory listing for /odd/</title>" in text
    assert "color-scheme: light dark" in text
    assert re.findall(r'<li><a href="(.*)">(.*)</a></li>', text) == [
        ("a%20%3Cb%3E%20%26%20%22c%22%20%C3%BC", 'a &lt;b&gt; &amp; "c" ü'),
        ("B/", "B/"),
        ("c/", "c@"),
    ]


def test_a_listing_of_what_cannot_be_read_is_404(serve: Any, root: Any) -> None:
    def do_get(self: Any) -> None:
        assert self.list_directory(str(root / "was there")) is None

    response, body = fetch(modified_root(serve, root, do_GET=do_get), "/")
    assert response.status == 404
    assert b"No permission to list directory" in body


def test_a_directory_by_an_encoded_slash_is_not_redirected_again(files: Serving) -> None:
    response, body = fetch(files, "/sub%2f")
    assert response.status == 200
    assert b"page.html" in body
    assert fetch(files, "/with-index%2F")[1] == b"<p>index"


def test_an_error_page_has_the_readers_colours(files: Serving) -> None:
    assert b"color-scheme: light dark" in fetch(files, "/none")[1]


def own_copy(self: Any) -> None:
    with self.send_head() as file:
        shutil.copyfileobj(file, self.wfile)


def in_pieces(self: Any, source: Any, outputfile: Any) -> None:
    while piece := source.read(1000):
        outputfile.write(piece)


def all_at_once(self: Any, source: Any, outputfile: Any) -> None:
    outputfile.write(source.read())


def after_a_look(self: Any, source: Any, outputfile: Any) -> None:
    source.read(3)
    source.seek(0)
    hangup.SimpleHTTPRequestHandler.copyfile(self, source, outputfile)


def the_rest(self: Any, source: Any, outputfile: Any) -> None:
    outputfile.write(source.read(3))
    hangup.SimpleHTTPRequestHandler.copyfile(self, source, outputfile)


@pytest.mark.parametrize(
    "methods",
    [{"do_GET": own_copy}]
    + [{"copyfile": copy} for copy in (in_pieces, all_at_once, after_a_look, the_rest)],
)
def test_a_copy_of_the_programs_own_sends_the_part_too(serve: Any, root: Any, methods: Any) -> None:
    serving = modified_root(serve, root, **methods)
    for fields, part in [((), DATA), (("Range: bytes=70000-70009",), DATA[70000:70010])]:
        assert fetch(serving, "/data.bin", *fields)[1] == part
    with serving.connect() as peer:
        for start in (5, 0, 90000):
            response, body = peer.get("/data.bin", f"Range: bytes={start}-{start + 8}").response()
            assert (response.status, body) == (206, DATA[start : start + 9])


def test_a_file_of_the_programs_own_behind_ours(serve: Any, root: Any) -> None:
    """What is to be sent of a file is the file's, and not the handler's: one request's stays its own."""

    def send_head(self: Any) -> Any:
        if self.path != "/own":
            return hangup.SimpleHTTPRequestHandler.send_head(self)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        return io.BytesIO(b"own")

    serving = modified_root(serve, root, send_head=send_head)
    with serving.connect() as peer:
        for _ in range(2):
            assert peer.get("/own").response()[1] == b"own"
            assert peer.get("/data.bin", "Range: bytes=1-2").response()[1] == DATA[1:3]
            assert peer.get("/empty").response()[1] == b""


def test_what_send_head_returns_is_a_file(serve: Any, root: Any) -> None:
    seen: dict[str, Any] = {}

    def copy(self: Any, source: Any, outputfile: Any) -> None:
        seen.update(size=os.fstat(source.fileno()).st_size, name=source.name, mode=source.mode)
        seen.update(end=source.seek(0, os.SEEK_END), back=source.seek(-4, os.SEEK_CUR))
        seen["rest"] = source.read()
        with pytest.raises(ValueError, match="negative"):
            source.raw.seek(-1)
        source.seek(0)
        outputfile.write(b"".join(source))

    serving = modified_root(serve, root, copyfile=copy)
    assert fetch(serving, "/data.bin", "Range: bytes=10-19")[1] == DATA[10:20]
    assert seen == {
        "size": SIZE, "name": str(root / "data.bin"), "mode": "rb", "end": 10, "back": 6,
        "rest": DATA[16:20],
    }  # fmt: skip


def test_a_head_by_the_method_of_get_has_no_body(serve: Any, root: Any) -> None:
    serving = modified_root(serve, root, do_HEAD=hangup.SimpleHTTPRequestHandler.do_GET)
    with serving.connect() as peer:
        peer.send(b"HEAD /data.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        assert peer.response("HEAD")[0].headers["Content-Length"] == str(SIZE)
        assert peer.get("/with-index/").response()[1] == b"<p>index"


def test_a_file_that_grows_is_sent_as_long_as_was_said(
    serve: Any, root: Any, nothing_is_said: None
) -> None:
    def copy(self: Any, source: Any, outputfile: Any) -> None:
        with open(root / "data.bin", "ab") as file:
            file.write(b"more")
        hangup.SimpleHTTPRequestHandler.copyfile(self, source, outputfile)

    serving = modified_root(serve, root, copyfile=copy)
    with serving.connect() as peer:
        for size in (SIZE, SIZE + 4):
            assert len(peer.get("/data.bin").response()[1]) == size


def test_more_behind_a_file_than_was_said_is_cut_off(serve: Any, root: Any) -> None:
    def do_get(self: Any) -> None:
        hangup.SimpleHTTPRequestHandler.do_GET(self)
        self.wfile.write(b"more")

    serving = modified_root(serve, root, do_GET=do_get)
    with serving.connect() as peer:
        assert peer.get("/data.bin").response()[1] == DATA
        assert peer.read_to_end() == b""


def test_fields_in_end_headers_are_in_every_answer(serve: Any, root: Any) -> None:
    def end_headers(self: Any) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        hangup.SimpleHTTPRequestHandler.end_headers(self)

    serving = modified_root(serve, root, end_headers=end_headers)
    for path, field in [
        ("/data.bin", "X: y"), ("/data.bin", "Range: bytes=1-2"), ("/data.bin", "If-None-Match: *"),
        ("/data.bin", 'If-Match: "x"'), ("/data.bin", f"Range: bytes={SIZE}-"), ("/sub", "X: y"),
        ("/sub/", "X: y"), ("/none", "X: y"),
    ]:  # fmt: skip
        assert fetch(serving, path, field)[0].headers["Access-Control-Allow-Origin"] == "*"


def test_no_request_leaves_anything_on_the_handler(serve: Any, root: Any) -> None:
    """What the handler object has besides http.server's own attributes is as it was before."""
    handlers: list[Any] = []

    def do_get(self: Any) -> None:
        handlers.append((self, state(self)))
        hangup.SimpleHTTPRequestHandler.do_GET(self)

    def state(handler: Any) -> dict[str, Any]:
        of_every_request = ("requestline", "path", "command", "request_version", "close_connection")
        made_by_a_look = ("headers", "rfile", "_headers_buffer", "raw_requestline", "_head_taken")
        of_every_request += ("_request",)
        found = {**vars(handler), "room": handler.wfile.room}
        return {name: found[name] for name in found if name not in (*of_every_request, *made_by_a_look)}

    serving = modified_root(serve, root, do_GET=do_get)
    with serving.connect() as peer:
        for path, field in [
            ("/data.bin", "X: y"), ("/data.bin", "Range: bytes=1-2"), ("/sub/", "X: y"),
            ("/data.bin", "If-None-Match: *"), ("/sub", "X: y"), ("/empty", "X: y"),
        ]:  # fmt: skip
            peer.get(path, field).response()
    first, known = handlers[0]
    for handler, before in handlers[1:]:
        assert handler is first
        changed = {name: value for name, value in before.items() if known.get(name, value) != value}
        assert not changed
        assert {name for name in before if before[name]} <= {name for name in known if known[name]}
