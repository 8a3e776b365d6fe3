"""Training, told from top to bottom: folder, process, data, model, loop."""

import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf import data, model, runs
from alexnet_tf.config import Config, ConfigError, from_dict, to_yaml
from alexnet_tf.config.schema import Precision
from alexnet_tf.evaluation import Evaluator
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunFolder, State
from alexnet_tf.training.callbacks import TensorBoard, make_progress
from alexnet_tf.training.loop import Loop, Stopped
from alexnet_tf.training.optimizer import group_rates, make_optimizer
from alexnet_tf.training.schedule import make_schedule
from alexnet_tf.training.step import make_train_step
from alexnet_tf.training.strategy import configure_process, make_strategy

DTYPES = {
    Precision.float32: "float32",
    Precision.float64: "float64",
    Precision.bfloat16: "mixed_bfloat16",
    Precision.float16: "mixed_float16",
}
"""Keras's dtype policy of each precision."""


def train(
    config: Config, *, callbacks: Sequence[keras.callbacks.Callback] = (), overrides: Sequence[str] = ()
) -> Run:
    """Train what a config describes and leave a run folder.

    Args:
        config: As `compose` gives it. With `resume` set, the run of that folder goes on with its own config.
        callbacks: Keras callbacks of your own; batch logs are refreshed at most five times a second.
        overrides: What the user typed, to be kept with the run; on a resume, what to change in its config.

    Returns:
        The finished run.

    Raises:
        ConfigError: If the config cannot run, with this data or on these devices.
        RunError: If the folder cannot be used, or the loss diverges.
        DataError: If the data is not there or not readable.
        Stopped: If SIGINT or SIGTERM came; the state is saved.
    """
    if config.study is not None:
        raise ConfigError(
            f"study.name={config.study.name}: a study is a sweep, came to one run; use the command with hydra.mode=MULTIRUN"
        )
    folder, config = _resumed(config, overrides) if config.resume else (None, config)
    configure_process(config)
    source = data.load_source(config.data)
    config = _complete(config, source)
    folder = folder or _new_folder(config, overrides)
    try:
        _prepare(folder, config, source, callbacks).train()
    except Stopped:
        raise
    except BaseException as error:
        known = data.explain_error(error, source) if isinstance(error, tf.errors.OpError) else None
        reason = " ".join(str(known or error).split()) or type(error).__name__
        folder.write_status(State.failed, reason=reason)
        if known:
            raise known from error
        raise
    return Run(folder.path)


def _new_folder(config: Config, overrides: Sequence[str]) -> RunFolder:
    path = (
        Path(config.run_dir)
        if config.run_dir
        else runs.new_folder(Path("runs"), f"{config.model.name}_{config.data.name}")
    )
    return RunFolder.create(path, to_yaml(config), overrides)


def _resumed(config: Config, overrides: Sequence[str]) -> tuple[RunFolder, Config]:
    """The folder of `resume` and its own config, with the values that were typed now on top.

    Raises:
        ConfigError: If a whole group was typed: a run goes on with its own.
    """
    assert config.resume is not None
    folder = RunFolder.open(config.resume)
    changes = [text for text in overrides if text.partition("=")[0] != "resume"]
    groups = [text for text in changes if "." not in text.partition("=")[0] and not text.startswith("seed=")]
    if groups:
        raise ConfigError(
            f"{groups[0]}: resume={config.resume} goes on with the run's own config; only values such as training.epochs=20 can change"
        )
    config = from_dict(folder.config_dict(), changes)
    runs.write_text(folder.path / runs.CONFIG, to_yaml(config))
    return folder, config


def _complete(config: Config, source: data.DataSource) -> Config:
    """The config with what only the data knows.

    Raises:
        ConfigError: If the network has fewer classes than the data, or other channels.
    """
    classes, channels = len(source.class_names), source.channels
    asked = config.model.num_classes
    if asked is not None and asked < classes:
        raise ConfigError(
            f"model.num_classes={asked}: expected at least the {classes} classes of data={source.name}"
        )
    if config.model.input_channels not in (None, channels):
        raise ConfigError(
            f"model.input_channels={config.model.input_channels}: expected {channels}, as data={source.name} has"
        )
    return replace(config, model=replace(config.model, num_classes=asked or classes, input_channels=channels))


def _prepare(
    folder: RunFolder, config: Config, source: data.DataSource, callbacks: Sequence[keras.callbacks.Callback]
) -> Loop:
    """Statistics, model, optimizer, schedule and step of a run."""
    training = config.training
    strategy = make_strategy(config.strategy, training.batch_size)
    _write_environment(folder, strategy)
    statistics = _statistics(folder, config, source)
    steps_per_epoch = training.overfit_batches or data.num_train_steps(source, training.batch_size)
    total_steps = training.steps or training.epochs * steps_per_epoch
    with strategy.scope():
        network = model.build(config.model, dtype=DTYPES[training.precision], seed=config.seed)
        optimizer = make_optimizer(config.optimizer)
        if training.precision == Precision.float16:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(network.trainable_variables)
        network.compile(optimizer=optimizer, jit_compile=False)  # so that callbacks find `model.optimizer`
    epochs = math.ceil(total_steps / steps_per_epoch)
    watchers = make_progress(training.progress, epochs, steps_per_epoch, total_steps)
    if training.tensorboard:
        watchers.append(TensorBoard(folder.path / "events"))
    callback_list = keras.callbacks.CallbackList(
        [*watchers, *callbacks], model=network, epochs=epochs, steps=steps_per_epoch
    )
    network.stop_training = False
    return Loop(
        run=folder,
        config=config,
        source=source,
        statistics=statistics,
        strategy=strategy,
        model=network,
        optimizer=optimizer,
        schedule=make_schedule(config.schedule, group_rates(config.optimizer), steps_per_epoch, total_steps),
        train_step=make_train_step(network, optimizer, strategy, training, config.seed),
        evaluator=Evaluator(network, strategy, eager=training.eager),
        callbacks=callback_list,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )


def _statistics(folder: RunFolder, config: Config, source: data.DataSource) -> data.Statistics | None:
    """The statistics of the training split: the run's own on a resume, else computed or cached, and stored."""
    path = folder.path / runs.STATISTICS
    runs.write_json(folder.path / runs.DATASET, source.describe())
    if path.exists():
        return data.Statistics.load(path)
    statistics = data.compute_statistics(source, config.augment)
    if statistics is not None:
        statistics.save(path)
    return statistics


def _write_environment(folder: RunFolder, strategy: tf.distribute.Strategy) -> None:
    """Write `environment.json`."""
    packages = ("tensorflow", "keras", "numpy", "hydra-core", "tensorflow-datasets")
    content: dict[str, Any] = {
        "start": runs.now(),
        "command_folder": Path.cwd().name,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {"alexnet_tf": version("alexnet_tf"), **{name: version(name) for name in packages}},
        "git_commit": _git_commit(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "replicas": strategy.num_replicas_in_sync,
    }
    runs.write_json(folder.path / runs.ENVIRONMENT, content)


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` if it has changes; None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
