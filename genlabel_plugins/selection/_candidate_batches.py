"""CandidateBatches: batches of one table, labeled in every way that its candidates ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genlabel_plugins._interrupts import noted_interrupts
from genlabel_plugins.labels import LogisticLabel, NearestLabel, linear_label
from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.mixing.intrusion import TrainingSamples
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.mixing.mixers import Mixer, make_mixer
from genlabel_plugins.posterior import blend
from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.scoring import fit_copy, fit_fold
from genlabel_plugins.selection._epochs import Draws, Epochs
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate


@dataclass(frozen=True, kw_only=True)
class MixOptions:
    """How rows are drawn and mixed, the same for all candidates.

    Args:
        mix: `"mixup"` or `"column_cutmix"`.
        alpha: Concentration of `lam ~ Beta(alpha, alpha)`, one `lam` for each batch.
        batch_size: Rows in a batch at most.
        priors: Priors of the posterior, as `GenLabel` takes them.
        sigma: Width of the logistic label.
        exclude_intrusion: Leave mixed rows that intrude out of the loss (the paper's mixup without intrusion).
        leave_parents_out: Label mixed rows as if the densities had not seen the two rows that they are of.
        cross_fit: The same for any density, by that many folds.
    """

    mix: str = "mixup"
    alpha: float = 1.0
    batch_size: int = 128
    priors: Any = "uniform"
    sigma: float = 0.1
    exclude_intrusion: bool = False
    leave_parents_out: bool = False
    cross_fit: int | None = None

    @property
    def left_out(self) -> dict[str, Any]:
        """What of them tells `GenLabel` to leave the rows out that were mixed."""
        return {"leave_parents_out": self.leave_parents_out, "cross_fit": self.cross_fit}


class Batch(NamedTuple):
    """Rows of several steps, and what each label policy calls them.

    Attributes:
        x: Rows, shape `(S, R, D)`: clean ones, mixed ones, or the former before the latter.
        y: Labels by each of V policies, shape `(S, R, C, V)`.
        weight: Weights of the rows, shape `(S, R)`; those of the clean rows sum to one, so do those of the mixed.
    """

    x: Tensor
    y: Tensor
    weight: Tensor


class CandidateBatches:
    """Mixes the rows of one table and labels each mixed row once for every way of its candidates.

    Args:
        table: Training rows.
        candidates: What is trained on them.
        n_classes: Number of classes C.
        options: How rows are mixed.
        generator: Source of randomness on the CPU.
        relabelers: Relabelers fitted to the table, by backend; by default they are fitted here.
        per_sample: Draw one `lam` per row instead of one per batch.

    Attributes:
        policies: Label policies, V of them: scheme, backend and gamma. Candidates that agree in them share labels.
    """

    def __init__(
        self,
        table: TrainingTable,
        candidates: Iterable[Candidate],
        n_classes: int,
        options: MixOptions,
        generator: torch.Generator,
        *,
        relabelers: Mapping[Any, GenLabel] | None = None,
        per_sample: bool = False,
    ) -> None:
        candidates = list(candidates)
        self.policies = list(dict.fromkeys(map(policy_of, candidates)))
        self.clean = any(candidate.clean_share > 0 for candidate in candidates)
        self.mixed = any(candidate.clean_share < 1 for candidate in candidates)
        self.table = table
        self.n_classes = n_classes
        share = None if table.share is None else table.share.cpu()
        self.epochs = Epochs(len(table.x), options.batch_size, options.alpha, generator, share, per_sample=per_sample)
        columns = torch.Generator().manual_seed(generator.initial_seed() + 1)  # drawn chunk by chunk, epochs are not
        mixer = make_mixer(options.mix, n_classes=n_classes, alpha=options.alpha, per_sample=True, generator=columns)
        assert isinstance(mixer, Mixer)
        self.mixer = mixer
        backends = dict.fromkeys(backend for _, backend, _ in self.policies if backend is not None)
        if relabelers is None:
            seed = generator.initial_seed()
            relabelers = fit_relabelers(table, backends, n_classes, options.priors, seed, **options.left_out)
        self.relabelers = {backend: relabelers[backend] for backend in backends}
        self.named: dict[str, Callable[[Mixed], Tensor]] = {"mixup": linear_label}
        self.named["logistic"] = LogisticLabel(options.sigma)
        if any(scheme == "nearest" for scheme, *_ in self.policies):
            self.named["nearest"] = NearestLabel(table.x, table.target)
        self.samples = TrainingSamples(table.x, table.target) if options.exclude_intrusion and self.mixed else None

    def label(self, draws: Draws, width: int) -> Batch:
        """Rows and labels of drawn steps, each padded to `width` rows."""
        draws = draws.to(self.table.x.device)
        shape = draws.rows.shape  # (S, B)
        x, target = self.table.x[draws.rows.flatten()], self.table.target[draws.rows.flatten()]
        parts: list[tuple[Any, Tensor]] = []
        weights: list[Tensor] = []
        if self.clean:
            y = one_hot(target, self.n_classes, x)[..., None]
            parts.append((x, y.expand(-1, -1, len(self.policies))))
            weights.append(draws.weight)
        if self.mixed:
            first = shape[1] * torch.arange(shape[0], device=x.device)[:, None]
            lam = draws.lam.to(x.dtype).view(shape[0], -1).expand(shape)
            mixed = self.mixer.mixed(x, target, (draws.partner + first).flatten(), lam.flatten())
            parts.append((mixed.x, self._labels(mixed)))
            weights.append(draws.weight if self.samples is None else self._without_intruders(mixed, draws.weight))
        rows, labels = zip(*parts, strict=True)
        return Batch(
            torch.cat([_pad(part.unflatten(0, shape), width) for part in rows], 1),
            torch.cat([_pad(part.unflatten(0, shape), width) for part in labels], 1),
            torch.cat([_pad(weight, width) for weight in weights], 1),
        )

    def _without_intruders(self, mixed: Mixed, weight: Tensor) -> Tensor:
        """Weights of mixed rows, `(S, B)`, zero where they intrude; a batch of nothing else weighs nothing."""
        assert self.samples is not None
        stays = self.samples.intrusion(mixed.x, mixed.target_i, mixed.target_j) < 1
        kept = weight * stays.view(weight.shape)
        return kept / kept.sum(1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)

    def _labels(self, mixed: Mixed) -> Tensor:
        """Labels by all policies, `(B, C, V)`."""
        assert isinstance(mixed.x, Tensor)
        parents = None
        if any(relabeler.wants_parents for relabeler in self.relabelers.values()):
            assert isinstance(mixed.clean, Tensor)
            parents = mixed.parents(mixed.clean)
        y_gen = {
            key: relabeler.relabel(mixed.x, mixed.y_mix, gamma=1.0, parents=parents)
            for key, relabeler in self.relabelers.items()
        }
        labels = [
            blend(mixed.y_mix, y_gen[backend], gamma) if scheme == "genlabel" else self.named[scheme](mixed)
            for scheme, backend, gamma in self.policies
        ]
        stacked = torch.stack(labels, -1)
        if self.epochs.first_clean == math.inf:
            return stacked
        return torch.where((mixed.lam < 1)[:, None, None], stacked, mixed.y_mix[..., None])  # rows that stay clean


def policy_of(candidate: Candidate) -> tuple[str, Any, float]:
    """What of a candidate decides on the labels of its rows; clean rows are called the same by all."""
    return ("mixup" if candidate.scheme == "none" else candidate.scheme), candidate.backend, candidate.gamma


def fit_relabelers(
    table: TrainingTable, backends: Iterable[Any], n_classes: int, priors: Any, seed: int, **left_out: Any
) -> dict[Any, GenLabel]:
    """Relabelers by backend, fitted to the rows of a table; an object is copied. Ctrl-C is raised."""
    rows = slice(None) if table.density_rows is None else table.density_rows
    x, target = table.x[rows], table.target[rows]
    relabelers = {backend: GenLabel(backend, priors=priors, **left_out) for backend in backends if backend is not None}
    fitted: dict[Any, GenLabel] = {}
    with noted_interrupts() as interrupts:
        for backend, relabeler in relabelers.items():
            fit = fit_fold if isinstance(backend, str) else fit_copy
            fitted[backend] = fit(relabeler, x, target, n_classes, torch.Generator().manual_seed(seed))
            if interrupts.arrived:  # and a training, which ends on it, swallowed it
                raise KeyboardInterrupt
    return fitted


def density_classifier(relabeler: GenLabel, table: TrainingTable, n_classes: int) -> GenLabel:
    """The density of a relabeler as a classifier, with the class frequencies of the table as priors."""
    return GenLabel(relabeler.density, priors=table.class_share(n_classes))


def can_span(candidates: Iterable[Candidate], options: MixOptions) -> bool:
    """Whether rows may be written in a basis of their span: mixed rows must stay in it, and no density name columns."""
    return options.mix == "mixup" and all(isinstance(c.backend, str | None) for c in candidates)


def _pad(rows: Tensor, width: int) -> Tensor:
    """Append zeros to the second dimension, `(S, B, *) -> (S, width, *)`."""
    missing = width - rows.shape[1]
    if not missing:
        return rows
    return torch.cat([rows, rows.new_zeros(rows.shape[0], missing, *rows.shape[2:])], 1)
