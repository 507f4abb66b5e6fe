"""The same requests to gunicorn's gthread and to hangup's worker: the same verdict, the same environ.

Where the two differ, the reason stands in :data:`DIFFERENCES`; nothing else may.
"""

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from gunicorn import SERVER_SOFTWARE

from conftest import PATIENCE
from gunicorn_support import HANGUP, Gunicorn

APP = """
import json

def app(environ, start_response):
    body = environ["wsgi.input"].read().decode("latin-1")
    seen = {key: value for key, value in environ.items() if isinstance(value, (str, bool))}
    data = json.dumps({"environ": seen, "body": body}).encode()
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]
"""

#: What the two are started with.
SETTINGS = {
    "as they come": (),
    "a stranger's": ("--forwarded-allow-ips", "192.0.2.1"),
    "refusing": ("--header-map", "refuse", "--forwarder-headers", "SCRIPT_NAME,REMOTE_USER"),
    "lenient": (
        "--header-map", "dangerous", "--strip-header-spaces", "--permit-obsolete-folding",
        "--permit-unconventional-http-method", "--casefold-http-method",
        "--forwarded-allow-ips", "*", "--forwarder-headers", "*",
    ),
    "dangerous": ("--header-map", "dangerous", "--forwarded-allow-ips", "192.0.2.1"),
    "limited": (
        "--limit-request-line", "100", "--limit-request-fields", "5", "--limit-request-field_size", "70",
    ),
    "mounted": ("-e", "SCRIPT_NAME=/app"),
}  # fmt: skip


def get(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = "a", body: str = "") -> bytes:
    hosts = [] if host is None else [f"Host: {host}"]
    lines = [line, *hosts, "Connection: close", *fields, "", body]
    return "\r\n".join(lines).encode("latin-1")


