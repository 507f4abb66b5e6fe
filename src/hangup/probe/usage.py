"""What a process tree holds, from Linux's ``/proc``."""

import os
import time
from pathlib import Path

from .results import Usage

__all__ = ["Census", "age", "available", "runs"]

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_CLOSE_WAIT = "08"


def available() -> bool:
    """Whether this system tells."""
    return (_PROC / "self" / "fd").exists()


class Census:
    """Who is in a process tree, and what they hold.

    ``members`` are its processes, each by its id and the moment when it began: an id comes again.
    """

    def __init__(self, root: int) -> None:
        self.members = frozenset(_tree(root)) if available() else frozenset()

    def usage(self) -> Usage:
        """The sum of what they hold now; of those that have ended, nothing."""
        descriptors = threads = memory = close_wait = processes = 0
        for pid, _ in self.members:
            try:
                sockets, count = _descriptors(pid)
                fields = (_PROC / str(pid) / "statm").read_text().split()
                tasks = len(os.listdir(_PROC / str(pid) / "task"))
                waiting = _in_close_wait(pid)
            except (OSError, IndexError, ValueError):
                continue
            processes += 1
            descriptors += count
            threads += tasks
            memory += int(fields[1]) * _PAGE
            close_wait += len(sockets & waiting)
        return Usage(processes, descriptors, threads, memory, close_wait)


def runs(pid: int, began: int) -> bool:
    """Whether a process runs still: not another one that has got its id, nor a zombie.

    Asked of the process itself.  That it is in no list of children proves nothing: the kernel may leave
    some out while others end (proc(5)).
    """
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return int(fields[19]) == began and fields[0] not in "ZX"


def age(began: int) -> float:
    """For how many seconds a process that began at this moment has been there."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / _TICKS


def _stat(pid: int) -> list[str]:
    """Behind the name, which may have spaces and parentheses: state, …; the 20th is the start."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _tree(root: int) -> list[tuple[int, int]]:
    """Its processes that still run, zombies not among them."""
    found, to_look_at = [], [root]
    while to_look_at:
        pid = to_look_at.pop()
        try:
            fields = _stat(pid)
            tasks = os.listdir(_PROC / str(pid) / "task")
        except OSError:
            continue
        for task in tasks:
            try:
                children = (_PROC / str(pid) / "task" / task / "children").read_text()
            except OSError:
                continue  # A thread that has ended meanwhile; its process has not.
            to_look_at += map(int, children.split())
        if fields[0] not in "ZX":
            found.append((pid, int(fields[19])))
    return found


def _descriptors(pid: int) -> tuple[set[str], int]:
    """The inodes of its sockets, and the number of all its descriptors."""
    directory = _PROC / str(pid) / "fd"
    sockets = set()
    names = os.listdir(directory)
    for name in names:
        try:
            link = os.readlink(directory / name)
        except OSError:
            continue
        if link.startswith("socket:["):
            sockets.add(link[8:-1])
    return sockets, len(names)


def _in_close_wait(pid: int) -> set[str]:
    """The inodes of sockets whose client has closed and which the server has not."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / str(pid) / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _CLOSE_WAIT:
                found.add(fields[9])
    return found
