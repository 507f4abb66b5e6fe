"""Each of gunicorn's settings is heard, refused at the start, or documented as without effect."""

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import KNOWN_SETTINGS, Config
from gunicorn.glogging import Logger

import hangup
from conftest import PATIENCE, Certificates, Peer, until
from gunicorn_support import HANGUP
from hangup._http1.request_head import Heads
from hangup.gunicorn.fields import FieldPolicy, mount, trusts
from hangup.gunicorn.settings import (
    _BEFORE,
    HEARD,
    REFUSED,
    WITHOUT_EFFECT,
    check_settings,
    config_of,
    setting,
)
from hangup.gunicorn.worker import Worker

NAMES = {setting.name for setting in KNOWN_SETTINGS}
PAGE = Path(__file__).parent.parent / "docs" / "gunicorn.md"


def configured(**settings: Any) -> Config:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


# -- the list


def test_every_setting_is_in_one_group() -> None:
    assert sorted([*HEARD, *REFUSED, *WITHOUT_EFFECT]) == sorted(NAMES)


def test_the_documentation_lists_every_setting_in_its_group() -> None:
    """A row of the table: settings between backticks, what becomes of them, and a word or more on it."""
    listed: dict[str, str] = {}
    for row in re.findall(r"^\| (`.*)\|$", PAGE.read_text(), re.MULTILINE):
        names, group, text = (cell.strip() for cell in row.split("|"))
        assert text
        for name in re.findall(r"`([a-z0-9_]+)`", names):
            assert name not in listed, f"{name} is listed twice"
            listed[name] = group
    groups = {"heard": HEARD, "refused": REFUSED, "without effect": WITHOUT_EFFECT}
    assert listed == {name: group for group, names in groups.items() for name in names}


def test_an_older_gunicorn_has_the_defaults_of_this_one() -> None:
    cfg = configured()
    for name in _BEFORE:
        assert list_or_value(setting(object(), name)) == list_or_value(getattr(cfg, name)), name


