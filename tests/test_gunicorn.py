"""``gunicorn -k hangup.gunicorn.Worker``: gunicorn's own arbiter, its signals, settings and sockets."""

import http.client
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from conftest import PATIENCE, Peer, until


def test_it_serves_from_several_processes_and_ends_in_peace(gunicorn: Any) -> None:
    server = gunicorn("-w", "2").ready(2)
    workers = set(server.wait_for(r"Booting worker with pid: (\d+)", 2))
    assert server.get("/pid")[1] in workers
    assert server.get("/multi") == (200, "True")
    with Peer(server.address) as peer:
        for _ in range(3):
            assert peer.get("/").response()[1] == b"ok"
        assert server.stop() == 0
    assert "Traceback" not in server.said
    assert "WORKER TIMEOUT" not in server.said


def test_one_worker_is_not_multiprocess(gunicorn: Any) -> None:
    assert gunicorn().ready().get("/multi") == (200, "False")


def test_a_unix_socket(gunicorn: Any, tmp_path: Path) -> None:
    server = gunicorn(bind=f"unix:{tmp_path}/s").ready()
    assert server.get() == (200, "ok")
    assert server.stop() == 0


def test_two_sockets_at_once(gunicorn: Any, tmp_path: Path) -> None:
    server = gunicorn("-b", f"unix:{tmp_path}/s").ready()
    assert server.get() == (200, "ok")
    with Peer(f"{tmp_path}/s") as peer:
        assert peer.get("/").response()[1] == b"ok"


def test_the_code_is_told_of_a_departure(gunicorn: Any) -> None:
    server = gunicorn("--access-logfile", "/dev/stderr").ready()
    peer = Peer(server.address).get("/left")
    server.wait_for("begins")
    peer.fin()
    server.wait_for("the client left")
    server.wait_for(r'"GET /left HTTP/1\.1" 499 ')


def test_the_access_log_has_gunicorns_format(gunicorn: Any) -> None:
    form = "%(h)s|%(r)s|%(s)s|%(B)s|%({user-agent}i)s|%({x-mark}o)s|%(q)s|%(f)s"
    server = gunicorn("--access-logfile", "/dev/stderr", "--access-logformat", form).ready()
    server.get("/a?b", "User-Agent: me", "Referer: there")
    server.wait_for(re.escape("127.0.0.1|GET /a?b HTTP/1.1|200|2|me|yes|b|there"))


def test_an_exception_goes_to_gunicorns_error_log(gunicorn: Any) -> None:
    server = gunicorn().ready()
    assert server.get("/fail")[0] == 500
    server.wait_for(r"\[ERROR\] the application failed on GET /fail")
    server.wait_for("ZeroDivisionError: mine")


def test_a_worker_is_replaced_after_max_requests(gunicorn: Any) -> None:
    server = gunicorn("--max-requests", "3").ready()
    first = server.get("/pid")[1]
    for _ in range(2):
        assert server.get("/pid") == (200, first)
    server.wait_for("Autorestarting worker after current request")
    server.ready(2)
    assert server.get("/pid")[1] != first


def test_a_trusted_proxy_says_the_scheme(gunicorn: Any) -> None:
    server = gunicorn().ready()
    assert server.get("/scheme") == (200, "http")
    assert server.get("/scheme", "X-Forwarded-Proto: https") == (200, "https")


def test_a_stranger_does_not_say_the_scheme(gunicorn: Any) -> None:
    server = gunicorn("--forwarded-allow-ips", "192.0.2.1").ready()
    assert server.get("/scheme", "X-Forwarded-Proto: https") == (200, "http")


def test_an_application_that_is_mounted_below_the_root(gunicorn: Any) -> None:
    server = gunicorn("-e", "SCRIPT_NAME=/app").ready()
    assert server.get("/app/mount") == (200, "/app|/mount")
    assert server.get("/apple") == (200, "ok")


def test_settings_that_gunicorn_does_not_know_come_from_the_environment(gunicorn: Any) -> None:
    server = gunicorn(HANGUP_REQUEST_HEADER_TIMEOUT="0.05").ready()
    with Peer(server.address) as peer:
        assert peer.send(b"GET / ").read_to_end().startswith(b"HTTP/1.1 408 ")


def test_a_restart_on_hup_loses_no_request_under_load(gunicorn: Any) -> None:
    """Clients that keep their connections, and clients that do not; two restarts while they run."""
    server = gunicorn("-w", "2", "--keep-alive", "30").ready(2)
    address = server.address
    stop = threading.Event()
    lost: list[Any] = []
    answers: list[str] = []

    def client(keep: bool) -> None:
        peer = None
        while not stop.is_set():
            try:
                peer = peer or Peer(address)
                response, body = peer.get("/pid", *([] if keep else ["Connection: close"])).response()
                assert response.status == 200
                answers.append(body.decode())
                if not keep or response.headers["Connection"] == "close":
                    peer.fin()
                    peer = None
            except (OSError, AssertionError, http.client.HTTPException) as error:
                lost.append((keep, error))
                break
        if peer is not None:
            peer.fin()

    threads = [threading.Thread(target=client, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for restart in (1, 2):
            until(lambda: len(answers) > 100, "they are at work")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(r"Booting worker with pid: (\d+)", 2 + 2 * restart)
            server.wait_for(r"Worker exiting \(pid: (\d+)\)", 2 * restart)
            answers.clear()
        until(lambda: len(answers) > 100, "the new workers are at work")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert lost == []
    old = set(server.wait_for(r"Worker exiting \(pid: (\d+)\)", 4))
    assert not old & set(answers[-50:])
    assert server.stop() == 0


def test_the_parent_may_die(gunicorn: Any) -> None:
    """A worker whose arbiter was killed ends by itself."""
    server = gunicorn().ready()
    address, (worker,) = server.address, server.wait_for(r"Booting worker with pid: (\d+)")
    assert server.get() == (200, "ok")
    server.process.kill()
    server.process.wait()

    def refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(address) != 0

    until(refused, f"worker {worker} has ended")
