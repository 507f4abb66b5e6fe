"""TLS: the clients that people use, how bytes come and go, and those that want it ill."""

import http.client
import http.server
import os
import select
import socket
import ssl
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import pytest

import hangup
from conftest import PATIENCE, Certificates, Peer, until
from hangup import Outcome
from hangup._connection.state import State
from tls_support import (
    ANY,
    BIG,
    TLS_1_2,
    Door,
    Stage,
    TLSPeer,
    client_context,
    handler_for,
    opener,
)

BIG_DIGEST = sha256(BIG).hexdigest().encode()
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


pytestmark = pytest.mark.usefixtures("nothing_is_said")


@pytest.fixture(params=["own", "stock", "wsgi", "wrapped, fallback", "wsgi, fallback"])
def door(
    request: pytest.FixtureRequest,
    serve: Any,
    serve_app: Any,
    certificate: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Open a door, by each of the ways in, and with the portable poller as well."""
    return opener(request.param, serve, serve_app, certificate, monkeypatch)


def trusting(certificate: Certificates, key: str = "ecdsa") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=getattr(certificate, key).cert)


# -- clients that people use


@pytest.mark.parametrize("version", list(ssl.TLSVersion)[-3:-1], ids=lambda version: version.name)
@pytest.mark.parametrize("key", ["rsa", "ecdsa"])
def test_http_client_trusts_it_and_keeps_its_connection(
    door: Any, certificate: Certificates, key: str, version: ssl.TLSVersion
) -> None:
    opened = door(key)
    context = trusting(certificate, key)
    context.maximum_version = version
    connection = http.client.HTTPSConnection("localhost", opened.address[1], context=context)
    for _ in range(3):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"ok")
        assert isinstance(connection.sock, ssl.SSLSocket), "it is open still"
        assert connection.sock.version() == version.name.replace("_", ".")
    connection.close()
    assert [record.status for record in opened.records(3)] == [200] * 3


def curl(opened: Door, cert: str, *args: str, data: bytes = b"") -> str:
    """What curl writes with its ``-w``; it trusts this certificate alone."""
    port = opened.address[1]
    done = subprocess.run(
        ["curl", "-sS", "--http1.1", "--cacert", cert,
         "--resolve", f"localhost:{port}:127.0.0.1", *args],
        input=data, capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.mark.parametrize("key", ["rsa", "ecdsa"])
def test_curl_sends_a_big_file_after_asking_and_several_requests_over_one_connection(
    door: Any, certificate: Certificates, key: str
) -> None:
    opened = door(key)
    cert = getattr(certificate, key).cert
    upload = ("--data-binary", "@-", "-H", "Expect: 100-continue", opened.url + "/")
    assert curl(opened, cert, *upload, data=BIG) == BIG_DIGEST.decode()
    told = curl(
        opened, cert, "-w", "%{http_code} %{num_connects} %{ssl_verify_result};",
        *("-o", os.devnull) * 3, opened.url, opened.url, opened.url,
    )  # fmt: skip
    assert told == "200 1 0;200 0 0;200 0 0;"


class SClient:
    """``openssl s_client`` with its commands; stdin is sent line by line, as a person would."""

    def __init__(self, opened: Door, *args: str) -> None:
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{opened.address[1]}", *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip
        self.said = b""

    def send(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)

    def wait_for(self, text: bytes, count: int = 1) -> None:
        assert self.process.stdout is not None
        while self.said.count(text) < count:
            assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.said
            data = self.process.stdout.read(65536)
            assert data, self.said
            self.said += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def test_a_client_may_change_its_keys_between_requests_and_have_the_server_do_so(door: Any) -> None:
    """KeyUpdate (RFC 8446 §4.6.3); ``K`` asks for the server's, too."""
    with SClient(door(), "-tls1_3") as client:
        client.wait_for(b"Verify return code")
        for number, command in enumerate((b"k", b"K", b"K"), start=1):
            client.send(GET)
            client.wait_for(b"\r\n\r\nok", number)
            client.send(command + b"\n")
            client.wait_for(b"KEYUPDATE", number)
        client.send(GET)
        client.wait_for(b"\r\n\r\nok", 4)


def test_nobody_renegotiates(door: Any) -> None:
    """RFC 9325 §3.5; what asks for it is refused, and the client decides whether it goes on."""
    with SClient(door(), "-tls1_2") as client:
        client.wait_for(b"Verify return code")
        client.send(b"R\n")
        client.wait_for(b"no renegotiation")


# -- protocols


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302])
def test_a_protocol_before_tls_1_2_is_refused_with_an_alert(door: Any, version: int) -> None:
    opened = door()
    with opened.connect(TLS_1_2, shake=False) as peer:
        hello = bytearray(peer.sock.flight())
        hello[9:11] = version.to_bytes(2, "big")
        peer.raw.sendall(hello)
        alert = peer.end()
    assert alert[0] == 0x15
    # protocol_version, or handshake_failure, and fatal (RFC 8446 §6)
    assert alert[3:] in (b"\0\2\2\x46", b"\0\2\2\x28")
    assert opened.get() == (200, b"ok")
    assert len(opened.records(1)) == 1


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_alpn_agrees_on_http_1_1_or_on_nothing(
    door: Any, offered: list[str], chosen: str | None
) -> None:
    opened = door()
    context = client_context()
    context.set_alpn_protocols(offered)
    with opened.connect(context) as peer:
        assert peer.get("/").response()[1] == b"ok"
        agreed = peer.sock.tls.selected_alpn_protocol()
    # A wrapped listener's context is the program's, and offers none here.
    assert agreed == (chosen if opened.kind != "wrapped" else None)


