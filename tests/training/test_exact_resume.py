"""A run that is interrupted, wherever and however, ends to the byte as one that was left alone."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from kill_campaign import EVERYTHING, outcome, write_images

from alexnet_tf.config import compose
from alexnet_tf.training import Stopped, checkpoint, train

HERE = Path(__file__).parent
STEPS = 25


def campaign(folder, kills, kind):
    command = [sys.executable, str(HERE / "kill_campaign.py"), str(folder), str(kills), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_leave_no_trace(tmp_path):
    report = campaign(tmp_path, 3, "digits")
    assert report["kills"] == 3
    assert report["during_a_save"] > 0
    assert report["equal"] == report["runs"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_five_kills_leave_no_trace(tmp_path):
    report = campaign(tmp_path, 25, "everything")
    print(report)
    assert report["kills"] == 25
    assert report["during_a_save"] >= 5
    assert report["equal"] == report["runs"] > 0


class Interrupt(keras.callbacks.Callback):
    """Send this process SIGTERM when so many steps of the leg are done."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGTERM)


class Trainer:
    """Runs of one config, in one folder."""

    def __init__(self, folder, *values):
        self.folder = folder
        images = folder / "images"
        if not images.exists():
            write_images(images)
        self.config = [*EVERYTHING, f"data.dir={images}", *values]

    def whole(self):
        return train(compose([*self.config, f"run_dir={self.folder / 'whole'}"])).path

    def interrupted(self, *steps):
        """The run that is stopped after each of these steps and resumed."""
        path, at = self.folder / f"at-{'-'.join(map(str, steps))}", 0
        for step in steps:
            with pytest.raises(Stopped) as caught:
                self._leg(path, [Interrupt(step - at)])
            assert f"stopped at step {step};" in str(caught.value)
            (newest, content) = checkpoint.load_newest(caught.value.run)  # on the disk by now
            assert newest.name == f"step-{step:09d}.npz"
            assert content.state["counters"]["step"] == step
            at = step
        self._leg(path, [])
        return path

    def _leg(self, path, callbacks):
        where = f"resume={path}" if path.exists() else f"run_dir={path}"
        train(compose([*self.config, where]), callbacks=callbacks)


def assert_equal(first, second):
    mine, other = outcome(first), outcome(second)
    assert mine.keys() == other.keys()
    assert [name for name in mine if mine[name] != other[name]] == []
    for a, b in zip(
        *(keras.models.load_model(path / "model.keras", compile=False).weights for path in (first, second)),
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
def test_a_run_with_everything_on_goes_on_to_the_byte_after_interruptions_at_any_step(tmp_path):
    trainer = Trainer(tmp_path, "training.checkpoint_every=1 epoch")
    whole = trainer.whole()
    rows = [row.split(",") for row in (whole / "metrics.csv").read_text().splitlines()[1:]]
    assert len({row[6] for row in rows}) > 1  # the plateau has been met
    assert {row[2] for row in rows} == {"probe", "train", "validation"}
    assert_equal(whole, trainer.interrupted(7, 15))  # within an epoch, and between two


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_every_step_is_one_to_be_interrupted_at(tmp_path, precision):
    trainer = Trainer(tmp_path, f"training.precision={precision}", "training.checkpoint_every=7 steps")
    whole = trainer.whole()
    content = checkpoint.load(sorted((whole / "checkpoints").glob("step-*"))[-1])
    scale = {name.rpartition("/")[2]: array for name, array in content.arrays.items() if "loss_scale" in name}
    assert bool(scale) == (precision == "float16")
    if scale:
        print(scale)
        assert scale["step_counter"] > 0  # of the steps since the scale last changed
    assert [name for name in content.arrays if name.endswith("velocity")]
    for first in range(1, 9):
        assert_equal(whole, trainer.interrupted(*range(first, STEPS, 8)))
    print(f"{precision}: interrupted at each of the steps 1 to {STEPS - 1}, over 8 runs; all equal")
