"""Training, told from top to bottom: folder, process, data, model, loop."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf import data, model, runs
from alexnet_tf.config import Config, ConfigError, check_installed, compose, from_run, override_key, to_yaml
from alexnet_tf.config.schema import ClassicalConfig, Precision
from alexnet_tf.evaluation import Evaluator
from alexnet_tf.inference import Run
from alexnet_tf.launching import changes_on_resume, starts_workers, train_in_workers
from alexnet_tf.runs import RunError, RunFolder, State, Stopped, WriteError
from alexnet_tf.training import checkpoint, diagnosis
from alexnet_tf.training.callbacks import MLflow, TensorBoard, hears_of_steps, make_progress
from alexnet_tf.training.fit import Fit
from alexnet_tf.training.freezing import check_freezing
from alexnet_tf.training.loop import Loop
from alexnet_tf.training.optimizer import check_groups, frozen_groups, group_rates, make_optimizer
from alexnet_tf.training.schedule import make_schedule
from alexnet_tf.training.start import start_from
from alexnet_tf.training.step import make_train_step
from alexnet_tf.training.strategy import configure_process, make_strategy
from alexnet_tf.training.workers import Team, explain_error

logger = logging.getLogger(__name__)

DTYPES = {
    Precision.float32: "float32",
    Precision.float64: "float64",
    Precision.bfloat16: "mixed_bfloat16",
    Precision.float16: "mixed_float16",
}
"""Keras's dtype policy of each precision."""
RESUMABLE = (
    "training.epochs",
    "training.steps",
    "training.evaluate_every",
    "training.eval_batch_size",
    "training.early_stopping.",
    "training.probe.stop_below",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.tensorboard",
    "training.mlflow",
    "training.progress",
    "training.intra_threads",
    "training.inter_threads",
    "schedule.",
    "strategy.",
    "optimizer.lr",
    "data.dir",
)
"""Keys, or beginnings of keys, that may change when a run goes on: it stays the same run with the same data."""


def train(
    config: Config | Sequence[str],
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    overrides: Sequence[str] = (),
) -> Run:
    """Train what a config or a list of overrides describes and leave a run folder.

    Example:
        >>> import alexnet_tf as at
        >>> small = ["model=digits_quick", "data.train_examples=96", "training.batch_size=32", "training.epochs=1"]
        >>> at.train([*small, "training.progress=none", "run_dir=runs/relu"])
        Run('runs/relu', finished, step 3, best validation error ... %)
        >>> at.train(at.compose([*small, "training.progress=none", "run_dir=runs/tanh", "model.activation=tanh"]))
        Run('runs/tanh', finished, step 3, best validation error ... %)

    Args:
        config: As `compose` gives it, or what it takes: overrides such as `["data=digits", "training.epochs=5"]`, which
            are then kept with the run too. With `resume` set, the run of that folder goes on with its own config.
        callbacks: Keras callbacks of your own, for a network, in every worker; batch logs are refreshed at most five
            times a second.
        overrides: Beside a `Config`, what was typed, to be kept with the run. On a resume the rest of `config` does not count: what is
            to change in the run's own config stands here, such as `["training.epochs=20"]`.

    Returns:
        The finished run.

    Raises:
        ConfigError: If the config cannot run, with this data or on these devices.
        RunError: If the folder cannot be used, or the loss diverges.
        DataError: If the data is not there or not readable.
        Stopped: If SIGINT or SIGTERM came; the state is saved.
    """
    if not isinstance(config, Config):
        if overrides:
            raise ConfigError(
                f"overrides={overrides!r}: expected with a Config alone, came beside {config!r}"
            )
        overrides = config
        config = compose(overrides)
    if config.study is not None:
        raise ConfigError(
            f"study.name={config.study.name}: a study is a sweep, came to one run; use the command with hydra.mode=MULTIRUN"
        )
    if starts_workers(config, overrides):
        if callbacks:
            raise ConfigError(
                "callbacks: expected none with strategy.local_workers, whose workers are other processes"
            )
        return Run(train_in_workers(config, overrides).path)
    changes = changes_on_resume(overrides)
    folder, config = _resumed(config.resume, changes) if config.resume else (None, config)
    check_installed(config.model)
    configure_process(config)
    strategy = make_strategy(config.strategy, config.training)
    team = Team(strategy, config.strategy.timeout_seconds)
    source = data.load_source(config.data)
    config = complete(config, source)
    # All that can be wrong with the config shows before a new run has a folder, or an old one is touched.
    fits = isinstance(config.model, ClassicalConfig)
    with _in_one_line(config, source, team):
        plan = (_plan_fit if fits else _plan_loop)(config, source, strategy, team, folder, callbacks)
        # What refuses to go on with a run must leave that run's status alone.
        ours = folder is None and team.chief
        folder = folder or _new_folder(config, overrides, team)
    with _lock(folder, team):
        try:
            with _in_one_line(config, source, team, folder):
                training = plan(folder)
                training.restore(changed=bool(changes))
                ours = team.chief
                if team.chief:
                    folder.remove_remains()
                    _write_facts(folder, config, source, strategy, changes)
                    team.watchdog.on_end = lambda reason: folder.write_status(State.failed, reason=reason)
                training.train()
        except Stopped:
            raise
        except BaseException as error:
            if ours:
                _note_failure(folder, error)
            raise
    return Run(folder.path)


