"""nginx in the foreground, by one process, which leaves nothing outside of its directory."""

import os
from pathlib import Path

__all__ = ["nginx_command"]

_CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr;
events {{ {events} }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}
}}
"""


def nginx_command(directory: str, http: str, *, program: str = "nginx", events: str = "") -> list[str]:
    """What starts it with these directives, which go to a file in ``directory``."""
    # As root, it would work as somebody who may not read the directory.
    user = "user root;" if os.geteuid() == 0 else ""
    file = Path(directory, "nginx.conf")
    file.write_text(_CONFIG.format(user=user, directory=directory, events=events, http=http))
    return [program, "-e", "stderr", "-c", str(file)]
