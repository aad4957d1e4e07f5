"""From a file to a `LabeledTable`: every treatment in its order, each with a sentence in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA

from genlabel_plugins._state import mean_and_spread
from genlabel_plugins.diagnostics.reading._blocks import as_blocks, take_blocks
from genlabel_plugins.diagnostics.reading._class_rows import class_labels, count, large_enough
from genlabel_plugins.diagnostics.reading._columns import Encoded, encode_columns, row_counters
from genlabel_plugins.diagnostics.reading._files import read_table
from genlabel_plugins.diagnostics.reading._giveaways import find_giveaways
from genlabel_plugins.diagnostics.reading._libraries import pandas
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable, TableError, draw_rows

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 200
N_COMPONENTS = 50


def load_table(
    path: str | Path,
    target: str,
    *,
    encoding: str | None = None,
    sheet: str | None = None,
    header: bool = True,
    groups: str | None = None,
    time: str | None = None,
    max_rows: int = 5000,
    seed: int = 0,
) -> LabeledTable:
    """Read a file and prepare it.

    Args:
        path: File of a kind in the table of docs/diagnose.md, or `sklearn:wine`, `openml:NAME_OR_ID`.
        target: Name of the column of classes.
        encoding: Of a text file; by default UTF-8, and Latin-1 where that fails.
        sheet: Of a spreadsheet, by name or by place counted from 1; by default the one that holds the target.
        header: Whether the first line of text or of a sheet names the columns; else they are called V1, V2, ...
        groups: Column that says which rows belong together, and are held out together.
        time: Column of times, where later rows are to be predicted from earlier ones.
        max_rows: Rows that are used; of more, a stratified sample.
        seed: Seed of the sample.

    Returns:
        The table, with what was done to it in `treatments`.

    Raises:
        TableError: If no diagnosis can be made of it, saying why in one sentence.
        ModuleNotFoundError: If a library is missing, naming the extra that brings it.
    """
    target = target.strip()  # as the names of columns are
    file = read_table(path, target=target, encoding=encoding, sheet=sheet, header=header)
    blocks = {"groups": groups, "time": time}
    table = prepare_table(
        file.frame, target, name=Path(path).name, notes=file.notes, **blocks, max_rows=max_rows, seed=seed
    )
    if file.code and not table.treatments:
        return replace(table, code=file.code)
    defaults = {
        "encoding": (encoding, None),
        "sheet": (sheet, None),
        "header": (header, True),
        "groups": (groups, None),
        "time": (time, None),
        "max_rows": (max_rows, 5000),
        "seed": (seed, 0),
    }
    options = "".join(f", {name}={value!r}" for name, (value, default) in defaults.items() if value != default)
    return replace(table, code=f"load_table({table.name!r}, {target!r}{options})")


def prepare_table(
    frame: pd.DataFrame,
    target: str,
    *,
    name: str = "table",
    notes: list[str] | None = None,
    groups: str | None = None,
    time: str | None = None,
    max_rows: int = 5000,
    seed: int = 0,
) -> LabeledTable:
    """Prepare a data frame: rows first, then columns.

    Args:
        frame: Columns of any kind.
        target: Name of the column of classes.
        name: Where the frame comes from.
        notes: What was done to it already.
        groups: Column that says which rows belong together, and are held out together.
        time: Column of times, where later rows are to be predicted from earlier ones.
        max_rows: Rows that are used; of more, a stratified sample.
        seed: Seed of the sample.

    Raises:
        TableError: If no diagnosis can be made of it, saying why in one sentence.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"size": [0.1 * i**2 for i in range(30)], "color": ["red", "blue", "red"] * 10})
        >>> table = prepare_table(frame.assign(kind=["a", "b"] * 15), "kind")
        >>> table.column_names, table.treatments
        (('size', 'color=blue', 'color=red'), ("Text turned into one column per value, 1 or 0: 'color'.",))
    """
    notes = list(notes or [])
    n_rows_read = len(frame)
    names, said = class_labels(frame, target)
    notes += said
    features, blocks, said = take_blocks(frame, target, groups, time)
    notes += said
    if blocks is not None:
        names = names.where(blocks.notna())
    counters = row_counters(frame, features)
    if counters:
        listed = ", ".join(map(repr, counters))
        notes.append(f"Left out because it counts the rows, which tells classes in a sorted table: {listed}.")
    mask, said = large_enough(names, target)
    notes += said
    places = np.flatnonzero(mask)
    codes, class_names = pandas().factorize(names[mask], sort=True)
    class_codes, class_names = _numeric_order(codes, list(class_names))
    rows = draw_rows(torch.from_numpy(class_codes), max_rows, seed)
    if len(rows) < len(class_codes):
        notes.append(
            f"{count(len(rows), 'row')} of {len(class_codes):,} were drawn, class by class, and used: mixing helps "
            "most where rows are few, so that the verdict holds for training on about so many."
        )
    places = places[rows.numpy()]
    encoded = encode_columns(frame, places, [name for name in features if name not in {*counters}])
    notes += encoded.notes
    if not len(encoded.names):
        why = f" ({' '.join(notes)})" if notes else f": the file holds {target!r} only"
        raise TableError(f"no column is left to tell the classes apart{why}")
    target_codes = class_codes[rows.numpy()]
    giveaways = find_giveaways(encoded.x, target_codes, encoded.names, encoded.cardinality)
    encoded, said = reduce_columns(encoded, seed)
    held = {} if blocks is None else as_blocks(blocks.iloc[places], groups, time)
    return LabeledTable(
        **held,
        x=torch.from_numpy(encoded.x),
        target=torch.from_numpy(target_codes),
        class_names=class_names,
        column_names=encoded.names,
        cardinality=encoded.cardinality,
        name=name,
        target_name=target,
        n_rows_read=n_rows_read,
        giveaways=tuple(giveaways),
        treatments=tuple(notes + said + _repetitions(encoded.x, target_codes)),
    )


def reduce_columns(encoded: Encoded, seed: int = 0) -> tuple[Encoded, list[str]]:
    """Replace more than 200 columns by 50 principal components, and say so.

    Components do not look at the classes; choosing the columns that tell the classes best would, and the held-out rows
    would no longer be held out. What is replaced is overwritten: of a wide table each copy counts.
    """
    x = encoded.x
    if x.shape[1] <= MAX_COLUMNS:
        return encoded, []
    n_components = min(N_COMPONENTS, len(x) // 2)
    pca = PCA(n_components, svd_solver="randomized", random_state=seed, copy=False)
    for start in range(0, x.shape[1], MAX_COLUMNS):
        part = x[:, start : start + MAX_COLUMNS]
        mean, scale = (values.numpy() for values in mean_and_spread(torch.from_numpy(part)))
        part[:] = (part - mean) / np.where(scale > 0, scale, 1.0)
    reduced = pca.fit_transform(x)
    share = pca.explained_variance_ratio_.sum()
    note = (
        f"The {x.shape[1]:,} columns were standardized and replaced by their first {n_components} principal "
        f"components (over all rows, those held out included), which hold {share:.0%} of the variance: densities need "
        "few columns, and components do not look at the classes."
    )
    names = [f"component {d + 1}" for d in range(n_components)]
    return Encoded(reduced, names, [], encoded.notes), [note]


def _numeric_order(codes: np.ndarray, class_names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Classes in the order of their numbers, if that is what they are, instead of their letters."""
    try:
        order = np.argsort([float(name) for name in class_names], kind="stable")
    except ValueError:
        return codes.astype("int64"), class_names
    return np.argsort(order)[codes].astype("int64"), [class_names[c] for c in order]


def _repetitions(x: np.ndarray, target: np.ndarray) -> list[str]:
    """Sentences on rows that occur more than once, if there are many."""
    _, place = np.unique(x, axis=0, return_inverse=True)
    place = place.ravel()  # numpy 2.0 gives it the shape of a column
    n_repeated = len(x) - int(place.max()) - 1
    if n_repeated < 0.01 * len(x):
        return []
    first, last = (np.full(place.max() + 1, start) for start in (target.max(), 0))
    np.minimum.at(first, place, target)
    np.maximum.at(last, place, target)
    n_torn = int((first != last)[place].sum())
    notes = [
        f"Repeated elsewhere in the table: {count(n_repeated, 'row')}. Rows that are the same are held out "
        "together, so that none is scored by its twin."
    ]
    if n_torn >= 0.01 * len(x):
        notes.append(
            f"The same as a row of another class: {count(n_torn, 'row')}. Which of the two is the nearest is left to "
            "chance, and so is part of the intrusion."
        )
    return notes
