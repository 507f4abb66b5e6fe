"""How a response is framed: by one function, which no short way and no front end departs from."""

import http.client
import io
import re
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import hangup
from hangup._http1.framing import (
    BODILESS,
    CHUNKED,
    NO_BODY,
    TUNNEL,
    UNTIL_CLOSE,
    Framing,
    frame_response,
)

METHODS = st.sampled_from(["GET", "HEAD", "POST", "CONNECT", "OPTIONS"])
PROTOCOLS = st.sampled_from(["", "HTTP/0.9", "HTTP/1.0", "HTTP/1.1"])
STATUSES = st.sampled_from([200, 201, 204, 206, 302, 304, 404, 500])
NEXT = b"HTTP/1.1 299 The next one\r\nContent-Length: 0\r\n\r\n"


class Wire:
    """What http.client reads from, as from a socket."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def makefile(self, mode: str) -> "Wire":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def close(self) -> None:
        pass


def read_by_http_client(data: bytes, method: str) -> tuple[bytes, bytes]:
    """The body of the first response, as the standard library finds it, and what is behind."""
    wire = Wire(data)
    response = http.client.HTTPResponse(wire, method=method)  # type: ignore[arg-type]
    response.begin()
    return response.read(), wire.file.read()


def as_sent(framing: Framing, status: int, declared: int | None, body: bytes) -> bytes:
    """A response as a front end sends it that does what ``framing`` says."""
    lines = []
    if declared == CHUNKED:
        lines.append(("transfer-encoding", b"chunked"))
    elif declared is not None:
        lines.append(("content-length", b"%d" % declared))
    head = b"HTTP/1.1 %d X\r\n" % status
    for name, value in lines:
        if name not in framing.dropped:
            head += name.encode() + b": " + value + b"\r\n"
    head += framing.body_line + framing.connection_line + b"\r\n"
    if framing.body == NO_BODY:
        return head
    if framing.body == CHUNKED:
        return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return head + body


@given(METHODS, PROTOCOLS, STATUSES, st.binary(max_size=20), st.data())
def test_a_client_finds_the_bodys_end_and_the_next_response(
    method: str, protocol: str, status: int, body: bytes, data: st.DataObject
) -> None:
    declared = data.draw(st.sampled_from([None, len(body), CHUNKED]))
    known = data.draw(st.sampled_from([None, len(body)]))
    framing = frame_response(
        method,
        protocol,
        status,
        declared,
        known_length=known,
        may_chunk=data.draw(st.booleans()),
        persists=data.draw(st.booleans()),
    )
    if framing.body == TUNNEL:
        assert method == "CONNECT"
        assert status < 300
        assert not framing.persists
        return
    sent = as_sent(framing, status, declared, body)
    found, behind = read_by_http_client(sent + (NEXT if framing.persists else b""), method)
    bodiless = method == "HEAD" or status in BODILESS
    assert found == (b"" if bodiless else body)
    assert behind == (NEXT if framing.persists else b"")


@given(
    METHODS, PROTOCOLS, STATUSES, st.sampled_from([None, 0, 7, CHUNKED]), st.booleans(), st.booleans()
)
def test_what_rfc_9112_rules_out_never_comes(
    method: str, protocol: str, status: int, declared: int | None, may_chunk: bool, persists: bool
) -> None:
    framing = frame_response(method, protocol, status, declared, may_chunk=may_chunk, persists=persists)
    assert framing.persists <= persists
    if protocol != "HTTP/1.1":  # §6.1
        assert framing.body != CHUNKED
        assert declared != CHUNKED or "transfer-encoding" in framing.dropped
    assert not (framing.persists and framing.body in (UNTIL_CLOSE, TUNNEL))  # §6.3
    if declared == CHUNKED:  # §6.2: never both
        assert b"Content-Length" not in framing.body_line
    elif declared is not None:
        assert not framing.body_line
    if status == 204 and declared is not None:  # RFC 9110 §8.6, RFC 9112 §6.1
        assert "content-length" in framing.dropped
        assert "transfer-encoding" in framing.dropped
    assert (framing.connection_line == b"Connection: close\r\n") == (not framing.persists)  # §9.6


def test_the_length_of_a_response_to_head_is_said_if_it_is_known() -> None:
    def line(known: int | None, declared: int | None = None) -> bytes:
        return frame_response(
            "HEAD", "HTTP/1.1", 200, declared, known_length=known, may_chunk=True, persists=True
        ).body_line

    assert line(7) == b"Content-Length: 7\r\n"
    assert line(0) == b""  # An empty body says nothing of what GET would have.
    assert line(None) == line(7, 9) == b""


class Given:
    """An application whose response is given one time as a list, one time block by block."""

    status: ClassVar[str] = "200 OK"
    fields: ClassVar[list[tuple[str, str]]] = []
    block: ClassVar[bytes] = b""


def application(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/end":
        start_response("200 OK", [("Content-Length", "3")])
        return [b"end"]
    start_response(Given.status, [*Given.fields, ("Content-Length", str(len(Given.block)))])
    return [Given.block] if environ["PATH_INFO"] == "/whole" else iter([Given.block])


def test_the_short_way_sends_what_the_general_way_sends(serve_app: Any) -> None:
    serving = serve_app(application, config=hangup.Config(max_request_body_size=10))

    def exchange(request: str) -> bytes:
        with serving.connect() as peer:
            peer.send(
                request.encode("latin-1") + b"GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            )
            return re.sub(rb"\r\nDate: [^\r]*", b"", peer.read_to_end())

    # Not shrunk: what differs may hang, and each attempt would take as long as a test's patience.
    @settings(
        suppress_health_check=[HealthCheck.too_slow],
        deadline=None,
        max_examples=150,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(
        st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
        st.sampled_from(["HTTP/1.0", "HTTP/1.1"]),
        st.sampled_from(["", "Connection: close\r\n", "Connection: keep-alive\r\n"]),
        st.sampled_from(["", "Content-Length: 3\r\n", "Expect: 100-continue\r\nContent-Length: 3\r\n"]),
        st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "404 Not Found"]),
        st.lists(
            st.sampled_from([("Connection", "close"), ("X-A", "b"), ("Server", "own")]),
            max_size=2,
            unique=True,
        ),
        st.sampled_from([b"", b"x", b"y" * 70_000]),
    )
    def compare(
        method: str,
        protocol: str,
        connection: str,
        body: str,
        status: str,
        fields: list[tuple[str, str]],
        block: bytes,
    ) -> None:
        Given.status, Given.fields, Given.block = status, fields, block
        rest = f"{protocol}\r\nHost: h\r\n{connection}{body}\r\n{'abc' if body else ''}"
        assert exchange(f"{method} /whole {rest}") == exchange(f"{method} /general {rest}")

    compare()


def test_no_other_module_decides_how_a_response_is_framed() -> None:
    source = Path(hangup.__file__).parent
    deciding = re.compile(rb"\"Transfer-Encoding: chunked|\"Connection: (close|keep-alive)\\r\\n\"")
    found = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if path.parts[len(source.parts)] != "probe" and deciding.search(path.read_bytes())
    }
    # A handler may say `keep-alive` itself, and is only granted that: the line is its own.
    assert found == {"_http1/framing.py", "httpserver/responding.py"}