def test_a_server_may_offer_protocols_of_its_own(serve: Any, certificate: Certificates) -> None:
    files = certificate.ecdsa
    serving = serve(
        handler_for(hangup.BaseHTTPRequestHandler, Stage()),
        hangup.HTTPSServer,
        certfile=files.both,
        alpn_protocols=["mine"],
    )
    context = client_context()
    context.set_alpn_protocols(["http/1.1", "mine"])
    with TLSPeer(serving.address, context) as peer:
        assert peer.sock.tls.selected_alpn_protocol() == "mine"


# -- how bytes come


@pytest.mark.parametrize("context", [ANY, TLS_1_2], ids=["TLS 1.3", "TLS 1.2"])
def test_all_of_it_may_come_byte_by_byte(door: Any, context: ssl.SSLContext) -> None:
    with door().connect(context, shake=False) as peer:
        peer.sock.shake_hands(each=1)
        peer.sock.trickle(peer.sock.encrypted(GET), each=1)
        assert peer.response()[1] == b"ok"


def test_a_request_may_come_in_a_record_for_each_byte(door: Any) -> None:
    with door().connect() as peer:
        for _ in range(2):
            peer.raw.sendall(peer.sock.encrypted(*(GET[at : at + 1] for at in range(len(GET)))))
            assert peer.response()[1] == b"ok"


def test_records_without_content_are_nothing_to_read(door: Any) -> None:
    with door().connect(TLS_1_2) as peer:
        peer.raw.sendall(peer.sock.encrypted(b"", GET[:9], b"", GET[9:], b""))
        assert peer.response()[1] == b"ok"
        assert peer.get("/").response()[1] == b"ok"


def test_a_request_may_come_together_with_the_last_of_the_handshake(door: Any) -> None:
    with door().connect(shake=False) as peer:
        flight = peer.sock.last_flight()
        peer.raw.sendall(flight + peer.sock.encrypted(GET * 3))
        for _ in range(3):
            assert peer.response()[1] == b"ok"


def test_many_requests_in_one_record_are_all_answered_in_order(door: Any) -> None:
    stage_paths = [f"/{number}" for number in range(400)]
    opened = door()
    with opened.connect() as peer:
        requests = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in stage_paths)
        peer.raw.sendall(peer.sock.encrypted(requests.encode()))
        for _ in stage_paths:
            assert peer.response()[1] == b"ok"
    assert [record.target for record in opened.records(400)] == stage_paths


@pytest.mark.parametrize("portions", [(90,), (30, 60, 10), (60, 10, 60), (1, 130)], ids=str)
def test_what_is_pipelined_behind_a_slow_handler_is_not_forgotten_however_much_it_is(
    door: Any, portions: tuple[int, ...]
) -> None:
    """More than the event loop decrypts ahead; some lies in memory then, and some in the kernel."""
    opened = door()
    request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 1000)
    with opened.connect() as peer:
        peer.get("/held")
        opened.stage.begun()
        (connection,) = until(opened.connections, "it is watched")
        for portion in portions:
            before = len(connection.transport.read_ahead)
            peer.send(request * portion)
            full = lambda: len(connection.transport.read_ahead) > before or before >= 65536  # noqa: B023, E731
            until(full, "the event loop has looked at it")
        opened.stage.proceed.release()
        for _ in range(1 + sum(portions)):
            assert peer.response()[1] == b"ok"
        until(lambda: connection.state is State.IDLE, "it is at rest")


