"""Tables of the paper from the records: our mean and spread beside the printed number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from genlabel_plugins.paper import published
from genlabel_plugins.paper.data import ALIASES, sets
from genlabel_plugins.paper.sceptics import SCEPTICS
from genlabel_plugins.paper.statistics import by_set, elo, mean_ranks, shares, signed_rank

NO_RUN = "no run"
LR = "logistic regression, alpha 1"
OURS = (
    "GenLabel (CV)",
    "GenLabel (CV), clean batch kept",
    "GenLabel (CV), no mixing competes",
    "RegMixup",
    "ours",
)
FURTHER = ("GenLabel (CV), parents left out", "GenLabel (flow)")  # of ours, where the sets are few
TITLES = {
    "accuracy": "accuracy, %",
    "log_loss": "log-loss",
    "scaled_log_loss": "log-loss after temperature scaling",
    "auc": "ROC-AUC (two classes)",
    "calibration": "calibration error, %",
}


def cell(summary: pd.DataFrame, experiment: str, name: str, scheme: str, measure: str = "accuracy") -> str:
    """Mean and spread in per cent, or that there is no run."""
    found = value(summary, experiment, name, scheme, measure)
    if found is None:
        return NO_RUN
    mean, spread = (100 * part for part in found)
    return f"{mean:.2f}" + ("" if np.isnan(spread) else f" ± {spread:.2f}")


def value(
    summary: pd.DataFrame, experiment: str, name: str, scheme: str, measure: str = "accuracy"
) -> tuple[float, float] | None:
    """Mean and spread of a measure, if there are runs."""
    if measure not in summary:
        return None
    name = str(ALIASES.get(int(name), name)) if name.isdigit() else name
    found = summary[(summary.experiment == experiment) & (summary.set == name) & (summary.scheme == scheme)]
    if found.empty or np.isnan(found[measure].iloc[0]):
        return None
    return float(found[measure].iloc[0]), float(found[f"{measure}_spread"].iloc[0])


def accuracy_table(
    summary: pd.DataFrame,
    experiments: Mapping[str, str],
    schemes: Sequence[str],
    printed: published.Cells,
    *,
    measure: str = "accuracy",
    titles: Mapping[str, str] | None = None,
) -> list[str]:
    """Schemes by sets; what the paper prints stands in brackets.

    Args:
        summary: Means and spreads over seeds.
        experiments: Experiment of each set.
        schemes: Rows.
        printed: Numbers of the paper.
        measure: What is shown.
        titles: Names of sets, where an id does not say enough.
    """
    heads = [f"{(titles or {}).get(name, '')} {name}".strip() for name in experiments]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for scheme in schemes:
        cells = []
        for name, experiment in experiments.items():
            said = printed.get((name, scheme))
            cells.append(cell(summary, experiment, name, scheme, measure) + ("" if said is None else f" ({said:.2f})"))
        lines.append(f"| {scheme} | {' | '.join(cells)} |")
    return lines


def fitting_sets(summary: pd.DataFrame, experiment: str, least: float = 0.95) -> list[str]:
    """Sets of which GM or KDE classifies at least 95 % of the training rows, where the paper trusts GenLabel."""
    if "train_accuracy" not in summary:
        return []
    fits = summary[
        (summary.experiment == experiment)
        & summary.scheme.isin(["generative classifier (GM)", "generative classifier (KDE)"])
        & (summary.train_accuracy > least)
    ]
    return sorted(set(fits.set), key=int)


def versus(
    summary: pd.DataFrame, experiment: str, scheme: str, printed: Mapping[str, tuple[float, ...]], names: Sequence[str]
) -> list[str]:
    """Share of sets on which a scheme is higher / on par / lower than each baseline, and the paper's shares."""
    lines = [
        f"| {scheme} against | higher / on par / lower, % | mean difference, points | p | paper |",
        "|---" * 5 + "|",
    ]
    runs = summary[(summary.experiment == experiment) & summary.set.isin(names)]
    for baseline, said in printed.items():
        table = by_set(runs, (scheme, baseline), "accuracy") if len(runs) else pd.DataFrame()
        paper = " / ".join(f"{part:.1f}" for part in said)
        if table.empty:
            lines.append(f"| {baseline} | {NO_RUN} | | | {paper} |")
            continue
        shown = " / ".join(f"{part:.1f}" for part in shares(table, scheme, baseline))
        gain = 100 * float((table[scheme] - table[baseline]).mean())
        lines.append(f"| {baseline} | {shown} | {gain:+.2f} | {signed_rank(table, scheme, baseline):.3f} | {paper} |")
    return lines


