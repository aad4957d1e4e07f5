"""Commands: the runs that each table and figure needs, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from genlabel_plugins.paper import examples, published, tables
from genlabel_plugins.paper.data import ALIASES, DataError, sets
from genlabel_plugins.paper.figures import FIGURES, cube_line, figure_6, figure_epochs
from genlabel_plugins.paper.images import EPOCHS, GAMMAS, IMAGE_SCHEMES, N_ATTACKED
from genlabel_plugins.paper.overtraining import POINTS, REAL_SETS
from genlabel_plugins.paper.records import Job
from genlabel_plugins.paper.runs import balanced_sets
from genlabel_plugins.paper.schemes import SCHEMES
from genlabel_plugins.paper.statistics import by_set, shares

FC, NO_RELU = "FC net, relu", "FC net, no relu"
QUICK_SETS, QUICK_ROWS = 3, 200
TABLE_3 = (*published.TABLE_3, "generative classifier (KDE)", "GenLabel (CV)", "logistic label without intrusion")
ROBUST = tuple(dict.fromkeys(scheme for _, scheme in published.TABLE_7))


@dataclass(frozen=True)
class Options:
    """What all commands share.

    Args:
        data: Folder in the layout of `load_table`; None fetches from OpenML.
        out: Folder of the records.
        page: Markdown page to write, with its numbers as CSV beside it; by default `paper.md` in `out`.
        seeds: Splits; the paper has five trials.
        jobs: Processes; None leaves it to `joblib.parallel_config`, which is one.
        quick: A trial: one split, few sets, few epochs, records of their own.
        steps: Steps of the boundary attack; the published setting is 25,000.
        sets: OpenML ids to run instead of all that a command is for.
    """

    data: Path | None = None
    out: Path = Path("outputs/paper")
    page: Path | None = None
    seeds: int = 5
    jobs: int | None = None
    quick: bool = False
    steps: int = 25_000
    sets: tuple[int, ...] = ()

    @property
    def seed_range(self) -> range:
        """Seeds of the splits."""
        return range(1 if self.quick else self.seeds)

    @property
    def attack(self) -> str:
        """Experiment of the boundary attack."""
        return f"attacked, {100 if self.quick else self.steps} steps"

    def choose(self, names: Iterable[str | int]) -> list[str]:
        """Those sets of a command that are asked for; few and small ones for a trial."""
        every = list(dict.fromkeys(str(ALIASES.get(int(n), n)) if str(n).isdigit() else str(n) for n in names))
        if self.sets:
            return [name for name in every if not name.isdigit() or int(name) in self.sets]
        if self.quick:
            small = [n for n in every if not n.isdigit() or sets().n_rows[int(n)] <= QUICK_ROWS]
            return (small or every[:1])[:QUICK_SETS]
        return every


@dataclass(frozen=True)
class Command:
    """One table or figure.

    Args:
        title: What it shows.
        jobs: The runs that it needs.
        lines: Its Markdown, from means over seeds.
        draw: Draws its figure to a path, from records, for a trial or in full.
    """

    title: str
    jobs: Callable[[Options], list[Job]] = lambda options: []
    lines: Callable[[pd.DataFrame, Options], list[str]] = lambda summary, options: []
    draw: Callable[[Path, pd.DataFrame, pd.DataFrame, bool], None] | None = None


def grid(experiment: str, names: Iterable[str], schemes: Sequence[str], options: Options) -> list[Job]:
    """A job for each split of each set; what trains alone is a job of its own."""
    stacked = tuple(s for s in schemes if s in SCHEMES and SCHEMES[s].label != "adamixup")
    logistic = experiment.startswith("logistic")
    groups = [stacked] if logistic and stacked else []
    groups += [(s,) for s in schemes if not (logistic and s in stacked)]
    return [Job(experiment, name, seed, group) for seed in options.seed_range for name in names for group in groups]


def _ids(printed: published.Cells) -> list[str]:
    return list(dict.fromkeys(name for name, _ in printed))


def _accuracy_command(
    title: str, printed: published.Cells, schemes: Sequence[str], titles: Mapping[str, str] | None = None
) -> Command:
    """A table of accuracies of logistic regression, with the sceptics' rows."""
    names, every = _ids(printed), tables.with_sceptics(*schemes)
    return Command(
        title,
        lambda options: grid(tables.LR, options.choose(names), every, options),
        lambda summary, options: tables.accuracy_table(
            summary, dict.fromkeys(names, tables.LR), every, printed, titles=titles
        ),
    )


def _table_1_jobs(options: Options) -> list[Job]:
    names = options.choose(_ids(published.TABLE_1))
    drawn = [name for name in names if not name.isdigit()]
    every = ("vanilla", "mixup", "GenLabel (GM)", "GenLabel (KDE)")
    jobs = grid(FC, drawn, every, options) + grid(NO_RELU, drawn, every[:2], options)
    return jobs + grid(tables.LR, [name for name in names if name.isdigit()], tables.with_sceptics(*every), options)


