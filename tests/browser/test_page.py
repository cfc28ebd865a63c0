"""The page in a real browser: live, by keyboard, on a phone, with hostile content.

Skipped where Chromium and its driver are not installed (Debian: `apt install chromium
chromium-driver`). With CELERIAC_SCREENSHOTS=<directory> it keeps pictures for the docs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.http.auth import hash_of
from orchestrator.loop_thread import LoopThread
from tests.browser import stage as scenes
from tests.browser.chrome import CHROME, DRIVER, Browser, open_browser

pytestmark = [
    pytest.mark.skipif(
        not (CHROME and DRIVER), reason="Chromium and chromedriver are not installed"
    ),
    pytest.mark.timeout(240),
]

PICTURES = os.environ.get("CELERIAC_SCREENSHOTS")
PHONE, DESK = (390, 844), (1200, 900)
AXE = Path(__file__).parents[1] / "acceptance/js/node_modules/axe-core/axe.min.js"


class Play:
    """A stage on a loop of its own, so that the browser's calls may block."""

    def __init__(self, **http: object) -> None:
        scenes.PACE.seconds = 1.0 if PICTURES else 0.05
        self._loop = LoopThread("stage")
        self._opening = scenes.open_stage(**http)
        self.stage = self._loop.await_(self._opening.__aenter__())

    @property
    def url(self) -> str:
        return self.stage.url

    def do(self, act: Callable[[scenes.Stage], object]) -> object:
        return self._loop.await_(act(self.stage))

    def close(self) -> None:
        self._loop.await_(self._opening.__aexit__(None, None, None))
        self._loop.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    play = Play(flower_url="http://127.0.0.1:5555")
    yield play
    play.close()


@pytest.fixture(scope="module")
def ids(play: Play) -> tuple[str, ...]:
    return tuple(play.do(scenes.perform))


def picture(browser: Browser, name: str) -> None:
    if PICTURES:
        browser.shoot(Path(PICTURES) / f"{name}.png")


def breaches(browser: Browser) -> list[str]:
    """What the console says went wrong: errors of ours and breaches of the policy."""
    return [e["message"] for e in browser.log() if e["level"] in ("SEVERE", "WARNING")]


def fits(browser: Browser) -> bool:
    """Whether nothing sticks out to the side."""
    script = "return document.documentElement.scrollWidth <= window.innerWidth"
    return bool(browser.run(script))


def pages_of(ids: tuple[str, ...]) -> dict[str, str]:
    names = ("task", "hostile", "resumed", "decision", "failed")
    tasks = {name: f"/ui/tasks/{id_}" for name, id_ in zip(names, ids, strict=True)}
    return {
        "tasks": "/",
        **tasks,
        "conversations": "/ui/conversations",
        "conversation": "/ui/conversations/customer-17",
        "agents": "/ui/agents",
        "login": "/ui/login",
    }


