"""GenLabel: mixup labels from class-conditional densities, inside the tools people train with."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from genlabel_plugins._version import __version__

if TYPE_CHECKING:
    from genlabel_plugins.densities import (
        CrossFit,
        Density,
        FromClassifier,
        Parents,
        PerClass,
        RunningGaussian,
        list_backends,
        make_backend,
        register_backend,
        unregister_backend,
    )
    from genlabel_plugins.densities.from_flow import FromFlow
    from genlabel_plugins.densities.network_density import NetworkDensity
    from genlabel_plugins.labels import LogisticLabel, NearestLabel, PosteriorLabel, linear_label
    from genlabel_plugins.loops import (
        BatchMix,
        GenerativeMix,
        GenLabelLoss,
        GenLabelMix,
        HeadFeatures,
        LabeledMix,
        ManifoldMix,
        RelabelTransform,
    )
    from genlabel_plugins.mixing import (
        ColumnCutMix,
        CutMix,
        DistanceAlpha,
        ExcludeIntrusion,
        GenerativeMixup,
        Mixed,
        Mixer,
        Mixup,
        RatioSearch,
        intrudes,
        intrusion_rates,
    )
    from genlabel_plugins.mixing.sampler import GenerativeMixSampler, GenLabelSampler
    from genlabel_plugins.persistence import load, save
    from genlabel_plugins.posterior import blend, class_posterior
    from genlabel_plugins.relabeler import GenLabel, Relabeler
    from genlabel_plugins.relabeling import Relabeling
    from genlabel_plugins.scoring import classifier_accuracy

__all__ = [
    "BatchMix",
    "ColumnCutMix",
    "CrossFit",
    "CutMix",
    "Density",
    "DistanceAlpha",
    "ExcludeIntrusion",
    "FromClassifier",
    "FromFlow",
    "GenLabel",
    "GenLabelLoss",
    "GenLabelMix",
    "GenLabelSampler",
    "GenerativeMix",
    "GenerativeMixSampler",
    "GenerativeMixup",
    "HeadFeatures",
    "LabeledMix",
    "LogisticLabel",
    "ManifoldMix",
    "Mixed",
    "Mixer",
    "Mixup",
    "NearestLabel",
    "NetworkDensity",
    "Parents",
    "PerClass",
    "PosteriorLabel",
    "RatioSearch",
    "RelabelTransform",
    "Relabeler",
    "Relabeling",
    "RunningGaussian",
    "__version__",
    "blend",
    "class_posterior",
    "classifier_accuracy",
    "intrudes",
    "intrusion_rates",
    "linear_label",
    "list_backends",
    "load",
    "make_backend",
    "register_backend",
    "save",
    "unregister_backend",
]


# In this order; the sampler is a scikit-learn estimator, whose base takes longer to import than torch.
_ROOMS = (
    "densities",
    "labels",
    "loops",
    "mixing",
    "persistence",
    "posterior",
    "relabeler",
    "relabeling",
    "scoring",
    "mixing.sampler",
    "densities.from_flow",
    "densities.network_density",
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that the command line answers before torch is there."""
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        for room in _ROOMS:
            if hasattr(found := import_module(f"{__name__}.{room}"), name):
                return globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
