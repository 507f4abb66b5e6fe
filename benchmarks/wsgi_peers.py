"""Installs the servers beside hangup, as ``peers.txt`` pins them, into an environment of their own."""

import json
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv-peers"
PYTHON = PEERS / "bin" / "python"
OPTIONAL = "# where it builds"
#: Seconds that an installation may take, compilers included.
PATIENCE = 600


def pins() -> tuple[list[str], list[str]]:
    """The requirements, and those that are only measured where they build."""
    required, optional = [], []
    for line in (HERE / "peers.txt").read_text().splitlines():
        requirement = line.split("#")[0].strip()
        if requirement:
            (optional if OPTIONAL in line else required).append(requirement)
    return required, optional


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def installed() -> dict[str, str]:
    """Versions by name, in lower case."""
    found = json.loads(pip("list", "--format", "json").stdout)
    return {each["name"].lower(): each["version"] for each in found}


def missing(requirements: list[str]) -> list[str]:
    there = installed()
    return [
        each for each in requirements if there.get(each.split("==")[0].lower()) != each.split("==")[1]
    ]


def install(*, with_optional: bool = True) -> dict[str, str]:
    """Versions by name, of all that is there then.  Without those that are required the program ends."""
    if not PYTHON.exists():
        print(f"making {PEERS.name}", flush=True)
        venv.create(PEERS, with_pip=True)
    required, optional = pins()
    if wanted := missing(required):
        print("installing", *wanted, flush=True)
        if (done := pip("install", *wanted)).returncode:
            sys.exit(done.stdout + done.stderr)
    for each in missing(optional) if with_optional else ():
        print("building", each, flush=True)
        try:
            failed = pip("install", each).returncode
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            print(f"{each} can't be built here: going on without it", flush=True)
    return installed()
