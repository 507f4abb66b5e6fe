"""What applications expect of an environ beyond PEP 3333: chunked bodies, TLS, names, streams."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import bottle
import falcon
import pytest
from flask import Flask, request

import hangup
from conftest import PATIENCE, Certificates, Peer
from hangup import Config, Outcome, Phase
from hangup.wsgi.environ import environ_fields
from hangup.wsgi.input import GATHERED
from hangup.wsgi.tls_environ import _client

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# -- chunked bodies


def flask_app() -> Any:
    app = Flask("x")

    @app.post("/")
    def echo() -> bytes:
        return request.get_data()

    return app


def bottle_app() -> Any:
    app = bottle.Bottle()

    @app.post("/")
    def echo() -> bytes:
        return bottle.request.body.read()  # type: ignore[no-any-return]

    return app


def falcon_app() -> Any:
    class Echo:
        def on_post(self, req: Any, resp: Any) -> None:
            resp.data = req.bounded_stream.read()

    app = falcon.App()
    app.add_route("/", Echo())
    return app


def cgi_app() -> Any:
    """As the examples of PEP 3333 and wsgiref read: so many bytes as CONTENT_LENGTH says."""

    def app(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


APPS = {made.__name__: made for made in (flask_app, bottle_app, falcon_app, cgi_app)}


# Bottle leaves the closing of the file with a body to whoever collects it; Python 3.14 warns of that.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*_TemporaryFileCloser:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", APPS)
def test_every_framework_reads_a_chunked_body(serve_app: Any, name: str) -> None:
    """Django, too: tests/test_frameworks.py."""
    serving = serve_app(APPS[name]())
    with serving.connect() as peer:
        for pieces in ((b"hello", b" world"), (b"x" * 300_000, b"y" * 300_000), (b"z",)):
            peer.send(CHUNKED + b"\r\n" + chunks(*pieces))
            assert peer.response()[1] == b"".join(pieces)
        # The head alone first, and then the body in its own time, as most clients send it.
        peer.send(CHUNKED + b"\r\n")
        for byte in chunks(b"slow"):
            peer.send(bytes([byte]))
        assert peer.response()[1] == b"slow"
        peer.send(CHUNKED + b"\r\n0\r\n\r\n")
        assert peer.response()[1] == b""


def told(serving: Any, *requests: bytes) -> Any:
    with serving.connect() as peer:
        for one in requests:
            peer.send(one)
        return json.loads(peer.response()[1])


def tell(environ: Any, start_response: Any) -> Any:
    body = environ["wsgi.input"].read()
    seen = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
    data = json.dumps({**seen, "size": len(body)}).encode()
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]


def test_a_decoded_body_has_its_length_and_no_transfer_encoding(serve_app: Any) -> None:
    seen = told(serve_app(tell), CHUNKED + b"\r\n" + chunks(b"hello"))
    assert (seen["CONTENT_LENGTH"], seen["size"], seen["wsgi.input_terminated"]) == ("5", 5, True)
    assert "HTTP_TRANSFER_ENCODING" not in seen


def test_a_long_one_comes_as_it_is_read_and_has_no_length(serve_app: Any) -> None:
    begun = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        begun.set()
        return tell(environ, start_response)

    with serve_app(app).connect() as peer:
        peer.send(CHUNKED + b"\r\n" + chunks(b"x" * GATHERED)[:-5])
        assert begun.wait(PATIENCE), "its end has not come yet"
        seen = json.loads(peer.send(chunks(b"x" * 10)).response()[1])
    assert (seen["size"], "CONTENT_LENGTH" in seen) == (GATHERED + 10, False)


def test_a_client_that_asks_first_hears_so_before_its_chunks_are_waited_for(serve_app: Any) -> None:
    with serve_app(tell).connect() as peer:
        peer.send(CHUNKED + b"Connection: close\r\nExpect: 100-continue\r\n\r\n")
        assert peer.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        answer = peer.send(chunks(b"hello")).read_to_end()
    assert answer.startswith(b"HTTP/1.1 200 "), "it hears so once"
    assert b'"CONTENT_LENGTH": "5"' in answer


def test_who_leaves_within_its_chunks_never_reaches_the_application(serve_app: Any) -> None:
    called: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        called.append(environ)
        return tell(environ, start_response)

    serving = serve_app(app)
    peer = serving.connect().send(CHUNKED + b"\r\n5\r\nhel")
    peer.fin()
    record = serving.record()
    assert (record.outcome, record.phase, record.status) == (Outcome.DISCONNECTED, Phase.BODY, 499)
    assert not called


def test_malformed_chunks_are_refused_before_the_application_is_called(serve_app: Any) -> None:
    called: list[Any] = []
    serving = serve_app(lambda *_: called.append(1))
    with serving.connect() as peer:
        assert peer.send(CHUNKED + b"\r\nhello\r\n").response()[0].status == 400
    assert not called


def test_slow_chunks_have_the_time_that_their_rate_allows(serve_app: Any) -> None:
    """What has come counts, although nobody has read it yet."""
    serving = serve_app(tell, config=Config(body_timeout=0.3, min_data_rate=1e5))
    with serving.connect() as peer:
        peer.send(CHUNKED + b"\r\n")
        pause = threading.Event()
        for _ in range(4):
            peer.send(chunks(b"x" * 100_000)[:-5])
            pause.wait(0.15)
        assert json.loads(peer.send(b"0\r\n\r\n").response()[1])["size"] == 400_000


# -- names


def test_the_name_on_all_addresses_is_the_one_that_was_connected_to(serve_app: Any) -> None:
    """RFC 3875 §4.1.14."""
    with hangup.WSGIServer(tell, "0.0.0.0", 0, access_log="off") as server:
        for address in ("127.0.0.1", "127.0.0.2"):
            with Peer((address, server.port)) as peer:
                seen = json.loads(peer.get("/").response()[1])
            assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == (address, str(server.port))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("name", ("name", "80")),
        ("name:81", ("name", "81")),
        ("[::1]", ("[::1]", "80")),
        ("[::1]:81", ("[::1]", "81")),
        ("name:", ("name", "80")),
        ("", ("localhost", "80")),
    ],
)
def test_the_names_of_a_path_are_what_was_asked_for(
    serve_app: Any, tmp_path: Path, field: str, expected: tuple[str, str]
) -> None:
    serving = serve_app(tell, uds=str(tmp_path / "s"))
    seen = told(serving, f"GET / HTTP/1.1\r\nHost: {field}\r\n\r\n".encode())
    assert (seen["SERVER_NAME"].removesuffix(":"), seen["SERVER_PORT"]) == expected


def test_fields_and_what_they_are_called() -> None:
    items = [("A-b", "1"), ("a-B", "2"), ("X_Y", "3"), ("Content_Length", "4"), ("Proxy", "5")]
    assert environ_fields(items) == {"HTTP_A_B": "1,2"}
    taken = {"HTTP_A_B": "1,2", "HTTP_X_Y": "3", "HTTP_CONTENT_LENGTH": "4"}
    assert environ_fields(items, underscores=True) == taken
    long = "n" * 100
    assert environ_fields([(long, "v"), ("Content-Type", "a"), ("content-type", "b")]) == {
        f"HTTP_{long.upper()}": "v",
        "CONTENT_TYPE": "a",
    }


def test_errors_are_a_text_file_and_nothing_where_there_is_none(
    serve_app: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pythonw and daemons have no sys.stderr."""

    def app(environ: Any, start_response: Any) -> Any:
        errors = environ["wsgi.errors"]
        print("one", file=errors)
        errors.writelines(["two\n", "three\n"])
        errors.flush()
        start_response("204 No Content", [])
        return []

    serving = serve_app(app)
    serving.get("/")
    assert capsys.readouterr().err == "one\ntwo\nthree\n"
    monkeypatch.setattr(sys, "stderr", None)
    assert serving.get("/")[0].status == 204


