"""Save and load densities and relabelers: tensors in safetensors, arguments in JSON, no pickle anywhere."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from genlabel_plugins._files import write_whole
from genlabel_plugins.densities.density import Density
from genlabel_plugins.densities.registry import backend_name, make_backend
from genlabel_plugins.relabeler import GenLabel

FORMAT_VERSION = 1
Model = TypeVar("Model", bound=nn.Module)
_MISSING = object()
_KEY = "genlabel_plugins"  # of the one metadata entry of a file


def save(model: Density | GenLabel, path: str | PathLike[str]) -> None:
    """Write a fitted density, or a relabeler with its fitted density, to one safetensors file.

    The metadata hold format version, backend name, constructor arguments and a hash of all of it and the tensors. The
    file is whole at any moment: until the new one stands on the disk, the old one does.

    Raises:
        ModuleNotFoundError: Without safetensors.
        OSError: If the file cannot be written.
        ValueError: If the backend is not registered under its class, or an argument is no JSON value.
        NotFittedError: Before `fit`.
    """
    safetensors = _safetensors()
    density = model.density if isinstance(model, GenLabel) else model
    if not isinstance(density, Density):
        raise ValueError(f"only a Density can be saved, got {type(density).__name__}")
    density.check_fitted()
    header: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "backend": backend_name(type(density)),
        "arguments": _arguments(density),
    }
    if isinstance(model, GenLabel):
        priors = model.priors if model.prior is None else model.prior.tolist()
        header["relabeler"] = _arguments(model, backend=None, priors=priors)
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in density.state_dict().items()
    }
    header["sha256"] = _digest(header, tensors)
    write_whole(path, safetensors.torch.save(tensors, {_KEY: json.dumps(header)}))


def load(path: str | PathLike[str], kind: type[Model] = nn.Module) -> Model:  # type: ignore[assignment]
    """Read what `save` wrote, on the CPU.

    Args:
        path: File to read.
        kind: What the file must hold: `Density`, a backend's class or `GenLabel`; by default any of them.

    Raises:
        ModuleNotFoundError: Without safetensors.
        OSError: If there is no such file, it is a folder, or it may not be read: `FileNotFoundError` and its kin.
        ValueError: Whatever else is wrong: truncated, foreign, altered, of another version, of another kind, or with
            arguments that ask for more memory than its tensors fill.
    """
    path = Path(path)
    header, tensors = _read(path)
    density = _rebuild(path, header, tensors)
    options = header.get("relabeler")
    try:
        model = density if options is None else GenLabel(**{**options, "backend": density})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} asks for a relabeler that cannot be made: {error}") from error
    if not isinstance(model, kind):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a {kind.__name__}")
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file, once version and hash are found right."""
    safetensors = _safetensors()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    content = path.read_bytes()  # once, since another may take its place at any moment
    try:
        tensors = safetensors.torch.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
        header = json.loads(metadata.get(_KEY, "null"))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = _first_line(error)
        raise ValueError(f"{path} is no file of genlabel_plugins, or a damaged one: {why}") from error
    if not isinstance(header, dict) or "version" not in header:
        raise ValueError(f"{path} is no file of genlabel_plugins: its metadata lack the entry {_KEY!r}")
    if header["version"] != FORMAT_VERSION:
        raise ValueError(f"{path} must have format version {FORMAT_VERSION}, got {header['version']!r}")
    if header.pop("sha256", None) != _digest(header, tensors):
        raise ValueError(f"{path} was altered after it was saved: its hash does not fit its content")
    return header, tensors


def _rebuild(path: Path, header: dict[str, Any], tensors: dict[str, Tensor]) -> Density:
    """Make the density that a header describes; all that can fail is refused in one sentence."""
    name = header.get("backend")
    if not isinstance(name, str):
        raise ValueError(f"{path} must name a backend, got {name!r}")
    try:
        with _Allowance(tensors):
            arguments = header["arguments"]
            if name == "gm" and arguments.get("shrinkage", 0) is None:
                arguments = arguments | {"shrinkage": 0.0}  # as builds before 0.1.0 called it
            density: Density = make_backend(name, **arguments)
            density.load_state_dict(tensors)
            density.requires_grad_(False)
            density.log_prob(density.offset_[None])  # tensors that do not go together fail here, not in training
    except Exception as error:
        raise ValueError(f"{path} holds no density that backend {name!r} can restore: {_first_line(error)}") from error
    return density


class _Allowance(TorchDispatchMode):
    """Holds the code within to what a file of these tensors may ask for; arguments may describe any network."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._numbers = 2**20 + 16 * sum(tensor.numel() for tensor in tensors.values())  # in one tensor
        self._n_tensors = len(tensors)
        self._tensors_left = 10_000 + 100 * len(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.name == "size":
                self._tensors_left -= 1
                if math.prod(value) > self._numbers:
                    raise ValueError(f"its arguments ask for a tensor of shape {tuple(value)}, which its tensors belie")
        if self._tensors_left < 0:
            raise ValueError(f"its arguments ask for a network of far more than the {self._n_tensors} tensors it holds")
        return func(*args, **(kwargs or {}))


def _arguments(module: nn.Module, **replaced: Any) -> dict[str, Any]:
    """Constructor arguments, which a module keeps under their own names."""
    arguments: dict[str, Any] = {}
    for name in inspect.signature(type(module)).parameters:
        value = replaced[name] if name in replaced else getattr(module, name, _MISSING)
        try:
            arguments[name] = json.loads(json.dumps(value, default=_as_number))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{type(module).__name__} cannot be saved: {name} must be a JSON value, got {type(value).__name__}"
            ) from error
    return arguments


def _as_number(value: Any) -> Any:
    """Numbers of numpy and torch."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"no JSON value: {value!r}")


def _digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 over header and tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _safetensors() -> Any:
    try:
        import safetensors.torch  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "safetensors":
            raise
        raise ModuleNotFoundError("saving needs safetensors: pip install 'genlabel-plugins[save]'") from error
    return safetensors


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
