"""A study rated to its end in a real browser: by key, by touch, with undo, pause and resume, on desk and phone."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium
from mos_studies import Server, made_up_study, served
from PIL import Image

from srzoo.mos.making import new_study
from srzoo.mos.ratings import RatingStore, open_ratings
from srzoo.mos.study import IMAGES, Secret, Study, load_study

ENTRIES = ("srgan-lite-x4", "rrdb-lite-x4", "srresnet-lite-x4")
PHONE = {"width": 390, "height": 780, "deviceScaleFactor": 3, "mobile": True}
DESK = {"width": 1280, "height": 860, "deviceScaleFactor": 1, "mobile": False}

FITS = """
const boxes = [...document.querySelectorAll("button, #count")].filter((b) => !b.hidden && b.checkVisibility());
const inside = boxes.every((b) => {
  const r = b.getBoundingClientRect();
  return r.left >= 0 && r.right <= innerWidth && r.bottom <= innerHeight && (b.id === "count" || r.height >= 30);
});
const words = [...document.querySelectorAll("#answers button")].every((b) => b.scrollWidth <= b.clientWidth);
const [count, pause] = ["count", "pause"].map((id) => document.getElementById(id).getBoundingClientRect());
return inside && words && count.right <= pause.left;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="module")
def study_folder(data_root: Path, tmp_path_factory: pytest.TempPathFactory, database: str) -> Path:
    """Three trained entries, the original, nearest and bicubic, on Set5."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    new_study(folder, ENTRIES, "set5", examples=4, title="Which <b>image</b> is good?", database=database)
    return folder


@pytest.fixture(scope="module")
def server(study_folder: Path) -> Iterator[Server]:
    with served(study_folder) as running:
        yield running


class Page:
    """What a rater does."""

    def __init__(self, browser: Any, device: dict[str, Any] | None = DESK, scheme: str = "light") -> None:
        self.browser = browser
        browser.get("about:blank")
        if device is not None:
            self.cdp("Emulation.setDeviceMetricsOverride", **device)
            self.cdp("Emulation.setTouchEmulationEnabled", enabled=device["mobile"])
        self.prefer(scheme)

    def cdp(self, command: str, **arguments: Any) -> Any:
        return self.browser.execute_cdp_cmd(command, arguments)

    def prefer(self, scheme: str) -> None:
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        named = [{"name": name, "value": value} for name, value in features.items()]
        self.cdp("Emulation.setEmulatedMedia", features=named)

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        for _ in range(500):
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited in vain for {what}; the page says {self.run('return document.body.innerText')!r}")

    def says(self, text: str) -> None:
        """Wait until the page says something, on whichever page that is."""
        self.until(lambda: text in self.run("return document.body?.innerText ?? ''"), repr(text))

    @property
    def count(self) -> str:
        text: str = self.run("return document.getElementById('count')?.textContent ?? ''")
        return text

    def ready(self, count: str) -> None:
        """Wait until a trial is shown and may be answered."""
        script = (
            "return document.getElementById('count')?.textContent === arguments[0] && "
            "!document.querySelector('#answers button').disabled"
        )
        self.until(lambda: self.browser.execute_script(script, count), f"{count!r}, not {self.count!r}")

    def key(self, key: str, code: int = 0) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self.cdp("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def tap(self, selector: str) -> None:
        x, y = self.run(
            f"const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]"
        )
        self.cdp("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.cdp("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def pixels(self) -> np.ndarray:
        """The screen, in its own pixels."""
        png = base64.b64decode(self.cdp("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def practise(self, study: Study, grade: Callable[[int], None]) -> None:
        """Go through the examples: once rightly, otherwise wrongly and on by the button."""
        for number in range(1, study.examples + 1):
            self.ready(f"Example {number} of {study.examples}")
            grade(3 if number > 1 else 5)
            self.until(
                lambda: self.run("return !document.getElementById('next').hidden || "
                                 "document.getElementById('question').textContent.startsWith('Yes')"),
                "the feedback",
            )  # fmt: skip
            if self.run("return !document.getElementById('next').hidden"):
                assert "This is an example of" in self.find("#question").text
                self.find("#next").click()
        self.until(lambda: self.run("return document.getElementById('interlude').open"), "the end of the practice")
        self.find("#resume").click()


def asked_of(study: Study) -> int:
    return len(study.images) * len(study.versions) + study.repeats


def grade_of(position: int) -> int:
    return position * 7 % 5 + 1


def no_complaints(browser: Any) -> None:
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def opened(study_folder: Path) -> Iterator[tuple[Study, Secret, RatingStore]]:
    study, secret = load_study(study_folder)
    ratings = open_ratings(study_folder, study, secret)
    yield study, secret, ratings
    ratings.close()


def last_values(ratings: RatingStore, slot: int) -> dict[int, int]:
    rater = next(r for r in ratings.raters() if r.slot == slot)
    return {r.position: r.value for r in ratings.ratings() if r.rater == rater.id}


def test_a_rater_at_a_desk_rates_by_key(browser: Any, server: Server, opened: Any) -> None:
    study, secret, ratings = opened
    page = Page(browser)
    browser.get(f"{server.url}/join/{secret.open}")
    page.find("#name").send_keys('Anna & "Bo" &lt;b&gt;')
    page.find("button").click()
    page.says('Thank you for taking part, Anna & "Bo" &lt;b&gt;.')
    assert "Which <b>image</b> is good?" in page.find("h1").text
    slot = ratings.raters()[-1].slot
    page.find("#start").click()
    page.practise(study, lambda value: page.key(str(value), 48 + value))
    for number in range(1, asked_of(study) + 1):
        page.ready(f"{number} of {asked_of(study)}")
        page.key(str(grade_of(number)), 48 + grade_of(number))
    page.says("answers are kept. You may close")
    page.find("#last").click()
    page.ready(f"{asked_of(study)} of {asked_of(study)}")
    given = page.find("#answers button[aria-pressed='true']").get_attribute("value")
    assert given == str(grade_of(asked_of(study)))
    page.key("Backspace", 8)
    page.ready(f"{asked_of(study) - 1} of {asked_of(study)}")
    for number in (asked_of(study) - 1, asked_of(study)):
        page.ready(f"{number} of {asked_of(study)}")
        page.key(str(grade_of(number)), 48 + grade_of(number))
    page.says("answers are kept. You may close")
    values = last_values(ratings, slot)
    assert [values[study.examples + n - 1] for n in range(1, asked_of(study) + 1)] == [
        grade_of(n) for n in range(1, asked_of(study) + 1)
    ]
    no_complaints(browser)


def test_a_rater_with_a_phone_rates_by_touch(browser: Any, server: Server, opened: Any) -> None:
    study, _, ratings = opened
    page = Page(browser, PHONE, "dark")
    rater = ratings.add_rater()
    browser.get(f"{server.url}/r/{rater.token}")
    page.run("document.getElementById('start').scrollIntoView()")
    page.tap("#start")
    page.until(lambda: page.count, "the first example")
    page.practise(study, lambda value: page.tap(f"#answers button[value='{value}']"))
    for number in range(1, asked_of(study) + 1):
        page.ready(f"{number} of {asked_of(study)}")
        if number == 2:
            for width in (320, 390):
                page.cdp("Emulation.setDeviceMetricsOverride", **{**PHONE, "width": width})
                page.until(lambda width=width: page.run("return innerWidth") == width, "the narrower screen")
                assert page.run(FITS), f"all is within reach, and nothing overlaps, on {width} pixels"
                assert page.run("return document.documentElement.scrollWidth") == width
        page.tap(f"#answers button[value='{grade_of(number)}']")
    page.says("answers are kept. You may close")
    assert len(last_values(ratings, rater.slot)) == len(rater.plan)
    no_complaints(browser)


def test_a_rater_undoes_pauses_and_goes_on_elsewhere(browser: Any, server: Server, opened: Any) -> None:
    study, _, ratings = opened
    page = Page(browser)
    rater = ratings.add_rater("Anna")
    address = f"{server.url}/r/{rater.token}"
    browser.get(address)
    page.find("#start").click()
    page.practise(study, lambda value: page.find(f"#answers button[value='{value}']").click())
    total = asked_of(study)
    page.ready(f"1 of {total}")
    assert page.find("#back").get_attribute("disabled"), "practice is over"
    for number, value in ((1, 2), (2, 2)):
        page.ready(f"{number} of {total}")
        page.find(f"#answers button[value='{value}']").click()
    page.ready(f"3 of {total}")
    page.key("Backspace", 8)
    page.ready(f"2 of {total}")
    assert page.find("#answers button[aria-pressed='true']").get_attribute("value") == "2"
    page.find("#back").click()
    page.ready(f"1 of {total}")
    page.key("5", 53)
    page.ready(f"2 of {total}")
    page.key("4", 52)
    page.ready(f"3 of {total}")
    page.key("p", 80)
    assert page.run("return document.getElementById('interlude').open")
    page.key("3", 51)  # nothing is rated unseen
    hidden = "document.elementFromPoint(innerWidth / 2, 120).closest('.frame')"
    assert page.run(f"return {hidden}") is None, "the image is covered"
    page.find("#resume").click()
    page.ready(f"3 of {total}")

    # On another device: nothing but the link is known there.
    page.cdp("Storage.clearDataForOrigin", origin=server.url, storageTypes="all")
    page = Page(browser, PHONE)
    browser.get(address)
    page.says("Welcome back, Anna")
    page.find("#start").click()
    for number in range(3, total + 1):
        page.ready(f"{number} of {total}")
        page.tap("#answers button[value='3']")
    page.says("answers are kept. You may close")
    history = [r for r in ratings.history() if r.rater == rater.id and r.position == study.examples]
    assert [(r.revision, r.value) for r in history] == [(1, 2), (2, 5)]
    values = last_values(ratings, rater.slot)
    assert (values[study.examples], values[study.examples + 1], values[study.examples + 2]) == (5, 4, 3)
    assert [r.pixel_ratio for r in ratings.history() if r.rater == rater.id][-1] == 3.0
    no_complaints(browser)


def test_nothing_betrays_a_method(browser: Any, server: Server, opened: Any) -> None:
    study, _, ratings = opened
    page = Page(browser)
    browser.get_log("performance")
    addresses, sizes, sources = [], {}, []
    for rater in (ratings.add_rater(), ratings.add_rater()):
        browser.get(f"{server.url}/r/{rater.token}/rate")
        page.practise(study, lambda value: page.key(str(value), 48 + value))
        for number in (1, 2, 3):
            page.ready(f"{number} of {asked_of(study)}")
            sources.append(page.run("return document.documentElement.outerHTML"))
            page.key("3", 51)
        page.ready(f"4 of {asked_of(study)}")
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.responseReceived":
            response = message["params"]["response"]
            addresses.append(response["url"])
            if "/images/" in response["url"]:
                headers = {name.lower(): value for name, value in response["headers"].items()}
                assert not {"etag", "last-modified", "content-disposition", "server", "set-cookie"} & set(headers)
                sizes[response["url"]] = int(headers["content-length"])
    names = [address.rpartition("/")[2] for address in sizes]
    assert len(names) > 12 and len(set(names)) == len(names), "every rater has other names"
    files = {file for shown in study.images for file in shown.files.values()}
    labels = {version.label for version in study.versions} | {"set5", "lite"}
    for text in [*sources, *addresses]:
        assert not any(re.search(rf"\b{re.escape(label)}\b", text) for label in labels)
        assert not any(file in text or file.removesuffix(".png") in text for file in files)
    assert browser.get_cookies() == []
    versions_per_size: dict[int, set[str]] = {}
    for shown in study.images:
        for label, file in shown.files.items():
            versions_per_size.setdefault((server.folder / IMAGES / file).stat().st_size, set()).add(label)
    assert all(len(labels) == len(study.versions) for labels in versions_per_size.values())


@pytest.mark.parametrize(
    "ratio", [2.625, *(pytest.param(r, marks=pytest.mark.slow) for r in (1, 1.1, 1.25, 1.5, 1.75, 2, 3))]
)
def test_one_pixel_of_an_image_is_one_pixel_of_the_screen(tmp_path: Path, ratio: float) -> None:
    """On a screen of this ratio; devtools' emulation of one snaps images to other pixels than a screen does."""
    study, secret = made_up_study(tmp_path / "study", examples=0, calibration=(), repeats=0)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    ratings.close()
    screen = (f"--force-device-scale-factor={ratio}", "--force-color-profile=srgb", "--window-size=701,703")
    with served(tmp_path / "study") as server, chromium(*screen) as browser:
        page = Page(browser, None)
        browser.get(f"{server.url}/r/{rater.token}/rate")
        assert page.run("return devicePixelRatio") == pytest.approx(ratio)
        for number in (1, 2):
            page.ready(f"{number} of 16")
            trial = rater.plan[number - 1]
            want = np.asarray(Image.open(tmp_path / "study" / IMAGES / study.file(trial.image, trial.versions[0])))
            x, y = page.run("const b = document.querySelector('.frame img').getBoundingClientRect(); return [b.x, b.y]")
            left, top = round(x * ratio), round(y * ratio)
            got = page.pixels()[top : top + want.shape[0], left : left + want.shape[1]]
            assert np.array_equal(got, want), f"{np.abs(got.astype(int) - want).max()} levels off at {left}, {top}"
            page.key("3", 51)
        no_complaints(browser)


