"""What a run leaves in its folder, checked against the data and NumPy."""

import fcntl
import os
import re
import signal
import struct
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from alexnet_tf import data, runs
from alexnet_tf.config import ConfigError
from alexnet_tf.evaluation import Evaluator
from alexnet_tf.runs import RunError, RunFolder, WrongPathError
from alexnet_tf.training import DivergedError, Stopped, checkpoint, loop, train
from alexnet_tf.training.callbacks import hears_of_steps

EXAMPLES, VALIDATION, BATCH, STEPS = 330, 359, 64, 5


def scores(run, split, ids=None):
    """Loss, top-1 and top-5 error by NumPy, from the data of scikit-learn and the saved model."""
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16))[..., np.newaxis]
    splits = data.load_source(run.config.data).splits
    ids = splits[split].ids if ids is None else ids
    mean = images[splits["train"].ids].mean(axis=0)
    logits = run.model().predict(((images[ids] - mean) / 64).astype("float32"), verbose=0).astype("float64")
    labels = bunch.target[ids]
    own = logits[np.arange(len(ids)), labels]
    rank = (logits > own[:, None]).sum(axis=1)
    return (logsumexp(logits, axis=1) - own).mean(), (rank >= 1).mean(), (rank >= 5).mean(), len(ids)


def rows(run, split):
    frame = run.metrics()
    return frame[frame["split"] == split].reset_index(drop=True)


