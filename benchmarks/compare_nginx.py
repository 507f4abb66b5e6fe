"""nginx as a reverse proxy before ``hangup serve``, as one command: ``compare_nginx.py PORT``.

SIGTERM, or the end of either, ends both.  The access log is nginx's alone.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nginx_command import nginx_command
from wsgi_servers import HOST, free_port, stop

#: Seconds that hangup has to listen, and each to end.
START, END = 15.0, 3.0
HTTP = """\
    access_log /dev/stdout;
    server {{
        listen {host}:{port};
        location / {{
            proxy_pass http://{host}:{behind};
            proxy_http_version 1.1;
            proxy_buffering off;
        }}
    }}"""


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        stop(process, END)


def wait_for(port: int) -> None:
    """Before that, nginx would answer with 502."""
    deadline = time.monotonic() + START
    while True:
        try:
            return socket.create_connection((HOST, port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit("hangup does not listen")
            time.sleep(0.02)


def main() -> None:
    # Both are sent SIGTERM as well: whoever ends them ends their whole session.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    behind = free_port()
    hangup = [sys.executable, "-m", "hangup", "serve", "hangup.probe.target:app"]
    hangup += ["--port", str(behind), "--access-log", "off"]
    with tempfile.TemporaryDirectory() as directory:
        http = HTTP.format(host=HOST, port=sys.argv[1], behind=behind)
        with started(hangup):
            wait_for(behind)
            with started(nginx_command(directory, http)):
                os.wait()


if __name__ == "__main__":
    main()
