"""All pictures that a command names, one after the other: predicted, written, counted, the first ones drawn."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from alexnet_tf.pages import Picture
from alexnet_tf.picture_files import Failure, count_pictures, find_pictures
from alexnet_tf.prediction.classifier import Classifier, Prediction
from alexnet_tf.prediction.output import Writer
from alexnet_tf.prediction.picture import SHOWN, draw_predictions
from alexnet_tf.runs import RunError, WriteError, write_atomic


@dataclass(frozen=True)
class Options:
    """How predictions are shown.

    Attributes:
        kind: One of `output.FORMATS`.
        top: How many of the most probable classes.
        batch_size: Pictures at once.
        plot: Where to draw the first `SHOWN` pictures, a .png or .svg; None: nowhere.
    """

    kind: str
    top: int
    batch_size: int
    plot: Path | None


def predict(
    classifier: Classifier,
    inputs: Sequence[str],
    options: Options,
    told: Callable[[int, int | None], None],
) -> tuple[int, int]:
    """Write what a classifier says of pictures to standard output, and to standard error what could not be read.

    Args:
        classifier: What predicts.
        inputs: As `find_pictures` takes them.
        options: How it is shown.
        told: Is called with the number of pictures so far and of all, if that is known.

    Returns:
        The number of pictures, and of those that could not be read.

    Raises:
        RunError: If nobody reads standard output any more, or the plot cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):  # a name need not be UTF-8
        cast(io.TextIOWrapper, stream).reconfigure(errors="surrogateescape")
    count, done, failed = count_pictures(inputs), 0, 0
    shown: list[Prediction] = []
    try:
        writer = Writer(options.kind, classifier.labels, options.top, count, sys.stdout)
        for answer in classifier.stream(find_pictures(inputs, sys.stdin.buffer), options.batch_size):
            done += 1
            if isinstance(answer, Failure):
                failed += 1
                print(f"alexnet: {answer.path}: {answer.reason}; left out", file=sys.stderr)
            else:
                writer.write(answer)
                if len(shown) < SHOWN:
                    shown.append(answer)
            told(done, count)
        sys.stdout.flush()
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        raise RunError("standard output was closed before all was written") from error
    if options.plot is not None and shown:
        _save(draw_predictions(shown, classifier.labels, options.top), options.plot)
    return done, failed


def _save(picture: Picture, path: Path) -> None:
    """Write a picture as its name's ending says."""
    content = picture.svg if path.suffix == ".svg" else picture.png
    try:
        write_atomic(path, lambda stream: stream.write(content))
    except WriteError as error:
        raise RunError(f"--plot {error}") from error