class Recorder(keras.callbacks.Callback):
    """Every hook that the loop calls, with its epoch or batch and the keys of its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.logs = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def record(*arguments, logs=None):
            if arguments and isinstance(arguments[-1], dict):
                *arguments, logs = arguments
            self.calls.append((name, *[value for value in arguments if value is not None]))
            if name == "on_epoch_end":
                self.logs.append(dict(logs))

        return record


@pytest.fixture(scope="module")
def recorder():
    return Recorder()


@pytest.fixture(scope="module")
def finished(run, recorder, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "finished"
    values = ("training.probe.every=5", "training.probe.examples=77", "training.tensorboard=true")
    return run(path, *values, "training.deterministic=true", callbacks=[recorder])


# ------------------------------------------------------------------------------------------------- the folder


def test_every_epoch_has_its_rows(finished):
    frame = finished.metrics()
    assert tuple(frame.columns) == runs.METRICS_COLUMNS
    got = list(frame[["epoch", "step", "split", "examples"]].itertuples(index=False, name=None))
    expected = [(0, 0, "probe", 77)]
    for epoch in (1, 2, 3):
        step = epoch * STEPS
        # 330 examples are 5 batches of 64: what does not fill one is left out, another part each epoch.
        expected += [(epoch, step, "probe", 77), (epoch, step, "train", STEPS * BATCH)]
        expected += [(epoch, step, "validation", VALIDATION)]
    assert got == expected
    assert set(frame["lr"]) == {0.02}
    timing = finished.timing()
    assert list(timing["step"]) == list(frame["step"])
    assert list(timing["split"]) == list(frame["split"])
    assert timing["seconds"].is_monotonic_increasing
    assert (timing["images_per_second"] > 0).all()


def test_the_validation_is_that_of_numpy(finished):
    row = rows(finished, "validation").iloc[-1]
    loss, top1, top5, count = scores(finished, "validation")
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert row["top1_error"] == top1
    assert row["top5_error"] == top5
    assert count == VALIDATION


def test_the_probe_is_that_of_numpy_without_dropout(finished):
    row = rows(finished, "probe").iloc[-1]
    source = data.load_source(finished.config.data)
    ids = data.probe_ids(source, 77, 0)
    assert len(set(ids)) == 77
    assert set(ids) <= set(source.splits["train"].ids)
    loss, top1, _, _ = scores(finished, "train", ids)
    assert finished.config.model.stages["conv3"].dropout == 0.25
    assert row["loss"] == pytest.approx(loss, rel=1e-5)
    assert row["top1_error"] == top1


def test_it_learns(finished):
    train_rows, validation = rows(finished, "train"), rows(finished, "validation")
    assert train_rows["loss"].is_monotonic_decreasing
    assert validation["loss"].iloc[-1] < validation["loss"].iloc[0] < 2.4
    assert validation["top1_error"].iloc[-1] < 0.5


def test_the_folder_holds_what_the_design_says(finished):
    present = {path.name for path in finished.path.iterdir()}
    expected = {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "status.json",
        "metrics.csv",
        "timing.csv",
    }
    assert present == expected | {"statistics.npz", "dataset.json", "checkpoints", "events", "model.keras"}
    assert [path.name for path in finished.checkpoints()] == ["step-000000010.npz", "step-000000015.npz"]
    best = checkpoint.load(finished.path / "checkpoints" / "best.npz")
    errors = rows(finished, "validation")["top1_error"]
    assert best.state["counters"]["step"] == STEPS * (1 + int(errors.argmin()))
    status = finished.status()
    assert (status["state"], status["step"], status["steps"], status["epoch"]) == ("finished", 15, 15, 3)
    assert status["reason"] == "3 epochs done"
    assert status["best_error"] == errors.min()
    environment = finished.environment()
    assert environment["versions"]["tensorflow"] == tf.__version__
    assert environment["start"] <= environment["end"]
    assert finished.dataset()["splits"] == {"train": EXAMPLES, "validation": VALIDATION}


def test_its_config_makes_it_again(finished):
    config = finished.config
    assert (config.model.num_classes, config.model.input_channels) == (10, 1)
    assert config.data.train_examples == EXAMPLES
    mean = data.Statistics.load(finished.path / runs.STATISTICS).mean_image
    images = np.round(load_digits().images * (255 / 16))[data.load_source(config.data).splits["train"].ids]
    np.testing.assert_allclose(np.squeeze(mean), images.mean(axis=0), rtol=1e-5, atol=1e-4)


def read_events(folder):
    """The scalars of a TensorBoard file by (tag, step), read from its records without TensorBoard."""
    found = {}
    for path in folder.glob("events.*"):
        raw, place = path.read_bytes(), 0
        while place < len(raw):
            (length,) = struct.unpack_from("<Q", raw, place)
            event = tf.compat.v1.Event.FromString(raw[place + 12 : place + 12 + length])
            place += 12 + length + 4
            for value in event.summary.value:
                assert (value.tag, event.step) not in found, "written twice"
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_finds_the_same_numbers(finished):
    for split in ("train", "validation"):
        events, frame = read_events(finished.path / "events" / split), rows(finished, split)
        for name in ("loss", "top1_error", "top5_error"):
            got = [events[name, epoch] for epoch in (1, 2, 3)]
            assert got == pytest.approx(list(frame[name]), rel=1e-6)
    assert read_events(finished.path / "events" / "train")["learning_rate", 3] == pytest.approx(0.02)


# -------------------------------------------------------------------------------------------------- callbacks


def test_callbacks_get_all_hooks(recorder, finished):
    expected = [("on_train_begin",)]
    for epoch in range(3):
        expected.append(("on_epoch_begin", epoch))
        for batch in range(STEPS):
            expected += [("on_train_batch_begin", batch), ("on_train_batch_end", batch)]
        expected.append(("on_epoch_end", epoch))
    assert recorder.calls == [*expected, ("on_train_end",)]
    for logs, train_row, validation in zip(
        recorder.logs, *(rows(finished, split).itertuples() for split in ("train", "validation")), strict=True
    ):
        assert (logs["loss"], logs["top1_error"]) == (train_row.loss, train_row.top1_error)
        assert (logs["val_loss"], logs["val_top1_error"]) == (validation.loss, validation.top1_error)
        assert logs["learning_rate"] == 0.02
    assert recorder.model is not None
    assert recorder.params == {"epochs": 3, "steps": STEPS}


@pytest.mark.parametrize(
    ("callback", "hears"),
    [
        (keras.callbacks.EarlyStopping(), False),
        (keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (keras.callbacks.LambdaCallback(on_train_batch_end=print), True),
        (keras.callbacks.ModelCheckpoint("best.keras"), True),
        (keras.callbacks.TerminateOnNaN(), True),
    ],
)
def test_who_hears_of_every_step(callback, hears):
    assert hears_of_steps(callback) is hears


MANY = {"training.epochs": 4, "training.probe.every": 7, "training.probe.examples": 77}
MANY |= {"training.checkpoint_every": "4 steps", "training.keep_checkpoints": 9, "training.deterministic": "true"}  # fmt: skip
MANY |= {"schedule": "steps", "schedule.iterations": "[18]", "schedule.warmup_epochs": 0.6}


@pytest.fixture
def ends(monkeypatch):
    """The steps after which the loop looks up, while calls are as long as they may be."""
    monkeypatch.setattr(loop, "CALL_SECONDS", 1e9)
    take_steps, found = loop.Loop.take_steps, []

    def note(self, left):
        count = take_steps(self, left)
        found.append(self.counters.step)
        return count

    monkeypatch.setattr(loop.Loop, "take_steps", note)
    return found


def test_steps_in_one_call_end_where_something_is_due_and_make_the_same_run(run, tmp_path, ends):
    single = run(tmp_path / "single", **MANY, callbacks=[Recorder()])
    assert ends == list(range(1, 21))
    ends.clear()
    several = run(tmp_path / "several", **MANY)
    # The first is taken alone, as nothing is known of its time.
    assert ends == [1, 4, 5, 7, 8, 10, 12, 14, 15, 16, 20]
    assert same_rows(single, several)
    assert len(single.checkpoints()) >= 5
    assert_same_checkpoints(single, several)


@pytest.mark.parametrize(
    "optimizer", ["code2012", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adam", "float16"))]
)
def test_rates_change_within_a_call(run, tmp_path, ends, optimizer):
    values = {"training.epochs": 3, "training.deterministic": "true", "schedule.warmup_epochs": 0.6}
    values |= {"training.precision": "float16"} if optimizer == "float16" else {"optimizer": optimizer}
    single = run(tmp_path / "single", **values, schedule="cosine", callbacks=[Recorder()])
    ends.clear()
    several = run(tmp_path / "several", **values, schedule="cosine")
    assert ends == [1, 5, 10, 15]
    assert len(set(rows(several, "train")["lr"])) == 3
    assert same_rows(single, several)
    assert_same_checkpoints(single, several)


def test_a_rate_that_a_callback_sets_stays_within_a_call(run, tmp_path, ends):
    """Until the schedule has another one."""
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: [0.5, 0.004][epoch])
    values = ("training.epochs=2", "schedule.iterations=[3]")
    done = run(tmp_path / "run", *values, schedule="steps", callbacks=[rates])
    assert ends == [1, 5, 10]
    assert list(rows(done, "train")["lr"]) == pytest.approx([0.002, 0.004])


def assert_same_checkpoints(single, several):
    paths = [each.checkpoints() for each in (single, several)]
    assert [path.name for path in paths[0]] == [path.name for path in paths[1]]
    for one, other in zip(*paths, strict=True):
        mine, theirs = checkpoint.load(one).arrays, checkpoint.load(other).arrays
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_signal_during_a_call_saves_at_its_end_and_the_run_goes_on(
    run, resume, finished, tmp_path, ends, monkeypatch
):
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    take_steps = loop.Loop.take_steps

    def kill(self, left):
        if self.counters.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_steps(self, left)

    monkeypatch.setattr(loop.Loop, "take_steps", kill)
    with pytest.raises(Stopped, match="stopped at step 9;"):
        run(tmp_path / "run", *values, "training.checkpoint_every=3 steps")
    assert ends == [1, 3, 5, 6, 9]
    ends.clear()
    assert same_rows(resume(tmp_path / "run"), finished)
    assert ends == [10, 12, 15]


def test_a_loss_that_is_no_number_within_a_call_is_found_at_its_step(run, tmp_path, ends):
    origins = []
    for name, callbacks in (("single", [Recorder()]), ("several", [])):
        with pytest.raises(DivergedError) as caught:
            run(tmp_path / name, "optimizer.lr=1e4", "training.deterministic=true", callbacks=callbacks)
        origins.append(
            re.search(r"first not finite: .* in step \d+ \(batch \d+ of epoch \d\)", str(caught.value))[0]
        )
    assert origins[0] == origins[1]
    assert ends[-1] - ends[-2] > 1


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        del logs
        self.model.stop_training = epoch == self.epoch


def test_a_callback_stops_the_run(run, tmp_path):
    done = run(tmp_path / "run", "training.epochs=9", callbacks=[StopAt(1)])
    assert done.status()["state"] == "finished"
    assert done.status()["step"] == 10
    assert "callback" in done.status()["reason"]
    assert (done.path / "model.keras").exists()


def test_callbacks_of_keras_work(run, tmp_path):
    rates = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: [0.02, 1e-9, 1e-9, 1e-9][epoch] + 0 * rate
    )
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, min_delta=1e-3)
    values = ("training.epochs=9", "optimizer.weight_decay=0", "optimizer.momentum=0")
    done = run(tmp_path / "run", *values, "optimizer.groups.biases.lr=0", callbacks=[rates, stopping])
    # From the second epoch on nothing moves.
    frame = rows(done, "train")
    assert list(frame["lr"]) == pytest.approx([0.02, 1e-9, 1e-9, 1e-9][: len(frame)])
    assert done.status()["step"] < 45
    assert done.status()["state"] == "finished"


def test_a_rate_that_a_callback_sets_takes_effect_from_the_first_step(run, tmp_path):
    start = {}

    class Remember(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            del logs
            start["kernel"] = self.model.get_layer("conv1").kernel.numpy()

    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.0 * epoch)
    done = run(tmp_path / "run", "training.epochs=1", callbacks=[Remember(), rates])
    np.testing.assert_array_equal(done.model().get_layer("conv1").kernel.numpy(), start["kernel"])
    assert list(rows(done, "train")["lr"]) == [0]


# ------------------------------------------------------------------------------------------- how long it runs


def test_steps_end_in_the_middle_of_an_epoch(run, tmp_path):
    done = run(tmp_path / "run", "training.steps=7")
    frame = done.metrics()
    assert list(frame["step"]) == [5, 5, 7, 7]
    assert list(rows(done, "train")["examples"]) == [STEPS * BATCH, 2 * BATCH]
    assert list(rows(done, "validation")["examples"]) == [VALIDATION] * 2
    assert done.status()["step"] == 7


def test_the_probe_ends_the_run(run, tmp_path):
    values = ("training.epochs=50", "training.probe.every=3", "training.probe.stop_below=0.5")
    done = run(tmp_path / "run", *values, "training.probe.examples=330", "training.evaluate_every=0")
    probe = rows(done, "probe")
    last = done.status()["step"]
    assert list(probe["step"]) == list(range(0, last + 1, 3))
    assert (probe["top1_error"][:-1] >= 0.5).all()
    assert probe["top1_error"].iloc[-1] < 0.5
    assert "probe" in done.status()["reason"]
    assert list(rows(done, "validation")["step"]) == [last]
    assert probe["loss"].iloc[-1] == pytest.approx(scores(done, "train")[0], rel=1e-5)


def test_a_run_that_the_probe_ends_is_whole_whatever_comes_then(run, tmp_path):
    values = ("training.epochs=50", "training.probe.every=7", "training.probe.stop_below=0.5")
    values = (*values, "training.deterministic=true", "training.checkpoint_every=1 step")
    alone = run(tmp_path / "alone", *values)
    last = alone.status()["step"]
    assert last % STEPS  # in the midst of an epoch
    kill = Kill(signal.SIGTERM, last // STEPS, last % STEPS - 1)
    done = run(tmp_path / "signalled", *values, callbacks=[kill])
    assert done.status()["state"] == "finished"
    assert (done.path / "metrics.csv").read_bytes() == (alone.path / "metrics.csv").read_bytes()
    steps = [int(path.stem.split("-")[1]) for path in alone.checkpoints()]
    assert steps[-1] == last  # of the epoch's end, with its rows
    content = checkpoint.load(alone.checkpoints()[-1])
    assert [str(last), "validation"] in [row[1:3] for row in content.state["metrics"]]


def test_the_probe_before_the_first_step_may_end_it_too(run, tmp_path):
    done = run(tmp_path / "run", "training.probe.every=3", "training.probe.stop_below=1")
    assert done.status()["step"] == 0
    assert list(done.metrics()["split"]) == ["probe"]


def test_a_finished_run_without_checkpoints_is_not_begun_anew(run, resume, tmp_path):
    done = run(tmp_path / "run", "training.epochs=1", "training.checkpoint_every=never")
    before = (done.path / "metrics.csv").read_bytes()
    with pytest.raises(
        ConfigError, match=r"has finished and kept no checkpoint to go on from. Expected init_from="
    ):
        resume(done.path, "training.epochs=2")
    assert (done.path / "metrics.csv").read_bytes() == before


def test_early_stopping(run, tmp_path):
    values = ("training.epochs=9", "optimizer.lr=1e-12", "training.early_stopping.patience=2")
    done = run(tmp_path / "run", *values)
    assert done.status()["step"] == 3 * STEPS  # the first is the best, two are no better
    assert done.status()["reason"] == "no better validation error in 2 epochs"


def test_a_plateau_divides_the_rate_and_ends_the_run(run, tmp_path):
    values = ("optimizer.lr=1e-9", "schedule.patience=1", "schedule.reductions=2", "training.epochs=9")
    done = run(tmp_path / "run", *values, schedule="plateau")
    assert list(rows(done, "train")["lr"]) == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11], rel=1e-6)
    assert "plateau after 2 reductions" in done.status()["reason"]


PHASES = ("second", "third", "fourth", "fifth", "sixth")
# The table of the 2012 code with its epochs brought together, and rotation in the place of colour noise, which grey
# digits cannot have. These are composed with the groups, whose check needs them.
TABLE = {
    "optimizer": "code2012",
    "schedule": "code2012",
    "optimizer.lr": "0.01",
    "augment.order": "[resize,rotate,subtract_mean,scale]",
    "schedule.phases.fourth.augment_off": "[rotate]",
}
EPOCHS = (
    *(f"schedule.phases.{name}.epoch={epoch}" for epoch, name in enumerate(PHASES, start=2)),
    "training.epochs=6",
    "training.deterministic=true",
)


class Weights(keras.callbacks.Callback):
    """The values of each variable after each step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.steps.append({each.path: each.numpy() for each in self.model.trainable_variables})

    def moves(self, path):
        """For each step but the first, how far the largest entry of a variable went."""
        pairs = zip(self.steps[:-1], self.steps[1:], strict=True)
        return np.array([np.abs(after[path] - before[path]).max() for before, after in pairs])


