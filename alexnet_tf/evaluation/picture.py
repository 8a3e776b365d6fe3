"""The confusion matrix as a picture, with matplotlib's object API: no global state, no display."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter

MOST_COUNTS = 20
"""Up to so many classes the counts stand in the cells."""
MOST_NAMES = 40
"""Up to so many classes the axes have their names, beyond it their indices."""
LONGEST_NAME = 22
"""Characters of a name; of a longer one the beginning and the end are shown."""
DPI = 200
"""Gives a cell of 1000 classes two pixels."""
FONT = "DejaVu Sans"
"""Comes with matplotlib."""


def confusion_png(confusion: np.ndarray, class_names: Sequence[str]) -> bytes:
    """The figure of `confusion_figure` as PNG."""
    stream = BytesIO()
    confusion_figure(confusion, class_names).savefig(
        stream, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None}
    )
    return stream.getvalue()


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix, each row coloured by its fractions.

    Args:
        confusion: int64 `[classes, classes]`, true classes in rows, predicted in columns.
        class_names: One for each class; a name with characters that the font has not is shown as `class <index>`.
    """
    classes = len(class_names)
    side = float(np.clip(0.45 * classes, 3.0, 10.0))
    figure = Figure(figsize=(side, side))  # the matrix alone; saving adds room for what stands around it
    ax = figure.add_axes((0, 0, 1, 1))
    totals = confusion.sum(axis=1, keepdims=True)
    fractions = np.divide(confusion, totals, where=totals > 0, out=np.full(confusion.shape, np.nan))
    counted = classes <= MOST_COUNTS
    # Where no counts stand, single confusions are rare in their row: the root makes them visible.
    norm = Normalize(0, 1) if counted else PowerNorm(0.5, 0, 1)
    image = ax.imshow(fractions, cmap=_colours(), norm=norm, interpolation="nearest")
    place = ax.inset_axes((1 + 0.15 / side, 0, 0.2 / side, 1))
    bar = figure.colorbar(image, cax=place, format=PercentFormatter(1))
    bar.set_label("of the true class's examples" + ("" if counted else ", colours by the square root"))
    bar.outline.set_visible(False)
    _label_axes(ax, class_names, side / classes)
    if counted:
        _write_counts(ax, confusion, fractions)
    return figure


def shown_name(name: str, index: int) -> str:
    """A class's name as the axes have it: not too long, and only of characters that the font has."""
    known = get_font(findfont(FONT)).get_charmap()
    if not name.strip() or any(ord(character) not in known for character in name):
        return f"class {index}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}…{name[-8:]}"


def _colours() -> Colormap:
    """White to dark blue; a class without examples, which has no fractions, is grey."""
    from matplotlib import colormaps

    return colormaps["Blues"].with_extremes(bad="#d9d9d9")


def _label_axes(ax: Axes, class_names: Sequence[str], cell: float) -> None:
    """Name the rows and columns, whose cells are so many inches wide."""
    if len(class_names) > MOST_NAMES:
        for axis, what in ((ax.xaxis, "predicted"), (ax.yaxis, "true")):
            axis.set_major_locator(MaxNLocator(11, integer=True))
            axis.set_label_text(f"index of the {what} class")
        return
    places = range(len(class_names))
    names = [shown_name(name, index) for index, name in enumerate(class_names)]
    # A dollar sign is no formula.
    text: Any = {"parse_math": False, "fontfamily": FONT, "fontsize": 9 if len(names) <= MOST_COUNTS else 7}
    upright = max(map(len, names)) * 0.1 < cell
    turned: Any = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(places, names, **text, **turned)
    ax.set_yticks(places, names, **text)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")


def _write_counts(ax: Axes, confusion: np.ndarray, fractions: np.ndarray) -> None:
    """Write each count into its cell, but no zeros."""
    digits = len(str(confusion.max()))
    size = float(np.clip(34 / max(3, digits), 5, 10))
    for row, column in np.argwhere(confusion):
        dark = fractions[row, column] > 0.5
        colour = "white" if dark else "black"
        ax.text(
            column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=size
        )
