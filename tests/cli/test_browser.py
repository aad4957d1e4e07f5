"""The report in a browser: no error, pictures, and a phone's width."""

from itertools import pairwise

import pytest

from genlabel_plugins.diagnostics import Report, diagnose, prepare_table

pytestmark = pytest.mark.slow

PICTURES = """() => [...document.querySelectorAll("figure")].map(figure => {
    const picture = figure.querySelector("svg").getBoundingClientRect();
    return {width: picture.width, height: picture.height, said: figure.getAttribute("aria-label"),
            marks: figure.querySelectorAll("svg path, svg use, svg image").length};
})"""
SMALLEST = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let smallest = {size: 1e9};
    for (let node; (node = walker.nextNode()); ) {
        const parent = node.parentElement;
        if (!node.data.trim() || !parent.getClientRects().length) continue;
        const svg = parent.closest("svg");
        const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
        const size = parseFloat(getComputedStyle(parent).fontSize) * scale;
        if (size < smallest.size) smallest = {size, text: node.data.trim().slice(0, 40)};
    }
    return smallest;
}"""


@pytest.fixture(scope="module", params=["moons", "wine", "cut off"])
def page_of(request, browser, tmp_path_factory, moons, wine):
    """A report, opened at the width asked for, with all that the browser complains of."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    if request.param == "cut off":

        def stop(known):
            Report().save(known, path)
            if known.fits and not known.interrupted:
                raise KeyboardInterrupt

        diagnose(prepare_table(wine, "target"), backends=["gm"], on_step=stop)
    else:
        frame, target = (moons, "moon") if request.param == "moons" else (wine, "target")
        Report().save(diagnose(prepare_table(frame, target), backends=["gm", "kde"], time_limit=0), path)

    def open_page(width, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 780}, color_scheme=scheme)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda sent: page.complaints.append(sent.url) if not sent.url.startswith("file:") else None)
        page.goto(path.as_uri())
        return page

    open_page.n_pictures = {"moons": 2 + 1 + 3 + 4, "wine": 2 + 1 + 3, "cut off": 1}[request.param]
    return open_page


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 360])
def test_pictures_are_there_and_nothing_goes_wrong(page_of, width):
    page = page_of(width)
    pictures = page.evaluate(PICTURES)
    assert page.complaints == []
    assert len(pictures) == page_of.n_pictures
    for picture in pictures:
        assert 200 < picture["width"] <= width
        assert picture["height"] > 150
        assert picture["marks"] > 10
        assert len(picture["said"]) > 20
    page.close()


@pytest.mark.slow
def test_a_phone_shows_all_of_it_at_a_size_to_read(page_of):
    page = page_of(360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    smallest = page.evaluate(SMALLEST)
    assert smallest["size"] >= 12, smallest
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    page.close()


def test_text_can_be_read_by_day_and_night(page_of):
    brightness = {}
    for scheme in ("light", "dark"):
        page = page_of(1200, scheme)
        ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
        drawn = page.evaluate("getComputedStyle(document.querySelector('figure svg')).color")
        assert drawn == ink
        brightness[scheme] = [sum(map(int, color[4:-1].split(","))) / 765 for color in (ink, paper)]
        page.close()
    assert brightness["light"][1] - brightness["light"][0] > 0.7
    assert brightness["dark"][0] - brightness["dark"][1] > 0.7
