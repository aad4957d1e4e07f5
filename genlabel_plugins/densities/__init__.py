"""Class-conditional densities: the contract, the registry of backends, adapters, running statistics."""

from genlabel_plugins.densities.cross_fit import CrossFit
from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.from_classifier import FromClassifier
from genlabel_plugins.densities.parents import Parents
from genlabel_plugins.densities.per_class import PerClass
from genlabel_plugins.densities.registry import list_backends, make_backend, register_backend, unregister_backend
from genlabel_plugins.densities.running import RunningGaussian

__all__ = [
    "CrossFit",
    "Density",
    "FromClassifier",
    "Parents",
    "PerClass",
    "RunningGaussian",
    "list_backends",
    "make_backend",
    "register_backend",
    "unregister_backend",
]
