"""Pictures through a run or a SavedModel, in batches and with constant memory; a bad one costs only itself."""

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
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunError, WrongPathError

SIGNATURE = "serve_bytes"
LABELS = Path("assets") / "labels.txt"


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture: float32 `[classes]`."""

    path: Path
    probabilities: np.ndarray

    def top(self, most: int) -> list[int]:
        """The most probable classes, the best first; of equal ones the first."""
        return [int(index) for index in np.argsort(-self.probabilities, kind="stable")[:most]]


@dataclass(frozen=True)
class Failure:
    """Why a picture could not be read."""

    path: Path
    reason: str


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
            labels = (folder / LABELS).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError as error:
            raise WrongPathError(
                f"{folder}: expected a SavedModel that alexnet export made, with {LABELS}"
            ) from error
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise RunError(f"{folder}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error
        if SIGNATURE not in model.signatures:
            raise WrongPathError(
                f"{folder}: expected a SavedModel that alexnet export made, with the signature {SIGNATURE}"
            )

        def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return model.signatures[SIGNATURE](images=images)  # the model's variables live as long as it

        return cls(labels, serve, DataConfig().max_pixels)

    def stream(self, paths: Iterable[Path], batch_size: int) -> Iterator[Prediction | Failure]:
        """Yield what is said of each picture, in their order; the next batch is read while one is computed."""
        remaining = iter(paths)
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead: Future[list[bytes | str]] | None = None
            before: list[Path] = []
            while batch := list(islice(remaining, batch_size)):
                reading = reader.submit(lambda batch=batch: [self._read(path) for path in batch])  # type: ignore[misc]
                if ahead is not None:
                    yield from self._classify(before, ahead.result())
                ahead, before = reading, batch
            if ahead is not None:
                yield from self._classify(before, ahead.result())

    def _read(self, path: Path) -> bytes | str:
        """The bytes of a file, or the reason why they are not to be decoded."""
        if not path.is_file():
            return "not a file" if path.exists() else "no such file"
        if reason := header_problem(path, self.max_pixels):
            return reason
        try:
            return path.read_bytes()
        except OSError as error:
            return error.strerror or str(error)

    def _classify(self, paths: list[Path], contents: list[bytes | str]) -> Iterator[Prediction | Failure]:
        rows = self._probabilities([content for content in contents if isinstance(content, bytes)])
        for path, content in zip(paths, contents, strict=True):
            found = next(rows) if isinstance(content, bytes) else content
            yield Failure(path, found) if isinstance(found, str) else Prediction(path, found)

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
