"""Requests written from the RFCs, each with its verdict, through both front ends.

A case is a file: the rule, what must come back, an empty line, and the bytes, with Python's escapes;
``{a*70000}`` is a run of bytes.  An end of line in the file is none in the request.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

import hangup
from conftest import Peer, answer
from hangup._http1.parser import RequestParser

CORPUS = Path(__file__).parent / "corpus"
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|(.))")
_RUN = re.compile(r"\{(.)\*(\d+)\}")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}


def unescaped(text: str) -> bytes:
    text = _RUN.sub(lambda run: run[1] * int(run[2]), text)
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _PLAIN[found[2]], text
    ).encode("latin-1")


class Case:
    def __init__(self, path: Path) -> None:
        head, _, body = path.read_text("utf-8").partition("\n\n")
        self.name = path.stem
        self.data = unescaped(body.replace("\n", ""))
        said = [line.partition(": ") for line in head.splitlines() if not line.startswith("# ")]
        self.answers = [int(value) for key, _, value in said if key == "answer"]
        self.seen = [unescaped(value).decode("latin-1") for key, _, value in said if key == "seen"]
        self.closes = self.answers != [] or ("then", ": ", "close") in said


def cases(kind: str) -> list[Any]:
    return [pytest.param(Case(path), id=path.stem) for path in sorted((CORPUS / kind).glob("*.txt"))]


MALFORMED, WELL_FORMED = cases("malformed"), cases("well-formed")


class Echo(hangup.BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        answer(self, f"{self.command} {self.path} {len(self.rfile.read())}".encode("latin-1"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.respond
        raise AttributeError(name)


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    method, target = environ["REQUEST_METHOD"], environ["RAW_URI"]
    body = f"{method} {target} {len(environ['wsgi.input'].read())}".encode("latin-1")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(params=["handler", "wsgi"])
def connect(request: pytest.FixtureRequest, serve: Any, serve_app: Any) -> Any:
    return (serve(Echo) if request.param == "handler" else serve_app(echo)).connect


@pytest.fixture(params=["whole", "bytewise"])
def send(request: pytest.FixtureRequest) -> Any:
    """Two ways to send; a server that has refused something may have stopped to read."""

    def whole(peer: Peer, data: bytes) -> None:
        peer.send(data)

    def bytewise(peer: Peer, data: bytes) -> None:
        if len(data) > 4096:
            peer.send(data[:-200])  # The kernel would join most of so many bytes anyhow.
            data = data[-200:]
        try:
            for at in range(len(data)):
                peer.send(data[at : at + 1])
        except ConnectionError:
            pass

    return {"whole": whole, "bytewise": bytewise}[request.param]


def test_the_corpus_is_there() -> None:
    assert len(MALFORMED) >= 150
    assert len(WELL_FORMED) >= 60


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_refused_by_one_complete_answer(
    connect: Any, send: Any, case: Case
) -> None:
    with connect() as peer:
        send(peer, case.data)
        if case.answers == [400] and not case.data.endswith(b"\n"):
            with contextlib.suppress(OSError):  # It may be over.
                peer.half_close()  # Some could still become a request.
        response, body = peer.response()
        assert [response.status] == case.answers
        assert response.getheader("Content-Length") == str(len(body))
        assert response.getheader("Connection") == "close"
        assert response.getheader("Date")
        assert peer.read_to_end() == b"", "something was answered behind it"


@pytest.mark.parametrize("case", WELL_FORMED)
def test_what_is_well_formed_is_understood(connect: Any, send: Any, case: Case) -> None:
    with connect() as peer:
        send(peer, case.data)
        for seen in case.seen:
            response, body = peer.response()
            assert (response.status, body.decode("latin-1")) == (200, seen)
        if case.closes:
            assert peer.read_to_end() == b""
        else:
            # The next request begins where this one ended.
            assert peer.get("/next", "Connection: close").response()[1] == b"GET /next 0"


def events(parser: RequestParser, pieces: list[bytes]) -> list[Any]:
    """What a wire says of bytes that come in these pieces."""
    found: list[Any] = []
    body = b""
    try:
        for piece in pieces:
            parser.receive(piece)
            while True:
                while data := parser.read_body():
                    body += data
                if found and not parser.body_ended:
                    break
                if body:
                    found.append(body)
                    body = b""
                if (request := parser.next_request()) is None:
                    break
                found.append((request.method, request.target, request.protocol, request.items))
    except hangup.RequestRejected as refusal:
        found.append(refusal.status)
    return found


@pytest.mark.parametrize("case", MALFORMED + WELL_FORMED)
def test_a_split_changes_no_event(case: Case) -> None:
    data = case.data
    whole = events(RequestParser(hangup.Config()), [data])
    assert (
        events(RequestParser(hangup.Config()), [data[at : at + 1] for at in range(len(data))]) == whole
    )
    for at in range(1, min(len(data), 400)):
        assert events(RequestParser(hangup.Config()), [data[:at], data[at:]]) == whole
