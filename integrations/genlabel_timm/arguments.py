"""Command-line options for a training script in timm's style."""

from __future__ import annotations

import warnings
from argparse import ArgumentParser, Namespace
from typing import Any

from timm.data.mixup import FastCollateMixup, Mixup
from torch import nn

from genlabel_plugins.relabeler import GAMMA
from genlabel_plugins.relabeling import BETA
from genlabel_timm.collate import GenLabelFastCollateMixup
from genlabel_timm.criterion import GenLabelCriterion
from genlabel_timm.mixup import GenLabelMixup


def add_genlabel_arguments(parser: ArgumentParser) -> None:
    """Add `--genlabel` and its options beside timm's `--mixup`, `--cutmix` and `--smoothing`.

    Example:
        >>> parser = ArgumentParser()
        >>> add_genlabel_arguments(parser)
        >>> parser.parse_args(["--genlabel", "--genlabel-gamma", "0.3"]).genlabel_gamma
        0.3
    """
    group = parser.add_argument_group("GenLabel")
    group.add_argument("--genlabel", action="store_true", help="correct mixed labels by class densities")
    group.add_argument(
        "--genlabel-gamma", type=float, default=GAMMA, help="trust in the densities (default: %(default)s)"
    )
    group.add_argument(
        "--genlabel-beta", type=float, default=BETA, help="memory of class statistics (default: %(default)s)"
    )
    group.add_argument(
        "--genlabel-top-k", type=int, default=2, help="classes a corrected label keeps (default: %(default)s)"
    )
    group.add_argument(
        "--genlabel-stats-every", type=int, default=1, help="steps between statistics (default: %(default)s)"
    )
    group.add_argument(
        "--genlabel-warmup-steps", type=int, default=0, help="steps to full gamma (default: %(default)s)"
    )
    group.add_argument("--genlabel-keep-clean", action="store_true", help="train on the clean batch, too")


def genlabel_mixup_from_args(args: Namespace) -> Mixup | None:
    """Make what timm's `train.py` makes of its mixing options, with GenLabel's labels if `--genlabel` is given.

    Args:
        args: timm's options `mixup`, `cutmix`, `cutmix_minmax`, `mixup_prob`, `mixup_switch_prob`, `mixup_mode`,
            `smoothing`, `num_classes` and `prefetcher`, and those of `add_genlabel_arguments`.

    Returns:
        A collate function if `args.prefetcher`, else a function of `(input, target)`; None if nothing is mixed.

    Raises:
        ValueError: If `--genlabel` meets no mixing, `--jsd-loss` or `--aug-splits`.
    """
    mixing = args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None
    options = {}
    if args.genlabel:
        if not mixing:
            raise ValueError("--genlabel corrects mixed labels: set --mixup, --cutmix or --cutmix-minmax")
        if getattr(args, "jsd_loss", False) or getattr(args, "aug_splits", 0):
            raise ValueError("--genlabel cannot go with --jsd-loss or --aug-splits, which exclude mixing")
        if getattr(args, "bce_target_thresh", None) is not None:
            warnings.warn("--bce-target-thresh makes every label hard again and undoes GenLabel", stacklevel=2)
        options = {
            "gamma": args.genlabel_gamma,
            "beta": args.genlabel_beta,
            "top_k": args.genlabel_top_k,
            "stats_every": args.genlabel_stats_every,
            "warmup_steps": args.genlabel_warmup_steps,
        }
    if not mixing:
        return None
    plain, corrected = (FastCollateMixup, GenLabelFastCollateMixup) if args.prefetcher else (Mixup, GenLabelMixup)
    return (corrected if args.genlabel else plain)(  # type: ignore[no-untyped-call]
        mixup_alpha=args.mixup,
        cutmix_alpha=args.cutmix,
        cutmix_minmax=args.cutmix_minmax,
        prob=args.mixup_prob,
        switch_prob=args.mixup_switch_prob,
        mode=args.mixup_mode,
        label_smoothing=args.smoothing,
        num_classes=args.num_classes,
        **options,
    )


def genlabel_criterion_from_args(args: Namespace, base: nn.Module, mixer: Any, loader: Any = None) -> nn.Module:
    """Wrap the loss that timm's `train.py` makes, if `--genlabel` is given.

    Args:
        args: The options of `add_genlabel_arguments`.
        base: Loss of `(output, y)` with soft labels, such as `SoftTargetCrossEntropy`.
        mixer: What `genlabel_mixup_from_args` made, attached to the model.
        loader: timm's training loader, for clean rows where a collate mixes in its workers.

    Returns:
        A `GenLabelCriterion`, or `base` as it is.

    Raises:
        ValueError: If the mixer is not attached.
    """
    if not args.genlabel:
        return base
    return GenLabelCriterion(base, mixer, loader=loader, keep_clean=args.genlabel_keep_clean)
