"""What watches a run: the progress display, TensorBoard and MLflow. All are ordinary Keras callbacks."""

import contextlib
import errno
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from alexnet_tf.config import Config, ConfigError, flatten, to_dict
from alexnet_tf.config.schema import Progress as ProgressKind
from alexnet_tf.runs import RunError, RunFolder, WriteError, read_json, write_json

SECONDS_BETWEEN_LINES = 30.0


def hears_of_steps(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback does anything before or after a training step."""
    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    own = {name: getattr(getattr(callback, name, None), "__func__", None) for name in hooks}
    return any(function is not getattr(keras.callbacks.Callback, name) for name, function in own.items())


def percent(value: float | None) -> str:
    """A fraction as `12.3 %`, or `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def epoch_line(epoch: int, epochs: int, logs: Mapping[str, Any]) -> str:
    """One line about a finished epoch."""
    parts = [f"epoch {epoch}/{epochs}", f"loss {logs['loss']:.4f} error {percent(logs['top1_error'])}"]
    if "val_loss" in logs:
        top5 = logs.get("val_top5_error")
        top5 = "" if top5 is None else f" top-5 {percent(top5)}"
        parts.append(f"validation loss {logs['val_loss']:.4f} error {percent(logs['val_top1_error'])}{top5}")
    parts += [f"lr {logs['learning_rate']:.3g}", f"{logs['images_per_second']:,.0f} images/s"]
    return " | ".join(parts)


class PlainProgress(keras.callbacks.Callback):
    """A line for every epoch, and one now and then within long epochs."""

    def __init__(self, epochs: int, steps_per_epoch: int) -> None:
        super().__init__()
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.epoch = 0
        self.last = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remember the epoch, counted from 0 as Keras does."""
        del logs
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Print a line if the last one is long ago."""
        if logs and time.monotonic() - self.last > SECONDS_BETWEEN_LINES:
            self._print(
                f"epoch {self.epoch}/{self.epochs} step {batch + 1}/{self.steps_per_epoch} | loss {logs['loss']:.4f} | "
                f"error {percent(logs['top1_error'])} | {logs['images_per_second']:,.0f} images/s"
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Print the epoch's line."""
        if logs:
            self._print(epoch_line(epoch + 1, self.epochs, logs))

    def _print(self, line: str) -> None:
        print(line, flush=True)
        self.last = time.monotonic()


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """The rate that the loop measured."""
        return Text(f"{task.fields['rate']:,.0f} images/s", style="progress.data.speed")


class BarProgress(keras.callbacks.Callback):
    """A bar over the whole run, with a line above it for every finished epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int, total_steps: int) -> None:
        super().__init__()
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.done = 0
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]} error {task.fields[error]}"),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.progress = Progress(*columns, console=Console(), refresh_per_second=5)
        self.task = self.progress.add_task(
            "", total=total_steps, epoch=f"0/{epochs}", loss="-", error="-", rate=0.0
        )

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Show the bar."""
        del logs
        self.progress.start()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Show the epoch."""
        del logs
        self.done = epoch * self.steps_per_epoch
        self.progress.update(self.task, epoch=f"{epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Move the bar."""
        if logs:
            self.progress.update(
                self.task,
                completed=self.done + batch + 1,
                loss=f"{logs['loss']:.4f}",
                error=percent(logs["top1_error"]),
                rate=logs["images_per_second"],
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Print the epoch's line above the bar."""
        if logs:
            self.progress.console.print(epoch_line(epoch + 1, self.epochs, logs), highlight=False)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Leave the bar as it is."""
        del logs
        self.progress.stop()


def hyperparameters(overrides: Sequence[str]) -> dict[str, float | bool | str]:
    """What was typed by key, numbers as numbers; where a run goes is none of it."""
    pairs = [text.lstrip("+").partition("=") for text in overrides if "=" in text]
    return {key: _typed(value) for key, _, value in pairs if key not in ("run_dir", "data.dir", "resume")}


def _typed(value: str) -> float | bool | str:
    if value in ("true", "false"):
        return value == "true"
    try:
        return float(value)
    except ValueError:
        return value


class TensorBoard(keras.callbacks.Callback):
    """Scalars of every epoch under `events/train` and `events/validation`, and what was typed as HParams.

    Args:
        folder: Of the events.
        overrides: What made the run. TensorBoard's HParams view sets them against the last scalars of all runs.

    Raises:
        ConfigError: If the package tensorboard, which TensorFlow no longer brings, is not there.
        WriteError: If the events cannot be written, here and at the end of every epoch.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        super().__init__()
        try:
            from tensorboard.plugins.hparams import summary_v2
        except ImportError as error:
            raise ConfigError(
                "training.tensorboard=true: needs the package tensorboard; install alexnet_tf[tensorboard]"
            ) from error
        self.folder = folder
        with self._one_line():
            self.writers = {
                name: tf.summary.create_file_writer(str(folder / name)) for name in ("train", "validation")
            }
            if typed := hyperparameters(overrides):
                with tf.summary.create_file_writer(str(folder)).as_default() as writer:
                    summary_v2.hparams(typed, trial_id=folder.parent.resolve().name)
                    writer.flush()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write the epoch's scalars; `val_x` becomes `x` of the validation."""
        with self._one_line():
            for name, value in (logs or {}).items():
                if value is not None:
                    writer = self.writers["validation" if name.startswith("val_") else "train"]
                    with writer.as_default():
                        tf.summary.scalar(name.removeprefix("val_"), value, step=epoch + 1)
            for writer in self.writers.values():
                writer.flush()  # so that what cannot be written shows now, before the checkpoint that follows

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Close the files."""
        del logs
        with self._one_line():
            for writer in self.writers.values():
                writer.close()

    @contextlib.contextmanager
    def _one_line(self) -> Iterator[None]:
        """Raise `WriteError` for what TensorFlow says of a file; of a full disk it says `ResourceExhaustedError`."""
        try:
            yield
        except tf.errors.OpError as error:
            why = error.message.partition("\n")[0].rpartition("; ")[2]
            raise WriteError(self.folder, OSError(errno.EIO, why)) from error


class MLflow(keras.callbacks.Callback):
    """The config and every epoch's numbers as a run of MLflow; a run that is continued stays the same one there.

    Args:
        folder: The run, whose `mlflow.json` keeps MLflow's name for it.
        config: Its config, logged as parameters under dotted keys.

    Raises:
        ConfigError: If the package mlflow is not there.
        RunError: If MLflow cannot be reached at the start. Later losses are a warning: the training is worth more.
    """

    def __init__(self, folder: RunFolder, config: Config) -> None:
        super().__init__()
        try:
            import mlflow
        except ImportError as error:
            message = "training.mlflow=true: needs the package mlflow; install alexnet_tf[track]"
            raise ConfigError(message) from error
        self.client = mlflow.MlflowClient()
        self.metric, self.error = mlflow.entities.Metric, mlflow.exceptions.MlflowException
        known = folder.path / "mlflow.json"
        try:
            self.run_id = read_json(known)["run_id"] if known.exists() else self._create(folder, config)
            self.client.update_run(self.run_id, status="RUNNING")
        except (self.error, KeyError) as error:
            raise RunError(f"training.mlflow=true: {' '.join(str(error).split())}") from error
        write_json(known, {"run_id": self.run_id, "tracking_uri": mlflow.get_tracking_uri()})

    def _create(self, folder: RunFolder, config: Config) -> str:
        """A new run in the experiment `alexnet_tf`."""
        found = self.client.get_experiment_by_name("alexnet_tf")
        experiment = found.experiment_id if found else self.client.create_experiment("alexnet_tf")
        run_id = self.client.create_run(experiment, run_name=folder.name).info.run_id
        for key, value in flatten(to_dict(config)).items():
            if value != {}:
                self.client.log_param(run_id, key, value)
        return run_id

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the epoch's numbers."""
        now = int(1000 * time.time())
        numbers = [
            self.metric(name, float(value), now, epoch + 1)
            for name, value in (logs or {}).items()
            if value is not None
        ]
        self._try(lambda: self.client.log_batch(self.run_id, metrics=numbers))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Say how it ended; the loop calls this whatever happened."""
        del logs
        status = "FINISHED" if sys.exception() is None else "KILLED"
        self._try(lambda: self.client.set_terminated(self.run_id, status))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except self.error as error:
            logging.getLogger(__name__).warning("mlflow: %s", " ".join(str(error).split()))


def make_progress(
    kind: ProgressKind, epochs: int, steps_per_epoch: int, total_steps: int
) -> list[keras.callbacks.Callback]:
    """The display that the config asks for; `auto` is a bar in a terminal and plain lines elsewhere."""
    if kind == ProgressKind.none:
        return []
    if kind == ProgressKind.bar or (kind == ProgressKind.auto and Console().is_terminal):
        return [BarProgress(epochs, steps_per_epoch, total_steps)]
    return [PlainProgress(epochs, steps_per_epoch)]
