"""The command ``hangup``."""

import sys

import click

from . import __version__
from ._demo import run_demo
from .run import ScriptError, run_module, run_script

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hangup")
def main() -> None:
    """A threaded HTTP server that knows when its client hangs up."""


@main.command()
@click.option(
    "--work",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.5, 5.0),
    metavar="SECONDS",
    help="How long the service works for each request (0.5 to 5).",
)
def demo(work: float) -> None:
    """Show what happens when a client leaves: http.server beside hangup.

    The same small service runs on both, with one client that waits for its answer and one that leaves
    early.  Everything that is shown is measured in this run.  The exit status is 0 if hangup's side
    is clean.
    """
    sys.exit(0 if run_demo(work) else 1)


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module's name, as for python -m.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(module: bool, script: str, args: tuple[str, ...]) -> None:  # noqa: FBT001
    """Run a program of http.server's on hangup, unchanged.

    SCRIPT finds hangup's classes where it imports http.server's, and so do xmlrpc.server,
    wsgiref.simple_server, prometheus_client and whatever else it uses.
    """
    try:
        sys.exit((run_module if module else run_script)(script, args))
    except ScriptError as error:
        raise click.UsageError(str(error)) from None
