"""Flask, Django, Bottle, Falcon, and an application that we did not write, over real sockets."""

import base64
import importlib
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import bottle
import falcon
import flask
import pytest
import requests

from conftest import PATIENCE, Peer, until
from hangup import Outcome

EXAMPLES = Path(__file__).parent.parent / "examples" / "frameworks"
APPS = {"flask_app": "app", "django_app": "application", "bottle_app": "app", "falcon_app": "app"}
SIZE = 5_000_000


def load(name: str) -> Any:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return getattr(importlib.import_module(name), APPS[name])
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


def test_each_example_is_shown_in_the_docs() -> None:
    page = (EXAMPLES.parent.parent / "docs" / "frameworks.md").read_text()
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(APPS)
    for name in APPS:
        assert f"../examples/frameworks/{name}.py" in page


def test_one_connection_serves_all_views(serve_app: Any, app: Any) -> None:
    with serve_app(app).connect() as peer:
        for _ in range(3):
            response, body = peer.get("/").response()
            assert (response.status, body) == (200, b"Hello, world!")
        assert peer.get("/nothing").response()[0].status == 404
        assert peer.get("/").response()[1] == b"Hello, world!"


def test_a_stream_comes_piece_by_piece(serve_app: Any, app: Any) -> None:
    with serve_app(app).connect() as peer:
        peer.get("/stream")
        head = peer.read_head()
        assert b"Transfer-Encoding: chunked" in head
        for number in range(10):
            assert peer.read(7) == b"2\r\n%d\n\r\n" % number
        assert peer.read(5) == b"0\r\n\r\n"


def test_an_upload_with_its_length(serve_app: Any, app: Any) -> None:
    with serve_app(app).connect() as peer:
        for _ in range(2):
            peer.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % SIZE)
            peer.send(b"x" * SIZE)
            assert json.loads(peer.response()[1]) == {"size": SIZE}


@pytest.mark.parametrize("name", ["flask_app", "bottle_app", "falcon_app"])
def test_a_chunked_upload(serve_app: Any, name: str) -> None:
    """Django reads CONTENT_LENGTH bytes, and so none of a body so long that nobody knows its length."""
    with serve_app(load(name)).connect() as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            peer.send(b"186a0\r\n%b\r\n" % (b"x" * 100_000))
        peer.send(b"0\r\n\r\n")
        assert json.loads(peer.response()[1]) == {"size": SIZE}


def test_a_chunked_upload_whose_length_the_server_tells(serve_app: Any, app: Any) -> None:
    with serve_app(app).connect() as peer:
        for pieces in (1, 10):
            peer.send(b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(pieces):
                peer.send(b"186a0\r\n%b\r\n" % (b"x" * 100_000))
            peer.send(b"0\r\n\r\n")
            assert json.loads(peer.response()[1]) == {"size": pieces * 100_000}


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_a_view_stops_when_its_client_leaves(
    serve_app: Any, app: Any, leave: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    serving = serve_app(app)
    peer = serving.connect().get("/work")
    until_working(serving)
    getattr(peer, leave)()
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 499)
    assert record.took < PATIENCE
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING], "it is no error"


LONG = b"Content-Length: 200000\r\n\r\n" + bytes(100_000)
SHORT = b"Content-Length: 1000\r\n\r\n" + bytes(500)


