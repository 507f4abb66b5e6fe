"""What Linux's /proc says of a process group; elsewhere it says nothing."""

import os
import re
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
#: A listening socket's state in /proc/net/tcp.
LISTEN = "0A"
# Fields of /proc/PID/stat, counted from the state on.
STATE, GROUP, USER_TIME, SYSTEM_TIME = 0, 2, 11, 12


def read(path: str) -> str:
    """A file; "" if its process has ended."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def scan(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def members(group: int) -> dict[int, list[str]]:
    """The group's processes that have not ended, and the fields of /proc/PID/stat from the state on."""
    stats = {
        int(name): read(f"/proc/{name}/stat").rpartition(")")[2].split()
        for name in scan("/proc")
        if name.isdigit()
    }
    return {
        pid: fields
        for pid, fields in stats.items()
        if fields and fields[GROUP] == str(group) and fields[STATE] not in "ZX"
    }


def cpu_seconds(group: int) -> float:
    return (
        sum(int(fields[USER_TIME]) + int(fields[SYSTEM_TIME]) for fields in members(group).values())
        / TICK
    )


def listening(port: int) -> set[str]:
    """The sockets that listen on a port, as /proc/PID/fd names them."""
    lines = [line.split() for line in read("/proc/net/tcp").splitlines()]
    return {
        f"socket:[{line[9]}]" for line in lines if line[3] == LISTEN and line[1].endswith(f":{port:04X}")
    }


def on_epoll(group: int, port: int) -> bool:
    """Whether a process of the group waits for connections to the port by epoll.

    That is hangup's event loop: the standard library's servers wait by poll().
    """
    sockets = listening(port)
    for pid in members(group):
        for number in scan(f"/proc/{pid}/fdinfo"):
            watched = re.findall(r"^tfd:\s+(\d+)", read(f"/proc/{pid}/fdinfo/{number}"), re.MULTILINE)
            if any(link(f"/proc/{pid}/fd/{each}") in sockets for each in watched):
                return True
    return False
