"""Registry of density backends: built-ins, a decorator for scripts, entry points for packages."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

ENTRY_POINT_GROUP = "genlabel_plugins.backends"

# Import strings, so that a backend and what it needs load on demand.
_BUILT_IN = {
    "gm": "genlabel_plugins.densities.backends.gaussian:GaussianMixture",
    "kde": "genlabel_plugins.densities.backends.kernel_density:KernelDensity",
    "nn": "genlabel_plugins.densities.backends.nearest_neighbor:NearestNeighbor",
    "flow": "genlabel_plugins.densities.backends.normalizing_flow:NormalizingFlow",
    "gan": "genlabel_plugins.densities.backends.gan_inversion:GANInversion",
    "vae": "genlabel_plugins.densities.backends.vae:VAE",
    "mixed_types": "genlabel_plugins.densities.backends.mixed_types:MixedTypes",
    "power_marginals": "genlabel_plugins.densities.backends.power_marginals:PowerMarginals",
}
_REGISTERED: dict[str, Callable[..., Any]] = {}

Backend = TypeVar("Backend", bound=Callable[..., Any])


def register_backend(name: str) -> Callable[[Backend], Backend]:
    """Register a class, or any callable that makes a density, under a name.

    Raises:
        ValueError: If the name is taken.

    Example:
        >>> @register_backend("standard-normal")
        ... class StandardNormal:
        ...     def fit(self, x, target):
        ...         self.n_classes = int(target.max()) + 1
        ...         return self
        ...
        ...     def log_prob(self, x):
        ...         return -0.5 * x.square().sum(1, keepdim=True).expand(-1, self.n_classes)
        >>> "standard-normal" in list_backends()
        True
        >>> unregister_backend("standard-normal")
    """

    def register(backend: Backend) -> Backend:
        known = _BUILT_IN.keys() | _REGISTERED.keys() | _entry_points().keys()
        if name in known and not _is_redefinition(name, backend):
            raise ValueError(f"backend {name!r} is taken, choose a name other than {sorted(known)}")
        _REGISTERED[name] = backend
        return backend

    return register


def unregister_backend(name: str) -> None:
    """Forget a backend that `register_backend` added.

    Raises:
        ValueError: If the decorator registered no such name.
    """
    if name not in _REGISTERED:
        listed = f"only {sorted(_REGISTERED)} were" if _REGISTERED else "no backend was"
        raise ValueError(f"backend {name!r} was not registered by register_backend: {listed}")
    del _REGISTERED[name]


def list_backends() -> list[str]:
    """Names of all backends, without importing any of them.

    Example:
        >>> {"gm", "kde", "nn", "flow", "gan", "vae"} <= set(list_backends())
        True
    """
    return sorted(_BUILT_IN.keys() | _REGISTERED.keys() | _entry_points().keys())


def make_backend(backend: Any, *, marginals: Literal["power"] | None = None, **params: Any) -> Any:
    """Make a density from its name and parameters; an object with `fit` and `log_prob` passes through.

    Args:
        backend: Name of a registered density, or an object.
        marginals: With `"power"`, columns pass a power transform before the density: see `PowerMarginals`.
        **params: Parameters that go with the name.

    Raises:
        ValueError: If no backend has that name.
        ImportError: If the package that provides it is broken.
        TypeError: If the backend lacks such a parameter, or an object `fit` or `log_prob`, or has parameters beside.

    Example:
        >>> make_backend("gm", covariance_type="tied").covariance_type
        'tied'
    """
    if marginals is not None:
        if marginals != "power":
            raise ValueError(f"marginals must be 'power' or None, got {marginals!r}")
        return _load("power_marginals")(of=backend, of_params=params or None)
    if isinstance(backend, str):
        factory = _load(backend)
        try:
            return factory(**params)
        except TypeError as error:
            options = list(inspect.signature(factory).parameters)
            unknown = [name for name in params if name not in options]
            if not unknown:
                raise
            raise TypeError(f"backend {backend!r} must be given options out of {options}, got {unknown}") from error
    if isinstance(backend, type) or not (hasattr(backend, "fit") and hasattr(backend, "log_prob")):
        raise TypeError(f"backend must be a name or an object with fit and log_prob, got {backend!r}")
    if params:
        raise TypeError(f"parameters go with a backend's name, got {sorted(params)} beside an object")
    return backend


def backend_name(backend: type) -> str:
    """Name under which a class is registered.

    Raises:
        ValueError: If it is not.

    Example:
        >>> backend_name(type(make_backend("gm")))
        'gm'
    """
    origin = f"{backend.__module__}:{backend.__qualname__}"
    for names in (_BUILT_IN, {name: entry.value for name, entry in _entry_points().items()}):
        for name, import_string in names.items():
            if import_string == origin:
                return name
    for name, registered in _REGISTERED.items():
        if registered is backend:
            return name
    raise ValueError(f"{backend.__qualname__} is not registered: put register_backend(name) above it")


def _load(name: str) -> Callable[..., Any]:
    factory: Callable[..., Any]
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        factory = getattr(import_module(module), attribute)
    elif name in _REGISTERED:
        factory = _REGISTERED[name]
    elif name in _entry_points():
        factory = _load_entry_point(_entry_points()[name])
    else:
        raise ValueError(f"backend must be one of {list_backends()}, got {name!r}")
    return factory


def _load_entry_point(entry: EntryPoint) -> Callable[..., Any]:
    package = entry.dist.name if entry.dist else "a package"
    try:
        factory: Callable[..., Any] = entry.load()
    except Exception as error:  # whatever a foreign module does while it is imported
        raise ImportError(
            f"backend {entry.name!r} of {package} cannot be loaded from {entry.value!r}: {error!r}"
        ) from error
    if not callable(factory):
        raise ImportError(f"backend {entry.name!r} of {package} must be callable, got {factory!r}")
    return factory


def _entry_points() -> dict[str, EntryPoint]:
    """Entry points of installed packages, none imported, less those that would shadow a built-in."""
    if os.environ.get("GENLABEL_DISABLE_PLUGINS") == "1":
        return {}
    return _installed_entry_points()


@lru_cache(maxsize=1)
def _installed_entry_points() -> dict[str, EntryPoint]:
    """A plug-in whose name is taken costs a warning and nothing else."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in _BUILT_IN:
            warnings.warn(f"the plug-in {entry.value!r} is ignored: backend {entry.name!r} is built in", stacklevel=2)
        elif entry.name in found:
            taken = found[entry.name].value
            warnings.warn(f"the plug-in {entry.value!r} is ignored: {taken!r} is backend {entry.name!r}", stacklevel=2)
        else:
            found[entry.name] = entry
    return found


def _is_redefinition(name: str, backend: Callable[..., Any]) -> bool:
    """Whether a script or notebook cell that registers `backend` simply ran again."""
    known = _REGISTERED.get(name)

    def origin(factory: Any) -> tuple[Any, Any]:
        return getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)

    return known is not None and origin(known) == origin(backend)
