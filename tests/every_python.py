"""Run ``cpython_suite.py`` under each Python from 3.11 that is installed: ``make cpython``.

Found by name on the PATH, and in pyenv's folder.  Each gets a virtual environment of its own, with
hangup installed from this checkout.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = range(11, 16)


def candidates() -> list[str]:
    named = [shutil.which(f"python3.{minor}") for minor in MINORS]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(str(path) for path in pyenv.glob("3.*/bin/python3"))
    return [sys.executable, *kept, *(path for path in named if path)]


def interpreters() -> dict[str, str]:
    """One interpreter for each version that works: ``{"3.12": path}``."""
    found: dict[str, str] = {}
    ask = "import sys, venv, test.test_httpservers; print('%d.%d' % sys.version_info[:2])"
    for path in candidates():
        answer = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        version = answer.stdout.strip()
        if version and int(version.partition(".")[2]) >= MINORS[0]:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def run(version: str, path: str, folder: str) -> bool:
    print(f"== Python {version}", flush=True)
    home = Path(folder) / version
    subprocess.run([path, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    suite = [python, str(ROOT / "tests" / "cpython_suite.py")]
    return subprocess.run(suite, stderr=subprocess.DEVNULL, check=False).returncode == 0


def main() -> int:
    found = interpreters()
    if not found:
        print("no Python here has the standard library's tests")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        results = {version: run(version, path, folder) for version, path in found.items()}
    for version, good in results.items():
        print(f"Python {version}: {'as it should be' if good else 'NOT as it should be'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
