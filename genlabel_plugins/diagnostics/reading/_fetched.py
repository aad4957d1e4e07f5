"""Tables of scikit-learn and of OpenML, by the fetchers of scikit-learn and their cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from sklearn import datasets

from genlabel_plugins.diagnostics.reading._request import FileTable
from genlabel_plugins.diagnostics.reading.labeled_table import TableError, brief

OPENML, SKLEARN = "openml:", "sklearn:"
BUNDLED = {name: f"load_{name}" for name in ("breast_cancer", "digits", "iris", "wine")}
FETCHED = {name: f"fetch_{name}" for name in ("covtype", "kddcup99")}


def read_fetched(name: str) -> FileTable:
    """`sklearn:wine` or `openml:NAME_OR_ID`; classes of scikit-learn's tables stand in the column `target` by name.

    Raises:
        TableError: If there is no such table, or it cannot be fetched.
        ModuleNotFoundError: Without `genlabel-plugins[cli]`.
    """
    which = name.partition(":")[2].strip()
    if name.startswith(SKLEARN):
        loaders = BUNDLED | FETCHED
        if which not in loaders:
            raise TableError(f"scikit-learn has no table {which!r}: there are {', '.join(sorted(loaders))}")
        loaded = _fetch(name, getattr(datasets, loaders[which]), as_frame=True)
        frame = loaded.frame
        if which in BUNDLED:  # whose classes are numbers of names
            frame = frame.assign(target=loaded.target_names[loaded.target].astype(str).astype(object))
        return FileTable(frame, [])
    if not which:
        raise TableError("openml: must be followed by the name or the number of a data set, such as openml:61")
    wanted = {"data_id": int(which)} if which.isdecimal() else {"name": which, "version": "active"}
    loaded = _fetch(name, datasets.fetch_openml, as_frame=True, parser="auto", **wanted)
    told = loaded.details
    return FileTable(
        loaded.frame, [f"Fetched from OpenML: {told['name']}, version {told['version']}, number {told['id']}."]
    )


def _fetch(source: str, fetcher: Callable[..., Any], **options: object) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several versions are active: the one taken is told
            return fetcher(**options)
    except ImportError:
        raise
    except Exception as error:  # of the network, of OpenML, of what was fetched
        raise TableError(f"{source} cannot be fetched: {brief(error)}") from error
