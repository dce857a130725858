"""The report page: what it holds, that it asks for nothing, and how it behaves in a browser."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium
from PIL import Image

from srzoo.errors import DataError
from srzoo.gallery import MAX_SIDE, build_gallery, busiest_box, choose_images
from srzoo.leaderboard import leaderboard_markdown, leaderboards
from srzoo.page import EntryCost, PageData, page_costs, render_page, write_page
from srzoo.plots import Axis, Point, scatter_svg
from srzoo.report import Row, short_number
from srzoo.store import CostRow

HOSTILE = "best\"><script>window.broken = 1</script> & 'co' $x^2$"
DATASET = "set</script><script>window.broken = 2</script>"
ENTRIES = {"bicubic": 26.0, "psnr-net": 28.0, HOSTILE: 27.0}
DIRECTIONS = {"psnr": True, "lpips": False}
IMAGES = [f"image {index}" for index in range(8)]


def made_up_rows() -> list[Row]:
    random = np.random.default_rng(0)
    found = []
    for index, (entry, level) in enumerate(ENTRIES.items()):
        for image in IMAGES:
            score = level + random.normal(0, 0.2)
            found.append(Row(entry, DATASET, image, "psnr", "y", score))
            found.append(
                Row(entry, DATASET, image, "lpips", "y", math.nan if image == IMAGES[-1] else 0.1 * (3 - index))
            )
    return found


def made_up_pictures(folder: Path, images: int = 2, side: tuple[int, int] = (160, 128)) -> dict[str, Any]:
    """Pictures that agree but for a square at (100, 20), of another colour for every entry."""
    random = np.random.default_rng(1)
    found: dict[str, Any] = {}
    for image in IMAGES[:images]:
        base = Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize(
            side, Image.Resampling.BICUBIC
        )
        for index, label in enumerate(["bicubic", "psnr-net", HOSTILE, "HR"]):
            picture = base.copy()
            picture.paste((80 * index, 40, 200), (100, 20, 140, 60))
            path = folder / f"{image}-{index}.png"
            picture.save(path)
            found.setdefault(DATASET, {}).setdefault(image, {})[label] = path
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PageData:
    costs = {"bicubic": EntryCost(3.0, 0, 0), "psnr-net": EntryCost(1500.0, 501459, 44 * 10**9)}
    return PageData(
        made_up_rows(),
        DIRECTIONS,
        costs | {HOSTILE: EntryCost(280.0, 1517571, 10**9)},
        device="a made-up device",
        notes=["A note with <b>angle brackets</b>."],
        pictures=made_up_pictures(tmp_path_factory.mktemp("pictures")),
    )


@pytest.fixture(scope="module")
def page(data: PageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "deep" / "report.html", data)


# --- what the file holds ------------------------------------------------------------------------------------


def test_the_page_refers_to_nothing_outside_itself(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|<link|<iframe|<base", re.sub(r"base64,[\w+/=]+", "", text))
    references = re.findall(r"""(?:\bsrc|href|action|poster|data)=["']?([^"'\s>]*)""", text)
    references += re.findall(r"url\(([^)]*)\)", text)
    assert references and all(reference.startswith(("#", "data:image/webp;base64,")) for reference in references)
    assert "default-src 'none'" in text and "script-src 'sha256-" in text


def test_names_are_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>window.broken" not in text
    assert "&lt;b&gt;angle brackets" in text
    assert text.count("<script") == 3, "the gallery, the ends of the slider, the program"


def test_the_page_is_the_same_every_time(data: PageData, page: Path, tmp_path: Path) -> None:
    assert write_page(tmp_path / "again.html", data).read_bytes() == page.read_bytes()


def test_ties_intervals_and_costs_are_shown(data: PageData, tmp_path: Path) -> None:
    twin = [row._replace(entry="twin") for row in data.rows if row.entry == "psnr-net"]
    text = write_page(tmp_path / "p.html", dataclasses.replace(data, rows=[*data.rows, *twin])).read_text()
    assert text.count('<span class="place first">1=</span>') == 2
    assert re.search(r'<span class="interval">2\d\.\d\d to 2\d\.\d\d</span>', text)
    assert ">501 K<" in text and ">44 G<" in text and ">1,500<" in text


def test_few_images_and_seeds_are_said(tmp_path: Path) -> None:
    rows = [Row(f"gan@seed{s}", "set5", f"{i}", "psnr", "y", 20.0 + s + i) for s in range(3) for i in range(5)]
    text = write_page(tmp_path / "p.html", PageData(rows, {"psnr": True})).read_text()
    assert "5 images are too few to test" in text and "too few images (5)" in text
    assert "23.00 ± 1.0000" in text
    assert 'id="compare"' not in text, "no pictures, no slider"


def test_an_entry_without_costs_or_a_metric_is_shown_without(tmp_path: Path) -> None:
    rows = [Row("a", "one", "1", "psnr", "y", 30.0), Row("b", "one", "1", "psnr", "y", math.inf)]
    rows += [Row("a", "two", "1", "ssim", "y", 0.5), Row("b", "one", "1", "ssim", "y", math.nan)]
    text = write_page(tmp_path / "p.html", PageData(rows, {"psnr": True, "ssim": True})).read_text()
    assert 'data-key="Infinity"' in text
    assert 'title="images: 1">0%<' in text


@pytest.mark.parametrize(
    ("directions", "title"),
    [
        ({"psnr": True, "ssim": True}, "psnr and ssim on set"),
        ({"psnr": True, "ssim": True, "lpips": False}, "Perception and distortion on set"),
    ],
)
def test_a_plot_of_two_metrics_of_distortion_is_named_by_them(directions: dict[str, bool], title: str) -> None:
    rows = [Row(entry, "set", "1", metric, "y", 0.5) for entry in "ab" for metric in directions]
    text = render_page(PageData(rows, directions), build_gallery({}))
    assert f"<figcaption>{title}. Marker area" in text
    assert ("Perception" in text) == ("lpips" in directions)


def test_what_a_plot_has_no_place_for_is_named_under_it() -> None:
    """One image that an entry gets exactly makes its mean infinite; it would be missing from the plot unsaid."""
    rows = [Row("exact", "set", "1", "psnr", "y", math.inf), Row("exact", "set", "1", "lpips", "y", 0.1)]
    rows += [Row(entry, "set", "1", metric, "y", 0.5) for entry in "ab" for metric in DIRECTIONS]
    costs = {"exact": EntryCost(1.0), "a": EntryCost(2.0)}
    text = render_page(PageData(rows, DIRECTIONS, costs), build_gallery({}))
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    found = [re.findall("Not drawn, without a finite (.*)[.]$", caption) for caption in captions]
    assert found == [["score: exact"], ["score or time: exact, b"], ["score or time: b"]]


def test_the_precisions_of_the_times_are_said() -> None:
    """On the page and in Markdown: what was measured, and nothing where nothing was."""
    rows = [Row(entry, "set", "1", "psnr", "y", 30.0) for entry in ("a", "a (bf16)", "b (bf16)")]
    cost = CostRow("a", 128, 1.0, 1.0, 1.0, None, 1, None)
    costs = {"a": [cost], "a (bf16)": [dataclasses.replace(cost, precision="bf16")]}
    for names, words in (
        (list(costs), "float32 and bfloat16, a CPU"),
        (["a (bf16)"], "bfloat16, a CPU"),
        ([], "a CPU"),
    ):
        own = {name: costs[name] for name in names}
        text = render_page(PageData(rows, {"psnr": True}, page_costs(own), device="a CPU"), build_gallery({}))
        assert f"128\N{MULTIPLICATION SIGN}128 input, {words}." in text
        boards = leaderboards(rows, {"psnr": True}, {})
        assert f"128x128 input, {words}." in leaderboard_markdown(boards, {"psnr": True}, "y", "a CPU", 128, costs=own)


def test_many_entries_are_numbered_in_the_plots(tmp_path: Path) -> None:
    rows = [Row(f"entry {k}", "set", "1", metric, "y", k) for k in range(12) for metric in ("psnr", "lpips")]
    text = write_page(tmp_path / "p.html", PageData(rows, DIRECTIONS)).read_text()
    assert "Numbers are those in the leaderboard." in text
    plot = text[text.index('<svg class="plot"') :]
    assert ">12</text>" in plot and "entry 11</text>" not in plot
    assert 'swatch numbered" style="background: var(--c3)" aria-hidden="true">12</span>' in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "no rows"),
        ({"protocol": "rgb"}, "of protocol rgb and the rows are of y"),
        ({"directions": {"psnr": True}}, "not stated for lpips"),
        ({"pictures": {"set": {"1": {"HR": Path("missing.png")}}}}, "Cannot read the picture missing.png"),
    ],
)
def test_what_cannot_be_reported_is_refused(data: PageData, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_page(tmp_path / "p.html", dataclasses.replace(data, **change))


def test_a_page_that_cannot_be_written_is_an_error(data: PageData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write the report"):
        write_page(tmp_path / "file" / "p.html", data)


def test_counts_are_short() -> None:
    assert [short_number(n) for n in (0, 999, 501459, 16_697_987, 1.03e12)] == ["0", "999", "501 K", "16.7 M", "1.03 T"]
    assert short_number(999_960) == "1 M"
    assert short_number(None) == short_number(math.nan) == "-"


def test_templates_are_in_the_wheel() -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    files = {
        file.distribution_path for file in wheel.WheelBuilder(str(Path(__file__).parents[1])).recurse_included_files()
    }
    assert {f"srzoo/templates/report.{kind}" for kind in ("html.j2", "css", "js")} <= files


# --- plots --------------------------------------------------------------------------------------------------


def test_a_plot_has_no_colour_of_its_own_and_keeps_names_as_they_are() -> None:
    name = 'a <b> id="x" #0b0b01 $x_1$'
    svg = scatter_svg([Point(name, 1.0, 2.0, 0, 1.0)], Axis("x", True), Axis("y", False), "p1", "title")
    assert 'a &lt;b&gt; id="x" #0b0b01 $x_1$</text>' in svg
    tags = "".join(re.findall(r"<[^>]*>", svg))
    assert not re.search(r"#[0-9a-f]{6}\b|http|DejaVu", tags)
    assert "var(--c0)" in tags and "var(--ink)" in tags
    assert all(identifier.startswith("p1-") for identifier in re.findall(r'\bid="([^"]*)"', tags))
    assert "better ↘" in svg


def test_points_that_cannot_be_placed_are_left_out() -> None:
    axes = Axis("x", False, True), Axis("y", True)
    assert scatter_svg([Point("a", math.nan, 1.0, 0, 0)], *axes, "p", "t") == ""
    assert scatter_svg([Point("a", 0.0, 1.0, 0, 0)], *axes, "p", "t") == "", "a logarithm"
    assert "</svg>" in scatter_svg([Point("a", 5.0, math.inf, 0, 0), Point("b", 5.0, 1.0, 1, 0)], *axes, "p", "t")


# --- pictures -----------------------------------------------------------------------------------------------


def test_the_crop_lies_where_the_pictures_differ(tmp_path: Path) -> None:
    (exhibit,) = build_gallery(made_up_pictures(tmp_path, 1, (400, 300))).exhibits
    assert exhibit.crop.left <= 100 and exhibit.crop.left + exhibit.crop.width >= 140
    assert exhibit.crop.top <= 20 and exhibit.crop.top + exhibit.crop.height >= 60
    assert next(iter(exhibit.pictures)) == "HR"


def test_crop_of_a_small_or_uniform_picture() -> None:
    small = busiest_box([np.zeros((40, 30, 3), np.uint8)] * 2)
    assert (small.left, small.top, small.width, small.height) == (0, 0, 30, 40)
    corner = np.zeros((200, 201, 3), np.uint8)
    corner[190:, 190:] = 255
    box = busiest_box([corner, np.zeros_like(corner)])
    assert (box.left + box.width, box.top + box.height) == (201, 200)


def test_images_are_taken_from_all_datasets_in_turn() -> None:
    pictures: Any = {"a": {image: {} for image in "12345"}, "b": {"6": {}}, "c": {}}
    assert choose_images(pictures, 4) == [("a", "1"), ("b", "6"), ("a", "3"), ("a", "5")]
    assert len(choose_images(pictures, 99)) == 6
    assert choose_images({}, 4) == []


def test_what_does_not_fit_the_budget_is_left_out_and_said(data: PageData, tmp_path: Path) -> None:
    whole = build_gallery(data.pictures)
    part = build_gallery(data.pictures, max_bytes=whole.bytes - 1)
    assert (len(whole.exhibits), whole.left_out, len(part.exhibits), part.left_out) == (2, 0, 1, 1)
    assert "Pictures: 1 of 2 images" in write_page(tmp_path / "p.html", data, max_images=1).read_text()


def test_a_large_picture_is_cut_around_the_crop(data: PageData, tmp_path: Path) -> None:
    pictures = made_up_pictures(tmp_path, 1, (MAX_SIDE + 300, 120))
    (exhibit,) = build_gallery(pictures).exhibits
    assert (exhibit.width, exhibit.height, exhibit.is_cut) == (MAX_SIDE, 120, True)
    assert exhibit.crop.left <= 100 <= exhibit.crop.left + exhibit.crop.width
    text = write_page(tmp_path / "p.html", dataclasses.replace(data, pictures=pictures)).read_text()
    assert f"image 0 ({MAX_SIDE + 300}\N{MULTIPLICATION SIGN}120)" in text


def test_a_reference_not_cut_to_the_scale_is_cut_and_another_size_refused(tmp_path: Path) -> None:
    def pictures(width: int) -> dict[str, Any]:
        Image.new("L", (160, 120)).save(tmp_path / "a.png")
        Image.new("RGBA", (width, 123)).save(tmp_path / "hr.webp")
        return {"set": {"1": {"a": tmp_path / "a.png", "HR": tmp_path / "hr.webp"}}}

    (exhibit,) = build_gallery(pictures(163)).exhibits
    assert (exhibit.width, exhibit.height) == (160, 120)
    with pytest.raises(DataError, match="HR 80x123, a 160x120"):
        build_gallery(pictures(80))


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


def prefer(browser: Any, scheme: str) -> None:
    """Set the system's theme; and stop scrolling smoothly, so that what is clicked does not move."""
    features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    named = [{"name": name, "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": named})


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    """The page at the size of a desk; what is written to the console fails the test."""
    browser.set_window_size(1280, 900)
    prefer(browser, "light")
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def first_column(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('.board tbody th')].map(head => head.dataset.key)"
    found: list[str] = browser.execute_script(script)
    return found


def choose(browser: Any, selector: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(browser, selector)).select_by_visible_text(text)


def test_nothing_is_fetched_and_no_name_is_run(opened: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    assert opened.execute_script("return window.broken") is None
    assert HOSTILE in find(opened, ".board").text


def test_an_injected_script_is_refused_by_the_policy(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 3'; document.body.append(s);"
        "const i = new Image(); i.src = 'https://example.org/a.png'; document.body.append(i);"
    )
    time.sleep(0.3)
    assert browser.execute_script("return window.broken") is None
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) == 2 and all("Content Security Policy" in message for message in refused)


def test_a_click_sorts_and_a_second_one_turns_it_round(opened: Any) -> None:
    assert first_column(opened) == ["psnr-net", HOSTILE, "bicubic"], "best first"
    head = find(opened, ".board th:nth-child(3)")  # lpips, lower is better
    button = head.find_element("tag name", "button")
    assert head.get_attribute("aria-sort") is None
    button.click()
    assert (first_column(opened)[0], head.get_attribute("aria-sort")) == (HOSTILE, "ascending")
    assert find(opened, ".board th:nth-child(2)").get_attribute("aria-sort") is None
    button.click()
    assert (first_column(opened)[0], head.get_attribute("aria-sort")) == ("bicubic", "descending")


def test_sorting_by_keyboard_is_by_number_not_by_text(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    button = find(opened, ".board th:nth-child(4) button")
    assert button.text.startswith("ms")
    opened.execute_script("arguments[0].focus()", find(opened, ".board th:nth-child(3) button"))
    opened.switch_to.active_element.send_keys(Keys.TAB)
    assert opened.switch_to.active_element == button
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert first_column(opened) == ["bicubic", HOSTILE, "psnr-net"], "3, 280, 1500 ms"
    opened.switch_to.active_element.send_keys(Keys.SPACE)
    assert first_column(opened) == ["psnr-net", HOSTILE, "bicubic"]


def test_undefined_scores_stay_last(opened: Any) -> None:
    opened.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
    choose(opened, "details:nth-of-type(2) select", "lpips")
    panel = find(opened, "details:nth-of-type(2) .panel:not([hidden])")
    button = panel.find_element("css selector", "th:nth-child(2) button")
    for _ in range(2):
        button.click()
        assert panel.find_elements("css selector", "tbody th")[-1].text == IMAGES[-1]


def test_the_slider_moves_the_clip_by_keyboard_and_by_pointer(opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def clip() -> float:
        script = "return getComputedStyle(document.getElementById('over')).clipPath"
        numbers = re.findall(r"[\d.]+(?=%)", opened.execute_script(script))
        return float(numbers[-1])

    slider = find(opened, "#divide")
    assert clip() == 50
    slider.send_keys(Keys.HOME)
    assert clip() in (0, 100)
    slider.send_keys(Keys.END)
    end = clip()
    slider.send_keys(Keys.ARROW_LEFT)
    assert abs(clip() - end) == 0.5
    assert "bicubic" in slider.get_attribute("aria-valuetext")
    ActionChains(opened).move_to_element_with_offset(slider, -slider.size["width"] // 4, 0).click().perform()
    assert float(slider.get_attribute("value")) == pytest.approx(25, abs=3)


def test_choosing_entries_changes_the_pictures(opened: Any) -> None:
    def sources() -> tuple[str, str]:
        return find(opened, "#over").get_attribute("src"), find(opened, "#under").get_attribute("src")

    assert find(opened, "#left-legend strong").text == "bicubic"
    before = sources()
    assert before[0] != before[1] and before[0].startswith("data:image/webp")
    choose(opened, "#left", "HR")
    after = sources()
    assert after[0] != before[0] and after[1] == before[1]
    assert find(opened, "#left-legend strong").text == "HR"
    find(opened, "#swap").click()
    assert sources() == after[::-1]
    choose(opened, "#image", f"{DATASET} / image 1")
    assert sources() != after[::-1]
    assert find(opened, "#right-legend strong").text == "HR", "the choice is kept"
    assert "psnr" in find(opened, "#left-legend span").text
    loaded = "return ['over', 'under'].every(id => document.getElementById(id).naturalWidth === 160)"
    assert opened.execute_script(loaded)


def test_zoom_shows_pixels(opened: Any) -> None:
    choose(opened, "#zoom", "4\N{MULTIPLICATION SIGN}")
    assert find(opened, "#stage").size["width"] == 640
    assert find(opened, "#under").value_of_css_property("image-rendering") == "pixelated"


def test_the_crop_can_be_marked(opened: Any, data: PageData) -> None:
    mark = find(opened, "#mark")
    assert not mark.is_displayed()
    find(opened, "#show-mark").click()
    crop, width = build_gallery(data.pictures).exhibits[0].crop, find(opened, "#stage").size["width"]
    assert mark.size["width"] == pytest.approx(width * crop.width / 160, abs=1)
    offset = mark.location["x"] - find(opened, "#stage").location["x"]
    assert offset == pytest.approx(width * crop.left / 160, abs=1)


def test_crops_open_in_the_slider(opened: Any) -> None:
    find(opened, "button.open[data-image='1']").click()
    assert find(opened, "#image").get_attribute("value") == "1"
    widths = opened.execute_script("return [...document.querySelectorAll('.crops img')].map(img => img.width)")
    assert widths == [192] * 8


def test_the_theme_follows_the_system_until_it_is_chosen(opened: Any) -> None:
    def background() -> str:
        colour: str = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        return colour

    def ink_of_the_plot() -> str:
        colour: str = opened.execute_script("return getComputedStyle(document.querySelector('.plot text')).fill")
        return colour

    light = background(), ink_of_the_plot()
    find(opened, "#theme").click()
    dark = background(), ink_of_the_plot()
    assert dark[0] != light[0] and dark[1] != light[1]
    assert find(opened, "#theme").get_attribute("aria-pressed") == "true"
    opened.refresh()
    prefer(opened, "dark")
    assert (background(), ink_of_the_plot()) == dark


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_shows_the_whole_width(opened: Any, width: int) -> None:
    metrics = {"width": width, "height": 812, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened.refresh()
        opened.execute_script("document.querySelectorAll('details').forEach(part => part.open = true)")
        widths = opened.execute_script(
            "return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
        )
        assert widths == [width] * 3
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_control_has_a_name_and_every_plot_a_title(opened: Any) -> None:
    unnamed = """return [...document.querySelectorAll('select, input, button, svg[role=img]')].filter(element =>
        !(element.getAttribute('aria-label') || element.textContent.trim() && element.tagName !== 'SELECT'
          || element.labels?.length)).map(element => element.outerHTML)"""
    assert opened.execute_script(unnamed) == []
    repeated = """const all = [...document.querySelectorAll('[id]')].map(element => element.id);
        return all.filter((id, index) => all.indexOf(id) !== index)"""
    assert opened.execute_script(repeated) == []


def test_numbers_of_a_logarithmic_axis_leave_room_for_each_other() -> None:
    axes = Axis("ms", False, logarithmic=True), Axis("y", False)
    svg = scatter_svg([Point("a", 16.0, 1.0, 0, 0), Point("b", 13345.0, 2.0, 1, 0)], *axes, "p", "t")
    assert all(f">{number}<" in svg for number in (100, 1000, 10000))
    assert not any(f">{number}<" in svg for number in (200, 500, 2000, 5000))
    svg = scatter_svg([Point("a", 50.0, 1.0, 0, 0), Point("b", 990.0, 2.0, 1, 0)], *axes, "p", "t")
    assert all(f">{number}<" in svg for number in (100, 200, 500))
