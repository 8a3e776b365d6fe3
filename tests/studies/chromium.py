"""A headless Chromium, driven through its DevTools protocol over a pair of pipes: needs nothing but the browser.

Protocol: https://chromedevtools.github.io/devtools-protocol. With `--remote-debugging-pipe` the browser reads JSON
messages, each ended by a zero byte, from file descriptor 3 and writes answers and events to 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

VARIABLE = "CHROMIUM"
"""The environment variable that names the browser."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
"""An answer or event is waited for so long."""
SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # a container's root has none; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
)
LAUNCHER = "import os, sys; [os.dup2(int(fd), n) for n, fd in zip((3, 4), sys.argv[1:3])]; os.execv(sys.argv[3], sys.argv[3:])"
"""Puts the two pipes where the browser looks for them and becomes the browser."""
ENABLED = ("Page", "Runtime", "Log", "Network")
"""The domains whose events a page collects."""


def find_chromium() -> str | None:
    """The browser that `$CHROMIUM` names, else one of the usual names on the path."""
    return next(
        (path for name in (os.environ.get(VARIABLE, ""), *NAMES) if (path := shutil.which(name))), None
    )


class Chromium:
    """A running browser; a context manager that ends it.

    Args:
        program: Its path.
        profile: An empty folder for what it keeps, and its log.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._pending = b""
        self._last = 0
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        command = [sys.executable, "-c", LAUNCHER, str(theirs_in), str(theirs_out), program]
        with (profile / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *SWITCHES, f"--user-data-dir={profile}"],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to)  # at the end of its input it leaves
        os.close(self._from)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come in between are kept."""
        number = self._send(method, session, **params)
        while (answer := self._read()).get("id") != number:
            self._keep(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event of a page, unless it has come already."""
        while not any(
            (event["method"], event.get("sessionId")) == (method, session) for event in self.events
        ):
            self._keep(self._read())

    def open(self, url: str, *, width: int, dark: bool = False) -> "Page":
        """Load a page in a window of its own, `width` CSS pixels wide; below 500 as a phone does."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ENABLED:
            page.call(f"{domain}.enable")
        phone = width < 500
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired", session)
        return page

    def _send(self, method: str, session: str | None, **params: Any) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._last

    def _keep(self, message: dict[str, Any]) -> None:
        """Keep an event; a dialog, which holds up its page, is closed."""
        if "method" not in message:
            return  # the answer to that
        self.events.append(message)
        if message["method"] == "Page.javascriptDialogOpening":
            self._send("Page.handleJavaScriptDialog", message["sessionId"], accept=True)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._from, 1 << 16) if ready else b""
            if not part:
                raise RuntimeError(f"the browser {'ended' if ready else f'said nothing for {SECONDS:.0f} s'}")
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)


class Page:
    """A loaded page."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page."""
        return self._browser.call(method, self._session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, as JSON has it; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description", "exception"))
        return result["result"].get("value")

    def press_tab(self) -> None:
        """The Tab key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def events(self, method: str) -> list[dict[str, Any]]:
        """What the page's events of a kind said so far."""
        own = (event for event in self._browser.events if event.get("sessionId") == self._session)
        return [event["params"] for event in own if event["method"] == method]

    @property
    def requests(self) -> list[str]:
        """The addresses that it asked for, other than those whose content they hold themselves (`data:`)."""
        sent = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [url for url in sent if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings in the console, exceptions, and dialogs that a script opened."""
        console = self.events("Runtime.consoleAPICalled")
        logged = [event["entry"] for event in self.events("Log.entryAdded")]
        return [
            *(str(event["args"]) for event in console if event["type"] in ("error", "warning", "assert")),
            *(entry["text"] for entry in logged if entry["level"] in ("error", "warning")),
            *(event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")),
            *(event["message"] for event in self.events("Page.javascriptDialogOpening")),
        ]
