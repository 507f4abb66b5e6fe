"""The public names are these, and imports go in one direction."""

import ast
import http.server
import importlib
import socketserver
from collections.abc import Iterator
from pathlib import Path

import pytest

import hangup

SOURCE = Path(hangup.__file__).parent


def test_the_public_names() -> None:
    assert hangup.__all__ == [
        "BaseHTTPRequestHandler",
        "BodyTimeout",
        "Client",
        "ClientDisconnected",
        "ClientState",
        "Config",
        "ConfigError",
        "DisconnectReason",
        "HTTPSServer",
        "HTTPServer",
        "HangupError",
        "Outcome",
        "Phase",
        "RequestRecord",
        "RequestRejected",
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


#: Each of these may import those that stand before it, also where it names a type.
ORDER = (
    "_version",
    "exceptions",
    "config",
    "_http1",
    "records",
    "_system",
    "_logging",
    "_disconnect",
    "_connection",
    "_engine",
    "wsgi",
    "gunicorn",
    "httpserver",
    "probe",
    "_cli",
)
#: What stands in ``hangup`` for programs and Python, and not for the modules of hangup.
OUTSIDE = {"__init__", "__main__"}


def name_of(path: Path) -> str:
    """A module's name below ``hangup``; a package's own file has the package's."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    found = {name_of(path): path for path in SOURCE.rglob("*.py")}
    return {name: path for name, path in found.items() if "_child" not in name and name not in OUTSIDE}


MODULES = modules()


def imports_of(name: str) -> Iterator[str]:
    """The modules of hangup that a module imports, those for type checkers and inside functions, too."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - (node.level - 1)]
        target = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{target}.{alias.name}".lstrip(".")
            yield full if full in MODULES else target


def test_packages_import_those_below_them_alone() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(ORDER)
    for name in MODULES:
        package = name.partition(".")[0]
        below = set(ORDER[: ORDER.index(package) + 1])
        if package == "probe":
            below = {"probe"}
        # `from .. import __version__` names no module.
        imported = {target.partition(".")[0] for target in imports_of(name)} - {""}
        assert imported <= below, name


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges = {name: {one for one in imports_of(name) if one in MODULES} - {name} for name in MODULES}
    finished: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in finished:
            for target in sorted(edges[name]):
                follow(target, (*way, name))
            finished.add(name)

    for name in MODULES:
        follow(name, ())


def test_each_entry_of_the_package_is_known() -> None:
    entries = {path.name for path in SOURCE.iterdir()} - {"__pycache__"}
    assert len(entries) <= 18
    assert {entry.removesuffix(".py") for entry in entries} == {*ORDER, *OUTSIDE, "py.typed"}


#: Classes that ``http.server`` has from Python 3.14 on, and had until 3.14.
NEWER = ("HTTPSServer", "ThreadingHTTPSServer", "CGIHTTPRequestHandler")


def own_classes() -> Iterator[type]:
    for name in MODULES:
        module = importlib.import_module(f"hangup.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                yield value


def floors(cls: type) -> int:
    """How many classes of ours a class stands on.

    Protocols are none, nor are others' classes, nor those that have a class of the standard library's
    for a pattern: their order is that library's.
    """
    if not cls.__module__.startswith("hangup.") or getattr(cls, "_is_protocol", False):
        return -1
    patterned = hasattr(http.server, cls.__name__) or hasattr(socketserver, cls.__name__)
    below = max(-1, *map(floors, cls.__bases__))
    return max(0, below) if patterned or cls.__name__ in NEWER else 1 + below


def test_no_class_is_long_and_none_stands_on_a_tower() -> None:
    assert {cls: floors(cls) for cls in own_classes() if floors(cls) > 2} == {}
    long = {
        node.name: lines
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and (lines := (node.end_lineno or 0) - node.lineno + 1) >= 400
    }
    assert long == {}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith("_http1.")))
def test_http1_does_no_io(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    imported = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"socket", "threading", "select", "os"}


def test_the_probe_stands_alone() -> None:
    for path in (SOURCE / "probe").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, path
                assert node.level == 1 or str(node.module).partition(".")[0] != "hangup", path
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("hangup")], path
