"""The probe's target where hangup is not installed: ``compare_app:app``.

``python compare_app.py werkzeug|bjoern PORT`` serves it by servers that have no command.  It is loaded
by its path, since to import it by its name would import all of hangup, and what that needs.
"""

import importlib.util
import sys
from pathlib import Path

HOST = "127.0.0.1"
TARGET = Path(__file__).resolve().parent.parent / "src" / "hangup" / "probe" / "target.py"

_spec = importlib.util.spec_from_file_location("compare_target", TARGET)
assert _spec is not None
assert _spec.loader is not None
target = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(target)
app = target.app


def werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple(HOST, port, app, threaded=True)


def bjoern(port: int) -> None:
    import bjoern as server

    server.run(app, HOST, port)


if __name__ == "__main__":
    {each.__name__: each for each in (werkzeug, bjoern)}[sys.argv[1]](int(sys.argv[2]))
