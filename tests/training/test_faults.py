"""What goes wrong outside our code, or in the numbers: one line, an exit status, and the last good state kept."""

import contextlib
import os
import re
import resource
import subprocess
import tempfile
import time
import zipfile
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_tf import data, model, runs
from alexnet_tf.config import to_yaml
from alexnet_tf.runs import RunError, RunFolder
from alexnet_tf.studies import write_report
from alexnet_tf.training import DivergedError, checkpoint, diagnosis
from alexnet_tf.training.callbacks import TensorBoard
from alexnet_tf.training.loop import Counters

STEPS = 5


@pytest.fixture(scope="module")
def done(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "done", "training.epochs=1")


class At(keras.callbacks.Callback):
    """Do something when so many steps are done."""

    def __init__(self, step, action):
        super().__init__()
        self.left, self.action = step, action

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.left -= 1
        if not self.left:
            self.action(self.model)


# ------------------------------------------------------------------------------------------ no longer a number


def poison(path, value):
    def action(model):
        (variable,) = [each for each in model.weights if each.path == path]
        array = variable.numpy()
        array.flat[0] = value
        variable.assign(array)

    return action


def overflow(network, path):
    """Make one variable so large that what is computed with it overflows."""
    (variable,) = [each for each in network.weights if each.path == path]
    signs = 1 - 2 * (np.arange(np.prod(variable.shape)) % 2)
    variable.assign(3e38 * signs.reshape(variable.shape))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("conv1/kernel", "the output of conv1"),
        ("conv3/kernel", "the output of conv3"),
        ("fc10/bias", "the loss itself"),
    ],
)
def test_the_first_layer_that_is_not_finite_is_named(tiny, path, found):
    config = tiny("model.num_classes=10", "model.input_channels=1", "training.batch_size=8")
    network = model.build(config.model, dtype="float32", seed=0)
    state = SimpleNamespace(model=network, config=config, counters=Counters(), optimizer=None)
    images = tf.constant(np.random.default_rng(0).normal(size=(8, 8, 8, 1)), tf.float32)
    assert diagnosis.first_not_finite(state, images, np.arange(8)) is None
    overflow(network, path)
    assert diagnosis.first_not_finite(state, images, np.arange(8)) == f"not finite: {found}"


def test_before_the_first_checkpoint_the_steps_are_repeated_from_the_start(run, tmp_path):
    with pytest.raises(DivergedError) as caught:
        run(tmp_path / "run", "optimizer.lr=1e30", "training.deterministic=true", "optimizer.momentum=0")
    message = str(caught.value)
    assert re.search(
        r"; first not finite: the output of \w+ in step 2 \(batch 2 of epoch 1\): try", message
    ), message
    assert message.endswith("there is no checkpoint yet")


@pytest.mark.slow
def test_what_does_not_happen_again_is_said_so(run, tmp_path):
    action = At(7, poison("conv2/kernel", np.nan))  # nothing in the run's own steps would do that
    with pytest.raises(
        DivergedError, match=r"; the step is unknown, as it did not happen again when"
    ) as caught:
        run(tmp_path / "run", callbacks=[action])
    assert f"step-{STEPS:09d}.npz" in str(caught.value)


# ----------------------------------------------------------------------------------------------------- no room