def list_or_value(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# -- limits


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {},
            {
                "max_request_line_size": 4096,
                "max_request_fields": 100,
                "max_request_field_size": 8188,
                "max_request_header_size": 819_200,
            },
        ),
        ({}, {"max_request_body_size": 0, "max_threads": 64, "backlog": 2048, "keep_alive_timeout": 2}),
        ({"limit_request_line": 0}, {"max_request_line_size": 0}),
        ({"limit_request_line": 8190}, {"max_request_line_size": 8192}),
        ({"limit_request_line": 1}, {"max_request_line_size": 64}),
        ({"limit_request_fields": 0}, {"max_request_fields": 32768}),
        ({"limit_request_fields": 40000}, {"max_request_fields": 32768}),
        ({"limit_request_field_size": 0}, {"max_request_field_size": 0, "max_request_header_size": 0}),
        (
            {"limit_request_field_size": 200_000},
            {"max_request_field_size": 199_998, "max_request_header_size": 20_000_200},
        ),
        ({"limit_request_field_size": 5}, {"max_request_field_size": 64}),
        ({"threads": 5}, {"max_threads": 5}),
        ({"keepalive": 0}, {"max_requests": 1}),
        ({"keepalive": 9}, {"keep_alive_timeout": 9, "max_requests": 0}),
        ({"worker_connections": 1000}, {"max_connections": 0}),
        ({"worker_connections": 77}, {"max_connections": 77}),
    ],
)
def test_what_a_limit_becomes(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    config = config_of(configured(**settings))
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_gunicorn_does_not_limit_the_environment_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGUP_MAX_REQUEST_BODY_SIZE", "5")
    monkeypatch.setenv("HANGUP_MAX_REQUEST_HEADER_SIZE", "1000")
    monkeypatch.setenv("HANGUP_MIN_DATA_RATE", "0.5")
    monkeypatch.setenv("HANGUP_HALF_CLOSE", "ignore")
    monkeypatch.setenv("HANGUP_MAX_REQUEST_FIELDS", "7")
    config = config_of(configured())
    assert (config.max_request_body_size, config.max_request_header_size, config.min_data_rate) == (
        5,
        1000,
        0.5,
    )
    assert config.half_close == "ignore"
    assert config.max_request_fields == 100, "that one is gunicorn's"


@pytest.mark.parametrize("fields", ["limit-request-line", "limit-request-field_size"])
def test_a_limit_of_0_is_none(gunicorn: Any, fields: str) -> None:
    server = gunicorn(f"--{fields}", "0").ready()
    long = "x" * 300_000
    if "line" in fields:
        assert server.get(f"/{long}")[0] == 200
        assert server.get("/", f"X-A: {long}")[0] == 431
    else:
        assert server.get("/", f"X-A: {long}", f"X-B: {long}")[0] == 200
        assert server.get(f"/{long}")[0] == 414


def test_bodies_are_limited_where_somebody_says_so(gunicorn: Any) -> None:
    big = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000000\r\nExpect: 100-continue\r\n\r\n"
    assert gunicorn().ready().ask(big).startswith(b"HTTP/1.1 200 ")
    assert gunicorn(HANGUP_MAX_REQUEST_BODY_SIZE="5").ready().ask(big).startswith(b"HTTP/1.1 413 ")


def test_without_keep_alive_each_response_says_so(gunicorn: Any) -> None:
    """gunicorn's own workers do; a client that is not told sends its next request in vain."""
    server = gunicorn("--keep-alive", "0").ready()
    assert b"\r\nConnection: close\r\n" in server.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


# -- what is refused, at the start


def test_what_is_set_in_vain_is_said_once_and_the_worker_serves(gunicorn: Any) -> None:
    server = gunicorn("--permit-unconventional-http-version").ready()
    assert server.get()[0] == 200
    assert server.said.count("permit_unconventional_http_version is not heard") == 1


@pytest.mark.parametrize(
    ("setting", "value"), [("http2_cleartext", "upgrade"), ("http_protocols", ["h2", "h1"])]
)
def test_http2_is_set_in_vain(setting: str, value: Any) -> None:
    lines: list[str] = []
    log = type("Log", (), {"warning": lambda _self, text: lines.append(text)})()
    cfg = configured()
    check_settings(cfg, log)
    assert lines == []
    cfg.settings[setting].value = value  # past its validator, which asks for the h2 package
    check_settings(cfg, log)
    (line,) = lines
    assert line.startswith(setting)
    assert "hangup.gunicorn.Worker speaks HTTP/1.1 alone" in line


@pytest.mark.parametrize(
    ("args", "environment", "line"),
    [
        (("--protocol", "uwsgi"), {}, "hangup.gunicorn.Worker speaks HTTP, and not protocol='uwsgi'"),
        ((), {"HANGUP_MAX_HEAD": "9"}, "HANGUP_MAX_HEAD is now called HANGUP_MAX_REQUEST_HEADER_SIZE"),
        ((), {"HANGUP_MAX_QUEUE": "many"}, "HANGUP_MAX_QUEUE must be a number, not 'many'"),
        (
            (),
            {"HANGUP_REQUEST_HEADER_TIMEOUT": "0"},
            "request_header_timeout must be at least 0.01, not 0.0",
        ),
    ],
)
def test_what_can_not_work_ends_gunicorn_with_one_line(
    gunicorn: Any, args: tuple[str, ...], environment: dict[str, str], line: str
) -> None:
    server = gunicorn(*args, **environment)
    assert server.process.wait(2 * PATIENCE) == 1
    server.wait_for("Error: .*" + re.escape(line))
    assert "Traceback" not in server.said


# -- hooks


HOOKS = """
import sys

def said(name):
    def hook(*args):
        print("hook", name, *(type(arg).__name__ for arg in args), file=sys.stderr, flush=True)
    return hook

def on_starting(server): said("on_starting")(server)
def on_reload(server): said("on_reload")(server)
def when_ready(server): said("when_ready")(server)
def pre_fork(server, worker): said("pre_fork")(server, worker)
def post_fork(server, worker): said("post_fork")(server, worker)
def post_worker_init(worker): said("post_worker_init")(worker)
def worker_int(worker): said("worker_int")(worker)
def child_exit(server, worker): said("child_exit")(server, worker)
def worker_exit(server, worker): said("worker_exit")(server, worker)
def nworkers_changed(server, new, old): said("nworkers_changed")(server)
def on_exit(server): said("on_exit")(server)
"""


def test_the_hooks_of_arbiter_and_worker_are_called(gunicorn: Any) -> None:
    server = gunicorn(conf=HOOKS).ready()
    assert server.get()[0] == 200
    server.process.send_signal(signal.SIGHUP)
    server.ready(2)
    server.wait_for("hook child_exit Arbiter Worker")
    server.stop(signal.SIGINT)
    for name in re.findall(r"^def (\w+)\(", HOOKS, re.MULTILINE)[1:]:
        server.wait_for(f"hook {name} ")


REQUEST_HOOKS = """
def pre_request(worker, req):
    worker.log.info("pre %s %s %s %s %s", req.method, req.path, req.query, req.version, worker.nr)
    req.headers.append(("X-STAMP", "from the hook"))

def post_request(worker, req, environ, resp):
    lengths = [value for name, value in resp.headers if name == "Content-Length"]
    seen = req.uri, environ["PATH_INFO"], resp.status, resp.sent, lengths
    worker.log.info("post %s %s %s %s %s", *seen)
    assert req.path != "/hook"
"""
STAMPED = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ZeroDivisionError
    body = environ.get("HTTP_X_STAMP", "").encode()
    start_response("201 Created", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("worker", ["gthread", HANGUP])
def test_the_hooks_around_a_request(gunicorn: Any, worker: str) -> None:
    server = gunicorn("--threads", "2", conf=REQUEST_HOOKS, app=STAMPED, worker=worker).ready()
    for _ in range(2):
        assert server.get("/a%20b?c=d") == (201, "from the hook")
    server.wait_for(r"pre GET /a%20b c=d \(1, 1\) ", 2)
    server.wait_for(r"post /a%20b\?c=d /a b 201 Created 13 \['13'\]", 2)
    assert server.get("/hook")[0] == 201, "what a hook raises is logged, and nothing else"
    server.wait_for("Exception in post_request hook")
    assert server.get("/fail")[0] == 500
    server.wait_for("post /fail /fail")


# -- logs


ATOMS = [
    *("h", "l", "u", "r", "m", "U", "q", "H", "s", "B", "b", "f", "a"),
    *("{x-foo}i", "{X-FOO}i", "{none}i", "{x-id}o", "{content-length}o", "{none}o"),
    *("{myapp.user}e", "{wsgi.url_scheme}e", "{request_method}e", "{script_name}e", "{none}e"),
]
LOGGED = """
def app(environ, start_response):
    environ["myapp.user"] = "alice"
    headers = [("Content-Type", "text/plain"), ("X-Id", "7")]
    if environ["PATH_INFO"] == "/fail":
        raise ZeroDivisionError
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", headers)
        return iter([b"a", b"bc", b"def"])
    start_response("201 Made It", headers + [("Content-Length", "2")])
    return [b"ok"]
"""
LOGGED_REQUESTS = [
    "GET /p?x=1 HTTP/1.1",
    "GET /p%20q HTTP/1.1",
    "HEAD /p HTTP/1.1",
    "GET /stream HTTP/1.1",
    "GET /p HTTP/1.0",
    "POST /p HTTP/1.1",
]


def test_every_atom_of_the_access_log_is_gthreads(gunicorn: Any) -> None:
    form = "line|" + "|".join(f"{atom}=%({atom})s" for atom in ATOMS) + "|end"
    seen = {}
    for worker in ("gthread", HANGUP):
        options = ("--threads", "2", "--access-logfile", "/dev/stderr", "--access-logformat", form)
        server = gunicorn(*options, app=LOGGED, worker=worker).ready()
        for line in LOGGED_REQUESTS:
            server.ask(
                f"{line}\r\nHost: a\r\nX-Foo: bar\r\nReferer: ref\r\nUser-Agent: ua\r\n"
                "Authorization: Basic YWxpY2U6eA==\r\nConnection: close\r\n\r\n".encode()
            )
        seen[worker] = server.wait_for(r"line\|.*\|end", len(LOGGED_REQUESTS))
        server.stop()
    assert seen[HANGUP] == seen["gthread"]
    assert "|{myapp.user}e=alice|" in seen[HANGUP][0]
    assert "|u=alice|" in seen[HANGUP][0]


def test_the_atoms_of_time_and_process(gunicorn: Any) -> None:
    form = "T=%(T)s D=%(D)s M=%(M)s L=%(L)s p=%(p)s t=%(t)s"
    server = gunicorn("--access-logfile", "/dev/stderr", "--access-logformat", form).ready()
    (pid,) = server.wait_for(r"Booting worker with pid: (\d+)")
    server.get()
    server.wait_for(rf"T=0 D=\d+ M=\d+ L=0\.\d{{6}} p=<{pid}> t=\[\d\d/\w+/\d{{4}}:[\d:]+ [-+]\d{{4}}\]")


LOGGER = """
from gunicorn.glogging import Logger

class Mine(Logger):
    def atoms(self, resp, req, environ, request_time):
        return {**super().atoms(resp, req, environ, request_time), "mine": environ["myapp.user"]}

class Own(Logger):
    def access(self, resp, req, environ, request_time):
        self.error("own %s %s %s", resp.status, dict(req.headers)["USER-AGENT"], environ["myapp.user"])

    def error(self, msg, *args, **kwargs):
        super().error("mine: " + msg, *args, **kwargs)
"""


def test_a_logger_class_with_atoms_of_its_own(gunicorn: Any, tmp_path: Path) -> None:
    (tmp_path / "loggers.py").write_text(LOGGER)
    options = ("--access-logfile", "/dev/stderr", "--access-logformat", "%(s)s by %(mine)s")
    server = gunicorn("--logger-class", "loggers.Mine", *options, app=LOGGED).ready()
    server.get()
    server.wait_for("201 by alice")


def test_a_logger_class_that_logs_in_its_own_way_whatever_is_set(gunicorn: Any, tmp_path: Path) -> None:
    (tmp_path / "loggers.py").write_text(LOGGER)
    server = gunicorn("--logger-class", "loggers.Own", app=LOGGED).ready()
    server.get("/", "User-Agent: me")
    server.wait_for("mine: own 201 Created me alice")
    server.get("/fail", "User-Agent: me")
    server.wait_for("mine: the application failed on GET /fail\n(?s:.*)ZeroDivisionError")


def test_logs_are_opened_anew_on_sigusr1_and_what_applications_write_too(
    gunicorn: Any, tmp_path: Path
) -> None:
    """Log rotation: the file is moved away, and gunicorn is told."""
    app = """
def app(environ, start_response):
    environ["wsgi.errors"].write("wrote it\\n")
    environ["wsgi.errors"].writelines(["and more\\n"])
    environ["wsgi.errors"].flush()
    start_response("200 OK", [])
    return [b"ok"]
"""
    log, moved = tmp_path / "log", tmp_path / "moved"
    server = gunicorn("--error-logfile", str(log), bind=f"unix:{tmp_path}/s", app=app)
    until(lambda: log.exists() and "Booting worker" in log.read_text(), "it serves")

    def asked() -> bool:
        with Peer(f"{tmp_path}/s") as peer:
            return bool(peer.get("/").response()[0].status == 200)

    assert asked()
    assert "wrote it\nand more\n" in log.read_text()
    log.rename(moved)
    server.process.send_signal(signal.SIGUSR1)
    until(log.exists, "the log is there again")
    # The worker hears of it from its arbiter, a moment later.
    until(lambda: asked() and "wrote it\nand more\n" in log.read_text(), "it writes there")


def test_an_applications_logging_configuration_does_not_silence_the_server(gunicorn: Any) -> None:
    """It disables the loggers that are there unless it says otherwise; Django's projects often don't."""
    app = 'import logging.config\nlogging.config.dictConfig({"version": 1})\n' + LOGGED
    server = gunicorn("--access-logfile", "/dev/stderr", app=app).ready()
    server.get("/fail")
    server.wait_for("the application failed on GET /fail\n(?s:.*)ZeroDivisionError")
    server.wait_for('"GET /fail HTTP/1.1" 500')


def test_what_the_log_reads_leaves_nothing_for_the_garbage_collector(gunicorn: Any) -> None:
    """An environ that is kept for the log refers to its request, and that must not refer back."""
    app = """
import gc
gc.disable()
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/count":
        return [str(sum(type(one).__name__ == "Exchange" for one in gc.get_objects())).encode()]
    return [b"ok"]
"""
    conf = "def post_request(worker, req, environ, resp): pass\n"
    server = gunicorn("--access-logfile", "/dev/stderr", app=app, conf=conf).ready()
    with Peer(server.address) as peer:
        for _ in range(20):
            assert peer.get("/").response()[1] == b"ok"
        assert int(peer.get("/count").response()[1]) < 5


def test_statsd_counts_requests_and_errors(gunicorn: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(PATIENCE)
        where = f"127.0.0.1:{statsd.getsockname()[1]}"
        server = gunicorn("--statsd-host", where, "--statsd-prefix", "mine", app=LOGGED).ready()
        server.get("/fail")
        expected = {b"mine.gunicorn.requests", b"mine.gunicorn.request.status.500"}
        expected |= {b"mine.gunicorn.log.error", b"mine.gunicorn.request.duration"}
        while expected:
            expected.discard(statsd.recv(1000).partition(b":")[0])


def test_nobody_reads_an_access_log_that_is_not_set() -> None:
    from hangup.gunicorn.log import access_sink

    log = Logger.__new__(Logger)
    log.cfg = configured()
    assert access_sink(log) is None
    log.cfg = configured(accesslog="-")
    assert access_sink(log) is not None


# -- the rest, one by one


def test_files_are_read_block_by_block_without_sendfile(gunicorn: Any) -> None:
    app = """
def app(environ, start_response):
    start_response("200 OK", [])
    wrapper = environ["wsgi.file_wrapper"]
    if environ["PATH_INFO"] == "/file":
        return wrapper(open(__file__, "rb"))
    return [f"{wrapper.__module__}.{wrapper.__name__}".encode()]
"""
    assert gunicorn(app=app).ready().get()[1] == "hangup.wsgi.file_wrapper.FileWrapper"
    server = gunicorn("--no-sendfile", app=app).ready()
    assert server.get()[1] == "gunicorn.http.wsgi.FileWrapper"
    assert server.get("/file") == (200, app)


def test_early_hints(gunicorn: Any) -> None:
    app = """
def app(environ, start_response):
    hint = environ["wsgi.early_hints"]
    hint([("Link", "</style.css>; rel=preload")])
    try:
        hint([("Link", "a\\r\\nb: c")])
    except ValueError:
        pass
    start_response("200 OK", [("Content-Length", "2")])
    yield b"o"
    hint([("Link", "too late")])
    yield b"k"
"""
    server = gunicorn(app=app).ready()
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    hints, _, rest = server.ask(request).partition(b"\r\n\r\n")
    assert hints == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"\r\n\r\nok")
    old = server.ask(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert old.startswith(b"HTTP/1.1 200 OK\r\n"), "HTTP/1.0 knows no 1xx"


def test_reload_takes_the_new_code(gunicorn: Any, tmp_path: Path) -> None:
    app = 'def app(environ, start_response):\n    start_response("200 OK", [])\n    return [b"%s"]\n'
    server = gunicorn("--reload", "--reload-engine", "poll", app=app % "old").ready()
    assert server.get()[1] == "old"
    module = tmp_path / "hello.py"
    module.write_text(app % "newer")

    def noticed() -> bool:
        # gunicorn compares with what it found at its first look, which may come after this change.
        os.utime(module, ns=(0, module.stat().st_mtime_ns + 1_000_000_000))
        return "hello.py modified" in server.said

    until(noticed, "the change")
    server.ready(2)
    assert server.get()[1] == "newer"


def test_a_short_time_out_does_not_kill_a_worker_that_lives(gunicorn: Any) -> None:
    """The signs of life come often enough for it; a handler that works is none of its business."""
    app = """
def app(environ, start_response):
    environ["hangup.client"].wait(3)
    start_response("200 OK", [])
    return [b"ok"]
"""
    server = gunicorn("--timeout", "1", app=app).ready()
    assert server.get()[1] == "ok"
    assert "WORKER TIMEOUT" not in server.said


@pytest.mark.parametrize(("half", "expected"), [(15, 1.0), (0.5, 0.5), (0, 1.0)])
def test_signs_of_life_come_often_enough_for_the_time_out(half: float, expected: float) -> None:
    """A worker is told half of it; 0 is none."""
    worker = Worker.__new__(Worker)
    worker.timeout = half
    assert worker._heartbeat == expected


def test_environment_preloading_and_the_end_of_a_worker_with_jitter(gunicorn: Any) -> None:
    app = """
import os
at_import = os.getpid()
def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.environ['MINE']} {at_import != os.getpid()}".encode()]
"""
    server = gunicorn("-e", "MINE=yes", "--preload", "--max-requests", "1", app=app).ready()
    assert server.get()[1] == "yes True"
    server.wait_for("Autorestarting worker after current request")
    server.ready(2)


def test_no_more_connections_than_worker_connections(gunicorn: Any) -> None:
    """Idle ones make room for new ones, as elsewhere."""
    server = gunicorn("--worker-connections", "2", "--keep-alive", "75").ready()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.address)) for _ in range(2)]
        for peer in peers:
            assert peer.get("/").response()[0].status == 200
        assert server.get()[0] == 200
        until(lambda: any(is_closed(peer) for peer in peers), "an idle one made room")


