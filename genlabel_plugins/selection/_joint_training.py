"""Training many candidates on many tables as one tensor program."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from genlabel_plugins._checks import first_clean_epoch
from genlabel_plugins.densities._training import progress
from genlabel_plugins.mixing.inputs import one_hot
from genlabel_plugins.relabeler import GenLabel
from genlabel_plugins.selection._candidate_batches import Batch, CandidateBatches, MixOptions, policy_of
from genlabel_plugins.selection._epochs import Draws
from genlabel_plugins.selection._stacked_networks import StackedNetworks
from genlabel_plugins.selection._training_table import TrainingTable
from genlabel_plugins.selection.candidates import Candidate

CHUNK_ELEMENTS = 2**22  # numbers that the batches of several steps, drawn and labelled at a time, may hold
EPOCHS_AT_ONCE = 10  # at most, that are drawn and labeled
EPS = 1e-6

OnEpoch = Callable[[StackedNetworks, Tensor], bool]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(MixOptions):
    """What all candidates share.

    Args:
        hidden: Widths of the hidden layers; none is logistic regression.
        max_epochs: Passes over the rows.
        weight_decay: Weight of the squared parameters in the loss, by halves, as in `torch.optim.Adam`.
        decays: Let the step size fall to zero along a cosine.
        validation_fraction: Fraction of each class to hold out, to keep the best state of each network by its log-loss
            there; None holds nothing out.
        patience: Epochs without a lower held-out log-loss after which to stop.
        stop_mixing: Epoch from which on rows stay as they are, or the share of all epochs before it; None mixes to the
            end.
    """

    hidden: tuple[int, ...] = ()
    max_epochs: int = 100
    weight_decay: float = 1e-4
    decays: bool = False
    validation_fraction: float | None = None
    patience: int = 10
    stop_mixing: int | float | None = None


def train_jointly(
    tables: Sequence[TrainingTable],
    candidates: Sequence[Candidate],
    n_classes: int,
    options: TrainingOptions,
    relabelers: Sequence[Mapping[Any, GenLabel] | None] | None = None,
    *,
    seed: int = 0,
    networks: StackedNetworks | None = None,
    on_epoch: OnEpoch | None = None,
    interruptible: bool = False,
    verbose: bool = False,
    description: str = "train",
) -> StackedNetworks:
    r"""Train every candidate on every table: one product, one softmax and one optimizer step for all.

    On a table, all candidates see the same batches, mixed once; they differ in labels and step size, so differences
    between them are not those of luck. Each network comes out as it would alone, but for rounding. A step goes
    straight from logits to their gradient, :math:`p - y`.

    Args:
        tables: Training rows, with equally many batches in an epoch.
        candidates: What to train; all of kind `"trained"`.
        n_classes: Number of classes C.
        options: What all candidates share.
        relabelers: Relabelers fitted to each table, by backend; by default they are fitted here.
        seed: Seed of each table's private generator.
        networks: Networks to go on with; by default new ones.
        on_epoch: Called after each epoch with the networks and the mean loss of each, shape `(F, M)`; returns
            whether to stop.
        interruptible: Ctrl-C ends the training and keeps what is learnt, with a warning; else it is raised.
        verbose: Show a progress bar.
        description: Label of the progress bar.

    Returns:
        Networks of all tables and candidates, on the device of the tables.

    Example:
        >>> table = TrainingTable.of(torch.tensor([[0.0], [1.0], [4.0], [5.0]]).double(), torch.tensor([0, 0, 1, 1]))
        >>> candidates = [Candidate(scheme="none", learning_rate=0.1), Candidate(scheme="mixup", learning_rate=0.01)]
        >>> networks = train_jointly([table], candidates, 2, TrainingOptions())
        >>> networks(table.x[None]).argmax(2)[0].T  # networks, rows
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1]])
    """
    generators = [torch.Generator().manual_seed(seed) for _ in tables]
    device = tables[0].x.device
    if networks is None:
        sizes = (tables[0].x.shape[1], *options.hidden, n_classes)
        networks = StackedNetworks(sizes, len(candidates), generators).to(device)
    streams = [
        CandidateBatches(table, candidates, n_classes, options, generator, relabelers=fitted)
        for table, generator, fitted in zip(tables, generators, relabelers or [None] * len(tables), strict=True)
    ]
    for stream in streams:
        stream.epochs.first_clean = first_clean_epoch(options.stop_mixing, options.max_epochs)
    step = _Step(networks, candidates, streams[0], options.weight_decay)
    n_steps = streams[0].epochs.n_steps
    batches = _batches(streams, options.max_epochs * n_steps)
    epochs = progress(range(1, options.max_epochs + 1), description, verbose=verbose)
    n_done = 0
    try:
        for _ in epochs:
            losses = []
            for _ in range(n_steps):
                done = n_done / (options.max_epochs * n_steps)
                share = 0.5 * (1 + math.cos(math.pi * done)) if options.decays else 1.0
                losses.append(step(next(batches), share, want_loss=on_epoch is not None))
                n_done += 1
            if on_epoch is not None and on_epoch(networks, torch.stack(losses).mean(0)):
                break
    except KeyboardInterrupt:
        if not interruptible:
            raise
        warnings.warn("training was interrupted: what was learnt until then is kept", stacklevel=2)
    return networks


class _Step:
    """One optimizer step of all networks."""

    def __init__(
        self,
        networks: StackedNetworks,
        candidates: Sequence[Candidate],
        stream: CandidateBatches,
        weight_decay: float,
    ) -> None:
        device = stream.table.x.device
        self.networks = networks
        self.parameters = [*networks.weights, *networks.biases]
        # Adam's step is proportional to its learning rate: each network keeps its own share of a step of size one.
        # With the default eps a gradient of zero, as that of the biases of balanced classes, would be one of noise.
        self.optimizer = torch.optim.Adam(self.parameters, lr=1.0, eps=EPS, weight_decay=weight_decay, fused=True)
        rate = torch.tensor([candidate.learning_rate for candidate in candidates], device=device, dtype=torch.float32)
        self.rates = networks.per_network(rate[None])
        places = [stream.policies.index(policy_of(candidate)) for candidate in candidates]
        self.select = one_hot(torch.tensor(places, device=device), len(stream.policies), rate).T  # (V, M)
        clean = [candidate.clean_share for candidate in candidates]
        shares = rate.new_tensor([clean, [1 - share for share in clean]])  # of clean and mixed rows
        self.shares = shares[[part for part, held in enumerate((stream.clean, stream.mixed)) if held]]  # (parts, M)

    def __call__(self, batch: Batch, share: float, *, want_loss: bool) -> Tensor:
        """Make a share of the step; the losses before it, `(F, M)`, if they are wanted."""
        with torch.enable_grad():
            z = self.networks(batch.x)  # (F, R, C, M)
        with torch.no_grad():
            weight = batch.weight.unflatten(1, (len(self.shares), -1))[..., None] * self.shares[:, None]
            weight = weight.flatten(1, 2)[:, :, None]  # (F, R, 1, M)
            loss = self._loss(z, batch.y, weight) if want_loss else z.new_empty(0)
            gradient = z.softmax(2)
            gradient.view(-1, gradient.shape[3]).addmm_(batch.y.flatten(0, 2), self.select, alpha=-1)  # p - y
            gradient *= weight
        self.optimizer.zero_grad()
        z.backward(gradient)
        with torch.no_grad():
            before = [parameter.clone() for parameter in self.parameters]
            try:
                self.optimizer.step()
                for parameter, old, rate in zip(self.parameters, before, self.rates, strict=True):
                    parameter.copy_(old.lerp(parameter, share * rate))
            except KeyboardInterrupt:  # amid a step of size one
                for parameter, old in zip(self.parameters, before, strict=True):
                    parameter.copy_(old)
                raise
        return loss

    def _loss(self, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return -((y @ self.select).mul_(z.log_softmax(2)).mul_(weight)).sum((1, 2))


def _batches(streams: Sequence[CandidateBatches], n_steps: int) -> Iterator[Batch]:
    """Batches of all tables, step by step, drawn and labelled several steps at a time."""
    width = max(stream.epochs.width for stream in streams)
    first = streams[0]
    per_row = first.table.x.shape[1] + first.n_classes * (len(first.policies) + 1)
    at_once = max(1, CHUNK_ELEMENTS // (2 * len(streams) * width * per_row))
    per_epoch = first.epochs.n_steps
    # As many for a short training as for a long one: densities round a batch of another size differently.
    n_epochs = max(1, min(EPOCHS_AT_ONCE, at_once // per_epoch))
    for _ in range(0, n_steps // per_epoch, n_epochs):
        draws = _draw(streams, n_epochs)
        for start in range(0, len(draws[0].lam), at_once):
            chunk = [
                stream.label(drawn.steps(start, start + at_once), width)
                for stream, drawn in zip(streams, draws, strict=True)
            ]
            stacked = [torch.stack(parts, 1) for parts in zip(*chunk, strict=True)]  # (S, F, R, *)
            for x, y, weight in zip(*stacked, strict=True):
                yield Batch(x, y, weight)


def _draw(streams: Sequence[CandidateBatches], n_epochs: int) -> list[Draws]:
    """Draws of all tables; tables of one size have generators of one seed, and so the same draws."""
    first = {stream.epochs.n_rows: stream for stream in reversed(streams) if stream.epochs.share is None}
    drawn = {n_rows: stream.epochs.draw(n_epochs) for n_rows, stream in first.items()}
    return [
        drawn[stream.epochs.n_rows] if stream.epochs.share is None else stream.epochs.draw(n_epochs)
        for stream in streams
    ]