@pytest.fixture(scope="module")
def table_run(run, tmp_path_factory):
    """Six epochs of the table."""
    weights, path = Weights(), tmp_path_factory.mktemp("runs") / "table"
    return run(path, *EPOCHS, callbacks=[weights], **TABLE), weights


def test_a_table_is_the_same_with_several_steps_in_a_call_and_a_device_that_finishes(
    table_run, run, tmp_path, ends
):
    several = run(tmp_path / "run", *EPOCHS, "augment.device=accelerator", **TABLE)
    assert same_rows(several, table_run[0])
    assert ends == [1, *range(STEPS, 6 * STEPS + 1, STEPS)]


def test_a_table_sets_the_rates_and_freezes_conv1_to_the_bit_whatever_its_momentum(table_run):
    done, weights = table_run
    assert list(rows(done, "train")["lr"]) == pytest.approx([1e-2, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5], rel=1e-6)
    assert done.config.optimizer.momentum == 0.9
    end = weights.steps[4 * STEPS - 1]
    for path in ("conv1/kernel", "conv1/bias"):
        assert weights.moves(path)[4 * STEPS - 2] > 0
        assert all(np.array_equal(step[path], end[path]) for step in weights.steps[4 * STEPS :])
    assert weights.moves("conv2/kernel")[4 * STEPS :].min() > 0