@contextlib.contextmanager
def _in_one_line(
    config: Config, source: data.DataSource, team: Team, folder: RunFolder | None = None
) -> Iterator[None]:
    """Turn errors of memory, disk, data and other workers, that do not come from the code, into one line.

    Raises:
        RunError: For a lack of memory, a worker that is gone, or a file of the run that cannot be written, with what is
            kept.
        DataError: For an unreadable image.
    """
    try:
        yield
    except Exception as error:
        known: Exception | None = diagnosis.out_of_memory(error, config)
        if known is None and isinstance(error, WriteError) and folder is not None:
            known = RunError(f"{error}; {checkpoint.kept(folder)}")
        # First the workers: of the others a worker that is gone makes any operation fail, and reading all files takes long.
        if known := known or explain_error(error, team) or data.explain_error(error, source):
            raise known from error
        raise


def _note_failure(folder: RunFolder, error: BaseException) -> None:
    """Say in the status why the run failed; where even that cannot be written, the error itself must still be seen."""
    try:
        folder.write_status(State.failed, reason=" ".join(str(error).split()) or type(error).__name__)
    except RunError as second:
        logger.warning("%s", second)


def _new_folder(config: Config, overrides: Sequence[str], team: Team) -> RunFolder:
    """The chief makes it, and the others hear where it is."""
    if not team.chief:
        status, _, text = team.from_chief("").partition(" ")
        if int(status):
            raise ConfigError(text) if int(status) == ConfigError.exit_status else RunError(text)
        return RunFolder(Path(text))
    try:
        name = f"{config.model.name}_{config.data.name}"
        folder = RunFolder.new(config.run_dir, name, to_yaml(config), overrides)
    except (ConfigError, RunError) as error:
        if team.count > 1:
            team.from_chief(f"{error.exit_status} {error}")
        raise
    if team.count > 1:
        team.from_chief(f"0 {folder.path.absolute()}")
    return folder


def _lock(folder: RunFolder, team: Team) -> contextlib.AbstractContextManager[None]:
    if not team.chief:
        return contextlib.nullcontext()
    return runs.locked(folder.path, "another process is training this run. Expected one at a time")


def _resumed(path: str, changes: Sequence[str]) -> tuple[RunFolder, Config]:
    """The folder of a run and its own config, with the values that were typed now on top; nothing is written yet.

    Raises:
        WrongPathError: If there is no run.
        ConfigError: If what was typed would make it another run.
    """
    folder = RunFolder.open(path, "resume")
    if folder.status().get(runs.IMPORTED):
        raise ConfigError(
            f"resume={path}: was imported, not trained. Expected init_from={path} to start from it"
        )
    file, stored = folder.path / runs.CONFIG, folder.config_dict()
    finished = folder.status()["state"] == State.finished
    if finished and isinstance(from_run(file, stored).model, ClassicalConfig):
        raise ConfigError(
            f"resume={path}: model={stored['model']['name']} is fitted at once and has finished. Expected a new run"
        )
    for text in changes:
        key = text.partition("=")[0].lstrip("+")
        if not key.startswith(RESUMABLE) or key == "schedule.name":
            raise ConfigError(
                f"{key}: resume={path} goes on with the run's own config. Expected only keys that leave it the same "
                f"run: {', '.join(RESUMABLE)}"
            )
    if finished and not folder.checkpoints():
        raise ConfigError(
            f"resume={path}: has finished and kept no checkpoint to go on from. Expected init_from={path} to start from it"
        )
    return folder, from_run(file, stored, changes)


