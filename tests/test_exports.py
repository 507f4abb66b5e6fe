"""The public names are these, and the modules import in one direction."""

import ast
from pathlib import Path

import pytest

import hangup

SOURCE = Path(hangup.__file__).parent


def test_the_public_names() -> None:
    assert hangup.__all__ == [
        "BadRequest",
        "BaseHTTPRequestHandler",
        "BodyTimeout",
        "Client",
        "ClientDisconnected",
        "ClientState",
        "Config",
        "ConfigError",
        "Departure",
        "HTTPSServer",
        "HTTPServer",
        "HangupError",
        "Outcome",
        "Phase",
        "RequestRecord",
        "SimpleHTTPRequestHandler",
        "ThreadingHTTPSServer",
        "ThreadingHTTPServer",
        "WSGIError",
        "WSGIServer",
        "cancels",
        "current_client",
        "raise_if_disconnected",
        "serve",
        "sleep",
    ]
    for name in hangup.__all__:
        assert getattr(hangup, name).__doc__


#: Each module may import those that stand before it.
ORDER = [
    "_version",
    "exceptions",
    "config",
    "_escape",
    "_colors",
    "_trouble",
    "_threads",
    "_line_writer",
    "_logs",
    "records",
    "access_log",
    "_peer",
    "_fork",
    "_callbacks",
    "_interrupt",
    "client",
    "cancelling",
    "_remembered",
    "_field_names",
    "_request",
    "_plain_heads",
    "_heads",
    "_chunks",
    "_path_heads",
    "_wire",
    "_proxy_protocol",
    "_plain_answer",
    "_poller",
    "_streams",
    "_chunked_stream",
    "_exchange",
    "_sendfile",
    "_sender",
    "_receiver",
    "_ending",
    "_arrival",
    "_remainder",
    "_connection",
    "_tls",
    "_tls_connection",
    "_tls_socket",
    "_acceptor",
    "_pacer",
    "_listener",
    "_watch",
    "_backlog",
    "_pressure",
    "_handover",
    "_lead",
    "_workers",
    "_serial_workers",
    "server",
    "_steps",
    "_answer_heads",
    "_input",
    "_environ",
    "_file_wrapper",
    "_tls_environ",
    "_answer",
    "wsgi",
    "wsgiserver",
    "_gunicorn_settings",
    "_gunicorn_fields",
    "_gunicorn_log",
    "_gunicorn_door",
    "gunicorn",
    "_handling",
    "_lazy",
    "_handler_heads",
    "_responding",
    "handler",
    "_conditions",
    "_file_window",
    "_listing",
    "files",
    "_cgi",
    "adapter",
    "_http_door",
    "httpserver",
    "https",
    "_loading",
    "_reload",
    "_replacing",
    "_swap",
    "_children",
    "_announcing",
    "_http_command",
    "run",
    "_demo",
    "probe",
    "cli",
]


def imports_of(path: Path) -> set[str]:
    """The modules of hangup that a module imports when it runs; not those for type checkers."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and id(node) not in typing_only:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found.update(str(name).partition(".")[0] for name in names)
    return found & set(ORDER)


def test_imports_go_one_way() -> None:
    for index, name in enumerate(ORDER):
        path = SOURCE / f"{name}.py"
        if path.exists():
            assert imports_of(path) <= set(ORDER[:index]), name
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert modules <= set(ORDER)


def test_the_probe_stands_alone() -> None:
    for path in (SOURCE / "probe").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, path
                assert node.level == 1 or str(node.module).partition(".")[0] != "hangup", path
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("hangup")], path


@pytest.mark.parametrize(
    "name",
    [
        "_chunks",
        "_remembered",
        "_field_names",
        "_request",
        "_plain_heads",
        "_heads",
        "_proxy_protocol",
        "_wire",
    ],
)
def test_the_wire_does_no_io(name: str) -> None:
    tree = ast.parse((SOURCE / f"{name}.py").read_text())
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"socket", "threading", "time", "select", "os"}