def _table_1_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    del options
    experiments = {name: tables.LR if name.isdigit() else FC for name in _ids(published.TABLE_1)}
    every = tables.with_sceptics("vanilla", "mixup", "GenLabel (GM)", "GenLabel (KDE)")
    drawn = {name: NO_RELU for name in experiments if not name.isdigit()}
    return [
        *tables.accuracy_table(summary, experiments, every, published.TABLE_1),
        "",
        "Without ReLU, as in the published scripts:",
        "",
        *tables.accuracy_table(summary, drawn, ("vanilla", "mixup"), {}),
        "",
        cube_line(),
    ]


def _table_3_jobs(options: Options) -> list[Job]:
    names = options.choose(sets().index)
    jobs = grid(tables.LR, names, tables.with_sceptics(*TABLE_3), options)
    return jobs + grid("logistic regression, alpha 2", names, TABLE_3, options)


def _table_3_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    del options
    lines: list[str] = []
    for alpha in (1, 2):
        experiment = f"logistic regression, alpha {alpha}"
        fitting = tables.fitting_sets(summary, experiment)
        known = sets()
        balanced = [name for name in fitting if known.least[int(name)] == known.most[int(name)]]
        for title, names in (("sets that GM or KDE fits", fitting), ("of these, balanced", balanced)):
            lines += [f"**Alpha {alpha}, {title}: {len(names)}**", ""]
            lines += [*tables.versus(summary, experiment, "GenLabel (CV)", published.TABLE_3, names), ""]
    every = [str(openml_id) for openml_id in sets().index]
    said = {"mixup without intrusion": (47.4, 16.5, 36.1)}
    lines += ["**Logistic against linear labels, intrusion excluded, all sets (section 3.2)**", ""]
    lines += tables.versus(summary, tables.LR, "logistic label without intrusion", said, every)
    return [*lines, "", "### All schemes and all sets, alpha 1", *tables.standings(summary, tables.LR)]


def _table_5_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    runs = summary[summary.experiment == options.attack]
    steps = options.attack.removeprefix("attacked, ")
    lines = [f"{runs.set.nunique()} of 13 sets have runs, with {steps} of the attack (`--steps`).", ""]
    if "robust" not in runs or runs.empty:
        return [*lines, tables.NO_RUN]
    table = by_set(runs, ROBUST, "robust")
    table["best"] = table[["GenLabel (GM)", "GenLabel (NN)"]].max(axis=1)
    lines += ["| best of GenLabel (NN) and (GM) against | higher / on par / lower, % | paper |", "|---" * 3 + "|"]
    for baseline, said in published.TABLE_5.items():
        shown = [" / ".join(f"{p:.1f}" for p in part) for part in (shares(table, "best", baseline), said)]
        lines.append(f"| {baseline} | {shown[0]} | {shown[1]} |")
    fewer, robust, worst, clean = (runs[name] for name in ("fewer_steps", "robust", "worst_of_two", "clean"))
    lines += [
        "",
        f"The attack works: mean accuracy falls from {100 * clean.mean():.1f} to {100 * robust.mean():.1f} %;"
        f" with a tenth of the steps {100 * fewer.mean():.1f}, the nearer of two attacks {100 * worst.mean():.1f}."
        f" More steps raise it on {int((robust > fewer + 1e-9).sum())} of {len(runs)} means, a second attack on"
        f" {int((worst > robust + 1e-9).sum())}.",
        "The paper takes the better of two variants on test rows; so does this table, which flatters GenLabel.",
    ]
    return lines


def _table_7_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    experiments = dict.fromkeys(_ids(published.TABLE_7), options.attack)
    robust = tables.accuracy_table(summary, experiments, ROBUST, published.TABLE_7, measure="robust")
    clean = tables.accuracy_table(summary, experiments, ROBUST, published.TABLE_7_CLEAN, measure="clean")
    return [f"Robust accuracy, {options.attack}:", "", *robust, "", "Clean accuracy:", "", *clean]