def test_errors_have_what_else_a_stream_has(serve_app: Any) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [f"{environ['wsgi.errors'].encoding} {environ['wsgi.errors'].isatty()}".encode()]

    assert serve_app(app).get("/")[1].decode() == f"{sys.stderr.encoding} {sys.stderr.isatty()}"


# -- limits of none


def test_a_body_of_any_length_is_taken_where_there_is_no_limit(serve_app: Any) -> None:
    big = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000000\r\n\r\n"

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [environ["CONTENT_LENGTH"].encode()]

    with serve_app(app).connect() as peer:
        assert peer.send(big).response()[0].status == 413
    with serve_app(app, config=Config(max_request_body_size=0, body_prefetch=0)).connect() as peer:
        assert peer.send(big).response()[1] == b"5000000000"
    with serve_app(tell, config=Config(max_request_body_size=0)).connect() as peer:
        seen = json.loads(peer.send(CHUNKED + b"\r\n" + chunks(b"hello")).response()[1])
        assert seen["size"] == 5


@pytest.mark.parametrize(
    "limit",
    ["max_request_line_size", "max_request_header_size", "max_request_field_size", "max_request_fields"],
)
def test_0_is_no_limit_of_a_head(serve_app: Any, limit: str) -> None:
    limits = {
        "max_request_line_size": 500,
        "max_request_header_size": 3000,
        "max_request_field_size": 400,
        "max_request_fields": 20,
    }
    beyond = {
        "max_request_line_size": f"GET /{'x' * 600} HTTP/1.1\r\nHost: a\r\n\r\n",
        "max_request_header_size": "GET / HTTP/1.1\r\nHost: a\r\n"
        + f"X-A: {'x' * 300}\r\n" * 12
        + "\r\n",
        "max_request_field_size": f"GET / HTTP/1.1\r\nHost: a\r\nX-A: {'x' * 500}\r\n\r\n",
        "max_request_fields": "GET / HTTP/1.1\r\nHost: a\r\n" + "X-A: x\r\n" * 30 + "\r\n",
    }[limit].encode()
    with serve_app(tell, config=Config(**limits)).connect() as peer:
        assert peer.send(beyond).response()[0].status in (414, 431)
    serving = serve_app(tell, config=Config(**{**limits, limit: 0}))
    with serving.connect() as peer:
        assert peer.send(beyond).response()[0].status == 200
        for byte in beyond:
            peer.send(bytes([byte]))
        assert peer.response()[0].status == 200