def is_closed(peer: Peer) -> bool:
    peer.sock.setblocking(False)
    try:
        return peer.sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def test_tls_speaks_http_1_1_whatever_is_offered(gunicorn: Any, certificate: Certificates) -> None:
    rsa = certificate.rsa
    tls = ("--certfile", rsa.cert, "--keyfile", rsa.key)
    conf = """
def ssl_context(config, default):
    context = default()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
"""
    server = gunicorn(*tls, conf=conf).ready()
    context = ssl.create_default_context(cafile=rsa.cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, port = server.address
    sock = socket.create_connection((host, port), PATIENCE)
    with context.wrap_socket(sock, server_hostname="localhost") as secure:
        assert secure.selected_alpn_protocol() == "http/1.1"
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/scheme")
        assert connection.getresponse().read() == b"https"


# -- whom to believe


def test_networks_addresses_and_everybody() -> None:
    believes = trusts(["192.0.2.0/24", "::1"])
    assert [believes(one) for one in ("192.0.2.7", "::1", "")] == [True] * 3
    assert [believes(one) for one in ("198.51.100.1", "::2", "no address")] == [False] * 3
    assert trusts(["*"])("anybody")


def test_a_policy_knows_when_it_matters_who_asks() -> None:
    policy = FieldPolicy(configured())
    heads = Heads(hangup.Config())

    def head(*lines: bytes) -> bytes:
        return b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""])

    for parse in (heads.parse, heads.parse_strictly):
        assert not policy.concerns(parse(head(b"X-Forwarded-For: b")))
        for name in (b"X_A", b"x-forwarded-proto", b"X-Forwarded-Ssl"):
            assert policy.concerns(parse(head(name + b": b")))
        with pytest.raises(hangup.RequestRejected):
            policy.concerns(parse(head(b"Content-Type: a/b", b"content-type: c/d")))


