"""Options of every public class: refused by name when no numbers in range, and listed in the docs as they are."""

import inspect
import math

import pytest

import genlabel_plugins
from docs.make_options import PAGE, page, unexplained
from genlabel_plugins import list_backends
from genlabel_plugins.densities.registry import make_backend
from genlabel_pytorch_tabular import GenLabelCallback
from genlabel_timm import GenLabelMixup

# What a class must be given beside the option; other public classes have no numeric option.
NEEDS = {
    "CutMix": {"n_classes": 3},
    "ColumnCutMix": {"n_classes": 3},
    "DistanceAlpha": {},
    "GenLabel": {},
    "GenerativeMix": {"relabeler": None},
    "GenerativeMixup": {"search": None},
    "LogisticLabel": {"sigma": 1.0},
    "Mixup": {"n_classes": 3},
    "RatioSearch": {"relabeler": None},
    "Relabeling": {"n_classes": 3},
    "RunningGaussian": {"n_classes": 3},
}


def _makers():
    for name in list_backends():
        yield name, lambda name=name, **options: make_backend(name, **options), make_backend(name)
    for name, needs in NEEDS.items():
        kind = getattr(genlabel_plugins, name)
        yield name, lambda kind=kind, needs=needs, **options: kind(**{**needs, **options}), kind
    yield "GenLabelCallback", GenLabelCallback, GenLabelCallback
    yield "GenLabelMixup", lambda **options: GenLabelMixup(num_classes=3, **options), GenLabelMixup


def _numeric(parameter):
    is_number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    return is_number or any(word in str(parameter.annotation) for word in ("int", "float"))


CASES = [
    pytest.param(make, option, value, id=f"{name}-{option}-{value}")
    for name, make, kind in _makers()
    for option, parameter in inspect.signature(type(kind) if not isinstance(kind, type) else kind).parameters.items()
    if _numeric(parameter)
    for value in ("0.5", -1, math.nan)
]


@pytest.mark.parametrize(("make", "option", "value"), CASES)
def test_an_option_that_is_no_number_in_range_is_named(make, option, value):
    with pytest.raises(ValueError, match=rf"^{option} must .*{value!r}"):
        make(**{option: value})


def test_the_page_of_options_is_that_of_the_signatures():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python docs/make_options.py`"


def test_every_difference_between_doors_is_explained():
    assert not unexplained(), "say why in WHY of docs/make_options.py"
