"""The command ``hangup``."""

import dataclasses
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import click

from .. import __version__
from .._engine.room import raise_descriptor_limit
from .._http1 import parser
from .._logging.access_log import FORMATS, claim
from .._logging.loggers import log_errors_to
from ..config import Config
from ..exceptions import ConfigError
from ..probe.command import probe_command
from ..wsgi.server import (
    DEFAULT_THREADS,
    GRACE,
    CannotListen,
    WSGIServer,
    bind,
    file_identity,
    serve,
    unlink_own,
)
from .demo import run_demo
from .loading import LoadError, load_app, print_own
from .reload import run_reloading
from .run import ScriptError, run_code, run_module, run_script

__all__ = ["main"]


class _OneLine(click.Group):
    """Says in one line, and no more, what is wrong with a command."""

    def main(self, *args: Any, **options: Any) -> Any:
        run: Any = super().main
        try:
            status = run(*args, **{**options, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            click.echo(f"Error: {error.format_message()}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)


_BUILD = "pure Python" if parser.__file__.endswith(".py") else "compiled"


@click.group(cls=_OneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__,
    prog_name="hangup",
    message=f"%(prog)s, version %(version)s ({_BUILD}, Python {platform.python_version()})",
)
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
@click.option("-m", "kind", flag_value="module", help="SCRIPT is a module's name, as for python -m.")
@click.option("-c", "kind", flag_value="code", help="SCRIPT is Python code, as for python -c.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(kind: str | None, script: str, args: tuple[str, ...]) -> None:
    """Run a program of http.server's on hangup, unchanged.

    SCRIPT finds hangup's classes where it imports http.server's, and so do xmlrpc.server,
    wsgiref.simple_server, prometheus_client and whatever else it uses; and so do the children that it
    starts with the same interpreter, such as an autoreloader's.  It is a file, a directory or a zip
    file with a __main__.py, or - for standard input.

    One line on stderr says which server classes hangup serves, when they begin to, and one which it
    doesn't.
    """
    runners = {"module": run_module, "code": run_code, None: run_script}
    try:
        sys.exit(runners[kind](script, args))
    except ScriptError as error:
        raise click.UsageError(str(error)) from None


main.add_command(probe_command)


# Settings whose option has a shorter name, or another default for applications than for handlers.
_SHORT = {"max_threads": "threads"}
_DEFAULTS: dict[str, Any] = {"max_threads": DEFAULT_THREADS}


def _option(name: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option ``--name`` that is also ``HANGUP_NAME`` in the environment."""
    variable = "HANGUP_" + name.upper().replace("-", "_")
    attributes.setdefault("show_default", True)
    return click.option(f"--{name}", envvar=variable, **attributes)


def _config_options(command: Any) -> Any:
    """An option for each field of :class:`Config`, in their order, whose texts and ranges they have."""
    for field in reversed(dataclasses.fields(Config)):
        least, choices = field.metadata["least"], field.metadata["choices"]
        if choices:
            kind: Any = click.Choice(choices)
        else:
            kind = (click.FloatRange if field.type is float else click.IntRange)(min=least)
        text = field.metadata["help"]
        is_time = field.type is float or field.name == "keepalive_idle"
        unit = "Seconds " if is_time and not text.startswith("bytes") else ""
        name = _SHORT.get(field.name, field.name).replace("_", "-")
        option = _option(
            name,
            type=kind,
            default=_DEFAULTS.get(field.name, field.default),
            help=f"{unit}{text if unit else text[0].upper() + text[1:]}.",
            metavar=None if choices else "N",
        )
        command = option(command)
    return command


@main.command("serve", short_help="Serve a WSGI application: Flask, Django, …")
@click.argument("app", metavar="MODULE:APP")
@_option("host", default="127.0.0.1", help="Address to listen on; an empty one: all.")
@_option("port", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0: any.")
@_option("unix", metavar="PATH", help="Listen on a socket in the file system instead.")
@_option("fd", type=click.IntRange(min=0), help="Listen on a socket that a parent has opened.")
@_option("certfile", metavar="FILE", help="Speak TLS, with this certificate (PEM). SIGHUP rereads it.")
@_option("keyfile", metavar="FILE", help="The certificate's private key, if that is not in --certfile.")
@_option("keyfile-password", metavar="TEXT", help="What the private key is encrypted with.")
@_option(
    "access-log",
    default="common",
    type=click.Choice([*FORMATS, "off"]),
    help="A line for each request, on stdout.",
)
@_option(
    "log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is told on stderr.",
)
@_option(
    "grace",
    default=GRACE,
    type=click.FloatRange(min=0),
    help="Seconds that requests in progress have to finish on SIGTERM or Ctrl-C.",
)
@_option("app-dir", default=".", help="Where MODULE is looked for first.")
@_option("factory", is_flag=True, help="APP is a function that makes the application.")
@_option("reload", is_flag=True, help="Start anew when a Python file changes. For development.")
@_config_options
def serve_command(app: str, **options: Any) -> None:
    """Serve a WSGI application.

    MODULE:APP is what to import, and what it is called there: hello:app, or mysite.wsgi:application.
    APP() is called, and makes the application.

    SIGTERM or Ctrl-C lets requests in progress finish; a second one ends the server at once.

    Each option is also read from the environment: --access-log from HANGUP_ACCESS_LOG.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    try:
        config = Config(**{name: options[_SHORT.get(name, name)] for name in names})
        if not options["grace"] >= 0:
            raise ConfigError(f"grace must be at least 0, not {options['grace']}")
        if options["reload"]:
            sys.exit(_reload(options, config))
        # Before the application is imported: it may configure logging, its own and nobody else's.
        with log_errors_to(sys.stderr, options["log_level"].upper()), claim:
            _serve(app, options, config)
    except (LoadError, ConfigError) as error:
        raise click.UsageError(str(error)) from None
    except CannotListen as error:
        raise click.UsageError(str(error.strerror)) from None


def _serve(app: str, options: dict[str, Any], config: Config) -> None:
    application = _load(app, options)
    raise_descriptor_limit()
    serve(
        application,
        options["host"],
        options["port"],
        unix=options["unix"],
        fd=options["fd"],
        certfile=options["certfile"],
        keyfile=options["keyfile"],
        keyfile_password=options["keyfile_password"],
        config=config,
        access_log=options["access_log"],
        grace=options["grace"],
        ready=lambda server: _say_what(app, server),
    )


def _load(app: str, options: dict[str, Any]) -> Any:
    try:
        return load_app(app, directory=options["app_dir"], factory=options["factory"])
    except (LoadError, KeyboardInterrupt):
        raise
    except SystemExit:
        raise
    except BaseException as error:
        print_own(error)
        sys.exit(1)


def _say_what(app: str, server: WSGIServer) -> None:
    click.echo(
        f"hangup {__version__} serves {app} on {server.url},"
        f" with up to {server.config.max_threads} threads (Ctrl-C ends it)",
        err=True,
    )


def _reload(options: dict[str, Any], config: Config) -> int:
    sock = bind(
        options["host"], options["port"], unix=options["unix"], fd=options["fd"], backlog=config.backlog
    )
    bound = file_identity(options["unix"]) if options["unix"] is not None else None
    command = [sys.executable, "-m", "hangup", *(arg for arg in sys.argv[1:] if arg != "--reload")]
    os.environ["HANGUP_RELOAD"] = "0"  # The child is the one that serves.
    try:
        return run_reloading(command, sock, options["app_dir"])
    finally:
        if options["unix"] is not None and options["fd"] is None:
            unlink_own(options["unix"], bound)  # while it listens, see WSGIServer.close
        sock.close()