def test_a_table_sets_the_rate_of_each_group(run, tmp_path):
    weights = Weights()  # without momentum, a step is as large as its rate
    run(tmp_path / "run", *EPOCHS, "optimizer.momentum=0", callbacks=[weights], **TABLE)

    def by_epoch(path):
        moves = weights.moves(path)
        return [moves[epoch * STEPS : (epoch + 1) * STEPS - 1].mean() for epoch in range(6)]

    # The gradients keep their order of size within an epoch's neighbourhood; the rates differ tenfold and more.
    conv1, conv1_bias = by_epoch("conv1/kernel"), by_epoch("conv1/bias")
    conv2, conv2_bias = by_epoch("conv2/kernel"), by_epoch("conv2/bias")
    for moves in (conv1, conv2):
        assert 0.02 < moves[1] / moves[0] < 0.5
        assert 0.02 < moves[2] / moves[1] < 0.5
    assert 0.02 < conv1[3] / conv1[2] < 0.5  # conv1 alone slows down in the fourth
    assert 0.3 < conv2[3] / conv2[2] < 3
    assert conv1_bias[3] / conv1_bias[2] < 0.01  # from 0.02 to 1e-5
    assert all(0.2 < later / conv2_bias[1] < 5 for later in conv2_bias[2:])  # 0.02 throughout
    assert 0.02 < conv2[5] / conv2[4] < 0.5


