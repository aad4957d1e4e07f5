"""The options of GenLabel in Lightning: what a config holds, a callback takes and a session reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from genlabel_plugins import CrossFit, Mixed, list_backends
from genlabel_plugins._checks import check_number, check_positive, check_stop_mixing, check_switch, first_clean_epoch
from genlabel_plugins.mixing import Pairing, PairingName

Mix = Literal["mixup", "cutmix", "column_cutmix", "generative"]
Space = Literal["input", "embedding", "latent"]
PREFIX = "genlabel_"  # of an option in a config of the host
RUNNING = "running"  # the statistics of Algorithm 3, which are no backend: they are never fitted


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options as `GenLabelCallback` documents them, checked.

    Raises:
        ValueError: On an option out of range, naming the value and the choices.
    """

    backend: Any = "gm"
    gamma: float = 0.5
    backend_params: Mapping[str, Any] | None = None
    priors: Any = "uniform"
    top_k: int | None = None
    temperature: float = 1.0
    alpha: float = 1.0
    mix: Mix | Callable[..., Mixed] = "mixup"
    pairing: Pairing = "permutation"
    per_sample: bool | None = None
    space: Space = "input"
    warmup_epochs: int | None = None
    keep_clean: bool = False
    fresh_head: bool = False
    leave_parents_out: bool = False
    cross_fit: int | None = None
    stop_mixing: int | float | None = None

    def __post_init__(self) -> None:
        """Check each option, then those that exclude each other."""
        choices = [*list_backends(), RUNNING]
        if isinstance(self.backend, str) and self.backend not in choices:
            raise ValueError(f"backend must be one of {choices} or an object, got {self.backend!r}")
        check_number("gamma", self.gamma, 0, 1)
        check_number("top_k", self.top_k, 1, none=True, whole=True)
        check_number("warmup_epochs", self.warmup_epochs, 0, none=True, whole=True)
        check_stop_mixing(self.stop_mixing)
        check_number("cross_fit", self.cross_fit, 3, none=True, whole=True)
        for name in ("keep_clean", "fresh_head", "leave_parents_out"):
            check_switch(name, getattr(self, name))
        check_positive("alpha", self.alpha)
        check_positive("temperature", self.temperature)
        for name, known in (("mix", Mix), ("pairing", PairingName)):
            chosen = getattr(self, name)
            if not callable(chosen) and chosen not in get_args(known):
                raise ValueError(f"{name} must be one of {get_args(known)} or a callable, got {chosen!r}")
        if self.space not in get_args(Space):
            raise ValueError(f"space must be one of {get_args(Space)}, got {self.space!r}")
        if self.joint and not self.latent:
            raise ValueError(f"backend 'running' follows features and goes with space='latent', got {self.space!r}")
        if self.mix == "generative" and self.space != "input":
            raise ValueError(f"mix='generative' needs densities of the inputs and space='input', got {self.space!r}")
        if self.mix in ("cutmix", "column_cutmix") and self.space == "embedding":
            raise ValueError(f"mix={self.mix!r} swaps values before any embedding: use space 'input' or 'latent'")
        cross_fit = isinstance(self.backend, CrossFit)
        if cross_fit and self.cross_fit is not None:
            raise ValueError(f"cross_fit goes with a backend that is no CrossFit yet, got {self.cross_fit} beside one")
        leaves_out = self.leave_parents_out or cross_fit or self.cross_fit is not None
        if leaves_out and self.latent and not self.keep_clean:
            raise ValueError(
                "leave_parents_out and cross_fit need the features of clean rows in latent space: set keep_clean=True"
            )
        if leaves_out and self.joint:
            raise ValueError("leave_parents_out and cross_fit go with a backend that is fitted, got 'running'")
        if self.fresh_head and not self.freezes:
            raise ValueError(
                "fresh_head goes with space='latent' and a backend that is fitted (Algorithm 2), got "
                f"space={self.space!r} and backend={self.backend!r}"
            )

    @classmethod
    def of(cls, hparams: Any) -> Options:
        """Options from the prefixed fields of a config; absent fields keep their defaults."""
        names = (each.name for each in fields(cls))
        return cls(**{name: hparams[PREFIX + name] for name in names if PREFIX + name in hparams})

    @property
    def latent(self) -> bool:
        """Whether densities are those of the features."""
        return self.space == "latent"

    @property
    def joint(self) -> bool:
        """Whether densities follow the features during training (Algorithm 3)."""
        return isinstance(self.backend, str) and self.backend == RUNNING

    @property
    def freezes(self) -> bool:
        """Whether features are frozen when mixing begins (Algorithm 2)."""
        return self.latent and not self.joint

    @property
    def fits(self) -> bool:
        """Whether densities are fitted, which takes a pass over the training rows."""
        return not self.joint and (self.gamma > 0 or self.mix == "generative")

    @property
    def doubles(self) -> bool:
        """Whether the clean batch passes the network beside the mixed one; Algorithm 3 learns from it."""
        return self.keep_clean or self.joint

    def first_clean(self, max_epochs: int | None) -> float:
        """Epoch from which on rows stay as they are.

        Raises:
            ValueError: If there is no epoch to mix in before it.
        """
        first = first_clean_epoch(self.stop_mixing, max_epochs if max_epochs is not None and max_epochs > 0 else None)
        if first <= self.warmup(max_epochs):
            raise ValueError(
                f"stop_mixing must come after the {self.warmup(max_epochs)} warm-up epochs, got epoch {first}"
            )
        return first

    def warmup(self, max_epochs: int | None) -> int:
        """Ordinary epochs before mixing begins.

        Raises:
            ValueError: If there is no epoch left to mix in.
        """
        limit = max_epochs if max_epochs is not None and max_epochs > 0 else None
        if self.warmup_epochs is None:
            return min(math.ceil((limit or 100) / 5), (limit or 100) - 1) if self.freezes else 0
        if limit is not None and self.warmup_epochs >= limit:
            raise ValueError(f"warmup_epochs must be below max_epochs={limit}, got {self.warmup_epochs}")
        return self.warmup_epochs
