"""What a newer ``http.server`` adds is there, on each Python; what the next one adds is noticed here.

The running Python's own classes are looked at: their names, their parameters, and what their methods
ask of ``self``.  Where hangup has a method of its own in the place of one of theirs, those that are left
must still find all that they use.
"""

import ast
import functools
import http.server
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hangup
from conftest import PATIENCE, Certificates
from hangup._cli.http_command import _parser
from hangup._cli.swap import _OF_HTTP_SERVER
from hangup.httpserver.stock_handler import adapt

#: What Python 3.15 has.
NAMES = {
    "BaseHTTPRequestHandler",
    "HTTPSServer",
    "HTTPServer",
    "SimpleHTTPRequestHandler",
    "ThreadingHTTPSServer",
    "ThreadingHTTPServer",
}
#: ``http.server``'s class, and what hangup puts in its place.
SWAPPED = [(getattr(http.server, name), own) for name, own in _OF_HTTP_SERVER.items()
           if hasattr(http.server, name)]  # fmt: skip
#: And its handlers, when a program passes them to a server of hangup's.
ADAPTED = [(cls, adapt(cls)) for cls in (http.server.BaseHTTPRequestHandler,
                                         http.server.SimpleHTTPRequestHandler)]  # fmt: skip
PAIRS = [pytest.param(*pair, id=f"{pair[0].__name__}-{kind}")
         for kind, pairs in (("swapped", SWAPPED), ("adapted", ADAPTED)) for pair in pairs]  # fmt: skip
in_pairs = pytest.mark.parametrize(("stock", "own"), PAIRS)


def test_each_public_name_is_known() -> None:
    """A name that is new there needs a class of hangup's, or a reason why it needs none."""
    assert set(http.server.__all__) - {"CGIHTTPRequestHandler"} <= NAMES
    assert set(_OF_HTTP_SERVER) - {"CGIHTTPRequestHandler"} == NAMES


def own_methods(cls: type) -> dict[str, Callable[..., Any]]:
    return {name: member for name, member in vars(cls).items() if inspect.isfunction(member)}


@in_pairs
def test_each_attribute_of_the_class_is_there(stock: type, own: type) -> None:
    assert set(dir(stock)) - set(dir(own)) == set()


@in_pairs
def test_each_parameter_is_taken(stock: type, own: type) -> None:
    """By name, or among ``**options``: a method of the newer class may pass it, or a program."""
    missing = {}
    for name, method in own_methods(stock).items():
        taken = inspect.signature(getattr(own, name)).parameters
        kinds = {parameter.kind for parameter in taken.values()}
        wanted = [
            parameter.name
            for parameter in inspect.signature(method).parameters.values()
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.name not in ("self", "size_hint")
        ]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            missing[name] = [each for each in wanted if each not in taken]
    assert not {name: names for name, names in missing.items() if names}


def uses_of_self(function: Any) -> Iterator[tuple[str, bool]]:
    """The attributes of ``self`` in a function's source, and whether it sets them."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr, isinstance(node.ctx, ast.Store)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, True


def all_methods(cls: type) -> list[Callable[..., Any]]:
    """Those that run: of each name the first that there is, and what that calls of the next one."""
    found = []
    for name in {name for base in cls.__mro__ for name in own_methods(base)}:
        for method in (vars(base).get(name) for base in cls.__mro__):
            if not inspect.isfunction(method):
                continue
            found.append(inspect.unwrap(method))
            if f"super().{name}(" not in inspect.getsource(found[-1]):
                break
    return found


#: Set on the instance where no method of its own does it: by whoever makes it.
FROM_ELSEWHERE = {"_BaseServer__shutdown_request", "_threads"}


@in_pairs
def test_what_a_method_reads_somebody_sets(stock: type, own: type) -> None:
    """A method of the newer class that is still there may rest on one that hangup has replaced."""
    methods = all_methods(own)
    there = set(dir(own)) | FROM_ELSEWHERE
    for base in own.__mro__[:-1]:
        there.update(getattr(base, "__annotations__", {}))
    for method in methods:
        there.update(name for name, is_set in uses_of_self(method) if is_set)
    lacking = {
        method.__qualname__: sorted(
            {read for read, is_set in uses_of_self(method) if not is_set} - there
        )
        for method in methods
        if method.__module__ == "http.server"
    }
    assert not {name: names for name, names in lacking.items() if names}


def test_a_method_that_rests_on_a_replaced_one_is_noticed() -> None:
    """What Python 3.15's listing did: it reads what the replaced send_header() no longer sets."""

    class Newer(http.server.SimpleHTTPRequestHandler):
        def send_header(self, keyword: str, value: str, *, is_new: bool = False) -> None:
            self.names_so_far = [keyword]

        def list_directory(self, path: Any) -> Any:
            return self.names_so_far

    class Own(Newer):
        def send_header(self, keyword: str, value: str) -> None:
            pass

    Newer.list_directory.__module__ = "http.server"
    with pytest.raises(AssertionError, match="names_so_far"):
        test_what_a_method_reads_somebody_sets(Newer, Own)
    with pytest.raises(AssertionError, match="is_new"):
        test_each_parameter_is_taken(Newer, Own)


@pytest.mark.skipif(not hasattr(http.server, "HTTPSServer"), reason="this http.server speaks no TLS")
def test_a_server_has_the_attributes_of_the_stock_one(certificate: Certificates) -> None:
    stock: Any = http.server
    for name in ("HTTPServer", "HTTPSServer"):
        tls = {"certfile": certificate.rsa.both} if name == "HTTPSServer" else {}
        found = []
        for module in (stock, hangup):
            cls = getattr(module, name)
            with cls(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler, **tls) as server:
                found.append({attribute for attribute in vars(server) if not attribute.startswith("_")})
        assert found[0] <= found[1]


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))


def test_each_option_of_the_command_is_there() -> None:
    """``python -m http.server``'s, and on an older Python those of 3.15."""
    stock, own = (
        subprocess.run(
            [sys.executable, *command, "-m", "http.server", "--help"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        ).stdout
        for command in ((), ("-m", "hangup", "run"))
    )
    newest = {"--bind", "--directory", "--protocol", "--content-type", "--header", "-H",
              "--tls-cert", "--tls-key", "--tls-password-file"}  # fmt: skip
    assert options_of(stock) | newest <= options_of(own)
    # Older Pythons' command is hangup's own: a newer one's options have to be added there.
    assert options_of(stock) <= options_of(_parser().format_help()) | {"--cgi"}


def test_older_pythons_have_the_newer_names(tmp_path: Any) -> None:
    program = "from http.server import *; print(HTTPSServer.__module__, ThreadingHTTPSServer.__module__)"
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=PATIENCE)
    result = run([sys.executable, "-m", "hangup", "run", "-c", program])
    assert result.stdout == "hangup.httpserver.https hangup.httpserver.https\n", result.stderr
