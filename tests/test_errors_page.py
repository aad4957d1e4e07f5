"""Each message on the page of common errors is one that the library says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAID = re.findall(r"^### (.+)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def source():
    """All code, with strings that go on in the next line joined."""
    files = [path for folder in ("genlabel_plugins", "integrations") for path in (ROOT / folder).rglob("*.py")]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in files))


@pytest.mark.parametrize("message", SAID)
def test_the_library_says_it(message, source):
    assert message in source
