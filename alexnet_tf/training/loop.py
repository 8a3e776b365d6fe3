"""The loop: epochs of steps, and what happens between them."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data, runs
from alexnet_tf.config import REST, Config, checkpoint_interval, to_dict
from alexnet_tf.config.schema import AugmentConfig, AugmentDevice
from alexnet_tf.evaluation import Evaluator, Scores, distribute
from alexnet_tf.runs import RunError, RunFolder, State, Stopped, Table
from alexnet_tf.training import checkpoint, diagnosis
from alexnet_tf.training.freezing import freeze
from alexnet_tf.training.optimizer import set_frozen_groups, set_group_rates
from alexnet_tf.training.schedule import Schedule
from alexnet_tf.training.signals import StopSignal
from alexnet_tf.training.step import TrainStep, TrainSteps, make_train_steps
from alexnet_tf.training.workers import Team

OWN_TO_A_MACHINE = (
    "run_dir",
    "resume",
    "init_from",
    "data.dir",
    "training.progress",
    "training.intra_threads",
    "training.inter_threads",
)
"""Keys in which the workers of a run may differ."""
STATUS_SECONDS = 3.0
"""`status.json` is written at most this often within an epoch."""
CALL_SECONDS = 0.2
"""About how long a call of several steps takes; signals, clocks and the display wait for its end."""
CALL_STEPS = 20
"""The most steps of a call, should they suddenly take longer, as when the input stalls."""


class DivergedError(RunError):
    """The loss is no longer a finite number."""


@dataclass
class Counters:
    """Where a run stands; all of it is in every checkpoint."""

    step: int = 0
    """Finished steps."""
    seconds: float = 0.0
    """Spent in training steps, without validation and probe."""
    epoch_seconds: float = 0.0
    totals: list[float] = field(default_factory=lambda: [0.0] * 4)
    """Sums of the present epoch, as `evaluation.tally` gives them."""
    best_error: float = math.inf
    best_step: int | None = None
    """The step of the best validation error."""
    improved_error: float = math.inf
    """The validation error that early stopping compares with, and its epoch."""
    improved_epoch: int = 0
    stop_reason: str | None = None


@dataclass
class Loop:
    """The parts of a run, and the loop over them; every worker of a run goes through it, and the chief alone writes."""

    run: RunFolder
    config: Config
    source: data.DataSource
    statistics: data.Statistics | None
    strategy: tf.distribute.Strategy
    team: Team
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    schedule: Schedule
    make_step: Callable[[], TrainStep]
    """Makes the step of the variables and groups that are trainable when it is first called."""
    one_by_one: bool
    """Whether every step is a call of its own: a callback hears of each, workers wait for each other, or nothing is traced."""
    evaluator: Evaluator
    callbacks: keras.callbacks.CallbackList
    steps_per_epoch: int
    total_steps: int
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.metrics = Table(self.run.path / runs.METRICS, runs.METRICS_COLUMNS, rows=[])
        self.timing = Table(self.run.path / runs.TIMING, runs.TIMING_COLUMNS, rows=[])
        self.keeper = checkpoint.Keeper(self.run, self.config.training.keep_checkpoints)
        self.interval = checkpoint_interval(self.config.training.checkpoint_every)
        probe = data.probe_ids(self.source, self.config.training.probe.examples, self.config.seed)
        # Kept, as they are read again and again.
        self.probe_batches = self._eval_batches("train", probe)
        self.validation_batches = (
            self._eval_batches("validation") if "validation" in self.source.splits else None
        )
        self.stop_signal = StopSignal()
        self.logs: dict[str, Any] = {}
        self.read_at = self.status_at = self.saved_at = time.perf_counter()
        self.restored_from: Path | None = None
        self.start: checkpoint.Checkpoint | None = None  # until there is a first checkpoint
        self.finite_step = 0  # the last one whose loss is known to be a number
        self.feed: Any = iter(())  # the batches of the epochs before `fed_until`
        self.fed_until = 0
        self.finish_images: Callable[..., tf.Tensor] | None = None  # what the devices do to their images
        self.finish_order: list[str] | None = None
        self.rates: dict[str, float] = {}
        self.frozen: frozenset[str] | None = None
        self.frozen_until: str | None = None
        self.train_step: TrainStep  # made by `follow_schedule`, which knows what stands still
        self.train_steps: TrainSteps | None = None  # of that step and what finishes its images
        self.step_seconds = math.inf  # of a step, when last the sums were read
        self.timed_at = (0, 0.0)  # the step and the training's seconds then
        self.totals = tf.constant(self.counters.totals, tf.float64)

    # ------------------------------------------------------------------------------------------ the story

    def train(self) -> None:
        """Run to the end.

        Raises:
            Stopped: If a signal came; the state is saved.
            DivergedError: If the loss is no longer a number.
            WriteError: If a file cannot be written.
        """
        self._write_status(State.running, since=runs.now(), since_step=self.counters.step, pid=os.getpid())
        if self.restored_from:
            if self.team.chief:
                self.keeper.follow(self.restored_from, best=self.counters.best_step == self.counters.step)
            self._save_tables()  # as the checkpoint has them, whatever the files hold
        elif self.team.count == 1:  # only then are steps repeated to find where a loss stopped being a number
            self.start = self.capture()
        self.follow_schedule()  # before any callback, which may set another rate
        self._start_together()
        self.team.begin(self.counters.step)
        self.saved_at = time.perf_counter()
        with self.stop_signal, self.team.watchdog, self.keeper:
            self.callbacks.on_train_begin()
            try:
                if self.counters.step == 0 and self.config.training.probe.every:
                    self.probe()
                while not self.finished():
                    self.train_epoch()
            finally:
                self.callbacks.on_train_end()
        self.finish()

    def _start_together(self) -> None:
        """Wait for workers that have more to prepare, and see that all train the same from the same checkpoint."""
        if self.team.count > 1:
            self._compare_workers()
        step = self.counters.step
        if self.team.sum([step])[0] != step * self.team.count:
            raise RunError(
                f"{self.run.path}: the workers do not all find the checkpoint of step {step} there; expected the run "
                f"on a file system that they share"
            )

    def _compare_workers(self) -> None:
        """Raise `RunError` where a worker has other examples or another config, but for what belongs to its machine."""
        config = to_dict(self.config)
        for path in OWN_TO_A_MACHINE:
            *sections, key = path.split(".")
            (config[sections[0]] if sections else config).pop(key)
        own = json.dumps([self.source.fingerprint, config], sort_keys=True, default=str)
        digest = hashlib.sha256(own.encode()).hexdigest()
        differs = digest != self.team.from_chief(digest)
        found = self.team.sum(
            [float(differs and index == self.team.index) for index in range(self.team.count)]
        )
        if found.any():
            raise RunError(
                f"worker {int(found.argmax())} has other data or another config than worker 0. Expected the same command "
                f"and the same files for all"
            )

    def finished(self) -> bool:
        """Whether there is nothing more to do."""
        return self.counters.stop_reason is not None or self.counters.step >= self.total_steps

    def train_epoch(self) -> None:
        """The rest of one epoch, its validation and its bookkeeping."""
        c = self.counters
        epoch, first = divmod(c.step, self.steps_per_epoch)
        last = min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)
        self.totals = tf.constant(c.totals, tf.float64)
        self.callbacks.on_epoch_begin(epoch)
        if epoch >= self.fed_until:
            self.open_feed(epoch, first)
        while first < last and not c.stop_reason:
            started = time.perf_counter()
            self.follow_schedule()
            self.callbacks.on_train_batch_begin(first)
            count = self.take_steps(last - first)
            first += count
            # The probe's time is not training's: wait for the device before it, so that the clock has all of the step.
            due = count > 1 or self.team.meets(c.step, self.read_at) or first == last or self._due("probe")
            if due:
                self.read_totals()
            elapsed = time.perf_counter() - started
            c.seconds += elapsed
            c.epoch_seconds += elapsed
            if due:
                self.refresh_logs()
            self.callbacks.on_train_batch_end(first - 1, self.logs)
            if first < last:
                self.within_epoch(met=due)
            elif self._due("probe"):
                self.probe()
        self.end_epoch()

    def take_steps(self, left: int) -> int:
        """Do some of the steps that are left in the epoch; how many were done."""
        c, step = self.counters, tf.constant(self.counters.step, tf.int64)
        if self.one_by_one:
            count = 1
            self.team.watchdog.doing("reading a batch")
            images, labels, _ = next(self.feed)
            if self.finish_images is not None:
                images = self.strategy.run(self.finish_images, args=images)
            self.team.watchdog.doing(f"in step {c.step + 1}, which waits for every worker,")
            self.totals = self.train_step(images, labels, step, self.totals)
        else:
            count = self.steps_at_once(left)
            if self.train_steps is None:
                self.train_steps = make_train_steps(
                    self.train_step, self.optimizer, self.strategy, list(self.rates), self.finish_images
                )
            planned = [self.rates, *(self.schedule.rates(c.step + done) for done in range(1, count))]
            self.rates = planned[-1]
            planned += [self.rates] * (CALL_STEPS - count)  # one shape, which is traced once
            with tf.device("CPU:0"):  # where they are looked at
                rates = tf.constant([list(each.values()) for each in planned], tf.float64)
            self.totals = self.train_steps(self.feed, step, tf.constant(count), rates, self.totals)
        c.step += count
        return count

    def steps_at_once(self, left: int) -> int:
        """How many of the steps left in the epoch to take in one call, which ends where something is due or freezes."""
        most, count = min(left, CALL_STEPS, CALL_SECONDS / self.step_seconds), 1
        while count + 1 <= most and not self._is_met_at(self.counters.step + count):
            count += 1
        return count

    def _is_met_at(self, step: int) -> bool:
        """Whether the loop has something to do between a step and the next."""
        if self._due("probe", step) or self._due("checkpoint", step):
            return True
        return self._frozen_at(step) != (self.frozen, self.frozen_until)

    def within_epoch(self, *, met: bool) -> None:
        """Probe, save and stop where that is due between two steps; workers ask each other where they `met`."""
        self.keeper.check()
        if self._due("probe"):
            self.probe()
        if self.counters.stop_reason:
            return  # the epoch's end follows at once, and a run that goes on from here would not come to it
        by_the_clock = self.interval is not None and self.interval[1] == "minute"
        if (met or not by_the_clock) and self._due("checkpoint"):
            self.save()
        if (met or self.team.count == 1) and self._asked_to_stop():
            self.stop()
        if time.perf_counter() - self.status_at > STATUS_SECONDS:
            self._write_status(State.running)

    def end_epoch(self) -> None:
        """Validate, write the epoch's rows, ask the schedule and early stopping, save."""
        c = self.counters
        train, rate = Scores.of(c.totals, self.evaluator.num_classes), self.images_per_second()
        self.record("train", train, rate)
        logs = {**_logs(train), "learning_rate": self.learning_rate(), "images_per_second": rate}
        best = False
        if self._due("validation"):
            scores, rate = self.evaluate(self.validation_batches)
            self.record("validation", scores, rate)
            logs |= {f"val_{name}": value for name, value in _logs(scores).items()}
            best = self._judge(scores.top1_error)
        self._save_tables()
        self.callbacks.on_epoch_end(self.epoch - 1, logs)
        if self.team.any(self.model.stop_training, c.step):
            c.stop_reason = c.stop_reason or "a callback stopped the training"
        if c.step % self.steps_per_epoch == 0:
            c.totals, c.epoch_seconds = [0.0] * 4, 0.0
            self.totals = tf.constant(c.totals, tf.float64)
        if c.step > diagnosis.MOST_REPEATED:
            self.start = None
        if self.interval and (best or self.finished() or self._due("checkpoint")):
            self.save(best=best)
        self._write_status(State.running)
        if not self.finished() and self._asked_to_stop():
            self.stop()

    def _asked_to_stop(self) -> bool:
        """Whether a signal came to any worker."""
        return self.team.any(self.stop_signal.received is not None, self.counters.step)

    @property
    def epoch(self) -> int:
        """The epoch of the last step, counted from 1; 0 before the first."""
        return math.ceil(self.counters.step / self.steps_per_epoch)

    def _due(self, what: str, step: int | None = None) -> bool:
        """Whether something is due after a step, by default the one just done."""
        training = self.config.training
        step = self.counters.step if step is None else step
        if what == "probe":
            return training.probe.every > 0 and step % training.probe.every == 0
        if what == "checkpoint" and self.interval is not None:
            every, unit = self.interval
            if unit == "minute":
                return self.team.agree(time.perf_counter() - self.saved_at >= 60 * every)
            return (step if unit == "step" else step / self.steps_per_epoch) % every == 0
        every = training.evaluate_every
        return (
            what == "validation"
            and "validation" in self.source.splits
            and (self.finished() or (every > 0 and self.epoch % every == 0))
        )

    def finish(self) -> None:
        """Write the final model and the status."""
        self._save_tables()  # without a single epoch nothing else has
        if self.team.chief:
            self._write_model()
        self._write_status(State.finished, reason=self.counters.stop_reason or f"{self.epoch} epochs done")
        self.team.wait()  # a worker that ends ends the others

    def _write_model(self) -> None:
        freeze(self.model, None)  # that was this run's: who trains on decides anew
        # A second functional model over the same layers: what serves needs neither optimizer nor loss.
        network = keras.Model(self.model.inputs, self.model.outputs, name=self.model.name)
        with runs.replacing(self.run.path / runs.MODEL) as temporary:
            network.save(temporary)
        runs.write_json(self.run.path / runs.ENVIRONMENT, {**self.run.environment(), "end": runs.now()})

    # ------------------------------------------------------------------------------------------- measuring

    def epochs_at_once(self, epoch: int) -> int:
        """How many epochs from this one on have their batches from one dataset: they are augmented alike."""
        ahead = math.ceil(self.total_steps / self.steps_per_epoch) - epoch
        if self.config.training.overfit_batches:
            return ahead
        most, order = min(ahead, data.epochs_at_once(self.source)), self.augment(epoch).order
        return next((more for more in range(1, most) if self.augment(epoch + more).order != order), most)

    def open_feed(self, epoch: int, first_step: int) -> None:
        """Make the iterator over the batches from a step of an epoch on, and what finishes their images on the devices."""
        on_device = self.config.augment.device is AugmentDevice.accelerator
        unfinished = on_device and not self.config.training.overfit_batches
        epochs, augment = self.epochs_at_once(epoch), self.augment(epoch)
        batches = self.batches(epoch, first_step, epochs=epochs, unfinished=unfinished)
        self.feed, self.fed_until = iter(distribute(self.strategy, batches)), epoch + epochs
        if unfinished and augment.order != self.finish_order:
            self.finish_images = data.finisher(self.source, augment, self.statistics)
            self.finish_order = augment.order
            self.train_steps = None

    def augment(self, epoch: int) -> AugmentConfig:
        """The augmentation of an epoch."""
        config, off = self.config.augment, self.schedule.augment_off(epoch * self.steps_per_epoch)
        return replace(config, order=[name for name in config.order if name not in off])

    def batches(
        self, epoch: int, first_step: int, *, epochs: int = 1, unfinished: bool = False
    ) -> tf.data.Dataset:
        """The training batches of epochs from a step of the first on, see `data.train_batches`."""
        config, count = self.config, self.config.training.overfit_batches
        if not count:
            return data.train_batches(
                self.source,
                self.augment(epoch),
                self.statistics,
                seed=config.seed,
                epoch=epoch,
                batch_size=config.training.batch_size,
                first_step=first_step,
                epochs=epochs,
                share=self.team.share,
                unfinished=unfinished,
            )
        ids = data.epoch_ids(self.source, config.seed, 0)[: count * config.training.batch_size]
        same = self._eval_batches("train", ids, config.training.batch_size)
        return same.repeat(epochs).skip(first_step)

    def evaluate(self, batches: tf.data.Dataset) -> tuple[Scores, float]:
        """The scores over batches in evaluation form, and the images per second."""
        started = time.perf_counter()
        scores = self.evaluator(batches)
        return scores, scores.examples / (time.perf_counter() - started)

    def _eval_batches(
        self, split: str, ids: np.ndarray | None = None, batch_size: int | None = None
    ) -> tf.data.Dataset:
        training, replicas = self.config.training, self.strategy.num_replicas_in_sync
        size = batch_size or training.eval_batch_size or training.batch_size
        return data.eval_batches(
            self.source,
            split,
            self.config.augment,
            self.statistics,
            batch_size=math.ceil(size / replicas) * replicas,
            ids=ids,
            share=self.team.share,
        )

    def probe(self) -> None:
        """Measure the fixed subset of training images without augmentation."""
        scores, rate = self.evaluate(self.probe_batches)
        self.record("probe", scores, rate)
        below = self.config.training.probe.stop_below
        if below is not None and scores.top1_error < below and not self.counters.stop_reason:
            self.counters.stop_reason = f"the probe's error {scores.top1_error:.4f} is below {below}"

    def record(self, split: str, scores: Scores, images_per_second: float) -> None:
        """Add a row to metrics.csv and one to timing.csv."""
        place = {"epoch": self.epoch, "step": self.counters.step, "split": split}
        self.metrics.append(**place, lr=self.learning_rate(), **vars(scores))
        seconds = round(self.counters.seconds, 6)
        self.timing.append(**place, seconds=seconds, images_per_second=round(images_per_second, 2))

    def read_totals(self) -> None:
        """Fetch the epoch's sums from the device, which waits for it.

        Raises:
            DivergedError: If the loss is no longer a number.
        """
        c = self.counters
        c.totals = [float(value) for value in self.totals.numpy()]
        if not math.isfinite(c.totals[0]):
            raise self._diverged("the loss", c.totals[0])
        self.finite_step = c.step

    def refresh_logs(self) -> None:
        """Make the batch logs from the sums that were read."""
        scores = Scores.of(self.counters.totals, self.evaluator.num_classes)
        self.logs = {**_logs(scores), "images_per_second": self.images_per_second()}
        self.read_at = time.perf_counter()
        (step, seconds), c = self.timed_at, self.counters
        self.timed_at = c.step, c.seconds
        self.step_seconds = (c.seconds - seconds) / (c.step - step)

    def _diverged(self, what: str, value: object) -> DivergedError:
        self.keeper.settle()
        message = f"{what} became {value} in epoch {self.epoch} by step {self.counters.step}"
        rate = self.learning_rate()
        origin = diagnosis.explain_origin(self)
        return DivergedError(
            f"{message}; {origin}: try a smaller optimizer.lr (now {rate:g}) or a warm-up (schedule.warmup_epochs); "
            f"{checkpoint.kept(self.run)}"
        )

    def images_per_second(self) -> float:
        """The rate of the epoch so far."""
        return self.counters.totals[3] / self.counters.epoch_seconds if self.counters.epoch_seconds else 0.0

    def follow_schedule(self) -> None:
        """Set rates, frozen groups and frozen layers of the coming step, where they are not those of the last one."""
        step = self.counters.step
        rates, (frozen, until) = self.schedule.rates(step), self._frozen_at(step)
        if rates != self.rates:
            set_group_rates(self.optimizer, rates)
        if (frozen, until) != (self.frozen, self.frozen_until):
            set_frozen_groups(self.optimizer, frozen)
            if until != self.frozen_until:
                freeze(self.model, until)
            self.train_step, self.train_steps = self.make_step(), None
        self.rates, self.frozen, self.frozen_until = rates, frozen, until

    def _frozen_at(self, step: int) -> tuple[frozenset[str], str | None]:
        """The groups and the layers that stand still in the step that follows so many."""
        return self.schedule.frozen(step), self.schedule.frozen_until(step)

    def learning_rate(self) -> float:
        """The rate of the last step (of the first one before it) of the variables in no group of their own."""
        planned = self.schedule.rates(max(0, self.counters.step - 1))[REST]
        # In float32, or what a callback set.
        actual = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        return planned if math.isclose(planned, actual, rel_tol=1e-6) else actual

    def _judge(self, error: float) -> bool:
        """Whether a validation error is the best so far; the schedule and early stopping hear of it."""
        c, stopping = self.counters, self.config.training.early_stopping
        reason = self.schedule.after_epoch(error)
        best = error < c.best_error
        if best:
            c.best_error, c.best_step = error, c.step
        if error < c.improved_error - stopping.min_delta:
            c.improved_error, c.improved_epoch = error, self.epoch
        elif stopping.patience and self.epoch - c.improved_epoch >= stopping.patience and not reason:
            reason = f"no better validation error in {stopping.patience} epochs"
        c.stop_reason = c.stop_reason or reason
        return best

    # --------------------------------------------------------------------------------- saving and resuming

    def variables(self) -> dict[str, list[Any]]:
        """All that a checkpoint keeps of model and optimizer."""
        return {"model": self.model.variables, "optimizer": self.optimizer.variables}

    def save(self, *, best: bool = False) -> None:
        """Write the rows so far, take a checkpoint and begin to write it.

        Raises:
            DivergedError: If a weight is no longer a number, so that a checkpoint is always one to go on from.
            WriteError: If the rows, or the checkpoint before this one, could not be written.
        """
        self.read_totals()
        self.keeper.wait()  # before the capture: no more than one copy of the variables is in memory
        content = self.capture()
        arrays = content.arrays
        if not all(np.isfinite(arrays[name]).all() for name in arrays if name.startswith("model/")):
            raise self._diverged("a weight", "infinite")
        self.start = None
        self.saved_at = time.perf_counter()
        if self.team.chief:
            self._save_tables()
            self.keeper.save(self.counters.step, content, best=best)

    def capture(self) -> checkpoint.Checkpoint:
        """A copy of all that the rest of the run depends on."""
        c = self.counters
        state = {
            "counters": {**vars(c), "totals": list(c.totals)},
            "schedule": self.schedule.state(),
            "fingerprint": self.source.fingerprint,
            "metrics": self.metrics.content(),
            "timing": self.timing.content(),
        }
        return checkpoint.Checkpoint(checkpoint.capture(self.variables()), state)

    def _save_tables(self) -> None:
        if self.team.chief:
            self.metrics.save()
            self.timing.save()

    def restore(self, *, changed: bool) -> None:
        """Continue from the newest checkpoint, if there is one; nothing is written.

        Args:
            changed: Whether the config has changed since: then what ended the run before is judged anew.

        Raises:
            RunError: If it belongs to other data or another model.
        """
        found = checkpoint.load_newest(self.run)
        if found is None:
            return
        path, content = found
        if content.state["fingerprint"] != self.source.fingerprint:
            raise RunError(
                f"{path}: the data has changed since it was written (data={self.source.name}); cannot go on"
            )
        checkpoint.restore(self.variables(), content, path)
        try:
            self.counters = Counters(**content.state["counters"])
        except TypeError as error:
            raise RunError(f"{path}: was written by another version of alexnet_tf; cannot go on") from error
        if changed:
            self.counters.stop_reason = None
        self.schedule.restore(content.state["schedule"])
        self.metrics.rows = self.metrics.parse(content.state["metrics"])
        self.timing.rows = self.timing.parse(content.state["timing"])
        self.restored_from, self.finite_step = path, self.counters.step
        self.timed_at = self.counters.step, self.counters.seconds

    def stop(self) -> None:
        """Save and leave."""
        received = self.stop_signal.received
        what = received.name if received else "a signal to another worker"
        self.save()
        self.keeper.wait()
        self._write_status(State.stopped, reason=f"{what} at step {self.counters.step}")
        self.team.wait()
        raise Stopped(self.run, self.counters.step)

    def _write_status(self, state: State, **values: object) -> None:
        c = self.counters
        self.status_at = time.perf_counter()
        if not self.team.chief:
            return
        self.run.write_status(
            state,
            step=c.step,
            steps=self.total_steps,
            epoch=self.epoch,
            best_error=_finite(c.best_error),
            **values,
        )


def _logs(scores: Scores) -> dict[str, Any]:
    return {"loss": scores.loss, "top1_error": scores.top1_error, "top5_error": scores.top5_error}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
