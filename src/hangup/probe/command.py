"""The command ``hangup probe``."""

import contextlib
import importlib.metadata
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from .exceptions import ProbeError
from .points import MANNERS, POINTS, Manner, Point, pairs
from .results import Fault, Run, load
from .running import Order, probe
from .subject import PORT

__all__ = ["probe_command"]

#: What --fail-on can name; also by the verdicts' names.
_FAIL_ON = {fault.value: {fault} for fault in Fault} | {
    "leaks": {Fault.LEAK},
    "noisy": {Fault.TRACEBACK, Fault.NOISE},
    "any": set(Fault) - {Fault.WASTED},
}
_TARGET = "hangup.probe.target"
_OURSELVES = [sys.executable, "-m", "hangup", "serve", f"{_TARGET}:app", "--port", PORT]


class _WithCommand(click.Command):
    """Everything behind ``--`` is a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta["command"] = args[:at], args[at + 1 :]
            if not ctx.meta["command"]:
                raise click.UsageError("there is no command behind --")
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND … {port} …]"]


@click.command("probe", cls=_WithCommand, short_help="Leave any server at every point, and report.")
@click.argument("url", nargs=-1)
@click.option("--app", is_flag=True, help="The server serves the ready-made target (see below).")
@click.option("--slow-path", metavar="PATH", help="One that works for a while: 0.2 s at least.")
@click.option(
    "--large-path", metavar="PATH", help="One whose answer is long: 1 MiB at least, better 16."
)
@click.option("--stream-path", metavar="PATH", help="One that answers bit by bit.")
@click.option("--upload-path", metavar="PATH", help="One that reads the body of a POST.")
@click.option(
    "--only", multiple=True, metavar="CELLS", help="POINT, POINT/MANNER, /MANNER; with commas."
)
@click.option("--list", "lists", is_flag=True, help="Show the points and the manners, and end.")
@click.option(
    "--repeat",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="How many clients leave at once in each cell.",
)
@click.option(
    "--patience",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds that a healthy client waits before the server counts as wedged.",
)
@click.option(
    "--start-timeout",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds that COMMAND has to answer.",
)
@click.option("--log", multiple=True, metavar="FILE", help="A log of the server's, beside its output.")
@click.option("--title", metavar="TEXT", help="What to call the server in reports.")
@click.option("--json", "json_file", metavar="FILE", help="Keep all that was found; -: on stdout.")
@click.option("--html", "html_file", metavar="FILE", help="Write a page to look at.")
@click.option("--fail-on", metavar="FAULTS", help=f"Exit with 1 if found: {', '.join(_FAIL_ON)}.")
@click.option("--compare", is_flag=True, help="Show two or more files that --json wrote side by side.")
@click.pass_context
def probe_command(ctx: click.Context, /, url: tuple[str, ...], **options: Any) -> None:
    """Leave a server at every point of a request, in every manner, and report what it did.

    \b
    hangup probe http://127.0.0.1:8000/
    hangup probe --slow-path /report -- flask run --port {port}
    hangup probe --app -- gunicorn -b 127.0.0.1:{port} hangup.probe.target:app
    hangup probe --compare before.json after.json

    URL is a server that runs, and its path one that answers at once.  COMMAND is started with {port}
    filled in, watched, and stopped; then descriptors, threads and the log count, too.  Points that a
    server has no path for are skipped.  A URL beside COMMAND says how to reach it: https://localhost:{port}/.

    The ready-made target has all paths, and tells what became of its work: serve it as the WSGI
    application hangup.probe.target:app, or by python -m hangup.probe.target --port {port}, which is
    http.server's.  Without URL and COMMAND, --app has hangup serve it.

    The exit status is 0, 1 for what --fail-on names, and 2 if nothing could be probed.
    """  # noqa: D301 - click's mark for what is not to be wrapped
    command = ctx.meta.get("command")
    try:
        failing = _faults(options["fail_on"])
        if options["lists"]:
            _list()
        elif options["compare"]:
            _compare(list(url))
        else:
            run = _probe(_only_one(url), command, options)
            sys.exit(_status(run, failing))
    except ProbeError as error:
        raise click.UsageError(str(error)) from None


def _only_one(url: tuple[str, ...]) -> str | None:
    if len(url) > 1:
        raise ProbeError(f"one URL at a time, not {' and '.join(url)} (a command belongs behind --)")
    return url[0] if url else None


def _probe(url: str | None, command: list[str] | None, options: dict[str, Any]) -> Run:
    if url is None and command is None:
        if not options["app"]:
            raise ProbeError("what is to be probed? Give a URL, or a command behind --")
        command = _OURSELVES
    for file in (options["json_file"], options["html_file"]):
        _check_writable(file)
    order = Order(
        url=url,
        command=command,
        title=options["title"],
        ready_made=options["app"],
        paths={
            use: options[f"{use}_path"]
            for use in ("slow", "large", "stream", "upload")
            if options[f"{use}_path"] is not None
        },
        pairs=_chosen(options["only"]),
        repeat=options["repeat"],
        patience=options["patience"],
        start_timeout=options["start_timeout"],
        logs=list(options["log"]),
        version=importlib.metadata.version("hangup"),
    )
    screen, console = _screen(to_stderr=options["json_file"] == "-")
    with _ended_by_sigterm():
        run = probe(order, lambda title: screen.Screen(title, len(order.pairs), console))
    screen.report(run, console)
    _write(options["json_file"], run.to_json() + "\n")
    if options["html_file"] is not None:
        from .page import page

        _write(options["html_file"], page(run))
    return run


def _screen(*, to_stderr: bool = False) -> tuple[Any, Any]:
    try:
        from rich.console import Console
    except ImportError:
        raise ProbeError("hangup probe needs rich: pip install 'hangup[probe]'") from None
    from . import screen

    return screen, Console(stderr=to_stderr)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Stop the command that was started on SIGTERM, too, as on Ctrl-C."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _chosen(only: tuple[str, ...]) -> list[tuple[Point, Manner]]:
    """The cells that --only names; all without it."""
    words = [word.strip() for each in only for word in each.split(",") if word.strip()]
    if not words:
        return pairs()
    chosen = set()
    for word in words:
        name, _, manner = word.partition("/")
        found = [
            (point.name, how)
            for point, how in pairs()
            if name in {"", point.name} and manner in {"", how} and word != "/"
        ]
        if not found:
            raise ProbeError(f"--only {word}: there is no such cell (--list shows which there are)")
        chosen.update(found)
    return [(point, how) for point, how in pairs() if (point.name, how) in chosen]


def _faults(text: str | None) -> set[Fault]:
    found: set[Fault] = set()
    for word in filter(None, map(str.strip, (text or "").split(","))):
        if word not in _FAIL_ON:
            raise ProbeError(f"--fail-on knows no {word}: it knows {', '.join(_FAIL_ON)}")
        found |= _FAIL_ON[word]
    return found


def _status(run: Run, failing: set[Fault]) -> int:
    found = sorted({fault for cell in run for fault in cell.faults} & failing)
    if not found:
        return 0
    click.echo(f"Found, and not wanted: {', '.join(found)}", err=True)
    return 1


def _list() -> None:
    click.echo("Points, at which clients leave:")
    for point in POINTS:
        manners = "" if len(point.manners) == len(Manner) else f" ({', '.join(point.manners)} only)"
        click.echo(f"  {point.name:16} {point.title}{manners}")
    click.echo("\nManners, in which they do:")
    for manner, title in MANNERS.items():
        click.echo(f"  {manner:16} {title}")


def _compare(files: list[str]) -> None:
    if len(files) < 2:
        raise ProbeError("--compare takes two files that --json wrote, or more")
    runs = [load(file) for file in files]
    _, console = _screen()
    from .comparing import compare_on_screen

    compare_on_screen(runs, console)


def _check_writable(file: str | None) -> None:
    if file in {None, "-"}:
        return
    assert file is not None
    directory = os.path.dirname(file) or "."
    if os.path.isdir(file) or not os.access(file if os.path.exists(file) else directory, os.W_OK):
        raise ProbeError(f"{file} can't be written: name a file in a directory that is there")


def _write(file: str | None, text: str) -> None:
    if file == "-":
        click.echo(text, nl=False)
    elif file is not None:
        with open(file, "w", encoding="utf-8") as target:
            target.write(text)
