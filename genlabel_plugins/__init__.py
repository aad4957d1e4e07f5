"""GenLabel: mixup labels from class-conditional densities, inside the tools people train with."""

from genlabel_plugins.density import Density
from genlabel_plugins.from_classifier import FromClassifier
from genlabel_plugins.generative_mixing import GenerativeMix, GenerativeMixer, GenerativePairs
from genlabel_plugins.genlabel_mix import BatchMix, GenLabelMix, LabelledMix, relabel
from genlabel_plugins.intrusion import ExcludeIntrusion, intrudes, intrusion_rates
from genlabel_plugins.labels import LogisticLabel, NearestLabel, PosteriorLabel, linear_label
from genlabel_plugins.latent import RunningGaussian
from genlabel_plugins.manifold import ManifoldMix
from genlabel_plugins.mixing import ColumnCutMix, CutMix, Mixed, Mixer, Mixup
from genlabel_plugins.pairing import DistanceAlpha
from genlabel_plugins.per_class import PerClass
from genlabel_plugins.registry import list_backends, make_backend, register_backend, unregister_backend
from genlabel_plugins.relabeler import GenLabel, Relabeler, blend, class_posterior
from genlabel_plugins.sampler import GenerativeMixSampler

__version__ = "0.1.0"

__all__ = [
    "BatchMix",
    "ColumnCutMix",
    "CutMix",
    "Density",
    "DistanceAlpha",
    "ExcludeIntrusion",
    "FromClassifier",
    "GenLabel",
    "GenLabelMix",
    "GenerativeMix",
    "GenerativeMixSampler",
    "GenerativeMixer",
    "GenerativePairs",
    "LabelledMix",
    "LogisticLabel",
    "ManifoldMix",
    "Mixed",
    "Mixer",
    "Mixup",
    "NearestLabel",
    "PerClass",
    "PosteriorLabel",
    "Relabeler",
    "RunningGaussian",
    "blend",
    "class_posterior",
    "intrudes",
    "intrusion_rates",
    "linear_label",
    "list_backends",
    "make_backend",
    "register_backend",
    "relabel",
    "unregister_backend",
]
