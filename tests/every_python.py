"""Run CPython's own tests, and with ``--tests`` hangup's, under each Python from 3.11 that can be had.

``make cpython``, ``make pythons``.  Pythons are found by name on the PATH, and in pyenv's folder; with
``--debian`` those that Debian's sid has are looked for there, too (``tests/in_debian.sh``: root, on
Debian).  Each gets a virtual environment of its own, with hangup installed from this checkout.

What could not be had is named.  ``--need`` names versions without which this fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = [f"3.{minor}" for minor in range(11, 16)]
IN_DEBIAN = ROOT / "tests" / "in_debian.sh"
#: Not run under each Python: they take minutes, and what they look at is a server from outside.
LEFT_OUT = ["tests/test_probe.py", "tests/test_endurance.py"]
#: What ``in_debian.sh`` returns where there is no tree.
NO_TREE = 75
NOT_HERE = "not to be had here"
AS_IT_SHOULD_BE = "as it should be"


def candidates() -> list[str]:
    named = [shutil.which(f"python{version}") for version in VERSIONS]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(str(path) for path in pyenv.glob("3.*/bin/python3"))
    return [sys.executable, *kept, *(path for path in named if path)]


def interpreters() -> dict[str, str]:
    """One interpreter for each version that works: ``{"3.12": path}``."""
    found: dict[str, str] = {}
    ask = "import sys, venv, ensurepip, test.test_httpservers; print('%d.%d' % sys.version_info[:2])"
    for path in candidates():
        answer = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        version = answer.stdout.strip()
        if version in VERSIONS:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def run(path: str, home: Path, *, tests: bool) -> str:
    """What came of one Python's tests, in a few words."""
    subprocess.run([path, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--upgrade", "pip >= 25.1"], check=True)
    group = ["--group", "test"] if tests else []
    if subprocess.run([*install, "--editable", str(ROOT), *group], cwd=ROOT, check=False).returncode:
        return "could not be installed"
    failed = []
    suite = [python, str(ROOT / "tests" / "cpython_suite.py")]
    if subprocess.run(suite, stderr=subprocess.DEVNULL, check=False).returncode:
        failed.append("CPython's tests")
    if tests:
        print(f"left out: {', '.join(LEFT_OUT)}", flush=True)
        # As `make test` has it: the tests wait far more than they compute.
        jobs = os.environ.get("JOBS", "4")
        command = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n",
            jobs,
            "--dist",
            "loadgroup",
        ]
        command += [f"--ignore={path}" for path in LEFT_OUT]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append("hangup's tests")
    return f"NOT as it should be: {' and '.join(failed)} failed" if failed else AS_IT_SHOULD_BE


def run_here(wanted: list[str], tested: str, *, tests: bool) -> dict[str, str]:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for version, path in interpreters().items():
            if version not in wanted:
                continue
            print(f"== Python {version}", flush=True)
            began = time.monotonic()
            if tests and version == tested:
                print("hangup's tests are run under this one by `make test`", flush=True)
            results[version] = run(path, Path(folder) / version, tests=tests and version != tested)
            print(f"Python {version}: {results[version]} ({time.monotonic() - began:.0f} s)", flush=True)
    return results


def run_in_debian(wanted: list[str], tested: str, *, tests: bool) -> dict[str, str]:
    """The same, by this program in a tree of Debian, which leaves its results in a file."""
    with tempfile.NamedTemporaryFile("r", dir=ROOT, prefix=".every_python-") as file:
        command = ["python3.15", "tests/every_python.py", "--only", *wanted]
        command += ["--tested", tested, "--results", file.name]
        command += ["--tests"] if tests else []
        status = subprocess.run([str(IN_DEBIAN), *command], check=False).returncode
        if status == NO_TREE:
            print("no Pythons of Debian's sid: see above", flush=True)
        return dict(line.split(": ", 1) for line in file.read().splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tests", action="store_true", help="hangup's tests, too")
    parser.add_argument("--debian", action="store_true", help="Pythons of Debian's sid, too")
    parser.add_argument("--only", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--need", nargs="+", default=[], metavar="VERSION", help="fail without these")
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--tested", default=own, metavar="VERSION", help="where `make test` has run")
    parser.add_argument("--results", help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = run_here(options.only, options.tested, tests=options.tests)
    missing = [version for version in options.only if version not in results]
    if options.debian and missing:
        results |= run_in_debian(missing, options.tested, tests=options.tests)
    if options.results:
        Path(options.results).write_text("".join(f"{name}: {what}\n" for name, what in results.items()))
        return 0
    for version in options.only:
        print(f"Python {version}: {results.get(version, NOT_HERE)}")
    lacking = [version for version in options.need if version not in results]
    if lacking:
        print(f"not without Python {', '.join(lacking)}")
    good = all(what == AS_IT_SHOULD_BE for what in results.values())
    return 0 if results and good and not lacking else 1


if __name__ == "__main__":
    sys.exit(main())