@contextlib.contextmanager
def files_of_at_most(size):
    """What a quota or a full disk does to this process: no file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limit(size):
    """An action that takes the room away; `room_at_the_end` gives it back."""

    def action(model):
        del model
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return action


def saved(folder, action):
    """An action that waits for the first checkpoint, which is written behind the training's back."""

    def wait(model):
        deadline = time.monotonic() + 30
        while not list((folder / "checkpoints").glob("step-*.npz")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        action(model)

    return wait


@pytest.fixture
def room_at_the_end():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("room_at_the_end")
@pytest.mark.parametrize(
    ("file", "size"), [("checkpoints/step-000000010.npz", 20_000), ("metrics.csv", 1000)]
)
def test_a_full_disk_is_one_line_and_the_run_can_go_on(run, resume, tmp_path, file, size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RunError) as caught:
        run(
            tmp_path / "run",
            "training.probe.every=1",
            callbacks=[At(7, saved(tmp_path / "run", limit(size)))],
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    folder = RunFolder.open(tmp_path / "run")
    kept = folder.path / "checkpoints" / "step-000000005.npz"
    message = (
        f"{folder.path / file}: cannot be written (File too large); the last good checkpoint is {kept}; "
        f"go on with: alexnet train resume={folder.path}"
    )
    assert str(caught.value) == message
    assert caught.value.exit_status == 1
    status = folder.status()
    assert status["state"] == "failed"
    assert status["reason"] == message
    assert [path.name for path in folder.checkpoints()] == [kept.name]
    assert not [path for path in folder.path.rglob("*") if ".tmp" in path.name]
    if file != "metrics.csv":
        assert resume(folder.path, "training.epochs=2").status()["state"] == "finished"


@pytest.mark.usefixtures("room_at_the_end")
@pytest.mark.slow
def test_a_model_that_cannot_be_written_leaves_none(run, resume, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(
        RunError, match=r"model\.keras: cannot be written \(.*\); the last good checkpoint is .*000005"
    ):
        run(
            folder.path,
            "training.epochs=1",
            callbacks=[AtTheEnd(saved(folder.path, limit(20_000)))],
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert not (folder.path / runs.MODEL).exists()
    assert folder.status()["state"] == "failed"
    assert resume(folder.path).model().count_params() > 0


class AtTheEnd(keras.callbacks.Callback):
    """Do something when the training is over."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def on_train_end(self, logs=None):
        del logs
        self.action(self.model)


def scalars(folder):
    """The values of a tag by step, as TensorBoard shows them; it skips a record that is not whole."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: {each.step: each for each in events.Tensors(tag)} for tag in events.Tags()["tensors"]}


@pytest.mark.usefixtures("room_at_the_end")
def test_events_that_cannot_be_written_are_one_line_and_the_run_can_go_on(run, resume, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        run(
            folder.path,
            "training.tensorboard=true",
            callbacks=[StopGrowing(folder.path)],
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value) == (
        f"{folder.path / 'events'}: cannot be written (File too large); the last good checkpoint is "
        f"{folder.checkpoints()[-1]}; go on with: alexnet train resume={folder.path}"
    )
    assert folder.status()["state"] == "running"  # there is no room for another status either
    assert set(scalars(folder.path / "events" / "train")["loss"]) == {1}
    done = resume(folder.path)
    assert done.status()["state"] == "finished"
    assert set(scalars(folder.path / "events" / "train")["loss"]) == {1, 2, 3}


class StopGrowing(keras.callbacks.Callback):
    """When an epoch has begun for the second time, let no file grow much larger than the run's events are."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        if epoch == 1:
            (events,) = self.folder.glob("events/train/events.*")
            saved(self.folder, limit(events.stat().st_size + 20))(self.model)


def test_a_report_that_cannot_be_written_leaves_the_one_before(done):
    before = write_report([done.path]).html.read_bytes()
    with (
        files_of_at_most(1000),
        pytest.raises(RunError, match=r"cannot be written \(File too large\)") as caught,
    ):
        write_report([done.path])
    assert "\n" not in str(caught.value)
    assert (done.path / "report.html").read_bytes() == before
    assert not [path for path in done.path.rglob("*") if ".tmp" in path.name]


@contextlib.contextmanager
def mounted(folder, *options):
    """A file system of its own in memory, where this user may mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_file_system_that_is_really_full(run, resume, tmp_path):
    with mounted(tmp_path / "small", "-o", "size=5m") as disk:
        filler = disk / "filler"

        def fill(model):
            del model
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(b"x" * 4096)

        with pytest.raises(
            RunError, match=r": cannot be written \(No space left on device\); the last good checkpoint"
        ):
            run(disk / "run", callbacks=[At(7, fill)])
        folder = RunFolder.open(disk / "run")
        assert [path.name for path in folder.checkpoints()] == ["step-000000005.npz"]
        filler.unlink()
        done = resume(folder.path)
        assert done.status()["state"] == "finished"
        fill(None)
        with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
            write_report([done.path])


def test_events_on_a_full_file_system_are_no_lack_of_memory(tmp_path):
    """TensorFlow calls both `ResourceExhaustedError`."""
    with mounted(tmp_path / "small", "-o", "size=64k") as disk:
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 4096)
        with pytest.raises(
            RunError, match=rf"^{disk}/events: cannot be written \(No space left on device\)$"
        ):
            TensorBoard(disk / "events", ["seed=1"])


# ------------------------------------------------------------------------------------------------- no permission


@pytest.mark.slow
def test_a_folder_that_can_only_be_read_is_one_line(run, resume, tmp_path):
    with mounted(tmp_path / "disk", "-o", "size=20m") as disk:
        done = run(disk / "run", "training.epochs=1")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(RunError, match=r"cannot be written \(Read-only file system\)") as caught:
            resume(done.path, "training.epochs=2")
        assert "\n" not in str(caught.value)
        with pytest.raises(
            RunError, match=rf"^run_dir={disk}/new: cannot be written \(Read-only file system\)$"
        ):
            run(disk / "new")
        with pytest.raises(RunError, match=r"cannot be written \(Read-only file system\)"):
            write_report([done.path])
        assert done.status()["state"] == "finished"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_without_permission_is_one_line(run, resume, tmp_path):
    done = run(tmp_path / "run", "training.epochs=1")
    done.path.chmod(0o500)
    try:
        with pytest.raises(RunError, match=r"cannot be written \(Permission denied\)"):
            resume(done.path, "training.epochs=2")
    finally:
        done.path.chmod(0o700)


# ---------------------------------------------------------------------------------------------------- no memory


@pytest.mark.slow
def test_no_memory_names_the_batch_size(run, tmp_path):
    """One tensor that no machine has the memory for."""
    with pytest.raises(RunError) as caught:
        run(tmp_path / "run", "training.epochs=1", callbacks=[At(2, too_large)])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        "out of memory: training.batch_size=64 or training.eval_batch_size=100 is too much for model=digits_quick"
    )
    assert message.endswith(
        "such as half of it (OOM when allocating tensor with shape[4194304,4194304] and type float)"
    )
    assert caught.value.exit_status == 1
    assert RunFolder.open(tmp_path / "run").status()["reason"] == message


def too_large(model):
    model(np.zeros((1, 8, 8, 1), np.float32))
    keras.ops.zeros((2**22, 2**22))


# --------------------------------------------------------------------------------------- an old or foreign run


def test_a_run_of_a_newer_schema_is_refused_in_one_line(tiny, tmp_path, alexnet_here):
    path = tmp_path / "run"
    config = to_yaml(tiny())
    RunFolder.create(path, config.replace("schema_version: 1", "schema_version: 7"), [])
    done = alexnet_here("evaluate", str(path))
    assert done.returncode == 2
    assert done.stderr == (
        f"alexnet: {path}/config.yaml (schema_version 7; this alexnet_tf has 1): schema_version=7: expected 1 to 1; "
        f"a newer alexnet_tf has written it\n"
    )
    (path / runs.CONFIG).write_text("seed: [1\n")
    done = alexnet_here("train", f"resume={path}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"alexnet: {path}/config.yaml: cannot be read (")


# -------------------------------------------------------------------------------------------------- code in files


def test_a_model_file_with_code_in_it_is_refused_and_does_not_run(done, tmp_path):
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch() or x"
    inputs = keras.Input((8, 8, 1))
    evil = keras.Model(inputs, keras.layers.Lambda(eval(f"lambda x: {code}"))(inputs))
    trap.unlink(missing_ok=True)
    evil.save(done.path / runs.MODEL)
    with pytest.raises(RunError, match=r"model\.keras: cannot be loaded \(") as caught:
        done.model()
    assert "\n" not in str(caught.value)
    evil.save(tmp_path / "evil.h5")
    (tmp_path / "evil.h5").replace(done.path / runs.MODEL)
    with pytest.raises(RunError, match=r"model\.keras: cannot be loaded \("):
        done.model()
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_a_model_file_writes_nothing_outside(run, tmp_path, monkeypatch):
    done, temporary = run(tmp_path / "runs" / "run", "training.steps=1"), tmp_path / "temporary" / "files"
    temporary.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with zipfile.ZipFile(done.path / runs.MODEL, "a") as archive:
        for name in ("../evil", "../../evil", "assets/../../../evil", f"{tmp_path}/evil"):
            archive.writestr(name, "x")
    before = sorted(tmp_path.rglob("*"))
    with contextlib.suppress(RunError):
        done.model()
    assert sorted(tmp_path.rglob("*")) == before


def test_yaml_of_a_run_makes_no_objects(tmp_path):
    trap = tmp_path / "trap"
    run = RunFolder.create(tmp_path / "run", "seed: 0\n", [])
    for name, read in ((runs.CONFIG, run.config_dict), (runs.OVERRIDES, run.overrides)):
        (run.path / name).write_text(f"!!python/object/apply:os.mkdir ['{trap}']\n")
        with pytest.raises(RunError, match=rf"{name}: cannot be read \(could not determine a constructor"):
            read()
    assert not trap.exists()


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_arrays_of_a_run_are_never_unpickled(run, resume, tmp_path):
    done, trap = run(tmp_path / "run", "training.steps=1"), tmp_path / "trap"
    for path in (done.path / runs.STATISTICS, done.checkpoints()[0]):
        whole = path.read_bytes()
        np.savez(path, state=np.array(Evil(trap), object), mean_image=np.array(Evil(trap), object))
        with pytest.raises((RunError, data.DataError), match=r"allow_pickle=False|damaged"):
            resume(done.path)
        path.write_bytes(whole)
    assert not trap.exists()


# ------------------------------------------------------------------------------------------------------- minutes


def test_minutes_count_from_the_last_checkpoint(run, tmp_path):
    class Slow(keras.callbacks.Callback):
        """The third step takes longer than the 0.01 minutes."""

        def __init__(self):
            super().__init__()
            self.step = 0

        def on_train_batch_begin(self, batch, logs=None):
            del batch, logs
            self.step += 1
            if self.step == 3:
                time.sleep(0.7)

    values = ("training.epochs=2", "training.evaluate_every=0", "training.keep_checkpoints=9")
    done = run(tmp_path / "run", *values, "training.checkpoint_every=0.01 minutes", callbacks=[Slow()])
    steps = [checkpoint.load(path).state["counters"]["step"] for path in done.checkpoints()]
    assert {3, 10} <= set(steps)
    assert len(steps) < 10
