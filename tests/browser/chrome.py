"""Headless Chromium by the WebDriver protocol: what a person does and sees."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHROME = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
DEADLINE_SECONDS = 30.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_ENTER, _TAB = "\ue007", "\ue004"


class Browser:
    """One window."""

    def __init__(self, session_url: str) -> None:
        self._url = session_url

    def open(self, url: str) -> None:
        self._post("/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """What is seen of the first element, empty when there is none."""
        return self.run(
            "const e = document.querySelector(arguments[0]);"
            " return e ? e.innerText : ''",
            selector,
        )

    def click(self, selector: str) -> None:
        self._post(f"/element/{self._find(selector)}/click", {})

    def write(self, selector: str, text: str) -> None:
        self._post(f"/element/{self._find(selector)}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press a key wherever the focus is."""
        keys = {"Enter": _ENTER, "Tab": _TAB}
        pressed = keys.get(key, key)
        actions = [{"type": kind, "value": pressed} for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._post("/actions", {"actions": [keyboard]})

    def size(self, width: int, height: int) -> None:
        """Emulate a screen of this size; a window alone cannot be as narrow."""
        screen = {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        }
        self.devtools("Emulation.setDeviceMetricsOverride", screen)

    def prefer(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def devtools(self, command: str, parameters: dict[str, object]) -> Any:
        return self._post("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        taken = self.devtools(
            "Page.captureScreenshot", {"captureBeyondViewport": whole}
        )
        path.write_bytes(base64.b64decode(taken["data"]))

    def log(self) -> list[dict[str, Any]]:
        """What the console has been told, such as breaches of the policy."""
        found: list[dict[str, Any]] = self._post("/se/log", {"type": "browser"})
        return found

    def until(self, script: str, *arguments: object) -> Any:
        """Look until a script returns something true."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < deadline, (script, self.text("body"))
        return found

    def until_text(self, selector: str, text: str) -> None:
        self.until(
            "const e = document.querySelector(arguments[0]);"
            " return e && e.innerText.includes(arguments[1])",
            selector,
            text,
        )

    def close(self) -> None:
        _call("DELETE", self._url)

    def _find(self, selector: str) -> str:
        by = {"using": "css selector", "value": selector}
        found: str = self._post("/element", by)[_ELEMENT]
        return found

    def _post(self, path: str, body: dict[str, object]) -> Any:
        return _call("POST", self._url + path, body)


def _call(method: str, url: str, body: dict[str, object] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, method=method)  # noqa: S310 - our own driver
    request.add_header("Content-Type", "application/json")
    try:
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["value"]
    except HTTPError as exc:
        raise AssertionError(exc.read().decode()) from exc


@contextmanager
def open_browser(directory: Path) -> Iterator[Browser]:
    """Start a driver and its browser; both end with the block."""
    assert DRIVER is not None
    command = [DRIVER, "--port=0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            port = next(
                line.rsplit(" ", 1)[1].strip(".\n")
                for line in driver.stdout
                if "started successfully on port" in line
            )
            options = {
                "binary": CHROME,
                "args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--hide-scrollbars",
                    "--force-color-profile=srgb",
                    f"--user-data-dir={directory / 'chrome'}",
                ],
            }
            always = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            base = f"http://127.0.0.1:{port}"
            session = _call(
                "POST", f"{base}/session", {"capabilities": {"alwaysMatch": always}}
            )
            browser = Browser(f"{base}/session/{session['sessionId']}")
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
