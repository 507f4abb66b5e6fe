"""Files: what http.server's class does, ranges, and never a byte from outside."""

import email.utils
import functools
import os
from typing import Any

import pytest

import hangup
from conftest import Serving
from hangup import _sendfile

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
        (f"bytes=-{SIZE + 1}", 200, slice(None)),
        ("bytes=0-", 200, slice(None)),
        (f"bytes={SIZE}-", 416, slice(0)),
        ("bytes=-0", 416, slice(0)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
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


def test_a_range_of_another_version_is_the_whole_file(files: Serving) -> None:
    modified = fetch(files, "/data.bin")[0].headers["Last-Modified"]
    assert fetch(files, "/data.bin", "Range: bytes=0-1", f"If-Range: {modified}")[0].status == 206
    assert fetch(files, "/data.bin", "Range: bytes=0-1", 'If-Range: "other"')[0].status == 200


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
    assert record.outcome is hangup.Outcome.LEFT
    assert record.phase is hangup.Phase.ANSWERING
    assert fetch(files, "/empty")[0].status == 200


def test_a_client_that_stalls_in_a_download_is_given_up(serve: Any, root: Any) -> None:
    with open(root / "big", "wb") as file:
        file.truncate(64 << 20)
    handler = functools.partial(hangup.SimpleHTTPRequestHandler, directory=root)
    serving = serve(handler, config=hangup.Config(write_timeout=0.1))
    with serving.connect() as peer:
        peer.get("/big")
        assert serving.record().outcome is hangup.Outcome.LEFT


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