def test_answers_outlive_a_server_that_is_gone(browser: Any, tmp_path: Path, database: str) -> None:
    study, secret = made_up_study(tmp_path / "study", database=database, examples=0, calibration=(), repeats=0)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    server = Server(tmp_path / "study")
    server.start()
    page = Page(browser)
    browser.get(f"{server.url}/r/{rater.token}/rate")
    page.ready("1 of 16")
    server.stop(signal.SIGKILL)
    page.key("4", 52)
    page.ready("2 of 16")  # the next image was there already
    page.key("2", 50)
    page.says("No connection. Your answers are kept here and will be sent.")
    assert last_values(ratings, 0) == {}
    server.start()
    page.until(lambda: last_values(ratings, 0) == {0: 4, 1: 2}, "both answers")
    page.ready("3 of 16")
    assert page.find("#question").text == "How good does this image look?"
    server.stop(signal.SIGKILL)
    page.key("1", 49)
    time.sleep(0.2)
    server.start()
    browser.get(f"{server.url}/r/{rater.token}/rate")  # what was not sent is sent by the page that is opened next
    page.ready("4 of 16")
    page.until(lambda: last_values(ratings, 0) == {0: 4, 1: 2, 2: 1}, "the third answer")
    assert len(ratings.history()) == 3
    server.stop()
    ratings.close()
    log = browser.get_log("browser")
    assert log and all("ERR_CONNECTION_" in entry["message"] for entry in log), log


