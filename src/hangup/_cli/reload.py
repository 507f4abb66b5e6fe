"""``hangup serve --reload``: run the server anew whenever its files change.  For development.

The parent keeps the listening socket and hands it to each child, so that a browser that reloads too
early waits instead of being refused.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from ..exceptions import ConfigError

__all__ = ["run_reloading"]

# Seconds that a child has to end before it is killed: nobody waits for a request in development.
_PATIENCE = 3.0


def run_reloading(command: Sequence[str], sock: socket.socket, directory: str) -> int:
    """Run ``command``, with ``--fd`` and the socket's number behind it, until SIGINT or SIGTERM.

    ``directory`` is what is watched for changes of Python files.  Returns an exit status.

    Raises :exc:`hangup.ConfigError` if watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise ConfigError("--reload needs watchfiles: python -m pip install 'hangup[reload]'") from None

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0) from None

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    fd = sock.fileno()
    child = None
    try:
        changes = watchfiles.watch(
            directory,
            watch_filter=watchfiles.PythonFilter(),
            raise_interrupt=False,
            yield_on_timeout=True,
        )
        child = subprocess.Popen([*command, "--fd", str(fd)], pass_fds=[fd])
        for changed in changes:
            if not changed:
                continue
            names = ", ".join(sorted({path for _, path in changed}))
            print(f"hangup: {names} changed: starting anew", file=sys.stderr, flush=True)
            _end(child)
            child = subprocess.Popen([*command, "--fd", str(fd)], pass_fds=[fd])
    finally:
        if child is not None:
            _end(child)
    return 0


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
