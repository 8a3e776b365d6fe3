"""Each measure sees what an override changes, and no other does: on a small network in the form of the 2012 one."""

import dataclasses

import keras
import numpy as np
import pytest

from alexnet_tf.config import compose, compose_model
from alexnet_tf.fidelity import Facts, agree
from alexnet_tf.fidelity.network import MEASURES as NETWORK
from alexnet_tf.fidelity.network import Network, measure_network
from alexnet_tf.fidelity.recipe import MEASURES as RECIPE
from alexnet_tf.fidelity.recipe import measure_recipe
from alexnet_tf.model import build

SIZES = {"conv1": 16, "conv2": 32, "conv3": 32, "conv4": 32, "conv5": 32, "fc6": 64, "fc7": 64}
SMALL = {"stages": {name: {"units": units} for name, units in SIZES.items()}}
SHAPES = {"parameters", "parameters_of", "mega_macs", "conv_mega_macs"}
OTHERS = set(NETWORK) - SHAPES
SEEN = set(RECIPE) - {"rate_by_iteration"}  # for speed: `rate_by_epoch` sees the same in another unit
PATHS = [f"{stage}/{name}" for stage in ("conv1", "conv2", "fc8") for name in ("kernel", "bias")]
LRN = "model.lrn"
STAGES = "model.stages"


def network(*overrides):
    model = build(compose_model(["model=alexnet_code2012", f"{STAGES}.conv1.stride=8", *overrides], SMALL))
    return measure_network(model, OTHERS)


@pytest.fixture(scope="module")
def small():
    return network()


def differing(one, other):
    return {name for name in one if not agree(one[name], other[name]) and not agree(other[name], one[name])}


def test_every_fact_has_a_measure_and_a_name():
    names = {item.name for item in dataclasses.fields(Facts)}
    assert names == {*NETWORK, *RECIPE}
    labels = [item.metadata["what"] for item in dataclasses.fields(Facts)]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 21  # so that a line fits into a terminal


def test_the_same_network_has_the_same_facts(small):
    assert differing(small, network()) == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "facts"),
    [
        (f"{LRN}.size=3", {"lrn_size", "lrn_alpha"}),  # alpha is divided by the size
        (f"{LRN}.k=1", {"lrn_k"}),
        (f"{LRN}.alpha=2e-4", {"lrn_alpha"}),
        (f"{LRN}.convention=sum", {"lrn_alpha"}),
        (f"{LRN}.beta=0.5", {"lrn_beta"}),
        (f"{LRN}.scope=across", {"lrn_across"}),
        ("model.map_norm.size=3", {"map_norm_size", "map_norm_alpha"}),
        ("model.map_norm.k=2", {"map_norm_k"}),
        ("model.map_norm.convention=sum", {"map_norm_alpha"}),
        ("model.map_norm.beta=1", {"map_norm_beta"}),
        ("model.dropout_scaling=train", {"dropout_at_test"}),
        ("model.init=he_normal", {"weight_std"}),
        (f"{STAGES}.fc6.dropout=0.4", {"dropout_rate", "dropout_at_test"}),
        (f"{STAGES}.conv3.weight_std=0.01", {"weight_std"}),
        (f"{STAGES}.conv4.bias=0.5", {"biases"}),
        (f"{STAGES}.conv4.columns=1", {"columns"}),
        (f"{STAGES}.conv1.order=[pool,norm,activation]", {"order_after"}),
        (f"{STAGES}.conv1.activation=tanh", {"order_after"}),
        (f"{STAGES}.conv1.pool.kind=avg", {"order_after"}),
        (f"{STAGES}.conv2.pool.size=2", {"pool_windows"}),
        (f"{STAGES}.conv2.pool.rounding=down", {"pool_rounding", "maps"}),
        (f"{STAGES}.conv3.kernel=5", {"kernels", "maps"}),
        (f"{STAGES}.conv5.adaptive_pool=6", {"order_after", "adaptive_pool"}),
    ],
)
def test_an_override_shows_in_its_own_lines_and_in_no_other(small, override, facts):
    assert differing(small, network(override)) == facts


def test_strides_and_sizes_show_in_the_maps(small):
    changed = network(f"{STAGES}.conv1.stride=4")
    assert small["strides"] == [8, 1, 1, 1, 1]
    assert changed["strides"] == [4, 1, 1, 1, 1]
    assert differing(small, changed) == {"strides", "maps"}


def test_filters_units_and_parameters_are_counted():
    units = {"conv1": 8, "conv2": 12, "conv3": 10, "conv4": 6, "conv5": 4, "fc6": 5, "fc7": 7}
    model = build(compose_model(["model=alexnet"], {"stages": {k: {"units": v} for k, v in units.items()}}))
    found = measure_network(model, [*SHAPES, "filters", "dense", "input_size"])
    assert found["filters"] == [8, 12, 10, 6, 4]
    assert found["dense"] == [5, 7, 1000]
    assert found["input_size"] == 224
    by_hand = {
        "conv1": 121 * 3 * 8 + 8,
        "conv2": 25 * 4 * 12 + 12,
        "conv3": 9 * 12 * 10 + 10,
        "conv4": 9 * 5 * 6 + 6,
        "conv5": 9 * 3 * 4 + 4,
        "fc6": 36 * 4 * 5 + 5,
        "fc7": 5 * 7 + 7,
        "fc8": 7 * 1000 + 1000,
    }
    assert found["parameters_of"] == by_hand
    assert found["parameters"] == sum(by_hand.values())
    convolutions = 55**2 * 121 * 3 * 8 + 27**2 * 25 * 4 * 12 + 13**2 * 9 * (12 * 10 + 5 * 6 + 3 * 4)
    assert found["conv_mega_macs"] == round(convolutions / 1e6)
    assert found["mega_macs"] == round((convolutions + 36 * 4 * 5 + 5 * 7 + 7 * 1000) / 1e6)


