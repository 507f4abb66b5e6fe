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
from .._system.binding import (
    Address,
    CannotListen,
    bind_socket,
    file_identity,
    parse_bind,
    unlink_own,
)
from ..config import RENAMED, Config, refuse_old_variables
from ..exceptions import ConfigError
from ..probe.command import probe_command
from ..wsgi.server import DEFAULT_THREADS, GRACEFUL_TIMEOUT, WSGIServer, serve
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
_OLD_OPTIONS = {
    "--" + old.replace("_", "-"): "--" + new.replace("_", "-") for old, new in RENAMED.items()
}

# The groups of `hangup serve --help`, in their order, and the options in each.
_GROUPS = {
    "Server": "bind host port uds fd app-dir factory threads backlog graceful-timeout half-close",
    "TLS": "certfile keyfile keyfile-password",
    "Logging": "access-log log-level",
    "Limits": (
        "max-connections max-requests max-queue lifo-threshold max-request-line-size"
        " max-request-header-size max-request-fields max-request-field-size max-request-body-size"
        " body-prefetch max-discarded-body max-held-output min-data-rate min-data-rate-under-load"
    ),
    "Time-outs": (
        "request-header-timeout handshake-timeout keep-alive-timeout body-timeout write-timeout"
        " linger-timeout linger-time thread-idle-timeout tcp-keepalive-idle"
    ),
    "Development": "reload help",
}


class _Grouped(click.Command):
    """A command whose help has its options in groups, and which knows what they were called once."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                rows[max(parameter.opts, key=len).removeprefix("--")] = row
        for title, names in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([rows[name] for name in names.split()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            refuse_old_variables()
            return super().parse_args(ctx, args)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        except click.NoSuchOption as error:
            new = _OLD_OPTIONS.get(error.option_name)
            if new is None:
                raise
            raise click.UsageError(f"{error.option_name} is now called {new}") from None


def _option(name: str, *short: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option ``--name`` that is also ``HANGUP_NAME`` in the environment."""
    variable = "HANGUP_" + name.upper().replace("-", "_")
    attributes.setdefault("show_default", True)
    return click.option(f"--{name}", *short, envvar=variable, **attributes)


def _config_options(command: Any) -> Any:
    """An option for each field of :class:`Config`, in their order, whose texts and ranges they have."""
    for field in reversed(dataclasses.fields(Config)):
        least, choices = field.metadata["least"], field.metadata["choices"]
        if choices:
            kind: Any = click.Choice(choices)
        else:
            kind = (click.FloatRange if field.type is float else click.IntRange)(min=least)
        option = _option(
            _SHORT.get(field.name, field.name).replace("_", "-"),
            type=kind,
            default=_DEFAULTS.get(field.name, field.default),
            help=f"{field.metadata['help']}.",
            metavar=None if choices else "N",
        )
        command = option(command)
    return command


@main.command("serve", cls=_Grouped, short_help="Serve a WSGI application: Flask, Django, …")
@click.argument("app", metavar="MODULE:APP")
@_option("bind", metavar="ADDRESS", help="Address to listen on: HOST:PORT, unix:PATH or fd://N.")
@_option("host", default="127.0.0.1", help="Host to listen on; an empty one: all.")
@_option("port", "-p", default=8000, type=click.IntRange(0, 65535), help="Port to listen on; 0: any.")
@_option("uds", metavar="PATH", help="Unix domain socket to listen on.")
@_option("fd", type=click.IntRange(min=0), help="Descriptor of a listening socket.")
@_option("certfile", metavar="FILE", help="Certificate (PEM); SIGHUP reloads it.")
@_option("keyfile", metavar="FILE", help="Private key of the certificate, if not in --certfile.")
@_option("keyfile-password", metavar="TEXT", help="Password of the private key.")
@_option(
    "access-log",
    default="common",
    type=click.Choice([*FORMATS, "off"]),
    help="Format of the access log, on stdout.",
)
@_option(
    "log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Level of the error log, on stderr.",
)
@_option(
    "graceful-timeout",
    default=GRACEFUL_TIMEOUT,
    type=click.FloatRange(min=0),
    help="Seconds for requests in progress to finish on SIGTERM or Ctrl-C.",
)
@_option("app-dir", default=".", help="Directory in which MODULE is looked for first.")
@_option("factory", is_flag=True, help="APP is a function that returns the application.")
@_option("reload", is_flag=True, help="Restart when a Python file changes.")
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
        if not options["graceful_timeout"] >= 0:
            raise ConfigError(f"graceful_timeout must be at least 0, not {options['graceful_timeout']}")
        options["address"] = _address_of(options)
        if options["reload"]:
            sys.exit(_reload(options, config))
        # Before the application is imported: it may configure logging, its own and nobody else's.
        with log_errors_to(sys.stderr, options["log_level"].upper()), claim:
            _serve(app, options, config)
    except (LoadError, ConfigError) as error:
        raise click.UsageError(str(error)) from None
    except CannotListen as error:
        raise click.UsageError(str(error.strerror)) from None


def _address_of(options: dict[str, Any]) -> Address:
    """Where to listen.  ``--bind`` stands by itself."""
    if options["bind"] is None:
        return Address(options["host"], options["port"], options["uds"], options["fd"])
    if options["uds"] is not None or options["fd"] is not None:
        raise ConfigError("--bind says where to listen: --uds and --fd can't be given besides")
    return parse_bind(options["bind"], options["port"])


def _serve(app: str, options: dict[str, Any], config: Config) -> None:
    application = _load(app, options)
    raise_descriptor_limit()
    address: Address = options["address"]
    serve(
        application,
        address.host,
        address.port,
        uds=address.uds,
        fd=address.fd,
        certfile=options["certfile"],
        keyfile=options["keyfile"],
        keyfile_password=options["keyfile_password"],
        config=config,
        access_log=options["access_log"],
        graceful_timeout=options["graceful_timeout"],
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
    address: Address = options["address"]
    sock = bind_socket(*address[:2], uds=address.uds, fd=address.fd, backlog=config.backlog)
    bound = file_identity(address.uds) if address.uds is not None else None
    command = [sys.executable, "-m", "hangup", *(arg for arg in sys.argv[1:] if arg != "--reload")]
    os.environ["HANGUP_RELOAD"] = "0"  # The child is the one that serves.
    try:
        return run_reloading(command, sock, options["app_dir"])
    finally:
        if address.uds is not None and address.fd is None:
            unlink_own(address.uds, bound)  # while it listens, see WSGIServer.close
        sock.close()