def _table_6_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    del options
    lines: list[str] = []
    for name, printed in published.TABLE_6.items():
        lines += [
            f"**{name}**",
            "",
            "| | clean | paper | under AutoAttack | paper | first attack alone | at half the radius |",
        ]
        lines.append("|---" * 7 + "|")
        for scheme in IMAGE_SCHEMES:
            cells = [
                tables.cell(summary, "images", name, scheme, measure)
                for measure in ("accuracy", "robust", "apgd", "half_radius")
            ]
            said = [f"{printed[part, scheme]:.2f}" if (part, scheme) in printed else "" for part in ("clean", "robust")]
            lines.append(f"| {scheme} | {cells[0]} | {said[0]} | {cells[1]} | {said[1]} | {cells[2]} | {cells[3]} |")
        lines.append("")
    return [
        *lines,
        "A network of two convolutions, not the paper's; 7,000 training images of MNIST and 2,000 of CIFAR-10 with",
        f"`--data`, all of them by torchvision; {EPOCHS['mnist']} and {EPOCHS['cifar10']} epochs, AutoAttack on"
        f" {N_ATTACKED} test images;",
        "two cores finish three seeds in about an hour. Learning rate, weight decay and GenLabel's gamma, "
        f"{GAMMAS[1]} or {GAMMAS[0]}, are tuned for each scheme",
        "on a held-out fifth of the training images. GenLabel is Algorithm 3 after an epoch of mixup.",
    ]


def _table_9_lines(summary: pd.DataFrame, options: Options) -> list[str]:
    lines = COMMANDS_9.lines(summary, options)
    classifier = "generative classifier (GM)"
    fits = []
    for name, said in published.TABLE_9_FIT.items():
        ours = tables.cell(summary, tables.LR, name, classifier, "train_accuracy")
        fits.append(f"{published.TABLE_9_NAMES[name]} {ours} ({said:.2f})")
    return [*lines, "", f"Training accuracy of the GM classifier, and the paper's: {', '.join(fits)}."]


def _epochs_jobs(options: Options) -> list[Job]:
    names = [*options.choose(REAL_SETS), "digits"]
    return grid("epochs, 2000", names, ("vanilla", "mixup", "GenLabel (GM)", "RegMixup"), options)


def _figure_command(draw: Callable[[Path, bool], None]) -> Command:
    return Command(str(draw.__doc__), draw=lambda path, summary, records, quick: draw(path, quick))


_T2 = ("mixup without intrusion", "mixup", "vanilla", "GenLabel (CV)", *tables.FURTHER)
_T4 = (*dict.fromkeys(scheme for _, scheme in published.TABLE_4), "GenLabel (KDE)", "GenLabel (CV)", *tables.FURTHER)
_T8 = tuple(dict.fromkeys(scheme for _, scheme in published.TABLE_8))
COMMANDS_9 = _accuracy_command(
    "Where no density fits, GenLabel does not help",
    published.TABLE_9,
    ("vanilla", "mixup", "GenLabel (GM)", "generative classifier (GM)"),
    published.TABLE_9_NAMES,
)
COMMANDS: dict[str, Command] = {
    "table1": Command("Where mixup hurts", _table_1_jobs, _table_1_lines),
    "table2": _accuracy_command("What intrusion costs", published.TABLE_2, _T2),
    "table3": Command("GenLabel (CV) over all sets", _table_3_jobs, _table_3_lines),
    "table4": _accuracy_command("Selected sets", published.TABLE_4, _T4),
    "table5": Command(
        "Robustness under the boundary attack",
        lambda options: grid(options.attack, options.choose(balanced_sets()), ROBUST, options),
        _table_5_lines,
    ),
    "table6": Command(
        "Images",
        lambda options: grid("images", ("mnist", "cifar10"), tuple(IMAGE_SCHEMES), options),
        _table_6_lines,
    ),
    "table7": Command(
        "Robust and clean accuracy on six sets",
        lambda options: grid(options.attack, options.choose(_ids(published.TABLE_7)), ROBUST, options),
        _table_7_lines,
    ),
    "table8": _accuracy_command("CutMix", published.TABLE_8, _T8, published.TABLE_9_NAMES),
    "table9": Command(COMMANDS_9.title, COMMANDS_9.jobs, _table_9_lines),
    **{name: _figure_command(draw) for name, draw in FIGURES.items()},
    "fig6": Command(
        str(figure_6.__doc__), _table_3_jobs, draw=lambda path, summary, records, quick: figure_6(path, summary)
    ),
    "examples": Command("Examples 1 to 3", lines=lambda summary, options: examples.examples_lines()),
    "theorem": Command("The theorem", lines=lambda summary, options: examples.theorem_lines()),
    "overtraining": Command(
        "Test accuracy against epochs, up to 2,000",
        _epochs_jobs,
        draw=lambda path, summary, records, quick: figure_epochs(path, records, POINTS),
    ),
}
KINDS = ("table", "fig", "examples", "theorem", "overtraining")
ORDER = sorted(COMMANDS, key=lambda name: ([name.startswith(kind) for kind in KINDS].index(True), name))


def find(name: str) -> list[str]:
    """Commands of a name, all of them for `"all"`.

    Raises:
        DataError: On an unknown name.
    """
    if name == "all":
        return ORDER
    if name not in COMMANDS:
        raise DataError(f"name must be one of {['list', 'page', 'all', *ORDER]}, got {name!r}")
    return [name]