def test_a_watch_that_has_read_ahead_as_far_as_it_may_is_at_rest(
    serve: Any, certificate: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The portable poller tells of levels: it must not tell of what nobody takes again and again."""
    monkeypatch.setenv("HANGUP_POLLER", "poll")
    opened = Door("own", serve, None, certificate.ecdsa)
    with opened.connect() as peer:
        peer.get("/held")
        opened.stage.begun()
        (connection,) = until(opened.connections, "it is watched")
        polled: list[int] = []
        wait = opened.engine.loop.poller.wait

        def counting(timeout: float | None) -> Any:
            polled.append(1)
            return wait(timeout)

        monkeypatch.setattr(opened.engine.loop.poller, "wait", counting)
        peer.send(GET * 10_000)
        until(lambda: len(connection.transport.read_ahead) >= 65536, "it has read ahead")
        with opened.connect() as other:
            assert other.get("/").response()[1] == b"ok"
        assert len(polled) < 100
        opened.stage.proceed.release()
        assert peer.response()[1] == b"ok"


# -- bodies


@pytest.mark.parametrize("context", [ANY, TLS_1_2], ids=["TLS 1.3", "TLS 1.2"])
def test_ten_megabytes_arrive_unchanged_both_ways_on_one_connection(
    door: Any, context: ssl.SSLContext
) -> None:
    opened = door()
    with opened.connect(context) as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BIG))
        peer.send(BIG)
        assert peer.response()[1] == BIG_DIGEST
        assert sha256(peer.get("/big").response()[1]).hexdigest().encode() == BIG_DIGEST
    up, down = opened.records(2)
    assert (up.bytes_in, down.body_out) == (up.bytes_in, len(BIG))
    assert up.bytes_in >= len(BIG)


def test_ten_megabytes_arrive_unchanged_in_chunks(door: Any) -> None:
    opened = door()
    if opened.kind == "stock":
        pytest.skip("http.server's handlers know no chunks")
    with opened.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(BIG), 99_999):
            piece = BIG[start : start + 99_999]
            peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        peer.send(b"0\r\n\r\n")
        assert peer.response()[1] == BIG_DIGEST
        response, body = peer.get("/chunked/big").response()
        assert response.getheader("Transfer-Encoding") == ("chunked" if opened.kind == "wsgi" else None)
        assert sha256(body).hexdigest().encode() == BIG_DIGEST


def test_a_slow_reader_and_a_slow_sender_get_every_byte(door: Any) -> None:
    """Records end where no read and no send does."""
    opened = door()
    with opened.connect(shake=False) as peer:
        peer.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        peer.sock.shake_hands()
        body = BIG[:300_000]
        data = peer.sock.encrypted(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body), body
        )
        peer.sock.trickle(data, each=777)
        assert peer.response()[1] == sha256(body).hexdigest().encode()
        peer.get("/big").get("/")
        digest, left = sha256(), len(BIG)
        assert peer.read_head().startswith(b"HTTP/1.1 200")
        while left and (piece := peer.sock.recv(min(left, 5003))):
            digest.update(piece)
            left -= len(piece)
        assert digest.hexdigest().encode() == BIG_DIGEST
        assert peer.response()[1] == b"ok"


def test_a_body_that_has_to_be_asked_for_is_asked_for(door: Any) -> None:
    opened = door()
    with opened.connect() as peer:
        peer.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert peer.read_head().startswith(b"HTTP/1.1 100 ")
        peer.send(b"hello")
        assert peer.response()[1] == sha256(b"hello").hexdigest().encode()


@pytest.mark.parametrize("base", ["hangup", "http.server"])
def test_files_are_served_whole(
    serve: Any, certificate: Certificates, tmp_path: Path, base: str
) -> None:
    (tmp_path / "file").write_bytes(BIG)
    module: Any = hangup if base == "hangup" else http.server

    class Handler(module.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None: ...

    serving = serve(Handler, hangup.ThreadingHTTPSServer, certfile=certificate.ecdsa.both)
    with TLSPeer(serving.address) as peer:
        for _ in range(2):
            assert peer.get("/file").response()[1] == BIG
        assert peer.get("/missing").response()[0].status == 404


# -- those that say nothing, or nonsense


@pytest.mark.parametrize("said", ["nothing", "half a hello", "a hello"])
def test_a_handshake_that_stops_is_given_up_in_time(door: Any, said: str) -> None:
    opened = door(handshake_timeout=0.5)  # A busy machine needs its time to send what it sends.
    with opened.connect(shake=False) as peer:
        hello = peer.sock.flight()
        if said != "nothing":
            peer.raw.sendall(hello if said == "a hello" else hello[:50])
        assert (peer.end() == b"") is (said != "a hello")
    assert opened.get() == (200, b"ok")
    assert len(opened.records(1)) == 1, "there was no request"


def test_two_hundred_that_stop_anywhere_delay_nobody(door: Any) -> None:
    opened = door(max_threads=2, handshake_timeout=0.5)
    with opened.connect() as good:
        stopped = [opened.connect(shake=False) for _ in range(200)]
        for number, peer in enumerate(stopped):
            if number % 3:
                hello = peer.sock.flight()
                peer.raw.sendall(hello[: 50 if number % 3 == 1 else None])
        for _ in range(50):
            assert good.get("/").response()[1] == b"ok"
        assert opened.get() == (200, b"ok")
        for peer in stopped:
            peer.end()
            peer.fin()
    until(lambda: not opened.connections(), "all are closed")


def test_a_client_that_says_nothing_after_the_handshake_has_as_long_as_without_tls(door: Any) -> None:
    opened = door(request_header_timeout=0.15)
    with opened.connect() as peer:
        assert peer.read_to_end() == b"", "and it gets a goodbye"


def test_an_idle_connection_ends_with_a_goodbye(door: Any) -> None:
    opened = door(keep_alive_timeout=0.15)
    with opened.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        assert peer.read_to_end() == b""


def test_half_a_record_is_no_reason_to_wait_for_longer(door: Any) -> None:
    opened = door(keep_alive_timeout=0.15)
    with opened.connect() as peer:
        assert peer.get("/").response()[1] == b"ok"
        peer.raw.sendall(peer.sock.encrypted(GET)[:-1])
        assert peer.read_to_end() == b""


@pytest.mark.parametrize("each", [1, 100_000])
def test_plain_http_gets_one_whole_answer_in_plain_http(door: Any, each: int) -> None:
    opened = door()
    with Peer(opened.address) as peer:
        for start in range(0, len(GET), each):
            peer.send(GET[start : start + each])
        response, body = peer.response()
        assert (response.status, response.reason) == (400, "This port speaks HTTPS, not HTTP")
        assert response.getheader("Connection") == "close"
        assert len(body) == int(response.getheader("Content-Length") or 0) > 0
        assert peer.read_to_end() == b""
    (record,) = opened.records(1)
    assert (record.outcome, record.status) == (Outcome.REJECTED, 400)


@pytest.mark.parametrize(
    ("garbage", "begins"),
    [
        (b"\x16\x03\x01\x00\x05hello", b"\x15"),
        (b"\x16\x03\x01" + bytes(70_000), b"\x15"),
        (b"\x16" * 200_000, b""),  # a version that there will never be
        (b"\x80\x2e\x01\x00\x02" + bytes(50), b"HTTP/1.1 400 "),  # a hello of SSL 2
        (bytes(100_000), b"HTTP/1.1 400 "),
        (b"\x15\x03\x01\x00\x02\x02\x28", b"HTTP/1.1 400 "),
    ],
    ids=range(6),
)
def test_nonsense_gets_an_alert_or_a_word_and_the_end(door: Any, garbage: bytes, begins: bytes) -> None:
    opened = door()
    with Peer(opened.address) as peer:
        peer.send(garbage)
        assert peer.read_to_end().startswith(begins)
    assert opened.get() == (200, b"ok")


def test_nonsense_after_the_handshake_ends_the_connection_with_an_alert(door: Any) -> None:
    opened = door()
    for data in (GET, bytes(100_000)):
        with opened.connect() as peer:
            assert peer.get("/").response()[1] == b"ok"
            peer.raw.sendall(data)
            with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
                peer.read_to_end()
    until(lambda: not opened.connections(), "both are closed")