def test_every_page_fits_a_phone_and_breaks_no_rule(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    pages = pages_of(ids)
    for size, dimensions in (("desk", DESK), ("phone", PHONE)):
        browser.size(*dimensions)
        for name, path in pages.items():
            browser.open(play.url + path)
            assert browser.text("h1"), name
            assert browser.run("return document.title") != "pwned", name
            assert fits(browser), (name, size)
            picture(browser, f"{name}-{size}")
    browser.size(*DESK)
    if PICTURES:
        browser.prefer("dark")
        browser.open(play.url + pages["task"])
        picture(browser, "task-dark")
        browser.prefer("light")
    assert breaches(browser) == []


def test_a_flood_of_text_fits_a_phone_and_stays_text(
    browser: Browser, play: Play
) -> None:
    task: Any = play.do(lambda stage: scenes.flooded_task(stage.store))
    for size in (DESK, PHONE):
        browser.size(*size)
        for path in (f"/ui/tasks/{task.id}", "/"):
            browser.open(play.url + path)
            assert browser.text("h1")
            assert fits(browser)
            assert browser.run("return document.querySelector('marquee')") is None
    weight = browser.run("return document.documentElement.outerHTML.length")
    assert weight < 1_000_000
    picture(browser, "flood-phone")
    browser.size(*DESK)
    assert breaches(browser) == []


@pytest.mark.skipif(
    not AXE.exists(), reason="needs `npm ci --prefix tests/acceptance/js`"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_a_rule_of_accessibility(
    browser: Browser, play: Play, ids: tuple[str, ...], scheme: str
) -> None:
    check = (
        "window.found = null; axe.run(document, {resultTypes: ['violations']})"
        ".then(all => { window.found = all.violations.map(each => each.id + ': '"
        " + each.nodes[0].html); })"
    )
    browser.prefer(scheme)
    for path in pages_of(ids).values():
        browser.open(play.url + path)
        browser.run(AXE.read_text() + check)
        assert browser.until("return window.found && [window.found]") == [[]], path
    browser.prefer("light")


def test_a_new_task_appears_and_moves_without_a_reload(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    browser.open(play.url + "/?agent=storyteller")
    browser.run("window.notReloaded = true")
    assert browser.run("return document.querySelectorAll('tbody tr').length") == 0

    async def submit(stage: scenes.Stage) -> str:
        handle = await stage.orchestrator.submit("storyteller", {"prompt": "Short one"})
        return handle.id

    play.do(submit)
    browser.until_text("#live", "Short one")
    browser.until_text("#live tbody", "completed")
    assert browser.run("return window.notReloaded")


def test_the_filter_shows_what_it_says(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    browser.open(play.url + "/")
    browser.run(
        "const s = document.querySelector('select[name=status]');"
        " s.value = 'waiting'; s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.until("return location.search.includes('status=waiting')")
    browser.until_text("tbody", scenes.PAYMENT)
    assert scenes.QUESTION not in browser.text("main")


def test_text_arrives_live_and_is_never_shown_twice(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    task, lease = play.do(scenes.speaking_task)
    browser.open(f"{play.url}/ui/tasks/{task.id}")
    browser.until_text("#live-text", "It waits")

    async def say(stage: scenes.Stage) -> None:
        await scenes.say(stage.store, lease, " <b>in the ground</b>", "\u2026 so")

    play.do(say)
    browser.until_text("#live-text", "It waits <b>in the ground</b>\u2026 so")
    browser.run("refresh(true)")  # what comes from the server now holds it too

    async def say_more(stage: scenes.Stage) -> None:
        await scenes.say(stage.store, lease, " it is.")

    play.do(say_more)
    browser.until_text("#live-text", "so it is.")
    assert browser.text("#live-text") == "It waits <b>in the ground</b>\u2026 so it is."
    picture(browser, "live-desk")

    async def end(stage: scenes.Stage) -> None:
        await scenes.end(stage.store, lease, "It waits, so it is.")

    play.do(end)
    browser.until_text(".head", "completed")
    browser.until_text(".answer", "It waits, so it is.")
    assert browser.text("#said") == "The task is now completed"


def test_text_that_came_before_the_line_was_cut_is_not_shown_twice(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    task, lease = play.do(scenes.speaking_task)
    browser.open(f"{play.url}/ui/tasks/{task.id}")
    browser.until_text("#live-text", "It waits")
    play.do(lambda stage: scenes.say(stage.store, lease, " below"))
    browser.until_text("#live-text", "It waits below")
    play.do(scenes.hang_up)
    browser.until_text("#connection", "was cut")
    play.do(lambda stage: scenes.say(stage.store, lease, " ground."))
    browser.until_text("#live-text", "ground.")
    assert browser.text("#live-text") == "It waits below ground."
    play.do(lambda stage: scenes.end(stage.store, lease, "It waits."))
    browser.log()  # the cut was meant


def test_what_is_unfolded_stays_so_while_the_page_changes(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    undecided = ids[3]
    browser.open(f"{play.url}/ui/tasks/{undecided}")
    browser.run("document.querySelector('#request').open = true")
    browser.run("document.querySelector('#request summary').focus()")
    browser.run("refresh(true)")
    browser.until("return shown !== ''")
    assert browser.run("return document.querySelector('#request').open")
    assert scenes.PAYMENT in browser.text("#request")


def test_the_keyboard_alone_is_enough(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    browser.open(f"{play.url}/ui/tasks/{ids[0]}")
    browser.press("Tab")
    assert browser.run("return document.activeElement.className") == "skip"
    browser.press("Enter")
    browser.until("return document.activeElement.id === 'main'")
    on_a_step = "return document.activeElement.closest('#step-2 summary') !== null"
    for _ in range(40):
        browser.press("Tab")
        if browser.run(on_a_step):
            break
    assert browser.run(on_a_step)
    browser.press("Enter")
    browser.until("return document.querySelector('#step-2').open")
    assert "Arguments" in browser.text("#step-2")


def test_each_control_has_a_name_for_a_screen_reader(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    browser.devtools("Accessibility.enable", {})
    for path in ("/", f"/ui/tasks/{ids[3]}", "/ui/agents", "/ui/login"):
        browser.open(play.url + path)
        tree = browser.devtools("Accessibility.getFullAXTree", {})["nodes"]
        unnamed = [
            node
            for node in tree
            if not node.get("ignored")
            and node.get("role", {}).get("value")
            in ("button", "link", "textbox", "combobox", "meter")
            and not node.get("name", {}).get("value", "").strip()
        ]
        assert unnamed == [], path


def test_a_person_decides_and_the_task_goes_on(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    undecided = ids[3]
    browser.open(f"{play.url}/ui/tasks/{undecided}")
    browser.write("input[name=output]", '{"refund": "R-77"}')
    browser.click("button[value=done]")
    browser.until_text(".head", "pending")
    browser.click(".actions button.danger")
    browser.until_text(".head", "cancelled")
    browser.click(".actions button")
    browser.until("return !location.pathname.endsWith(arguments[0])", undecided)
    browser.until_text(".head", "pending")


def test_a_service_that_is_away_is_told_and_comes_back(
    browser: Browser, play: Play, ids: tuple[str, ...]
) -> None:
    browser.open(play.url + "/")
    offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.devtools("Network.enable", {})
    browser.devtools("Network.emulateNetworkConditions", {"offline": True, **offline})
    browser.until_text("#connection", "does not answer")
    back = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.devtools("Network.emulateNetworkConditions", {"offline": False, **back})
    browser.until("return document.querySelector('#connection').hidden")
    browser.log()  # being away was meant; the next test begins without its errors


def test_with_keys_the_page_asks_for_one(browser: Browser) -> None:
    reader = {"hash": hash_of("a-key"), "tenant": "default", "scopes": ("read",)}
    play = Play(keys={"reader": reader})
    try:
        browser.open(play.url + "/ui/agents")
        browser.until("return location.pathname === '/ui/login'")
        browser.write("#key", "wrong")
        browser.click("main button")
        browser.until_text("#refused", "not known")
        browser.write("#key", "a-key")
        browser.click("main button")
        browser.until("return location.pathname === '/ui/agents'")
        assert browser.run("return document.cookie") == ""
        assert "Workers" not in browser.run(
            "return [...document.querySelectorAll('h2')].map((h) => h.textContent)"
        )
        browser.click("form[action='/ui/logout'] button")
        browser.until("return location.pathname === '/ui/login'")
    finally:
        browser.open("about:blank")
        play.close()