def test_what_waited_in_one_browser_does_not_undo_what_was_said_on_another_device(browser: Any, tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study", examples=0, calibration=(), repeats=0)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    with served(tmp_path / "study") as server:
        page = Page(browser)
        browser.get(f"{server.url}/r/{rater.token}/rate")
        page.ready("1 of 16")
        server.stop(signal.SIGKILL)
        for number in (1, 2):
            page.ready(f"{number} of 16")
            page.key("1", 49)
        page.says("No connection")
        ratings.rate(rater.token, 0, 5, "on-the-phone", replaces=0)
        page.run("window.before = true")
        server.start()
        page.until(lambda: last_values(ratings, 0) == {0: 5, 1: 1}, "the second answer")
        page.until(lambda: page.run("return window.before === undefined"), "the page to load what the phone said")
        page.ready("3 of 16")
        page.key("Backspace", 8)
        page.ready("2 of 16")
        page.key("2", 50)
        page.ready("3 of 16")
        page.until(lambda: last_values(ratings, 0) == {0: 5, 1: 2}, "the change")
    ratings.close()
    browser.get_log("browser")  # of the server that was gone


def test_two_tabs_of_one_browser_lose_and_double_nothing(browser: Any, tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study", examples=0, calibration=(), repeats=0)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    page, first = Page(browser), browser.current_window_handle
    with served(tmp_path / "study") as server:
        browser.get(f"{server.url}/r/{rater.token}/rate")
        page.ready("1 of 16")
        browser.switch_to.new_window("tab")
        second = browser.current_window_handle
        browser.get(f"{server.url}/r/{rater.token}/rate")
        page.ready("1 of 16")

        browser.switch_to.window(first)
        page.key("3", 51)
        page.ready("2 of 16")
        browser.switch_to.window(second)
        page.cdp("Page.bringToFront")
        page.ready("2 of 16")  # without being told

        server.stop(signal.SIGKILL)
        browser.switch_to.window(first)
        for number, value in ((2, 4), (3, 5)):
            page.ready(f"{number} of 16")
            page.key(str(value), 48 + value)
        page.says("No connection. Your answers are kept here and will be sent.")
        browser.switch_to.window(second)
        page.ready("2 of 16")
        page.key("1", 49)  # an answer to what the first tab answered
        page.says("No connection. Your answers are kept here and will be sent.")
        browser.switch_to.window(first)
        browser.close()
        browser.switch_to.window(second)
        server.start()
        page.until(lambda: last_values(ratings, 0).get(2) == 5, "what the closed tab kept")
        page.ready("4 of 16")
        assert page.run("return localStorage.length") == 0
    found = [(r.position, r.revision, r.value) for r in ratings.history()]
    assert found in ([(0, 1, 3), (1, 1, value), (2, 1, 5)] for value in (4, 1)), "the one that came first"
    ratings.close()
    browser.get_log("browser")  # of the server that was gone, and of the answer that came too late


@pytest.mark.parametrize("question", ["nicer", pytest.param("closer", marks=pytest.mark.slow)])
def test_pairs_are_answered_by_key_click_and_touch(browser: Any, tmp_path: Path, question: str) -> None:
    study, secret = made_up_study(tmp_path / "study", mode="pair", question=question, examples=1)
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    total = len(rater.plan) - 1
    with served(tmp_path / "study") as server:
        page = Page(browser)
        browser.get(f"{server.url}/r/{rater.token}")
        page.find("#start").click()
        page.ready("Example 1 of 1")
        page.key("a" if rater.plan[0].expected == 1 else "b", 65)
        page.until(lambda: page.run("return document.getElementById('interlude').open"), "the end of the practice")
        page.find("#resume").click()
        shown = page.run("return [...document.querySelectorAll('.frame')].map(f => f.innerText.trim())")
        assert shown == (["A", "B"] if question == "nicer" else ["Original", "A", "B"])
        page.ready(f"1 of {total}")
        page.key("ArrowRight", 39)
        page.ready(f"2 of {total}")
        page.find("[data-part='0'] img").click()
        page.ready(f"3 of {total}")
        page.find("#answers button[value='2']").click()
        page = Page(browser, PHONE)
        browser.get(f"{server.url}/r/{rater.token}/rate")
        for number in range(4, total + 1):
            page.ready(f"{number} of {total}")
            page.tap(f"#answers button[value='{number % 2 + 1}']")
        page.says("answers are kept. You may close")
    values = last_values(ratings, 0)
    assert [values[n] for n in (1, 2, 3, 4)] == [2, 1, 2, 1]
    ratings.close()
    no_complaints(browser)


def test_the_original_stands_beside_neither_of_two_where_three_do_not_fit(browser: Any, tmp_path: Path) -> None:
    study, secret = made_up_study(tmp_path / "study", mode="pair", question="closer", examples=0, calibration=())
    ratings = open_ratings(tmp_path / "study", study, secret)
    rater = ratings.add_rater()
    ratings.close()
    where = (
        "return [2, 0, 1].map((part) => document.querySelector(`[data-part='${part}'] img`).getBoundingClientRect())"
        ".map((box) => [Math.round(box.x), Math.round(box.y)])"
    )
    with served(tmp_path / "study") as server:
        page = Page(browser, {**DESK, "width": 900, "height": 520, "deviceScaleFactor": 0.25})  # 192 CSS pixels wide
        browser.get(f"{server.url}/r/{rater.token}/rate")
        page.ready(f"1 of {len(rater.plan)}")
        (original, top), (left, left_top), (right, right_top) = page.run(where)
        assert left < original < right and top == left_top == right_top
        assert page.find("#question").text == "Which one is closer to the original?"
        assert page.find("#stage").get_attribute("tabindex") == "-1"
        page.cdp(
            "Emulation.setDeviceMetricsOverride", **{**DESK, "width": 500, "height": 400, "deviceScaleFactor": 0.25}
        )
        page.says("Scroll to see all.")
        (original, top), (left, left_top), (right, right_top) = page.run(where)
        assert left < original < right and top < left_top == right_top
        assert page.find("#stage").get_attribute("tabindex") == "0"
        no_complaints(browser)


def test_who_cannot_see_well_is_told_and_may_use_keys_alone(browser: Any, server: Server, opened: Any) -> None:
    _, _, ratings = opened
    rater = ratings.add_rater()
    page = Page(browser)
    browser.get(f"{server.url}/r/{rater.token}/rate")
    page.ready("Example 1 of 4")
    tree = page.cdp("Accessibility.getFullAXTree")["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")}
    assert ("image", "Example") in named and ("button", "5 Excellent") in named and ("button", "Pause") in named
    assert ("group", "How good does this image look?") in named and ("progressbar", "Progress") in named
    assert page.run("return document.getElementById('spoken').textContent") == "Example 1 of 4"
    reached = []
    for _ in range(8):
        page.key("Tab", 9)
        reached.append(page.run("return document.activeElement.value || document.activeElement.id"))
    assert {"pause", "1", "2", "3", "4", "5"} <= set(reached)
    no_complaints(browser)


def test_who_runs_the_study_sees_how_far_it_is(browser: Any, server: Server, opened: Any) -> None:
    _, secret, ratings = opened
    rater = ratings.add_rater("=cmd|' /C calc'!A0 <img src=x onerror=window.broken=1>")
    page = Page(browser)
    browser.get(f"{server.url}/admin/{secret.admin}")
    page.says("=cmd|' /C calc'!A0 <img src=x")
    rows = page.run("return [...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    assert len(rows) == len(ratings.raters()) and "invited" in rows[rater.slot]
    page.find("#name").send_keys("Bo")
    page.find("form button").click()
    page.until(lambda: ratings.raters()[-1].name == "Bo", "the invited rater")
    assert page.run("return window.broken") is None
    no_complaints(browser)
