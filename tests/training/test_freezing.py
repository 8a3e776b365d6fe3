"""`model.freeze_until`, `schedule.unfreeze` and `optimizer.multipliers`: which layers learn, when, and how fast."""

import signal

import keras
import numpy as np
import pytest

from alexnet_tf.config import ConfigError, compose, from_run
from alexnet_tf.model import build_model
from alexnet_tf.training import Stopped
from alexnet_tf.training.freezing import check_freezing, freeze

GROUPS = {"biases": "^conv[12]/bias$", "kernels": "^conv[12]/kernel$"}


class Watch(keras.callbacks.Callback):
    """Keeps the weights by layer before the training and after each epoch; stops after so many steps."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.seen, self.steps, self.stop_at = [], 0, stop_at

    def weights(self):
        return {weight.path: weight.numpy() for weight in self.model.weights}

    def on_train_begin(self, logs=None):
        del logs
        self.seen.append(self.weights())

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        self.seen.append(self.weights())

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self.steps += 1
        if self.steps == self.stop_at:
            signal.raise_signal(signal.SIGTERM)

    def moved(self, first=0, last=-1):
        """The layers of which a weight differs between two moments."""
        one, other = self.seen[first], self.seen[last]
        return sorted({path.split("/")[0] for path in one if (one[path] != other[path]).any()})


def weights_of(run):
    return {weight.path: weight.numpy() for weight in run.model().weights}


def test_frozen_layers_do_not_move_and_are_released_at_their_epoch(run, tmp_path):
    watch = Watch()
    made = run(
        tmp_path / "run",
        "model.freeze_until=conv2",
        "schedule.unfreeze={2: conv1, 3: null}",
        callbacks=[watch],
    )
    assert watch.moved(0, 1) == ["conv3", "fc10"]
    assert watch.moved(1, 2) == ["conv2", "conv3", "fc10"]
    assert watch.moved(2, 3) == ["conv1", "conv2", "conv3", "fc10"]
    assert all(layer.trainable for layer in made.model().layers)  # who trains on decides anew


def test_a_frozen_run_ends_as_one_whose_groups_do_not_move(run, tmp_path):
    """In which all gradients are computed and none of theirs applied."""
    still = [f"optimizer.groups.{name}.match={match}" for name, match in GROUPS.items()]
    ways = {
        "layers": ["model.freeze_until=conv2"],
        "groups": [*still, *(f"optimizer.groups.{name}.trainable=false" for name in GROUPS)],
        "free": [],
    }
    ends = {
        name: weights_of(run(tmp_path / name, "training.epochs=1", "training.deterministic=true", *values))
        for name, values in ways.items()
    }
    for path, value in ends["layers"].items():
        np.testing.assert_array_equal(value, ends["groups"][path])
    assert any((value != ends["free"][path]).any() for path, value in ends["layers"].items())


@pytest.mark.parametrize(
    "stops", [(7,), pytest.param((3, 5, 6, 10, 12), marks=pytest.mark.slow)], ids=["once", "often"]
)
def test_interrupted_in_any_epoch_of_the_unfreezing_it_ends_alike(run, resume, tmp_path, stops):
    values = (
        "model.freeze_until=conv2",
        "schedule.unfreeze={2: conv1, 3: null}",
        "training.deterministic=true",
    )
    whole = run(tmp_path / "whole", *values)
    for stop_at in stops:
        path = tmp_path / f"stopped-{stop_at}"
        with pytest.raises(Stopped):
            run(path, *values, callbacks=[Watch(stop_at)])
        resumed = resume(path)
        assert (resumed.path / "metrics.csv").read_bytes() == (whole.path / "metrics.csv").read_bytes()
        for name, value in weights_of(whole).items():
            np.testing.assert_array_equal(value, weights_of(resumed)[name])


@pytest.mark.parametrize("extra", ["training.precision=float16", "training.accumulate=2"])
def test_part_of_the_variables_learn_in_half_precision_and_in_parts_too(run, tmp_path, extra):
    watch = Watch()
    run(tmp_path / "run", "model.freeze_until=conv2", "training.epochs=1", extra, callbacks=[watch])
    assert watch.moved() == ["conv3", "fc10"]


def test_frozen_layers_compute_as_in_inference():
    network = build_model(
        "alexnet_small",
        10,
        input_size=16,
        stages={
            "conv1": {"norm": "batch"},
            "conv5": {"norm": "batch"},
            "fc6": {"units": 8},
            "fc7": {"units": 8},
        },
    )
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
    statistics = {weight.path: weight.numpy() for weight in network.non_trainable_weights}
    freeze(network, "fc7")
    np.testing.assert_array_equal(network(images, training=True), network(images, training=False))
    assert all(
        (weight.numpy() == statistics[weight.path]).all()
        for weight in network.weights
        if weight.path in statistics
    )
    freeze(network, "conv4")
    network(images, training=True)
    moved = {
        path.split("/")[0]
        for path, value in statistics.items()
        for weight in network.weights
        if weight.path == path and (weight.numpy() != value).any() and "moving" in path
    }
    assert moved == {"conv5_norm"}
    assert network.trainable_weights[0].path.startswith("conv5/")
    freeze(network, None)
    assert len(network.trainable_weights) == 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["model.freeze_until=conv9"], "model.freeze_until=conv9: expected one of conv1, conv2, conv3, conv4, conv5, fc6, fc7"),
        (["model.freeze_until=fc8"], "model.freeze_until=fc8: expected one of conv1, .*, fc7"),
        (["+schedule.unfreeze={2: null}"], "expected model.freeze_until with it, came null"),
        (["model.freeze_until=conv3", "+schedule.unfreeze={1: conv2}"], "epoch=1: expected at least 2"),
        (["model.freeze_until=conv3", "+schedule.unfreeze={3: conv4}"], "schedule.unfreeze.3=conv4: expected one of conv1, conv2, null"),
        (["model.freeze_until=conv3", "+schedule.unfreeze={2: null, 3: conv1}"], "schedule.unfreeze.3=conv1: expected one of null"),
        (["model=hog_svm", "model.freeze_until=conv3"], "model.freeze_until=conv3: expected a network"),
        (["+optimizer.multipliers={conv7: 2}"], "optimizer.multipliers=conv7: expected one of conv1, .*, fc8, head, rest"),
        (["+optimizer.multipliers={head: -1}"], "optimizer.multipliers.head=-1.*: expected at least 0"),
        (["optimizer.multipliers={head: 1}"], r"multipliers.head: expected a \+ before a new entry, '\+optimizer.multipliers={KEY"),
        (["optimizer=adam", "+optimizer.multipliers={head: 1}"], "multipliers"),
    ],
)  # fmt: skip
def test_wrong_values_are_found_before_tensorflow_is_needed(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose(values)
    assert "\n" not in str(caught.value)


def test_in_other_networks_layers_are_called_by_their_names():
    def checked(*values):
        config = compose(["model=resnet20", *values])
        check_freezing(network, config)

    network = build_model("resnet20", 10, blocks=1)
    checked("model.freeze_until=group2", "+schedule.unfreeze={2: group1_block1, 3: null}")
    freeze(network, "group1_block1")
    still = {layer.name.split("_")[0] for layer in network.layers if layer.weights and not layer.trainable}
    assert still == {"conv0", "norm0", "group1"}
    choices = "Expected one of conv0, norm0, group1, group2, group3, fc"
    with pytest.raises(ConfigError, match=f"model.freeze_until=conv1: no such layer of resnet20. {choices}"):
        checked("model.freeze_until=conv1")
    with pytest.raises(
        ConfigError, match=r"unfreeze.2=group3: expected a layer before that of model.freeze_until=group2"
    ):
        checked("model.freeze_until=group2", "+schedule.unfreeze={2: group3}")
    with pytest.raises(ConfigError, match="or nothing is trained"):
        checked("model.freeze_until=fc")


def test_multipliers_slow_the_old_layers_down(run, tmp_path):
    watch = Watch()
    run(
        tmp_path / "run",
        "optimizer.multipliers={rest: 0.0, head: 1.0, conv2: 0.5}",
        "training.epochs=1",
        callbacks=[watch],
    )
    assert watch.moved() == ["conv2", "fc10"]


def test_what_was_set_is_read_back(run, tmp_path):
    made = run(
        tmp_path / "run",
        "model.freeze_until=conv1",
        "schedule.unfreeze={2: null}",
        "optimizer.multipliers={rest: 0.1}",
        "training.steps=1",
    )
    config = from_run(made.path / "config.yaml", made.config_dict())
    assert (config.model.freeze_until, config.schedule.unfreeze) == ("conv1", {2: None})
    assert config.optimizer.multipliers == {"rest": 0.1}
