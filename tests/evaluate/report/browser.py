"""A headless Chromium, spoken to over a pipe in its DevTools protocol; nothing but the standard library.

https://chromedevtools.github.io/devtools-protocol/
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120  # seconds without a word, after which it is taken for dead


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. Messages are JSON, each ends with a zero byte: the browser reads them at 3 and writes them at 4."""

    def __init__(self, program: str, folder: Path):
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        # Out of the way of 3 and 4, where two of them may lie.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us)]

        def put_in_place() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            [program, *flags, "about:blank"], preexec_fn=put_in_place, pass_fds=(3, 4), stderr=subprocess.DEVNULL
        )
        for end in (from_us, to_us, *theirs):
            os.close(end)
        self.to_browser, self.from_browser = to_browser, from_browser
        self.received, self.events, self.sent, self.session = b"", [], 0, {}
        page = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = {"sessionId": self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]}
        self.ask("Page.enable")

    def read(self) -> dict:
        while b"\0" not in self.received:
            if not select.select([self.from_browser], [], [], PATIENCE)[0]:
                raise TimeoutError("the browser is silent")
            piece = os.read(self.from_browser, 1 << 16)
            if not piece:
                raise EOFError("the browser is gone")
            self.received += piece
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method: str, **params: object) -> dict:
        """The answer to a message; events that come before it are kept for `wait_for`."""
        self.sent += 1
        os.write(
            self.to_browser,
            json.dumps({"id": self.sent, "method": method, "params": params} | self.session).encode() + b"\0",
        )
        while (message := self.read()).get("id") != self.sent:
            self.events.append(message)
        assert "result" in message, message
        return message["result"]

    def wait_for(self, event: str) -> None:
        while event not in [message.get("method") for message in self.events]:
            self.events.append(self.read())

    def open(self, file: Path, width: int, height: int = 800, **media: str) -> None:
        """Open a file in a window of that size; `media`: what the page is told of light and dark, screen and print."""
        features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
        self.ask("Emulation.setEmulatedMedia", media=media.get("medium", "screen"), features=features)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.ask("Page.navigate", url=file.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, script: str) -> object:
        """The value of a JavaScript expression on the page; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press_tab(self) -> None:
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)

    def point_at(self, x: float, y: float) -> None:
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