@pytest.mark.parametrize("body", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("leave", ["fin", "rst"])
@pytest.mark.parametrize("name", ["flask", "bottle", "django", "falcon"])
def test_no_framework_prints_a_traceback_for_who_disconnects_in_an_upload(
    serve_app: Any, name: str, leave: str, body: bytes, caplog: Any, capfd: Any
) -> None:
    """The short one is never started, since its body comes first; of the long one wsgi.errors hears."""
    begun = threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        begun.release()
        return READERS[name]()(environ, start_response)

    serving = serve_app(app)
    peer = serving.connect()
    peer.send(b"POST /read HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\n" + body)
    if body is LONG:
        assert begun.acquire(timeout=PATIENCE)
    else:
        until(lambda: any(c.arrival.coming for c in watched(serving)), "its body is coming")
    getattr(peer, leave)()
    record = serving.record()
    assert (record.outcome, record.status) == (Outcome.DISCONNECTED, 499)
    assert begun.acquire(blocking=False) is False
    assert "Traceback" not in capfd.readouterr().err
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert not [text for text in told if "disconnect" in text.lower()]


def test_what_else_an_application_reports_is_printed(serve_app: Any, capfd: Any) -> None:
    """Also of a request whose client has disconnected."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["hangup.client"].wait(PATIENCE)
        environ["wsgi.errors"].write("something else\n")
        try:
            environ["hangup.client"].raise_if_disconnected()
        except OSError:
            environ["wsgi.errors"].write(traceback.format_exc())
        start_response("200 OK", [])
        return [b""]

    serving = serve_app(app)
    serving.connect().get("/").fin()
    serving.record()
    assert capfd.readouterr().err == "something else\n"


def watched(serving: Any) -> list[Any]:
    entries = serving.server.engine.loop._entries
    return [entry for entry in list(entries.values()) if hasattr(entry, "arrival")]


def reading_flask() -> Any:
    app = flask.Flask("reader")
    app.add_url_rule("/read", view_func=lambda: str(len(flask.request.get_data())), methods=["POST"])
    return app


def reading_bottle() -> Any:
    app = bottle.Bottle()
    app.route("/read", "POST", lambda: str(len(bottle.request.body.read())))
    return app


def reading_falcon() -> Any:
    class Reader:
        def on_post(self, request: Any, response: Any) -> None:
            response.text = str(len(request.bounded_stream.read()))

    app = falcon.App()
    app.add_route("/read", Reader())
    return app


def reading_django() -> Any:
    application = load("django_app")

    def read(environ: dict[str, Any], start_response: Any) -> Any:
        return application({**environ, "PATH_INFO": "/upload"}, start_response)

    return read


READERS = {
    "flask": reading_flask,
    "bottle": reading_bottle,
    "django": reading_django,
    "falcon": reading_falcon,
}


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_a_stream_stops_when_its_client_leaves(serve_app: Any, app: Any, leave: str) -> None:
    serving = serve_app(app)
    peer = serving.connect().get("/stream")
    peer.read_head()
    peer.read(7)
    getattr(peer, leave)()
    record = serving.record()
    assert record.outcome is Outcome.DISCONNECTED
    assert record.body_out < 70, "the rest was not made"


def until_working(serving: Any) -> None:
    """The view has asked for its client: from there on it is told."""
    entries = serving.server.engine.loop._entries

    def asked() -> bool:
        exchanges = [getattr(entry, "exchange", None) for entry in list(entries.values())]
        return any(exchange is not None and exchange.known_client for exchange in exchanges)

    until(asked, "a view waits for its client")


def test_both_sides_keep_to_the_protocol(serve_app: Any, app: Any) -> None:
    serving = serve_app(validator(app))
    assert serving.get("/")[1] == b"Hello, world!"
    assert serving.get("/stream")[1] == b"".join(b"%d\n" % number for number in range(10))
    with serving.connect() as peer:
        assert peer.send(b"GET / HTTP/1.0\r\n\r\n").response()[1] == b"Hello, world!"


# -- Django's live server


def test_djangos_live_server_runs_on_hangup_as_the_docs_say() -> None:
    load("django_app")
    page = (EXAMPLES.parent.parent / "docs" / "frameworks.md").read_text()
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "LiveServer" in block
    )
    names: dict[str, Any] = {}
    exec(compile(code, "frameworks.md", "exec"), names)
    thread = names["OnHangup"]("127.0.0.1", lambda application: application)
    thread.daemon = True
    thread.start()
    assert thread.is_ready.wait(PATIENCE)
    assert thread.error is None
    with Peer((thread.host, thread.port)) as peer:
        assert peer.get("/").response()[1] == b"Hello, world!"
    thread.httpd.shutdown()
    thread.terminate()
    assert names["MyTests"].server_thread_class is names["OnHangup"]


# -- an application that we did not write


@pytest.fixture(scope="module")
def httpbin_app() -> Any:
    import httpbin

    return httpbin.app


@pytest.fixture
def httpbin(serve_app: Any, httpbin_app: Any) -> Iterator[Any]:
    serving = serve_app(httpbin_app)

    class Session(requests.Session):
        def request(self, method: Any, url: Any, *args: Any, **options: Any) -> Any:
            options.setdefault("timeout", PATIENCE)
            return super().request(method, serving.server.url + url, *args, **options)

    with Session() as session:
        yield session


def test_httpbin_sees_what_was_sent(httpbin: Any) -> None:
    got = httpbin.get("/get", params={"a": "ü &", "b": ["1", "2"]}, headers={"X-Mine": "yes"}).json()
    assert got["args"] == {"a": "ü &", "b": ["1", "2"]}
    assert got["headers"]["X-Mine"] == "yes"
    assert got["origin"] == "127.0.0.1"
    assert httpbin.post("/post", json={"a": [1, None]}).json()["json"] == {"a": [1, None]}
    assert httpbin.post("/post", data={"a": "b"}).json()["form"] == {"a": "b"}
    assert httpbin.put("/put", data=b"raw").json()["data"] == "raw"
    assert httpbin.patch("/patch", data=b"raw").json()["data"] == "raw"
    assert httpbin.delete("/delete").status_code == 200
    files = {"file": ("name.txt", b"content" * 10000)}
    assert httpbin.post("/post", files=files).json()["files"] == {"file": "content" * 10000}


def test_httpbin_takes_a_chunked_upload(httpbin: Any) -> None:
    """Under another server than gunicorn it answers 501, if the environ says that a body is chunked."""
    answer = httpbin.post("/post", data=(b"%d" % number for number in range(10)))
    assert (answer.status_code, answer.json()["data"]) == (200, "0123456789")
    assert httpbin.get("/get").status_code == 200


@pytest.mark.parametrize("status", [200, 201, 204, 206, 304, 400, 401, 404, 418, 429, 500, 503])
def test_httpbin_answers_with_any_status(httpbin: Any, status: int) -> None:
    assert httpbin.get(f"/status/{status}").status_code == status
    assert httpbin.get("/get").status_code == 200


def test_httpbin_redirects_and_cookies(httpbin: Any) -> None:
    answer = httpbin.get("/get")
    assert answer.status_code == 200
    answer = httpbin.get("/redirect-to", params={"url": "/get"}, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/get")
    answer = httpbin.get("/cookies/set", params={"a": "1", "b": "2"}, allow_redirects=False)
    assert dict(answer.cookies) == {"a": "1", "b": "2"}
    assert httpbin.get("/cookies").json()["cookies"] == {"a": "1", "b": "2"}


def test_httpbin_compresses_and_encodes(httpbin: Any) -> None:
    assert httpbin.get("/gzip").json()["gzipped"] is True
    assert httpbin.get("/deflate").json()["deflated"] is True
    assert "∮ E⋅da = Q" in httpbin.get("/encoding/utf8").content.decode()
    assert httpbin.get("/image/png").content.startswith(b"\x89PNG")
    assert httpbin.get("/base64/" + base64.urlsafe_b64encode(b"hangup").decode()).text == "hangup"


def test_httpbin_streams(httpbin: Any) -> None:
    lines = httpbin.get("/stream/20").text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(20))
    assert len(httpbin.get("/stream-bytes/100000", params={"chunk_size": 1000}).content) == 100_000
    assert len(httpbin.get("/bytes/100000").content) == 100_000
    assert httpbin.get("/drip", params={"numbytes": 5, "duration": 0.1, "delay": 0}).content == b"*" * 5
    part = httpbin.get("/range/1000", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.headers["Content-Range"]) == (206, "bytes 10-19/1000")
    assert part.text == "klmnopqrst"


def test_httpbin_head_auth_and_caching(httpbin: Any) -> None:
    head = httpbin.head("/get")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0
    assert httpbin.get("/basic-auth/me/secret", auth=("me", "secret")).json()["authenticated"] is True
    assert httpbin.get("/basic-auth/me/secret").status_code == 401
    etag = httpbin.get("/etag/abc", headers={"If-None-Match": "abc"})
    assert (etag.status_code, etag.content) == (304, b"")
    assert httpbin.options("/get").headers["Allow"]


def test_httpbin_for_many_at_once(serve_app: Any, httpbin_app: Any) -> None:
    serving = serve_app(httpbin_app)
    wrong: list[Any] = []

    def client(name: str) -> None:
        with requests.Session() as session:
            for number in range(20):
                url = f"{serving.server.url}/anything/{name}/{number}"
                got = session.post(url, data=f"{name}-{number}", timeout=PATIENCE).json()
                if (got["data"], got["url"]) != (f"{name}-{number}", url):
                    wrong.append(got)

    threads = [threading.Thread(target=client, args=(f"c{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