REQUESTS = {
    # the scheme
    "no proxy": get(),
    "the scheme": get("X-Forwarded-Proto: https"),
    "another field for it": get("X-Forwarded-Ssl: on"),
    "a third": get("X-Forwarded-Protocol: ssl"),
    "in small letters": get("x-forwarded-proto: https"),
    "plain": get("X-Forwarded-Proto: http"),
    "in capitals": get("X-Forwarded-Proto: HTTPS"),
    "two that agree": get("X-Forwarded-Proto: https", "X-Forwarded-Ssl: on"),
    "two that contradict": get("X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"),
    "the other way round": get("X-Forwarded-Ssl: on", "X-Forwarded-Proto: http"),
    "one twice": get("X-Forwarded-Proto: https", "X-Forwarded-Proto: https"),
    "one twice, contradicting": get("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
    "a list": get("X-Forwarded-Proto: https,http"),
    "empty": get("X-Forwarded-Proto:"),
    "with an underscore": get("X_Forwarded_Proto: https"),
    "for whom": get("X-Forwarded-For: 192.0.2.7, 198.51.100.1", "X-Real-IP: 192.0.2.7"),
    "Forwarded": get("Forwarded: for=192.0.2.7;proto=https"),
    # where it is mounted
    "SCRIPT_NAME": get("SCRIPT_NAME: /app", line="GET /app/x?y=1 HTTP/1.1"),
    "SCRIPT_NAME, lower": get("script_name: /app", line="GET /app/x HTTP/1.1"),
    "SCRIPT_NAME, all of it": get("SCRIPT_NAME: /app", line="GET /app HTTP/1.1"),
    "SCRIPT_NAME with a slash": get("SCRIPT_NAME: /app/", line="GET /app/x HTTP/1.1"),
    "SCRIPT_NAME of a sibling": get("SCRIPT_NAME: /app", line="GET /apple HTTP/1.1"),
    "SCRIPT_NAME of another": get("SCRIPT_NAME: /app", line="GET /other HTTP/1.1"),
    "SCRIPT_NAME, empty": get("SCRIPT_NAME:", line="GET /app/x HTTP/1.1"),
    "SCRIPT_NAME twice": get("SCRIPT_NAME: /b", "SCRIPT_NAME: /app", line="GET /app/x HTTP/1.1"),
    "SCRIPT_NAME, encoded": get("SCRIPT_NAME: /a%20b", line="GET /a%20b/c%20d HTTP/1.1"),
    "SCRIPT_NAME with a dash": get("Script-Name: /app", line="GET /app/x HTTP/1.1"),
    "PATH_INFO": get("PATH_INFO: /other", line="GET /app/x HTTP/1.1"),
    "REMOTE_USER": get("REMOTE_USER: alice"),
    "REMOTE_USER with a dash": get("Remote-User: alice"),
    "below the mount": get(line="GET /app/x/y HTTP/1.1"),
    "beside the mount": get(line="GET /apple HTTP/1.1"),
    # names
    "an underscore": get("X_A: 1"),
    "both ways": get("X-A: 1", "X_A: 2"),
    "a length with an underscore": get("Content_Length: 5"),
    "httpoxy": get("Proxy: http://evil"),
    "odd but sound": get("X!#$%&'*+.^`|~0: 1"),
    "a space before the colon": get("X-A : 1"),
    "a tab before the colon": get("X-A\t: 1"),
    "no colon": get("X-A"),
    "no name": get(": 1"),
    "a folded field": get("X-A: 1\r\n 2", "X-B: 3"),
    "folded twice": get("X-A: 1  \r\n\t2\r\n  3"),
    "folded onto the request line": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a control character": get("X-A: 1\x012"),
    "a NUL": get("X-A: 1\x002"),
    "not ASCII": get("X-A: \xe9"),
    # fields twice
    "Accept twice": get("Accept: a", "Accept: b"),
    "Cookie twice": get("Cookie: a=1", "Cookie: b=2"),
    "Content-Type twice": get("Content-Type: a/b", "Content-Type: c/d"),
    "Host twice": get("Host: b"),
    "Content-Length twice": get(
        "Content-Length: 1", "Content-Length: 1", line="POST / HTTP/1.1", body="x"
    ),
    "Content-Length, two": get(
        "Content-Length: 1", "Content-Length: 2", line="POST / HTTP/1.1", body="xy"
    ),
    "Content-Length as a list": get("Content-Length: 1, 1", line="POST / HTTP/1.1", body="x"),
    # methods
    "a method of one's own": get(line="PURGE / HTTP/1.1"),
    "PROPFIND": get(line="PROPFIND / HTTP/1.1"),
    "a method in small letters": get(line="get / HTTP/1.1"),
    "a mixed method": get(line="Get / HTTP/1.1"),
    "a short method": get(line="GO / HTTP/1.1"),
    "a long method": get(line=f"{'A' * 21} / HTTP/1.1"),
    "a method with a sign": get(line="GET# / HTTP/1.1"),
    "a method of a dash": get(line="M-SEARCH / HTTP/1.1"),
    "a method in brackets": get(line="[GET] / HTTP/1.1"),
    "OPTIONS": get(line="OPTIONS * HTTP/1.1"),
    "an asterisk of GET's": get(line="GET * HTTP/1.1"),
    "HEAD": get(line="HEAD / HTTP/1.1"),
    # versions
    "HTTP/1.0": get(line="GET / HTTP/1.0"),
    "HTTP/1.0 without a host": get(line="GET / HTTP/1.0", host=None),
    "HTTP/1.1 without a host": get(host=None),
    "HTTP/1.2": get(line="GET / HTTP/1.2"),
    "HTTP/2.0": get(line="GET / HTTP/2.0"),
    "HTTP/0.9": get(line="GET / HTTP/0.9"),
    "HTTP/1.10": get(line="GET / HTTP/1.10"),
    "a version in small letters": get(line="GET / http/1.1"),
    "no version": get(line="GET /"),
    # targets
    "a query": get(line="GET /a?b=c&d HTTP/1.1"),
    "an empty query": get(line="GET /a? HTTP/1.1"),
    "a question mark in a query": get(line="GET /a?b?c HTTP/1.1"),
    "percent-encoded": get(line="GET /%61%2F%20%E2%82%AC?%41 HTTP/1.1"),
    "half encoded": get(line="GET /%4 HTTP/1.1"),
    "raw bytes": get(line="GET /\xe2\x82\xac HTTP/1.1"),
    "two slashes": get(line="GET //a//b HTTP/1.1"),
    "dots": get(line="GET /a/../b/./c HTTP/1.1"),
    "parameters": get(line="GET /a;b=c/d HTTP/1.1"),
    "a fragment": get(line="GET /a#b HTTP/1.1"),
    "absolute": get(line="GET http://b:81/c?d HTTP/1.1"),
    "absolute, no path": get(line="GET http://b HTTP/1.1"),
    "absolute, a query alone": get(line="GET http://b?c=d HTTP/1.1"),
    "a name": get(line="GET a HTTP/1.1"),
    "two spaces": get(line="GET  / HTTP/1.1"),
    "a space within": get(line="GET /a b HTTP/1.1"),
    # bodies
    "a length": get(
        "Content-Length: 5", "Content-Type: text/plain", line="POST / HTTP/1.1", body="hello"
    ),
    "a length of nothing": get("Content-Length: 0", line="POST / HTTP/1.1"),
    "a length with zeros": get("Content-Length: 005", line="POST / HTTP/1.1", body="hello"),
    "a signed length": get("Content-Length: +5", line="POST / HTTP/1.1", body="hello"),
    "no length": get(line="POST / HTTP/1.1"),
    "a GET with a body": get("Content-Length: 5", body="hello"),
    "chunked": get("Transfer-Encoding: chunked", line="POST / HTTP/1.1", body="5\r\nhello\r\n0\r\n\r\n"),
    "both": get(
        "Transfer-Encoding: chunked", "Content-Length: 5", line="POST / HTTP/1.1", body="0\r\n\r\n"
    ),
    "an expectation": get("Expect: 200-ok"),
    "an expectation of HTTP/1.0's": get("Expect: 100-continue", line="GET / HTTP/1.0"),
    # limits
    "a line as long as it may be": get(line=f"GET /{'a' * 86} HTTP/1.1"),
    "a longer line": get(line=f"GET /{'a' * 87} HTTP/1.1"),
    "a field as long as it may be": get(f"X-A: {'a' * 63}"),
    "a longer field": get(f"X-A: {'a' * 64}"),
    "as many fields as there may be": get("X-A: 1", "X-B: 1", "X-C: 1"),
    "more fields": get("X-A: 1", "X-B: 1", "X-C: 1", "X-D: 1"),
}

_NO_HOST = "HTTP/1.1 requires the field (RFC 9112 §3.2)"
_VERSION = "the status for a version that is not spoken is 505 (RFC 9110 §15.6.6)"
_ABSOLUTE = "the target's host replaces the field's (RFC 9112 §3.2.2)"
_PATH = "the path of a target without one is / (RFC 9110 §4.2.3)"
_MOUNT = "PATH_INFO is empty or begins with a slash (RFC 3875 §4.1.5)"
_FORGED = "a stranger does not say where an application is mounted; with gthread, it does"
#: Where hangup's worker differs: in what, and why.  Where the status differs, nothing else is compared.
DIFFERENCES = {
    "SCRIPT_NAME with a slash": ({"SCRIPT_NAME", "PATH_INFO"}, _MOUNT),
    "SCRIPT_NAME of a sibling": ({"status"}, _MOUNT),
    "SCRIPT_NAME, encoded": ({"SCRIPT_NAME"}, "SCRIPT_NAME is decoded, as PATH_INFO is (PEP 3333)"),
    "httpoxy": ({"HTTP_PROXY"}, "a setting to libraries: CVE-2016-5385"),
    "Cookie twice": ({"HTTP_COOKIE"}, "cookies are joined by semicolons (RFC 9113 §8.2.3)"),
    "HTTP/1.1 without a host": ({"status"}, _NO_HOST),
    "HTTP/1.2": ({"SERVER_PROTOCOL"}, "it is answered as HTTP/1.1 (RFC 9110 §2.5)"),
    "HTTP/2.0": ({"status"}, _VERSION),
    "HTTP/0.9": ({"status"}, _VERSION),
    "raw bytes": ({"status"}, "clients send raw UTF-8, and nobody takes it for anything else"),
    "a fragment": ({"status"}, "a target has none (RFC 9112 §3.2)"),
    "absolute": ({"HTTP_HOST"}, _ABSOLUTE),
    "absolute, no path": ({"HTTP_HOST", "PATH_INFO"}, f"{_ABSOLUTE}; {_PATH}"),
    "absolute, a query alone": ({"HTTP_HOST", "PATH_INFO"}, f"{_ABSOLUTE}; {_PATH}"),
    "chunked": ({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}, "it is decoded (RFC 9112 §7.1.3)"),
}
#: Differences under some settings alone.
ONLY_THERE = {
    **{
        ("dangerous", name): ({"SCRIPT_NAME", "PATH_INFO", "status"}, _FORGED)
        for name, request in REQUESTS.items()
        if b"SCRIPT_NAME" in request.upper()
    },
    ("mounted", "beside the mount"): ({"SCRIPT_NAME", "PATH_INFO"}, _MOUNT),
}
#: What goes to where the application is mounted. gthread answers 500 to all else, hangup serves it:
#: a balancer's health check, say.
MOUNTED = [name for name, request in REQUESTS.items() if b" /app" in request]
#: What differs from connection to connection, and what one of the two has beyond the other's.
BESIDE = ("REMOTE_PORT", "SERVER_PORT", "REQUEST_URI", "HTTPS")


def seen_by(server: Gunicorn, request: bytes) -> dict[str, Any]:
    """What the application saw, or the status of what it did not see."""
    return seen_in(server.ask(request))


def seen_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head[9:12])
    if status != 200:
        return {"status": status}
    told = json.loads(body) if body else {"environ": {}, "body": ""}
    return {**told["environ"], "status": status, "body": told["body"]}


