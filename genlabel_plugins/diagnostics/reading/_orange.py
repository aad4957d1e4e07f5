"""The three header rows of Orange's .tab: names, kinds and roles of the columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from genlabel_plugins.diagnostics.reading._libraries import pandas

if TYPE_CHECKING:
    import pandas as pd

NUMBERS, LEVELS = ("c", "continuous"), ("d", "discrete")
KINDS = {*NUMBERS, *LEVELS, "s", "string", "t", "time", "basket", ""}
ROLE = re.compile(r"(class|c|meta|m|ignore|i|weight|w|multiclass|(-?\w+=\S*))?(\s+-?\w+=\S*)*$")
NO_FEATURE = re.compile(r"(meta|m|ignore|i|weight|w)\b")


class OrangeHeader(NamedTuple):
    """The second and the third row.

    Attributes:
        kinds: Of each column: a word of `KINDS`, or its levels between blanks.
        roles: Of each column: "class", "meta", "ignore", "weight" or none.
    """

    kinds: Sequence[str]
    roles: Sequence[str]

    @property
    def levels(self) -> list[int]:
        """Places of the columns whose values are levels."""
        return [place for place, kind in enumerate(self.kinds) if kind in LEVELS or kind not in KINDS]


def orange_header(rows: Sequence[Sequence[str]]) -> OrangeHeader | None:
    """The header of Orange among the first three rows, if they are such.

    Example:
        >>> orange_header([["x", "kind"], ["continuous", "u v"], ["", "class"]]).levels
        [1]
        >>> orange_header([["x", "kind"], ["1.5", "u"], ["2.5", "v"]])
    """
    if len(rows) < 3 or not len(rows[0]) == len(rows[1]) == len(rows[2]):
        return None
    kinds, roles = ([word.strip() for word in row] for row in rows[1:3])
    named = [kind for kind in kinds if kind in KINDS - {""}]
    if not named or not all(kind in KINDS or " " in kind for kind in kinds) or not all(map(ROLE.match, roles)):
        return None
    return OrangeHeader(kinds, roles)


def typed(frame: pd.DataFrame, header: OrangeHeader, target: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Columns of the kinds that the header names, without those that are no features."""
    names = [str(name) for name in frame.columns]
    columns, kept, left = [], [], []
    for place, (name, role) in enumerate(zip(names, header.roles, strict=True)):
        if NO_FEATURE.match(role) and name != target:
            left.append(name)
            continue
        column = frame.iloc[:, place]
        columns.append(column.astype(object).astype("category") if place in header.levels else column)
        kept.append(name)
    typed_frame: pd.DataFrame = pandas().DataFrame(dict(enumerate(columns)))
    typed_frame.columns = pandas().Index(kept)
    note = f"Left out because the header calls them no features (meta, ignore, weight): {', '.join(map(repr, left))}."
    return typed_frame, [note] if left else []