@pytest.mark.parametrize("header_map", ["drop", "dangerous"])
def test_a_stranger_does_not_say_where_an_application_is_mounted(header_map: str) -> None:
    policy = FieldPolicy(configured(header_map=header_map))
    items = [("SCRIPT_NAME", "/app"), ("X-Forwarded-Proto", "https")]
    stranger, proxy = policy.judge(items, "192.0.2.7"), policy.judge(items, "127.0.0.1")
    assert (stranger.script_name, stranger.scheme) == (None, None)
    assert stranger.items == (items if header_map == "dangerous" else items[1:])
    assert (proxy.script_name, proxy.scheme, proxy.items) == ("/app", "https", items)


@pytest.mark.parametrize(
    ("script_name", "target", "expected"),
    [
        ("/app", "/app/x", ("/app", "/x")),
        ("/app", "/app", ("/app", "")),
        ("/app/", "/app/x", ("/app", "/x")),
        ("", "/app/x", ("", "/app/x")),
        ("/", "/app/x", ("", "/app/x")),
        ("/app", "/%61pp/x", ("/app", "/x")),
        ("/a%20b", "/a%20b/c", ("/a b", "/c")),
        ("/a b", "/a%20b/c", ("/a b", "/c")),
        ("/app", "/apple", None),
        ("/app", "/", None),
    ],
)
def test_a_mount(script_name: str, target: str, expected: tuple[str, str] | None) -> None:
    from urllib.parse import unquote

    environ = {"SCRIPT_NAME": "", "PATH_INFO": unquote(target, "latin-1")}
    assert mount(environ, script_name) is (expected is not None)
    if expected is not None:
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


def test_many_threads_count_each_request_once(gunicorn: Any) -> None:
    server = gunicorn("--max-requests", "40", "--max-requests-jitter", "0").ready()
    address, (pid,) = server.address, server.wait_for(r"Booting worker with pid: (\d+)")
    answers: list[str] = []

    def client() -> None:
        answers.extend(server.get("/pid")[1] for _ in range(5))

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert address
    server.wait_for("Autorestarting worker after current request")
    assert answers.count(pid) >= 40
