"""Options of every public class: refused by name when no numbers in range, and listed in the docs as they are."""

import inspect
import math
import re

import pytest
import torch

import genlabel_plugins
from docs.make_options import PAGE, page, unexplained
from genlabel_plugins import GenLabel, Mixup, list_backends
from genlabel_plugins.densities.registry import make_backend
from genlabel_pytorch_tabular import GenLabelCallback
from genlabel_timm import GenLabelMixup

# What a class must be given beside the option; other public classes have no option that is a number or a switch.
NEEDS = {
    "CrossFit": {"backend": "gm"},
    "ExcludeIntrusion": {"mix": Mixup(3), "x": torch.zeros(6, 2), "target": torch.arange(6) % 3},
    "FromFlow": {"flow": torch.nn.Linear(2, 2)},
    "GenLabelMix": {"relabeler": GenLabel(), "n_classes": 3},
    "LabeledMix": {"mix": Mixup(3)},
    "HeadFeatures": {"model": torch.nn.Sequential(torch.nn.Linear(2, 3)), "head": "0"},
    "CutMix": {"n_classes": 3},
    "ColumnCutMix": {"n_classes": 3},
    "DistanceAlpha": {},
    "GenLabel": {},
    "GenerativeMix": {"relabeler": None, "n_classes": 3},
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


def _switch(parameter):
    return isinstance(parameter.default, bool)


def _cases(kind_of_option, values):
    return [
        pytest.param(make, option, value, id=f"{name}-{option}-{value}")
        for name, make, kind in _makers()
        for option, parameter in inspect.signature(kind if isinstance(kind, type) else type(kind)).parameters.items()
        if kind_of_option(parameter)
        for value in values
    ]


@pytest.mark.parametrize(("make", "option", "value"), _cases(_numeric, ("0.5", -1, math.nan)))
def test_an_option_that_is_no_number_in_range_is_named(make, option, value):
    with pytest.raises(ValueError, match=rf"^{option} must .*{value!r}"):
        make(**{option: value})


@pytest.mark.parametrize(("make", "option", "value"), _cases(_switch, ("false", None, [1])))
def test_an_option_that_is_no_switch_is_named(make, option, value):
    with pytest.raises(ValueError, match=rf"^{option} must be True or False, got {re.escape(repr(value))}"):
        make(**{option: value})


@pytest.mark.parametrize("option", ["shrinkage", "bandwidth"])
@pytest.mark.parametrize("value", [None, [0.5], {"gm": 0.5}])
def test_an_option_of_numbers_and_names_takes_nothing_else(option, value):
    with pytest.raises(ValueError, match=rf"^{option} must be .*got {re.escape(repr(value))}"):
        make_backend("kde", **{option: value})


def test_what_is_no_relabeler_no_prior_and_no_callable_is_named():
    with pytest.raises(TypeError, match=r"relabeler must have a method relabel\(x, y_mix\), got str"):
        genlabel_plugins.Relabeling(3, relabeler="gm")
    with pytest.raises(TypeError, match="embed must be callable or None, got 'trunk'"):
        genlabel_plugins.GenLabelMix(GenLabel(), n_classes=3, embed="trunk")
    with pytest.raises(ValueError, match="priors must be non-negative numbers, one per class, got"):
        GenLabel(priors={"a": 1})
    with pytest.raises(ValueError, match=r"top_k must be None or a whole number, got the float 1\.5"):
        GenLabel(top_k=1.5)


def test_the_page_of_options_is_that_of_the_signatures():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python docs/make_options.py`"


def test_every_difference_between_doors_is_explained():
    assert not unexplained(), "say why in WHY of docs/make_options.py"