def test_an_operation_is_left_out_from_its_epoch_on(run, tmp_path):
    # Nothing learns, so that the losses tell what the images were.
    rates = "{rest: 0, conv1_weights: 0, conv1_biases: 0, biases: 0}"
    still = ("schedule.phases.second.epoch=1", f"schedule.phases.second.rates={rates}", "training.epochs=2")
    values = (*still, "schedule.phases.fifth.augment_off=[rotate]", "training.deterministic=true")
    never = run(tmp_path / "never", *values, "schedule.phases.fifth.epoch=3", **TABLE)
    second = run(tmp_path / "second", *values, "schedule.phases.fifth.epoch=2", **TABLE)
    without = run(tmp_path / "without", *values, "augment.rotate=null", **TABLE)
    losses = [list(rows(done, "train")["loss"]) for done in (never, second, without)]
    assert losses[0][0] == losses[1][0] != losses[2][0]
    assert losses[0][1] != losses[1][1] == losses[2][1]
    validation = [list(rows(done, "validation")["loss"]) for done in (never, second, without)]
    assert validation[0] == validation[1] == validation[2]


@pytest.mark.slow  # the test of a table has such a device too
def test_a_device_that_finishes_images_makes_the_same_run(run, tmp_path):
    values = (
        "training.epochs=2",
        "training.deterministic=true",
        "schedule.phases.fifth.epoch=2",
        "schedule.phases.fifth.augment_off=[flip]",
    )
    table = {**TABLE, "augment.order": "[resize,random_crop,brightness,flip,subtract_mean,scale]"}
    table |= {"augment.resize.size": "10", "augment.random_crop.size": "8"}
    table["schedule.phases.fourth.augment_off"] = "[brightness]"
    host, device = (
        run(tmp_path / where, *values, f"augment.device={where}", **table)
        for where in ("host", "accelerator")
    )
    metrics = [done.metrics().drop(columns="lr") for done in (host, device)]
    assert metrics[0].equals(metrics[1])
    assert len(set(rows(host, "train")["loss"])) == 2
    left = [[variable.numpy() for variable in done.model().variables] for done in (host, device)]
    for one, other in zip(*left, strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_only_at_the_end(run, tmp_path):
    done = run(tmp_path / "run", "training.evaluate_every=0", "training.epochs=2")
    assert list(rows(done, "validation")["step"]) == [10]
    assert list(rows(done, "train")["step"]) == [5, 10]


def test_one_batch_can_be_learnt_by_heart(run, tmp_path):
    values = (
        "training.overfit_batches=1",
        "training.steps=60",
        "optimizer.lr=0.05",
        "training.batch_size=16",
    )
    done = run(
        tmp_path / "run",
        *values,
        "training.evaluate_every=0",
        "training.checkpoint_every=never",
        "model.stages.conv3.dropout=0",
    )
    frame = rows(done, "train")
    assert len(frame) == 60  # an epoch is the one batch
    assert set(frame["examples"]) == {16}
    assert frame["top1_error"].iloc[-1] == 0
    assert frame["loss"].iloc[-1] < 0.2
    source = data.load_source(done.config.data)
    ids = data.epoch_ids(source, 0, 0)[:16]
    assert scores(done, "train", ids)[1] == 0


@pytest.mark.slow
def test_batches_learnt_by_heart_come_in_turns_after_a_resume_too(run, resume, tmp_path):
    values = ("training.overfit_batches=2", "training.deterministic=true", "training.probe.every=0")
    whole = run(tmp_path / "whole", *values, "training.epochs=4")
    # It ends in the middle of an epoch.
    part = run(tmp_path / "part", *values, "training.steps=3", "training.epochs=4")
    assert same_rows(resume(part.path, "training.steps=null"), whole, without=[3])


def test_checkpoints_by_steps_and_never(run, tmp_path):
    done = run(tmp_path / "steps", "training.steps=7", "training.checkpoint_every=3 steps")
    assert [path.stem for path in done.checkpoints()] == ["step-000000006", "step-000000007"]
    done = run(tmp_path / "never", "training.epochs=1", "training.checkpoint_every=never")
    assert done.checkpoints() == []
    assert done.model().count_params() > 0


# -------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("value", "compute", "optimizer"),
    [
        ("training.eager=true", "float32", "CoupledSGD"),
        pytest.param("training.jit_compile=true", "float32", "CoupledSGD", marks=pytest.mark.slow),
        ("training.precision=bfloat16", "bfloat16", "CoupledSGD"),
        ("training.precision=float16", "float16", "LossScaleOptimizer"),
        ("training.precision=float64", "float64", "CoupledSGD"),
    ],
)
def test_modes_and_precisions(run, tmp_path, finished, value, compute, optimizer):
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            del logs
            seen["dtype"] = self.model.get_layer("conv1").compute_dtype
            seen["optimizer"] = type(self.model.optimizer).__name__

    done = run(tmp_path / "run", value, "training.epochs=1", callbacks=[Look()])
    assert seen == {"dtype": compute, "optimizer": optimizer}
    kernel = done.model().get_layer("conv1").kernel
    assert kernel.dtype == ("float64" if compute == "float64" else "float32")
    validation, tolerance = rows(done, "validation").iloc[-1], 0.02 if "16" in compute else 1e-4
    assert validation["loss"] == pytest.approx(scores(done, "validation")[0], rel=tolerance)
    # The same order; the same weights and dropout too, but for XLA's generator and other dtypes.
    alike = 1e-4 if "eager" in value else 0.1
    for split in ("train", "validation"):
        assert rows(done, split)["loss"][0] == pytest.approx(rows(finished, split)["loss"][0], rel=alike)


