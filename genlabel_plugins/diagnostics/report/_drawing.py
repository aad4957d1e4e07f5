"""One matplotlib figure as inline SVG that takes its text color and font from the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

INK = "#010203"  # stands for the color of the text around the picture
SIZE = (3.1, 2.7)  # inches: the width of a phone, on which letters keep their size


def draw(paint: Callable[[Any], None], size: tuple[float, float] = SIZE) -> str:
    """Let `paint` draw on a pair of axes and return SVG markup.

    Raises:
        ModuleNotFoundError: Without `genlabel-plugins[cli]`.

    Example:
        >>> svg = draw(lambda axes: axes.plot([0, 1], [0, 1]))
        >>> svg.startswith("<svg"), "currentColor" in svg
        (True, True)
    """
    try:
        from matplotlib import rc_context  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'genlabel-plugins[cli]'") from error
    style: Any = {
        "svg.fonttype": "none",  # letters of any script, which can be read aloud
        "svg.hashsalt": "genlabel",
        "text.parse_math": False,  # names may hold dollar signs
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that matplotlib's own font lacks
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: (\d+\.?\d*)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    return re.sub(r"\n\s*", "\n", svg)
