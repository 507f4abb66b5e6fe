"""A headless Chromium over a pipe, in the DevTools protocol: without a library, a port or a thread."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

#: Seconds that the browser has for anything that it is asked.
PATIENCE = 20.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-breakpad", "--disable-background-networking", "--disable-component-update",
    "--remote-debugging-pipe",
)  # fmt: skip
#: The browser reads commands from descriptor 3, and writes to 4; whatever numbers ours have.
_WITH_PIPES = """
import os, sys
commands, answers = (os.dup(int(number)) for number in sys.argv[1:3])
for here, there in ((os.dup(commands), 3), (os.dup(answers), 4)):
    os.dup2(here, there)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find() -> str:
    """The browser's path; the test is skipped if there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return found or pytest.skip(f"no browser is installed (looked for {', '.join(_NAMES)})")


class Chromium:
    """The browser's process, from its start to its end."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is for what the browser keeps."""
        browser = find()
        theirs_in, self._commands = os.pipe()
        self._answers, theirs_out = os.pipe()
        starter = [sys.executable, "-I", "-S", "-c", _WITH_PIPES, str(theirs_in), str(theirs_out)]
        self._process = subprocess.Popen(
            [*starter, browser, *_OPTIONS, f"--user-data-dir={directory}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self._tabs: dict[str, Tab] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        os.close(self._commands)
        os.close(self._answers)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Its other processes are of the same group; most often they are gone by now.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tab(self) -> "Tab":
        """An empty page, which tells what happens in it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        return tab

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        end = time.monotonic() + PATIENCE
        while (answer := self.receive(end)).get("id") != self._number:
            pass
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def receive(self, end: float) -> dict[str, Any]:
        """The next message; events are kept by the tab that they are of."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser said nothing"
            piece = os.read(self._answers, 1 << 16)
            assert piece, "the browser ended"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if message.get("sessionId") in self._tabs and "method" in message:
            self._tabs[message["sessionId"]].events.append(message)
        return message


class Tab:
    """One page, with all that was told of it."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def of(self, method: str) -> list[dict[str, Any]]:
        """The events of that name, so far."""
        return [event["params"] for event in self.events if event["method"] == method]

    def open(self, url: str) -> None:
        """Load a page, and return when it has been."""
        before = len(self.of("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        end = time.monotonic() + PATIENCE
        while len(self.of("Page.loadEventFired")) == before:
            self._browser.receive(end)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise's, once it has one."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, and let it go."""
        known = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Have a window of that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Be ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def complaints(self) -> list[Any]:
        """All that the browser has against the page: exceptions, and what the console was told."""
        return [
            *self.of("Runtime.exceptionThrown"),
            *self.of("Runtime.consoleAPICalled"),
            *self.of("Log.entryAdded"),
        ]
