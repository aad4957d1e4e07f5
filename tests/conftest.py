"""A browser for the pages that this project writes, and tests that anyone can run.

The tests of the core need the core, pytest and scipy. What needs more is skipped where that is not installed, with its
name as the reason; in continuous integration its absence is an error.
"""

import gc
import os
import random
import re
import shutil

import numpy as np
import pytest
import torch

CI = "CI" in os.environ
collect_ignore_glob = ["*conftest.py"]  # no docstrings to run, and pytest takes two of that name for one module
OURS = "genlabel"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    """Skip tests marked `gpu` on a machine without one, and those marked `newer_torch` with an older one."""
    here = tuple(int(part) for part in torch.__version__.split(".")[:2])
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if (newer := item.get_closest_marker("newer_torch")) and here < newer.args:
            item.add_marker(pytest.mark.skip(reason=f"needs torch {'.'.join(map(str, newer.args))}"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Skip a file whose imports are not installed."""
    report = yield
    absent = re.search(r"ModuleNotFoundError: (.+)", str(report.longrepr)) if report.failed else None
    if absent and not CI and f"'{OURS}" not in absent[1]:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {absent[1]}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip a test that comes upon a module that is not installed."""
    return (yield from _or_skip())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Skip what needs a fixture that is not installed; seed what a test draws without a word of its own."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # timm's generator
    random.seed(0)
    return (yield from _or_skip())


def _or_skip():
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if CI or str(error.name).startswith(OURS):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    from playwright import sync_api

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None and not CI:
        pytest.skip(f"no Chromium is installed, none of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
        gc.collect()  # workers of a data loader that lives on in a cycle hold the driver's pipe: it would wait for ever
