"""The map in CONTRIBUTING.md is that of the land."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAP = re.search(r"^```text\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def _places():
    """Paths on the map, by indentation."""
    folders = []
    for line in MAP.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        yield ROOT.joinpath(*folders)


def test_every_place_on_the_map_is_there():
    missing = [path for path in _places() if not path.exists()]
    assert not missing


def test_every_room_and_every_door_is_on_the_map():
    land = {path for package in ("genlabel_plugins", "integrations") for path in (ROOT / package).iterdir()}
    unmapped = {
        path.relative_to(ROOT)
        for path in land - set(_places())
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in ("__init__", "_version")
    }
    assert not unmapped