def standings(summary: pd.DataFrame, experiment: str) -> list[str]:
    """Every scheme and every sceptic, real and artificial sets apart: means of all measures, ranks, tests and Elo."""
    runs = summary[summary.experiment == experiment]
    real = {str(openml_id) for openml_id, row in sets().iterrows() if row.simulated == "no"}
    lines: list[str] = []
    for title, some in (("Real sets", runs[runs.set.isin(real)]), ("Artificial sets", runs[~runs.set.isin(real)])):
        n_sets = some.set.nunique()
        counts = some.groupby("scheme", sort=False).set.nunique()
        schemes = [scheme for scheme in counts.index if counts[scheme] == n_sets]
        lines += ["", f"**{title}** ({n_sets})", ""]
        if n_sets < 2 or "mixup" not in schemes:
            lines.append("No runs of two sets or more.")
            continue
        columns = {measure: by_set(some, schemes, measure) for measure in TITLES if measure in some}
        accuracy, loss = columns["accuracy"], columns["log_loss"]
        rating, rating_loss = elo(accuracy, "mixup"), elo(loss, "mixup")
        heads = [
            "scheme",
            *(TITLES[measure] for measure in columns),
            "mean rank (accuracy)",
            "mean rank (log-loss)",
            "p against mixup",
            "p against RandomForest",
            "Elo (accuracy)",
            "Elo (log-loss)",
        ]
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        ranks, ranks_loss = mean_ranks(accuracy), mean_ranks(loss)
        for scheme in schemes:
            cells = [_mean(columns[measure], scheme, measure) for measure in columns]
            cells += [f"{ranks[scheme]:.2f}", f"{ranks_loss[scheme]:.2f}"]
            for baseline in ("mixup", "RandomForest"):
                known = baseline in schemes and baseline != scheme
                cells.append(f"{signed_rank(accuracy, scheme, baseline):.3f}" if known else "")
            cells += [_rating(rating, scheme), _rating(rating_loss, scheme)]
            lines.append(f"| {scheme} | {' | '.join(cells)} |")
    return lines


def mismatches(summary: pd.DataFrame) -> list[str]:
    """How many printed cells are met within two spreads of ours, and those that are not."""
    fc = "FC net, relu"
    places: list[tuple[str, published.Cells, Callable[[str], str]]] = [
        ("Table 1", published.TABLE_1, lambda name: LR if name.isdigit() else fc),
        ("Table 2", published.TABLE_2, lambda name: LR),
        ("Table 4", published.TABLE_4, lambda name: LR),
        ("Table 8", published.TABLE_8, lambda name: LR),
        ("Table 9", published.TABLE_9, lambda name: LR),
    ]
    lines, n_met, n_known, n_all = [], 0, 0, 0
    for table, printed, experiment in places:
        for (name, scheme), said in printed.items():
            n_all += 1
            found = value(summary, experiment(name), name, scheme)
            if found is None:
                continue
            mean, spread = (100 * part for part in found)
            n_known += 1
            if np.isnan(spread) or abs(mean - said) <= 2 * max(spread, 0.5):
                n_met += 1
                continue
            lines.append(
                f"| {table} | {name} | {scheme} | {mean:.2f} ± {spread:.2f} | {said:.2f} | {mean - said:+.2f} |"
            )
    head = [
        f"Of the {n_all} accuracies that Tables 1, 2, 4, 8 and 9 print, {n_known} have runs here; {n_met} of them lie"
        " within two spreads of ours (at least a point). The others:",
        "",
        "| table | set | scheme | ours | paper | difference |",
        "|---" * 6 + "|",
    ]
    return [*head, *lines]


def with_sceptics(*schemes: str) -> tuple[str, ...]:
    """Schemes of a table, what this package adds, and scikit-learn's classifiers."""
    return tuple(dict.fromkeys((*schemes, *OURS, *SCEPTICS)))


def _mean(table: pd.DataFrame, scheme: str, measure: str) -> str:
    mean = abs(float(table[scheme].mean())) if len(table) else np.nan
    if np.isnan(mean):
        return ""
    return f"{100 * mean:.2f}" if measure in ("accuracy", "calibration") else f"{mean:.4f}"


def _rating(rating: pd.DataFrame, scheme: str) -> str:
    row = rating.loc[scheme]
    return f"{row['elo']:.0f} (+{row['elo+']:.0f}, -{row['elo-']:.0f})"
