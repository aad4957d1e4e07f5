"""Every script of findings/ has its row on the page, and its facts at its head."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = {path.name: path.read_text() for path in (ROOT / "findings").glob("*.sh")}
ROWS = re.findall(r"^\| `(\w+\.sh)` \| (.+?) \| (.+) \|$", (ROOT / "docs" / "findings.md").read_text(), re.MULTILINE)


def test_the_page_lists_every_script_in_order():
    assert [name for name, *_ in ROWS] == sorted(SCRIPTS)


@pytest.mark.parametrize(("name", "said", "answer"), ROWS, ids=[name for name, *_ in ROWS])
def test_a_finding_states_its_version_and_what_deals_with_it(name, said, answer):
    version = re.match(r"[\w-]+ \d+(\.\d+)+:", said)
    assert version, f"begins with no version: {said}"
    assert f"# {version[0]}" in SCRIPTS[name], f"{name} is of another version than {version[0]}"
    places = re.findall(r"`([\w/]+(?:\.py)?)`", answer)
    roots = (ROOT / "genlabel_plugins", ROOT / "integrations")
    assert any((root / place).exists() for root in roots for place in places), f"no module of ours: {answer}"
