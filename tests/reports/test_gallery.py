import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from robustcls._validation import InputError
from robustcls.reports.gallery import (
    Bar,
    Card,
    Page,
    Panel,
    Row,
    Table,
    View,
    render,
    write_gallery,
)
from robustcls.reports.pictures import (
    HEAT,
    data_uri,
    outline,
    overlay,
    smaller,
    to_colours,
    to_pixels,
)

EVIL = "<script>alert(1)</script>"


def page(count=6):
    pixels = to_pixels(np.random.default_rng(0).random((8, 8, 1)))
    cards = []
    for at in range(count):
        tags = ["flipped" if at % 2 else "held", "correct"]
        panels = [
            Panel(f"panel {number}", data_uri(pixels), f"image {at} panel {number}")
            for number in range(3)
        ]
        views = [
            View(
                group,
                f"{EVIL} → cat",
                rank=at / 10 + (0.01 if group == "twin" else 0),
                ranks={"models": -at} if at else {},  # of the first it cannot be told
                answer="cat" if at < 3 and group == "twin" else EVIL,
                tags=tags if group == "base" else ["held", "correct"],
                rows=[Row("maps", panels, [Bar(HEAT, "0", "1.5")], "SSIM 0.5")],
                tables=[Table("top", ["class", "p"], [[EVIL, "1.0"]])],
            )
            for group in ("base", "twin")
        ]
        cards.append(Card(f"folder/{at}.png", EVIL if at < 2 else "cat & dog", views, "shoe"))
    return Page(
        "Explanations",
        [f"{count} images."],
        "Images: toys.",
        cards,
        "drop",
        tags={"flipped": "turned", "held": "held", "correct": "right"},
        facts={"Versions": {"python": "3"}},
        orders={"models": "how much models disagree"},
    )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_names_are_escaped_and_nothing_is_fetched():
    html = render(page())
    parsed = Tags()
    parsed.feed(html)
    assert sum(tag == "script" for tag, _ in parsed.found) == 1  # the page's own
    assert "<script>alert" not in html
    for tag, attributes in parsed.found:
        for name in ("src", "href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("data:", "#")), (tag, address)
    assert "url(" not in html
    images = [attributes for tag, attributes in parsed.found if tag == "img"]
    assert all("alt" in attributes for attributes in images)
    ranks = [float(rank) for rank in re.findall(r'="base" data-rank="([\d.]+)"', html)]
    assert len(ranks) == 6
    assert ranks == sorted(ranks, reverse=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_gallery(page(1), tmp_path / "file" / "page.html")


def decode(uri):
    import base64

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_pictures_are_exact_and_large_ones_keep_to_the_budget():
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    assert data_uri(small).startswith("data:image/png")
    np.testing.assert_array_equal(np.asarray(decode(data_uri(small))), small)
    large = generator.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    uri = data_uri(large, most_bytes=12_000)
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 12_000 * 1.4
    assert min(decode(uri).size) >= 64


def test_a_picture_of_a_million_pixels_is_made_smaller_first():
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    uri = data_uri(noise, most_bytes=12_000)
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 12_000 * 1.4
    assert 64 <= max(decode(uri).size) <= 334
    ramp = np.linspace(0, 1, 1000, dtype=np.float32) * np.ones((700, 1), np.float32)
    found = smaller(ramp, 12_000)
    assert found.shape == (350, 500)
    np.testing.assert_allclose(found[0], ramp[0].reshape(-1, 2).mean(1), atol=1e-6)
    assert smaller(ramp[:100, :100], 12_000).shape == (100, 100)


def test_colours():
    ramp = ("#000000", "#ff0000")
    found = to_colours(np.array([[0.0, 0.5, 1.0, 7.0, np.nan]]), ramp)
    np.testing.assert_array_equal(found[0, :, 0], [0, 128, 255, 255, 0])
    assert overlay(np.ones((4, 4, 3)), np.zeros((4, 4)), HEAT).shape == (4, 4, 3)
    framed = outline(np.zeros((28, 28, 3), np.uint8), [(2, 3, 10, 9)])
    assert framed.shape == (112, 112, 3)
    red = (framed == (224, 0, 0)).all(-1)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (12, 35, 8, 39)


def test_in_a_browser(browser, tmp_path):
    path = tmp_path / "page.html"
    write_gallery(page(), path)
    browser.open(path, 1280)
    visible = "[...document.querySelectorAll('.card:not([hidden]) > h3')]" + (
        ".map((e) => e.firstChild.textContent)"
    )
    focused = "(document.activeElement.querySelector('h3') || {firstChild: {}})" + (
        ".firstChild.textContent"
    )
    count = "document.getElementById('count').value"
    assert browser.run(visible) == [f"folder/{at}.png" for at in (5, 4, 3, 2, 1, 0)]
    browser.choose("group", "base")
    browser.choose("tag", "flipped")
    assert browser.run(visible) == [f"folder/{at}.png" for at in (5, 3, 1)]
    assert browser.run(count) == "3 of 6 images"
    browser.choose("category", EVIL)
    assert browser.run(visible) == ["folder/1.png"]
    browser.choose("search", "folder/3")
    assert browser.run("document.getElementById('empty').hidden") is False
    for name in ("group", "tag", "category", "search"):
        browser.choose(name, "")
    browser.choose("answer", "cat")
    assert browser.run(visible) == [f"folder/{at}.png" for at in (2, 1, 0)]
    browser.choose("order", "models")
    assert browser.run(visible) == [f"folder/{at}.png" for at in (1, 2, 0)]
    assert browser.run("document.getElementById('sorted').textContent") == (
        "how much models disagree"
    )
    browser.choose("group", "base")  # none of base's answers is a cat
    assert browser.run("document.getElementById('empty').hidden") is False
    for name in ("group", "answer", "order"):
        browser.choose(name, "")
    assert browser.run(count) == "6 of 6 images"

    for key, expected in (("ArrowRight", 5), ("ArrowRight", 4), ("j", 3), ("ArrowLeft", 4)):
        browser.press(key)
        assert browser.run(focused) == f"folder/{expected}.png"
    browser.press("Enter")
    enlarged = "document.querySelector('dialog').open && " + (
        "document.querySelector('dialog p').textContent"
    )
    assert browser.run(enlarged) == "image 4 panel 0"
    browser.press("ArrowRight")
    assert browser.run(enlarged) == "image 4 panel 1"
    assert browser.run("document.getElementById('save').download") == "image_4_panel_1"
    assert browser.run("document.getElementById('save').href").startswith("data:image/png")
    browser.run("document.querySelector('dialog').close()")
    browser.wait_for("document.activeElement.matches('.panel button')")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "search"

    write_gallery(page(13), path)
    browser.open(path)
    screen = "[...document.querySelectorAll('.card')].filter((e) => e.offsetHeight).length"
    assert browser.run(screen) == 10
    browser.choose("search", "folder/1")
    assert browser.run(screen) == 4
    browser.choose("search", "")
    browser.run("document.getElementById('more').click()")
    assert browser.run(screen) == 13
    assert browser.run(focused) == "folder/2.png"

    beside = "[...document.querySelectorAll('.card:first-child .view')].map((e) => e.offsetLeft)"
    for width in (1280, 390):
        browser.open(path, width)
        assert len(set(browser.run(beside))) == (2 if width == 1280 else 1)
        assert browser.run("document.documentElement.scrollWidth") <= width
        browser.screenshot(tmp_path / f"{width}.png")
        with Image.open(tmp_path / f"{width}.png") as screenshot:
            assert screenshot.width == width
    assert browser.problems == []
    assert all(url.startswith(("file:", "data:")) for url in browser.events)