def differing(theirs: dict[str, Any], ours: dict[str, Any]) -> set[str]:
    if theirs["status"] != ours["status"]:
        return {"status"}
    keys = (theirs.keys() | ours.keys()) - set(BESIDE)
    return {key for key in keys if theirs.get(key) != ours.get(key)}


@pytest.mark.parametrize("settings", SETTINGS)
def test_both_workers_see_the_same(gunicorn: Any, tmp_path: Path, settings: str) -> None:
    directories = [tmp_path / "theirs", tmp_path / "ours"]
    for directory in directories:
        directory.mkdir()
    options = ("--threads", "4", *SETTINGS[settings])
    both = [
        gunicorn(*options, app=APP, worker=worker, directory=directory).ready()
        for worker, directory in zip(("gthread", HANGUP), directories, strict=True)
    ]
    wrong = {}
    for name in MOUNTED if settings == "mounted" else REQUESTS:
        theirs, ours = (seen_by(server, REQUESTS[name]) for server in both)
        known, _why = ONLY_THERE.get((settings, name)) or DIFFERENCES.get(name) or (set(), "")
        found = differing(theirs, ours)
        # A difference that is listed shows at least once; not where what it is about is not believed.
        if not found <= known or (found != known and settings == "as they come"):
            wrong[name] = {key: (theirs.get(key), ours.get(key)) for key in found or known}
    assert not wrong


