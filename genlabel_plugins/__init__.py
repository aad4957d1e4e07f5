"""GenLabel: mixup labels from class-conditional densities, inside the tools people train with."""

from genlabel_plugins.density import Density
from genlabel_plugins.latent import RunningGaussian
from genlabel_plugins.registry import list_backends, make_backend, register_backend, unregister_backend
from genlabel_plugins.relabeler import GenLabel, Relabeler, blend, class_posterior

__version__ = "0.1.0"

__all__ = [
    "Density",
    "GenLabel",
    "Relabeler",
    "RunningGaussian",
    "blend",
    "class_posterior",
    "list_backends",
    "make_backend",
    "register_backend",
    "unregister_backend",
]