def test_the_mean_of_dropout_tells_scaling_left_out():
    images = x = keras.Input((4, 4, 2))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(x))
    x = keras.layers.Rescaling(2.0)(keras.layers.Dropout(0.25)(x))
    dense = keras.layers.Dense(3)
    found = measure_network(
        keras.Model(images, dense(x)), ["dropout_into", "dropout_rate", "dropout_balance"]
    )
    assert found["dropout_into"] == [dense.name]
    assert agree([0.25], found["dropout_rate"])
    assert agree([1.0], found["dropout_balance"])
    assert not agree([0.75], found["dropout_balance"])


def test_the_constants_of_a_norm_are_those_of_the_formula():
    images = keras.Input((3, 3, 8))
    layer = keras.layers.Lambda(lambda x: x / (3 + 0.02 * x**2) ** 0.6)
    layer.__class__ = type("LocalResponseNormalization", (keras.layers.Lambda,), {})
    network = Network(keras.Model(images, layer(images)))
    for fact, value in {"lrn_k": 3.0, "lrn_alpha": 0.02, "lrn_beta": 0.6}.items():
        assert NETWORK[fact](network) == pytest.approx([value], rel=1e-4)
    assert NETWORK["lrn_size"](network) == [1]


# ------------------------------------------------------------------------------------------------- the recipe


def recipe(*overrides, name="code2012"):
    config = compose([f"experiment=alexnet_ilsvrc2012_{name}", *overrides])
    return measure_recipe(config, PATHS, SEEN)


@pytest.fixture(scope="module")
def code2012():
    return recipe()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("training.batch_size=256", {"batch", "iterations"}),
        ("training.epochs=80", {"epochs", "iterations"}),
        ("optimizer.momentum=0.8", {"momentum", "update"}),
        ("optimizer.weight_decay=1e-4", {"decay", "update"}),  # of conv1 too, though it is a group of its own
        ("optimizer.lr=0.02", {"rate", "rate_by_epoch", "rate_by_plateau", "update"}),
        ("optimizer.groups.conv1_weights.weight_decay=1e-4", {"decay", "update"}),
        ("optimizer.groups.biases.lr=0.01", {"rate", "rate_by_epoch"}),
        ("optimizer.groups.conv1_biases.weight_decay=5e-4", {"decay"}),
        ("schedule.phases.sixth.epoch=80", {"rate_by_epoch"}),
        ("schedule.phases.fifth.trainable.conv1_biases=true", {"frozen_at_end", "rate_by_epoch"}),
        ("schedule.phases.fourth.augment_off=[flip]", {"left_out"}),
        ("augment.resize.size=288", {"shorter_side"}),
        ("augment.center_crop.size=250", {"center_crop"}),
        ("augment.random_crop.last_offset=false", {"crop_offsets"}),
        ("augment.flip.probability=0.3", {"mirrored"}),
        ("augment.pca.std=0.2", {"colour_noise"}),
        ("augment.pca.scale=eigenvalue", {"colour_noise"}),
        ("augment.pca.divisor=1", {"training_divisor"}),
        ("augment.subtract_mean.kind=channel", {"mean"}),
    ],
)  # fmt: skip
def test_an_override_of_the_recipe_shows_in_its_own_lines(code2012, override, facts):
    assert differing(code2012, recipe(override)) == facts


def test_decay_that_is_not_coupled_shows_in_the_update():
    config = compose(["experiment=alexnet_ilsvrc2012_owt", "schedule=constant", "optimizer=adam"])
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, weight_decay=1e-4))
    found = measure_recipe(config, PATHS, ["update"])
    assert not agree([-0.0101, 0.01081001, 0.004629008], found["update"])


@pytest.mark.slow
def test_a_plateau_is_driven_to_its_end():
    found = recipe(name="paper")
    assert found["rate_by_plateau"] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])
    assert recipe("schedule.reductions=2", name="paper")["rate_by_plateau"] == pytest.approx(
        [1e-2, 1e-3, 1e-4]
    )


def test_the_crop_and_the_colours_of_torchvision_are_seen():
    found = recipe(name="owt")
    assert found["crop"] == 224
    assert found["crop_offsets"] is found["colour_noise"] is found["center_crop"] is None
    assert found["crop_area"] == [0.08, 1.0]
    np.testing.assert_allclose(found["channel_mean"], [0.485, 0.456, 0.406], rtol=1e-5)
    np.testing.assert_allclose(found["channel_std"], [0.229, 0.224, 0.225], rtol=1e-5)
    other = recipe("augment.scale.channel_divisors=[58,57,57]", name="owt")
    assert differing(found, other) == {"channel_std", "training_divisor"}