def test_a_refusal_is_a_whole_response_and_is_logged(gunicorn: Any) -> None:
    server = gunicorn("--access-logfile", "/dev/stderr").ready()
    answer = server.ask(REQUESTS["two that contradict"])
    assert answer.startswith(b"HTTP/1.1 400 Contradictory scheme headers\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert int(re.findall(rb"Content-Length: (\d+)", answer)[0]) == len(answer.partition(b"\r\n\r\n")[2])
    server.wait_for(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: Contradictory scheme headers")
    server.wait_for(r'"GET / HTTP/1\.1" 400 ')
    assert "Traceback" not in server.said


def test_a_known_head_is_judged_for_each_client_anew(gunicorn: Any) -> None:
    """Heads are remembered; what a proxy may say by one, a stranger's very same bytes do not."""
    server = gunicorn(app=APP).ready()

    def seen_from(address: str, name: str) -> dict[str, Any]:
        sock = socket.create_connection(server.address, PATIENCE, source_address=(address, 0))
        with sock, sock.makefile("rb") as answer:
            sock.sendall(REQUESTS[name])
            return seen_in(answer.read())

    for _ in range(2):
        for name in ("the scheme", "SCRIPT_NAME"):
            proxy, stranger = (seen_from(address, name) for address in ("127.0.0.1", "127.0.0.2"))
            assert (proxy["wsgi.url_scheme"], proxy["SCRIPT_NAME"]) in (("https", ""), ("http", "/app"))
            assert (stranger["wsgi.url_scheme"], stranger["SCRIPT_NAME"]) == ("http", "")
        assert seen_from("127.0.0.1", "two that contradict") == {"status": 400}
        assert seen_from("127.0.0.2", "two that contradict")["wsgi.url_scheme"] == "http"
        assert seen_from("127.0.0.2", "a method in small letters") == {"status": 400}


def test_a_unix_socket_has_the_names_that_the_client_asked_for(gunicorn: Any, tmp_path: Path) -> None:
    """gunicorn's own workers do that, since a path is neither a name nor a port."""
    seen = {}
    for worker in ("gthread", HANGUP):
        server = gunicorn("--threads", "4", app=APP, worker=worker, bind=f"unix:{tmp_path}/{worker}")
        server.ready()
        seen[worker] = [
            {
                key: seen_by(server, request).get(key)
                for key in (
                    "SERVER_NAME",
                    "SERVER_PORT",
                    "REMOTE_ADDR",
                    "REMOTE_PORT",
                    "HTTP_REMOTE_USER",
                )
            }
            for request in (
                get(host="name"),
                get(host="name:81"),
                get("X-Forwarded-Proto: https", host="name"),
            )
        ]
        server.stop()
    assert seen["gthread"] == seen[HANGUP]
    assert seen[HANGUP][2]["SERVER_PORT"] == "443"


def test_the_servers_names_are_gunicorns(gunicorn: Any) -> None:
    """httpbin and others look at them."""
    server = gunicorn(app=APP).ready()
    assert seen_by(server, get())["SERVER_SOFTWARE"] == SERVER_SOFTWARE
    assert b"\r\nServer: gunicorn\r\n" in server.ask(get())