def _plan_loop(
    config: Config,
    source: data.DataSource,
    strategy: tf.distribute.Strategy,
    team: Team,
    folder: RunFolder | None,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Callable[[RunFolder], Loop]:
    """A network, its optimizer and first weights; what makes the loop over them in the run's folder."""
    steps_per_epoch = _steps_per_epoch(config, source)
    network, optimizer = build_network(config, strategy)
    if config.init_from and not (folder and folder.checkpoints()):
        start_from(network, config, source.class_names)
    return partial(
        _prepare,
        config=config,
        source=source,
        strategy=strategy,
        team=team,
        network=network,
        optimizer=optimizer,
        steps_per_epoch=steps_per_epoch,
        callbacks=callbacks,
    )


def _plan_fit(
    config: Config,
    source: data.DataSource,
    strategy: tf.distribute.Strategy,  # noqa: ARG001 - the fit is on the host
    team: Team,
    folder: RunFolder | None,  # noqa: ARG001 - it has no first weights
    callbacks: Sequence[keras.callbacks.Callback],
) -> Callable[[RunFolder], Fit]:
    """What makes the fit of features and an SVM in the run's folder."""
    if callbacks:
        raise ConfigError(f"callbacks: expected none with model={config.model.name}, which is no Keras model")

    if team.count > 1:
        raise ConfigError(f"strategy=multi_worker: expected one process for model={config.model.name}")

    def prepare(folder: RunFolder) -> Fit:
        watchers = keras.callbacks.CallbackList(_recorders(folder, config))
        return Fit(folder, config, source, watchers)

    return prepare


def _steps_per_epoch(config: Config, source: data.DataSource) -> int:
    steps = data.num_train_steps(source, config.training.batch_size)
    wanted = config.training.overfit_batches
    if wanted > steps:
        raise ConfigError(
            f"training.overfit_batches={wanted}: expected at most {steps}, the whole batches of an epoch of {source.name}"
        )
    return wanted or steps


def complete(config: Config, source: data.DataSource) -> Config:
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
    folder = config.data.dir and str(Path(config.data.dir).absolute())  # the run may be used from elsewhere
    return replace(
        config,
        init_from=config.init_from and str(Path(config.init_from).absolute()),
        data=replace(config.data, dir=folder),
        model=replace(config.model, num_classes=asked or classes, input_channels=channels),
    )


def build_network(
    config: Config, strategy: tf.distribute.Strategy
) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """The network of a complete config and its optimizer, with all their variables."""
    with strategy.scope():
        network = model.build(config.model, dtype=DTYPES[config.training.precision], seed=config.seed)
        optimizer = make_optimizer(config.optimizer)
        check_groups(optimizer, [variable.path for variable in network.trainable_variables])
        check_freezing(network, config)
        if config.training.precision == Precision.float16:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(network.trainable_variables)
        network.compile(optimizer=optimizer, jit_compile=False)  # so that callbacks find `model.optimizer`
    network.stop_training = False
    return network, optimizer


def _prepare(
    folder: RunFolder,
    config: Config,
    source: data.DataSource,
    strategy: tf.distribute.Strategy,
    team: Team,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    steps_per_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Loop:
    """Statistics, schedule, step, display: what is left to make of a run."""
    training = config.training
    total_steps = training.steps or training.epochs * steps_per_epoch
    epochs = math.ceil(total_steps / steps_per_epoch)
    watchers: list[keras.callbacks.Callback] = []
    if team.chief:
        progress = make_progress(training.progress, epochs, steps_per_epoch, total_steps)
        watchers = [*progress, *_recorders(folder, config)]
    callback_list = keras.callbacks.CallbackList(
        [*watchers, *callbacks], model=network, epochs=epochs, steps=steps_per_epoch
    )
    return Loop(
        run=folder,
        config=config,
        source=source,
        statistics=_statistics(folder, config, source, team),
        strategy=strategy,
        team=team,
        model=network,
        optimizer=optimizer,
        schedule=make_schedule(
            config.schedule,
            group_rates(config.optimizer),
            steps_per_epoch,
            total_steps,
            frozen_groups(config.optimizer),
            config.model.freeze_until,
        ),
        make_step=partial(make_train_step, network, optimizer, strategy, training, config.seed),
        one_by_one=team.count > 1 or training.eager or any(map(hears_of_steps, callbacks)),
        evaluator=Evaluator(
            network,
            strategy,
            eager=training.eager,
            after_batch=lambda: team.watchdog.doing(
                "in a batch of the evaluation, which waits for every worker,"
            ),
        ),
        callbacks=callback_list,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )


def _recorders(folder: RunFolder, config: Config) -> list[keras.callbacks.Callback]:
    """What writes a run's numbers elsewhere too."""
    found: list[keras.callbacks.Callback] = []
    if config.training.tensorboard:
        found.append(TensorBoard(folder.path / "events", folder.overrides()))
    if config.training.mlflow:
        found.append(MLflow(folder, config))
    return found


def _statistics(
    folder: RunFolder, config: Config, source: data.DataSource, team: Team
) -> data.Statistics | None:
    """The statistics of the training split: the run's own on a resume, else computed or cached, and stored."""
    path = folder.path / runs.STATISTICS
    if path.exists():
        return data.Statistics.load(path)
    statistics = data.compute_statistics(source, config.augment)
    if statistics is not None and team.chief:
        runs.write_atomic(path, statistics.write)
    return statistics


def _write_facts(
    folder: RunFolder,
    config: Config,
    source: data.DataSource,
    strategy: tf.distribute.Strategy,
    changes: Sequence[str],
) -> None:
    """Write the config as it is now, what was typed for it, `dataset.json` and `environment.json`."""
    before = folder.environment() if (folder.path / runs.ENVIRONMENT).exists() else {}
    content: dict[str, Any] = {
        "start": before.get("start", runs.now()),
        "resumed": [*before.get("resumed", []), *([runs.now()] if before else [])],
        "command_folder": Path.cwd().name,
        **runs.software(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "replicas": strategy.num_replicas_in_sync,
    }
    runs.write_text(folder.path / runs.CONFIG, to_yaml(config))
    anew = {override_key(text) for text in changes}
    if before and changes:
        folder.write_overrides(
            [*(text for text in folder.overrides() if override_key(text) not in anew), *changes]
        )
    runs.write_json(folder.path / runs.DATASET, source.describe())
    runs.write_json(folder.path / runs.ENVIRONMENT, content)
