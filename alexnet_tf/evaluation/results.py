"""What an evaluation found, and its files: a row of `evaluations.csv` and a folder of tables and a picture."""

import contextlib
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from alexnet_tf import runs
from alexnet_tf.evaluation.scores import Scores, wilson
from alexnet_tf.runs import EVALUATION_COLUMNS, SCORE_COLUMNS, RunError, RunFolder

FOLDER = "evaluations"
PER_CLASS = "per_class.csv"
CONFUSION = "confusion.csv"
PICTURE = "confusion.png"

PER_CLASS_COLUMNS = (
    "index", "class", "examples", "top1_errors", "top1_error", "top1_low", "top1_high", "most_confused_with",
    "times",
)  # fmt: skip
"""`most_confused_with` is the wrong class that the class's examples were most often given, so many `times`."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of measuring a run, or the average of several, on a split.

    Attributes:
        name: The run's folder, or `average of N runs`.
        time: When it was done.
        split: `train`, `validation` or `test`.
        views: Crops of each image that were averaged over.
        runs: Runs that were averaged.
        scores: Over all examples.
        confusion: int64 `[classes, classes]`, how many examples of each class (row) were given each class (column).
        class_names: One for each output of the network.
        path: The folder of its tables.
    """

    name: str
    time: str
    split: str
    views: int
    runs: int
    scores: Scores
    confusion: np.ndarray
    class_names: list[str]
    path: Path

    def row(self) -> dict[str, object]:
        """The values of `SCORE_COLUMNS`."""
        scores = self.scores
        top1, top5 = scores.interval(scores.top1_error), scores.interval(scores.top5_error)
        values = (
            self.time, self.split, self.views, self.runs, scores.loss, scores.top1_error, *top1,
            scores.top5_error, *top5, scores.examples,
        )  # fmt: skip
        return dict(zip(SCORE_COLUMNS, values, strict=True))

    def terminal_row(self) -> list[str]:
        """Name, examples, loss, and top-1 and top-5 error in % with their intervals below."""

        def percent(error: float | None) -> str:
            low, high = self.scores.interval(error)
            if error is None or low is None or high is None:
                return "-"
            return f"{100 * error:.2f}\n[{100 * low:.2f}, {100 * high:.2f}]"

        scores = self.scores
        errors = [percent(scores.top1_error), percent(scores.top5_error)]
        return [self.name, str(scores.examples), f"{scores.loss:.4f}", *errors]

    def per_class(self) -> list[tuple[object, ...]]:
        """A row of `PER_CLASS_COLUMNS` for each class; a class without examples has no error."""
        rows: list[tuple[object, ...]] = []
        for index, (name, counts) in enumerate(zip(self.class_names, self.confusion, strict=True)):
            examples, wrong = int(counts.sum()), counts.copy()
            wrong[index] = 0
            errors, other = int(wrong.sum()), int(wrong.argmax())
            facts = (errors / examples, *wilson(errors, examples)) if examples else ("", "", "")
            confused = (self.class_names[other], int(wrong[other])) if errors else ("", "")
            rows.append((index, name, examples, errors, *facts, *confused))
        return rows

    def write_tables(self, folder: Path) -> None:
        """Write the errors of each class, the confusion matrix and its picture.

        Raises:
            OSError: The folder cannot be written.
        """
        from alexnet_tf.evaluation.picture import confusion_png  # matplotlib is slow to import

        _write_csv(folder / PER_CLASS, [PER_CLASS_COLUMNS, *self.per_class()])
        matrix = zip(self.class_names, self.confusion.tolist(), strict=True)
        header = ["true \\ predicted", *self.class_names]
        _write_csv(folder / CONFUSION, [header, *([name, *counts] for name, counts in matrix)])
        picture = confusion_png(self.confusion, self.class_names)
        runs.write_atomic(folder / PICTURE, lambda stream: stream.write(picture))


@contextlib.contextmanager
def new_results(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, to be filled and renamed; it goes if that does not happen.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        with runs.temporary_folder(parent) as folder:
            yield folder
    except OSError as error:
        raise RunError(f"{parent}: cannot be written ({error.strerror or error})") from error


def next_path(parent: Path, split: str, views: int) -> Path:
    """`parent/<number>_<split>_<views>`, one above the highest number there is."""
    numbers = [path.name.split("_")[0] for path in parent.iterdir()]
    number = 1 + max((int(text) for text in numbers if text.isdecimal()), default=0)
    return parent / f"{number:04d}_{split}_{views}{'view' if views == 1 else 'views'}"


def append_row(run: RunFolder, evaluation: Evaluation) -> None:
    """Add a row to the run's `evaluations.csv`."""
    table = run.evaluations()  # read again: another process may have added to it meanwhile
    table.append(**evaluation.row(), folder=f"{FOLDER}/{evaluation.path.name}")
    table.save()


def write_scores(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a row of `EVALUATION_COLUMNS` for each evaluation, with the run that it is of; folders are absolute."""
    rows = [(each.name, *each.row().values(), each.path.resolve()) for each in evaluations]
    _write_csv(path, [("run", *EVALUATION_COLUMNS), *rows])


def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows atomically; what needs quotes, as class names may, gets them."""
    stream = StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    runs.write_text(path, stream.getvalue())
