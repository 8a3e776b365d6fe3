"""Drawn figures with a text beside them. Uses matplotlib's object API: no global state, no display; no TensorFlow.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers tell apart. Every drawing is
on white; a dark page inverts its lightness and keeps the hues.
"""

import base64
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from alexnet_tf.runs import RunError, write_atomic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#555555"
WIDTH = 5.2
"""Inches; with 11 point text a picture is readable on a phone, which shows it at two thirds of its size."""
STYLE: Any = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.hashsalt": "alexnet_tf",
}


LITERAL: Any = {**STYLE, "text.parse_math": False}
"""The same where users' names stand in a drawing: what is between dollar signs is no formula."""


def short(name: str, length: int = 14) -> str:
    """A name that fits in so many letters; bytes of a file's name that are no UTF-8 are replaced, as no font has them."""
    name = name.encode(errors="surrogateescape").decode(errors="replace")
    return name if len(name) <= length else f"{name[: length - 1]}…"


@dataclass(frozen=True)
class Picture:
    """A drawn figure: what it shows in words stands beside it in the page.

    The figure is rendered once for each format, when that is first asked for.
    """

    name: str
    figure: Figure
    alt: str
    caption: str
    photographs: bool = False
    dpi: int = 144

    def uri(self) -> str:
        """The figure as the address of an image: vectors, or pixels of photographs."""
        kind, content = ("png", self.png) if self.photographs else ("svg+xml", self.svg)
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

    @cached_property
    def svg(self) -> bytes:
        """The figure as SVG; the same figure gives the same bytes."""
        return self._render("svg", {"Date": None, "Creator": None})

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG at `dpi` dots per inch."""
        return self._render("png", {"Software": None})

    def save(self, folder: Path) -> list[Path]:
        """Write `<name>.svg` and `<name>.png`, each atomically.

        Raises:
            RunError: If the folder cannot be written.
        """
        paths = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for suffix, content in (("svg", self.svg), ("png", self.png)):
                path = folder / f"{self.name}.{suffix}"
                write_atomic(path, lambda stream, content=content: stream.write(content))  # type: ignore[misc]
                paths.append(path)
        except OSError as error:
            raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
        return paths

    def _render(self, kind: str, metadata: Mapping[str, None]) -> bytes:
        stream = BytesIO()
        with mpl.rc_context(STYLE), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name may be in any script
            self.figure.savefig(
                stream,
                format=kind,
                dpi=self.dpi,
                bbox_inches="tight",
                pad_inches=0.1,
                metadata=dict(metadata),
            )
        return stream.getvalue()