def test_the_default_takes_five_fields_of_single_sign_on(serve_app: Any) -> None:
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"v" * 20_000) for number in range(5))
    with serve_app(tell).connect() as peer:
        answer = peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n").response()[0]
    assert answer.status == 200


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, and a client's certificate that it has signed."""
    directory: Path = tmp_path_factory.mktemp("authority")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # What a strict verification asks for (RFC 5280 §4.2.1), which Python 3.13 has made the usual one.
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-subj", "/O=Org/CN=my CA", "-utf8")  # fmt: skip
    openssl("req", *key, "-keyout", "alice.key", "-out", "alice.csr", "-utf8",
            "-subj", "/C=DE/O=Org, Inc/OU=One/OU=Two/CN=Älice/emailAddress=a@example.org")  # fmt: skip
    (directory / "san").write_text(
        "subjectAltName=email:a@example.org,DNS:alice.example.org\nauthorityKeyIdentifier=keyid\n"
    )
    openssl("x509", "-req", "-in", "alice.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-set_serial", "255", "-extfile", "san", "-out", "alice.pem")  # fmt: skip
    return directory


def over_tls(port: int, authority: Path | None) -> list[dict[str, str]]:
    """What the application saw of TLS, in two requests of one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if authority is not None:
        context.load_cert_chain(authority / "alice.pem", authority / "alice.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
    found = []
    with contextlib.closing(connection):
        for _ in range(2):
            connection.request("GET", "/", headers={"SSL-Client-Verify": "SUCCESS"})
            seen = json.loads(connection.getresponse().read())
            found.append({key: value for key, value in seen.items() if key.startswith("SSL_")})
            assert (seen["wsgi.url_scheme"], seen["HTTPS"]) == ("https", "on")
    return found


def asking(certificate: Certificates, authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.rsa.cert, certificate.rsa.key)
    context.load_verify_locations(authority / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def test_the_clients_certificate_is_told_by_mod_ssls_names(
    certificate: Certificates, authority: Path
) -> None:
    with hangup.WSGIServer(
        tell, port=0, access_log="off", ssl_context=asking(certificate, authority)
    ) as server:
        first, second = over_tls(server.port, authority)
    assert first == second
    latin = "Älice".encode().decode("latin-1")
    expected = {
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_S_DN": rf"emailAddress=a@example.org,CN={latin},OU=Two,OU=One,O=Org\, Inc,C=DE",
        "SSL_CLIENT_S_DN_CN": latin,
        "SSL_CLIENT_S_DN_OU": "One",
        "SSL_CLIENT_S_DN_OU_1": "Two",
        "SSL_CLIENT_S_DN_Email": "a@example.org",
        "SSL_CLIENT_I_DN": "CN=my CA,O=Org",
        "SSL_CLIENT_I_DN_CN": "my CA",
        "SSL_CLIENT_M_SERIAL": "FF",
        "SSL_CLIENT_M_VERSION": "3",
        "SSL_CLIENT_SAN_Email_0": "a@example.org",
        "SSL_CLIENT_SAN_DNS_0": "alice.example.org",
    }
    assert {key: first.get(key) for key in expected} == expected
    pem = (authority / "alice.pem").read_text()
    assert first["SSL_CLIENT_CERT"].split() == pem[pem.index("-----BEGIN") :].split()
    assert first["SSL_PROTOCOL"].startswith("TLSv1.")
    assert first["SSL_CIPHER"]
    assert int(first["SSL_CIPHER_USEKEYSIZE"]) >= 128
    assert first["SSL_CLIENT_V_START"] < first["SSL_CLIENT_V_END"] or first["SSL_CLIENT_V_END"]


def test_a_client_without_a_certificate_is_told_to_have_none(
    certificate: Certificates, authority: Path
) -> None:
    """And can't say otherwise by a field."""
    for context in (asking(certificate, authority), None):
        tls = {"ssl_context": context} if context else {"certfile": certificate.rsa.both}
        with hangup.WSGIServer(tell, port=0, access_log="off", **tls) as server:
            for seen in over_tls(server.port, None):
                assert seen["SSL_CLIENT_VERIFY"] == "NONE"
                names = {"SSL_CLIENT_VERIFY", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_CIPHER_USEKEYSIZE"}
                assert seen.keys() == names


def test_without_tls_nothing_is_told_of_it(serve_app: Any) -> None:
    seen = told(serve_app(tell), b"GET / HTTP/1.1\r\nHost: a\r\nSSL_CLIENT_VERIFY: SUCCESS\r\n\r\n")
    assert not [key for key in seen if "SSL" in key or key == "HTTPS"]


def test_gunicorns_workers_tell_it_too(
    gunicorn: Any, certificate: Certificates, authority: Path
) -> None:
    rsa = certificate.rsa
    app = """
import json
def app(environ, start_response):
    seen = {key: value for key, value in environ.items() if isinstance(value, str)}
    data = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Length", str(len(data)))])
    return [data]
"""
    tls = ("--certfile", rsa.cert, "--keyfile", rsa.key)
    asks = ("--cert-reqs", "2", "--ca-certs", str(authority / "ca.pem"))
    server = gunicorn(*tls, *asks, app=app).ready()
    for seen in over_tls(server.address[1], authority):
        assert seen["SSL_CLIENT_S_DN_O"] == "Org, Inc"


def test_a_distinguished_name_is_escaped() -> None:
    """RFC 4514 §2.4."""
    names = ((("commonName", '#a,b+c"d\\e<f>g;h '),), (("organizationName", " x"), ("title", "y")))
    told = _client({"subject": names, "issuer": ()})
    assert told["SSL_CLIENT_S_DN"] == 'O=\\ x+title=y,CN=\\#a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h\\ '


def test_a_connection_that_dies_in_its_handshake_asks_nothing(certificate: Certificates) -> None:
    with hangup.WSGIServer(tell, port=0, access_log="off", certfile=certificate.rsa.both) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(b"\x16\x03\x01")
        assert over_tls(server.port, None)
