"""Predictions as text, JSON lines or CSV, written as they come."""

import csv
import json
from collections.abc import Callable
from typing import TextIO

from alexnet_tf.pages import TextTable, rich_table
from alexnet_tf.prediction.classifier import Prediction

TABLES = 20
"""Up to so many pictures each gets a table, beyond it a line."""
BAR = 30
"""Characters of a bar for a probability of 1."""


class Writer:
    """Writes predictions to a stream.

    Args:
        kind: One of `FORMATS`.
        labels: The class names.
        most: How many of the most probable classes are named, if there are so many.
        count: How many pictures there will be; None: unknown.
        stream: Where to.
    """

    def __init__(self, kind: str, labels: list[str], most: int, count: int | None, stream: TextIO):
        self._labels, self._most, self._stream = labels, min(most, len(labels)), stream
        tables = kind == "text" and count is not None and count <= TABLES
        self._write = self._table if tables else FORMATS[kind](self)

    def write(self, prediction: Prediction) -> None:
        """Write one."""
        self._write(prediction)

    def _top(self, prediction: Prediction) -> list[tuple[int, str, float]]:
        """Index, label and probability of the most probable classes."""
        return [
            (index, self._labels[index], float(prediction.probabilities[index]))
            for index in prediction.top(self._most)
        ]

    def _table(self, prediction: Prediction) -> None:
        from rich.console import Console

        rows = [
            (label, f"{100 * probability:.1f} %", "█" * round(BAR * probability))
            for _, label, probability in self._top(prediction)
        ]
        table = rich_table(TextTable("", ("label", "probability", ""), rows))
        table.title, table.columns[1].justify = None, "right"
        print(prediction.path, file=self._stream)
        Console(file=self._stream, highlight=False).print(table)

    def text(self) -> Callable[[Prediction], None]:
        """A line for each picture."""

        def write(prediction: Prediction) -> None:
            said = ", ".join(
                f"{label} {100 * probability:.1f} %" for _, label, probability in self._top(prediction)
            )
            print(f"{prediction.path}: {said}", file=self._stream)

        return write

    def json(self) -> Callable[[Prediction], None]:
        """A JSON object on each line."""

        def write(prediction: Prediction) -> None:
            top = [
                {"class": index, "label": label, "probability": probability}
                for index, label, probability in self._top(prediction)
            ]
            print(json.dumps({"image": str(prediction.path), "predictions": top}), file=self._stream)

        return write

    def csv(self) -> Callable[[Prediction], None]:
        """A header, and a row for each picture."""
        rows = csv.writer(self._stream, lineterminator="\n")
        places = range(1, self._most + 1)
        rows.writerow(
            ["image", *(name for place in places for name in (f"label_{place}", f"probability_{place}"))]
        )

        def write(prediction: Prediction) -> None:
            top = [
                value
                for _, label, probability in self._top(prediction)
                for value in (label, f"{probability:.7g}")
            ]
            rows.writerow([prediction.path, *top])

        return write


FORMATS = {"text": Writer.text, "json": Writer.json, "csv": Writer.csv}