def test_adam_runs(run, tmp_path):
    done = run(tmp_path / "run", "optimizer.lr=0.003", optimizer="adam")
    frame = rows(done, "train")
    assert frame["loss"].is_monotonic_decreasing
    assert set(frame["lr"]) == {0.003}


def test_the_same_seed_gives_the_same_file(finished, run, tmp_path):
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    texts = [(finished.path / runs.METRICS).read_text()]
    for seed in (0, 1):
        texts.append((run(tmp_path / str(seed), *values, f"seed={seed}").path / runs.METRICS).read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_run_that_diverges_says_so_and_keeps_its_last_good_checkpoint(run, resume, tmp_path):
    good = run(tmp_path / "run", "training.epochs=1")
    (kept,) = good.checkpoints()
    before = kept.read_bytes()
    with pytest.raises(DivergedError) as caught:
        resume(good.path, "training.epochs=4", "optimizer.lr=1e12")
    message = str(caught.value)
    assert "\n" not in message
    assert "became" in message
    assert "optimizer.lr (now 1e+12)" in message
    assert re.search(
        r"; first not finite: the output of \w+ in step \d+ \(batch \d of epoch 2\): try", message
    )
    assert str(kept) in message
    assert kept.read_bytes() == before
    status = good.status()
    assert (status["state"], status["reason"]) == ("failed", message)
    assert [path.name for path in good.checkpoints()] == [kept.name]
    done = resume(good.path, "training.epochs=2", "optimizer.lr=0.02")
    assert done.status()["state"] == "finished"
    assert rows(done, "train")["loss"].is_monotonic_decreasing


def test_weights_that_overflow_are_not_saved(run, tmp_path):
    # The one step's loss is still finite; what it made of the weights is not.
    values = ("training.steps=1", "optimizer.lr=1e38", "training.batch_size=330")
    with pytest.raises(DivergedError, match="there is no checkpoint yet"):
        run(
            tmp_path / "run",
            *values,
            "optimizer.momentum=0",
            "training.evaluate_every=0",
            "optimizer.weight_decay=1e9",
        )
    assert RunFolder.open(tmp_path / "run").checkpoints() == []


def test_a_folder_with_a_run_is_refused(finished, run):
    before = (finished.path / runs.METRICS).read_bytes()
    with pytest.raises(WrongPathError, match="there is a run already"):
        run(finished.path)
    assert (finished.path / runs.METRICS).read_bytes() == before
    assert finished.status()["state"] == "finished"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("model.num_classes=9", r"model\.num_classes=9: expected at least the 10 classes of data=digits"),
        ("model.input_channels=3", r"model\.input_channels=3: expected 1, as data=digits has"),
        ("training.batch_size=331", r"training\.batch_size.*1 to 330"),
        ("training.intra_threads=1", r"training\.intra_threads.*TensorFlow has started already"),
        ("strategy.logical_devices=4", r"strategy\.logical_devices.*TensorFlow has started already"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(run, finished, tmp_path, value, message):
    assert finished  # TensorFlow runs
    with pytest.raises(Exception, match=message) as caught:
        run(tmp_path / "run", value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status in (1, 2)


def test_more_classes_than_the_data_has_are_allowed(run, tmp_path):
    done = run(tmp_path / "run", "model.num_classes=12", "training.steps=1")
    assert done.model().output_shape == (None, 12)


# ------------------------------------------------------------------------------------------------------ resume


def same_rows(first, second, without=()):
    frames = [run.metrics() for run in (first, second)]
    texts = [frame[~frame["step"].isin(without)].to_csv(index=False) for frame in frames]
    return texts[0] == texts[1]


@pytest.mark.parametrize("stop", [pytest.param(5, marks=pytest.mark.slow), 7])
def test_a_run_that_is_continued_is_the_run_that_was_never_stopped(run, resume, finished, tmp_path, stop):
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    part = run(tmp_path / "run", *values, f"training.steps={stop}")
    part.write_overrides([f"training.steps={stop}", "seed=0"])
    done = resume(part.path, "training.steps=null")
    assert same_rows(done, finished, without=[7])
    for mine, other in zip(done.model().weights, finished.model().weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
    assert done.config.training.steps is None
    assert done.overrides() == ["seed=0", "training.steps=null"]


class Kill(keras.callbacks.Callback):
    """Send this process a signal during a step."""

    def __init__(self, kind, epoch, batch):
        super().__init__()
        self.kind, self.at, self.epoch = kind, (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        del logs
        if (self.epoch, batch) == self.at:
            os.kill(os.getpid(), self.kind)


@pytest.mark.parametrize(("kind", "epoch", "batch"), [("SIGINT", 1, 1), ("SIGTERM", 0, STEPS - 1)])
def test_a_signal_saves_and_the_run_goes_on(run, resume, finished, tmp_path, kind, epoch, batch):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    number = getattr(signal, kind)
    with pytest.raises(Stopped) as caught:
        run(tmp_path / "run", *values, callbacks=[Kill(number, epoch, batch)])
    step = epoch * STEPS + batch + 1
    assert str(caught.value) == f"stopped at step {step}; go on with: alexnet train resume={tmp_path / 'run'}"
    assert caught.value.exit_status == 75
    status = RunFolder.open(tmp_path / "run").status()
    assert (status["state"], status["step"], status["reason"]) == ("stopped", step, f"{kind} at step {step}")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not (tmp_path / "run" / "model.keras").exists()
    done = resume(tmp_path / "run")
    assert done.status()["state"] == "finished"
    assert "reason" in done.status()
    assert same_rows(done, finished)


@pytest.fixture
def signal_in_evaluation(monkeypatch):
    """Send this process SIGTERM after the first batch of the probe or validation of this number, counted from 1."""

    def at(number):
        measure, begun = Evaluator.__call__, []

        def measure_and_kill(evaluator, batches):
            begun.append(None)
            after = evaluator.after_batch
            if len(begun) == number:
                evaluator.after_batch = lambda: os.kill(os.getpid(), signal.SIGTERM)
            scores = measure(evaluator, batches)
            evaluator.after_batch = after
            return scores

        monkeypatch.setattr(Evaluator, "__call__", measure_and_kill)

    return at


@pytest.mark.parametrize(
    ("number", "split", "step"),
    [
        pytest.param(1, "the probe before the first step", 1, marks=pytest.mark.slow),
        pytest.param(2, "the probe", STEPS, marks=pytest.mark.slow),
        (3, "the validation", STEPS),
    ],
)
def test_a_signal_during_an_evaluation_waits_for_its_end(
    run, resume, finished, tmp_path, signal_in_evaluation, number, split, step
):
    signal_in_evaluation(number)
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    with pytest.raises(Stopped) as caught:
        run(tmp_path / "run", *values)
    assert caught.value.exit_status == 75
    status = RunFolder.open(tmp_path / "run").status()
    assert (status["state"], status["reason"]) == ("stopped", f"SIGTERM at step {step}"), split
    done = resume(tmp_path / "run")
    assert done.status()["state"] == "finished"
    assert (done.path / runs.METRICS).read_bytes() == (finished.path / runs.METRICS).read_bytes()
    for mine, other in zip(done.model().weights, finished.model().weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_a_signal_during_the_last_validation_comes_too_late_to_stop(
    run, finished, tmp_path, signal_in_evaluation
):
    signal_in_evaluation(
        7
    )  # a probe before the first step, then a probe and a validation in each of three epochs
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    done = run(tmp_path / "run", *values)
    assert done.status()["state"] == "finished"
    assert (done.path / runs.METRICS).read_bytes() == (finished.path / runs.METRICS).read_bytes()


def test_a_finished_run_that_is_resumed_stays_as_it_was(run, resume, tmp_path):
    done = run(tmp_path / "run", "training.epochs=1")
    metrics = (done.path / runs.METRICS).read_text()
    weights = [weight.numpy() for weight in done.model().weights]
    (done.path / runs.METRICS).write_text("damaged")  # the checkpoint has the rows too
    again = resume(done.path)
    assert (again.path / runs.METRICS).read_text() == metrics
    assert all(np.array_equal(w.numpy(), old) for w, old in zip(again.model().weights, weights, strict=True))
    assert again.status()["state"] == "finished"
    assert again.status()["step"] == 5


@pytest.mark.parametrize(
    ("groups", "values"),
    [({"optimizer": "adam"}, ()), ({}, ("training.precision=float16",))],
)
@pytest.mark.slow
def test_other_optimizers_are_continued_too(run, resume, tmp_path, groups, values):
    values = (*values, "training.deterministic=true", "training.epochs=1")
    whole = run(tmp_path / "whole", *values, **groups)
    part = run(tmp_path / "part", *values, "training.steps=3", **groups)
    assert same_rows(resume(part.path, "training.steps=null"), whole, without=[3])


def test_a_plateau_is_continued(run, resume, tmp_path):
    values = ("optimizer.lr=1e-9", "schedule.patience=2", "schedule.reductions=1", "training.epochs=9")
    part = run(tmp_path / "run", *values, "training.steps=10", schedule="plateau")
    done = resume(part.path, "training.steps=null")
    # One epoch had been waited before the resume: the best, two no better, two more at a tenth of the rate.
    assert list(rows(done, "train")["lr"]) == pytest.approx([1e-9] * 3 + [1e-10] * 2, rel=1e-6)
    assert done.status()["reason"] == "plateau after 1 reductions of the rate"


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [pytest.param(3, 1, marks=pytest.mark.slow), (3, STEPS - 1), pytest.param(4, 1, marks=pytest.mark.slow)],
)
def test_a_table_is_continued_to_the_bit(run, resume, table_run, tmp_path, epoch, batch):
    """Killed while conv1 slows down, at the edge of the epoch that freezes it, and while it is frozen."""
    whole, _ = table_run
    with pytest.raises(Stopped):
        run(tmp_path / "run", *EPOCHS, callbacks=[Kill(signal.SIGTERM, epoch, batch)], **TABLE)
    done = resume(tmp_path / "run")
    assert same_rows(done, whole)
    for mine, other in zip(done.model().weights, whole.model().weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_a_schedule_that_no_longer_freezes_releases(run, resume, tmp_path):
    values = ("schedule.phases.fifth.epoch=1", "training.epochs=1")
    part = run(tmp_path / "run", *values, **TABLE)
    frozen = part.model().get_layer("conv1").kernel.numpy()
    done = resume(part.path, "training.epochs=2", "schedule.phases.fifth.epoch=9")
    assert not np.array_equal(done.model().get_layer("conv1").kernel.numpy(), frozen)


def test_a_damaged_newest_checkpoint_costs_an_epoch_and_not_the_run(run, resume, finished, tmp_path, caplog):
    values = ("training.probe.every=5", "training.probe.examples=77", "training.deterministic=true")
    part = run(tmp_path / "run", *values, "training.epochs=2")
    newest = part.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    done = resume(part.path, "training.epochs=3")
    assert "damaged" in caplog.text
    assert same_rows(done, finished)


def test_what_cannot_be_resumed(run, resume, tiny, tmp_path):
    done = run(tmp_path / "run", "training.steps=1")
    newest = done.checkpoints()[-1]
    config = (done.path / runs.CONFIG).read_text()

    def with_config(old: str, new: str) -> None:
        assert old in config
        (done.path / runs.CONFIG).write_text(config.replace(old, new, 1))

    with_config("train_examples: 330", "train_examples: 200")
    with pytest.raises(
        RunError, match=r"the data has changed since it was written \(data=digits\); cannot go on"
    ):
        resume(done.path, "training.steps=2")
    with_config("units: 32", "units: 16")
    with pytest.raises(RunError, match=r"does not fit the model: expected model/.*of shape.*found"):
        resume(done.path, "training.steps=2")
    (done.path / runs.CONFIG).write_text(config)
    for change in (
        "schedule.name=plateau",
        "model.activation=tanh",
        "data.train_examples=200",
        "training.batch_size=8",
        "model=alexnet",
    ):
        with pytest.raises(
            ConfigError, match=r": resume=.* goes on with the run's own config\. Expected only keys"
        ):
            resume(done.path, change)
    with pytest.raises(ConfigError, match=r"schedule\.patience: no such key"):
        resume(done.path, "schedule.patience=3")
    with pytest.raises(WrongPathError, match="no such folder"):
        train(tiny(f"resume={tmp_path / 'nowhere'}"))
    assert newest.exists()
    assert Path(done.path / runs.METRICS).exists()
    assert (done.path / runs.CONFIG).read_text() == config  # a refusal leaves the run as it was
    assert done.status()["state"] == "finished"


def test_a_run_that_stopped_early_is_finished_until_something_changes(run, resume, tmp_path):
    options = ("training.epochs=30", "training.early_stopping.patience=1", "optimizer.lr=1e-9")
    done = run(tmp_path / "run", *options)
    step = done.status()["step"]
    assert "no better validation error in 1 epochs" in done.status()["reason"]
    assert resume(done.path).status()["step"] == step
    assert resume(done.path, "training.early_stopping.patience=3").status()["step"] > step


def test_checkpoints_every_n_steps_count_the_last_step_of_an_epoch(run, tmp_path):
    one = run(
        tmp_path / "run", "training.epochs=2", "training.keep_checkpoints=99", "training.evaluate_every=0"
    )
    every = one.metrics().query("split == 'train'")["step"].iloc[0]
    options = ("training.epochs=3", "training.keep_checkpoints=99", "training.evaluate_every=0")
    done = run(tmp_path / "steps", *options, f"training.checkpoint_every={every} steps")
    names = [path.name for path in done.checkpoints()]
    assert names == [f"step-{n * every:09d}.npz" for n in (1, 2, 3)]


def test_more_overfit_batches_than_there_are_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"training\.overfit_batches=1000: expected at most \d+"):
        run(tmp_path / "run", "training.overfit_batches=1000")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("match", ["biass$", "^conv9/"])
def test_a_group_without_variables_is_refused(run, tmp_path, match):
    message = rf"^optimizer\.groups\.biases\.match={re.escape(match)}: expected to find .* conv1/kernel to fc10/bias$"
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", f"optimizer.groups.biases.match={match}")
    assert not (tmp_path / "run").exists()


def test_one_process_at_a_time_trains_a_run(run, resume, tmp_path):
    done = run(tmp_path / "run", "training.steps=1")
    other = os.open(done.path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(WrongPathError, match="another process is training this run"):
        resume(done.path, "training.steps=2")
    os.close(other)
    assert resume(done.path, "training.steps=2").status()["step"] == 2
