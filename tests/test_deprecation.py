"""An argument's old name works, warns where it was written, and ends with a stated version."""

import ast

import pytest

from genlabel_plugins._deprecation import renamed_argument
from genlabel_plugins._version import __version__


@renamed_argument("share", "gamma", removed_in="9.0")
def blend(x, gamma=0.5):
    """Blends."""
    return x, gamma


def test_the_old_name_works_and_warns_at_the_caller():
    with pytest.warns(FutureWarning, match="blend: 'share' is called 'gamma' now, the old name ends with 9.0") as seen:
        assert blend(1, share=0.2) == (1, 0.2)
    assert seen[0].filename == __file__


def test_the_new_name_is_silent(recwarn):
    assert blend(1, gamma=0.2) == blend(1, 0.2) == (1, 0.2)
    assert blend(1) == (1, 0.5)
    assert not recwarn


def test_both_names_at_once_are_refused():
    with pytest.raises(TypeError, match="both 'gamma' and its old name 'share'"):
        blend(1, gamma=0.2, share=0.2)


def test_what_was_promised_to_end_has_ended(request):
    for path in (request.config.rootpath).glob("genlabel_plugins/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "removed_in" and isinstance(node.value, ast.Constant):
                ends = tuple(map(int, node.value.value.split(".")))
                assert tuple(map(int, __version__.split(".")[: len(ends)])) < ends, (
                    f"{path} keeps a name that has ended"
                )
