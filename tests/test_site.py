"""The documentation site: built without a warning, and opened in a browser."""

import os
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import genlabel_plugins

pytestmark = pytest.mark.slow

pytest.importorskip("sphinx", reason="the site is built by the extra docs")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with one of its scripts run; the others stand there as text, as `make docs` runs them all."""
    out = tmp_path_factory.mktemp("site")
    # -W: a warning (a broken link, a page in no table of contents, a docstring that cannot be read) is an error.
    sphinx = [sys.executable, "-W", "ignore", "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "doctrees")]
    only = ["-D", "sphinx_gallery_conf.filename_pattern=plot_01"]
    places = [str(ROOT / "docs"), str(out / "html")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "integrations")])}
    run = subprocess.run([*sphinx, *only, *places], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return out / "html"


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served, on this machine alone."""
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser, address):
    """A page of the width of a phone, with all that the browser complains of."""
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
    page.goto(f"{address}/index.html")
    yield page
    page.close()


def test_every_public_name_has_its_page_with_its_source(site):
    for name in genlabel_plugins.__all__:
        if name != "__version__":
            text = (site / "api" / "generated" / f"genlabel_plugins.{name}.html").read_text()
            assert "[source]" in text, name


LOADED = "document.images.length && [...document.images].every(image => image.complete)"


def test_navigation_and_pictures(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than a phone"
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(image => image.src)"
    page.wait_for_function(LOADED)
    assert page.evaluate("document.images.length") > 0
    assert page.evaluate(broken) == []
    page.locator("main .sd-card", has_text="Ten pictures").click(force=True)
    page.wait_for_url("**/auto_gallery/index.html")
    page.click("main a:has-text('What mixup does to your labels') >> nth=0")
    page.wait_for_url(lambda url: "auto_gallery/index.html" not in url)
    page.wait_for_function(LOADED)
    assert page.evaluate("document.images.length") > 0
    assert page.evaluate(broken) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than a phone"
    assert not page.complaints


def test_search_finds_gamma(page, address):
    page.goto(f"{address}/search.html?q=gamma")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    assert page.locator("#search-results li a").count() > 5
    assert not page.complaints


def test_light_and_dark(page):
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert page.evaluate(background) != light
