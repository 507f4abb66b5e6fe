"""What Python runs first in a child of a program that ``hangup run`` runs: see hangup/_cli/children.py.

Any Python may come here, by way of a shell say, so this is written for all of them; and another than
the program's finds everything as if this weren't there.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import os
import sys


def _begin():
    here = os.path.dirname(os.path.abspath(__file__))
    prefix = os.environ.pop("HANGUP_RUN", None)
    path = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one != here]
    if any(path):
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
    else:
        os.environ.pop("PYTHONPATH", None)
    sys.path[:] = [one for one in sys.path if one != here]
    sys.modules.pop("sitecustomize", None)
    try:
        # The environment's own one has its turn. If there is none, Python takes this error for that.
        __import__("sitecustomize")
    finally:
        if prefix == sys.prefix:
            from hangup._cli.run import install

            install()


_begin()
