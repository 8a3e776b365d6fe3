"""Pictures through a run or a SavedModel, in batches and with constant memory; a bad one costs only itself."""

import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.headers import header_problem
from alexnet_tf.data.stores import error_reason
from alexnet_tf.export import ServedModel
from alexnet_tf.export.job import LABELS, PREPROCESSING
from alexnet_tf.inference import Run
from alexnet_tf.picture_files import Failure
from alexnet_tf.runs import RunError, WrongPathError, read_json

SIGNATURE = "serve_bytes"
ASSETS = Path("assets")


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture: float32 `[classes]`."""

    path: Path
    probabilities: np.ndarray

    def top(self, most: int) -> list[int]:
        """The most probable classes, the best first; of equal ones the first."""
        return [int(index) for index in np.argsort(-self.probabilities, kind="stable")[:most]]


@dataclass(frozen=True)
class Encoded:
    """The bytes of a picture's file."""

    path: Path
    data: bytes


@dataclass(frozen=True)
class Classifier:
    """From the bytes of picture files to class probabilities.

    Attributes:
        labels: One for each class.
        serve: Encoded pictures, string `[N]`, to `probabilities`, float32 `[N, classes]`.
        max_pixels: A file that says it has more is not decoded.
    """

    labels: list[str]
    serve: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    max_pixels: int

    @classmethod
    def of_run(cls, run: Run, views: int = 1) -> "Classifier":
        """The run's final model with its preprocessing, by the functions that a SavedModel of it would have.

        Raises:
            RunError: If the run has not finished.
            ConfigError: If its preprocessing cannot cut several views.
        """
        served = ServedModel(run, run.model(), views)
        labels = [label.decode() for label in served.labels.numpy()]
        return cls(labels, served.functions[SIGNATURE], run.config.data.max_pixels)

    @classmethod
    def of_savedmodel(cls, folder: Path) -> "Classifier":
        """What `alexnet export` wrote; its preprocessing and its views are inside.

        Raises:
            WrongPathError: If it has no such signature or labels.
            RunError: If it cannot be loaded.
        """
        try:
            model = tf.saved_model.load(str(folder))
            labels = (folder / ASSETS / LABELS).read_text(encoding="utf-8").splitlines()
            notes = read_json(folder / ASSETS / PREPROCESSING)
        except FileNotFoundError as error:
            raise WrongPathError(
                f"{folder}: expected a SavedModel that alexnet export made, with {ASSETS / LABELS}"
            ) from error
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise RunError(f"{folder}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error
        if SIGNATURE not in model.signatures:
            raise WrongPathError(
                f"{folder}: expected a SavedModel that alexnet export made, with the signature {SIGNATURE}"
            )

        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return model.signatures[SIGNATURE](images=images)  # the model's variables live as long as it

        # Exports that say nothing of it were made by an earlier version.
        return cls(labels, serve, notes.get("max_pixels", DataConfig().max_pixels))

    def stream(self, pictures: Iterable[Path | Failure], batch_size: int) -> Iterator[Prediction | Failure]:
        """Yield what is said of each picture, in their order; the next batch is read while one is computed.

        Args:
            pictures: As `find_pictures` yields them; failures are handed on in their place.
            batch_size: Pictures at once.
        """
        remaining = iter(pictures)
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead: Future[list[Encoded | Failure]] | None = None
            while batch := list(islice(remaining, batch_size)):
                reading = reader.submit(lambda batch=batch: [self._read(each) for each in batch])  # type: ignore[misc]
                if ahead is not None:
                    yield from self._classify(ahead.result())
                ahead = reading
            if ahead is not None:
                yield from self._classify(ahead.result())

    def _read(self, picture: Path | Failure) -> Encoded | Failure:
        """The bytes of a file, or the reason why they are not to be decoded."""
        if isinstance(picture, Failure):
            return picture
        try:
            if not stat.S_ISREG(picture.stat().st_mode):  # to open a pipe could take for ever
                return Failure(picture, "not a file")
            if reason := header_problem(picture, self.max_pixels):
                return Failure(picture, reason)
            return Encoded(picture, picture.read_bytes())
        except FileNotFoundError:
            return Failure(picture, "no such file")
        except (OSError, ValueError) as error:  # such as a name that is too long or has a zero byte
            return Failure(picture, error_reason(error))

    def _classify(self, pictures: list[Encoded | Failure]) -> Iterator[Prediction | Failure]:
        rows = self._probabilities([each.data for each in pictures if isinstance(each, Encoded)])
        for each in pictures:
            if isinstance(each, Failure):
                yield each
                continue
            found = next(rows)
            yield Failure(each.path, found) if isinstance(found, str) else Prediction(each.path, found)

    def _probabilities(self, encoded: list[bytes]) -> Iterator[np.ndarray | str]:
        """The rows of a batch; if one of its pictures is damaged, one by one, with the reason in place of a row."""
        if not encoded:
            return
        try:
            yield from self.serve(tf.constant(encoded))["probabilities"].numpy()
        except tf.errors.OpError as error:
            if len(encoded) == 1:
                yield error_reason(error)
                return
            for one in encoded:
                yield from self._probabilities([one])
