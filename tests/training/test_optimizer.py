import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import compose
from alexnet_tf.config.schema import AdamConfig, GroupConfig, SGDConfig
from alexnet_tf.training import CoupledSGD
from alexnet_tf.training.optimizer import (
    frozen_groups,
    group_rates,
    make_optimizer,
    set_frozen_groups,
    set_group_rates,
)

GROUPS = {
    "biases": {"match": "bias$", "learning_rate": 0.02, "weight_decay": 0.0, "trainable": True},
    "late": {"match": "^fc", "learning_rate": 0.003, "weight_decay": 0.25, "trainable": True},
}
LR, MOMENTUM, DECAY = 2**-5, 0.9, 0.125  # the SGD of Keras holds its rate in float32: exact in it
RATES = {
    "conv/kernel": (LR, DECAY),
    "conv/bias": (0.02, 0.0),
    "fc/kernel": (0.003, 0.25),
    "fc/bias": (0.02, 0.0),
}


def values(step=0):
    generator = np.random.default_rng(step)
    return {name: generator.normal(size=(3, 2) if "kernel" in name else (2,)) for name in RATES}


def tensors(step):
    return [tf.constant(value) for value in values(step).values()]


def make_variables(dtype="float64"):
    made = []
    for path, value in values().items():
        owner, name = path.split("/")
        with keras.name_scope(owner):
            made.append(keras.Variable(value, dtype=dtype, name=name))
    assert [variable.path for variable in made] == list(RATES)
    return made


def reference(steps, rates=RATES, frozen=lambda *_: False):
    """The update of 2012 (paper, section 5), written for NumPy."""
    weights = values()
    velocities = {path: np.zeros_like(value) for path, value in weights.items()}
    for step in range(1, steps + 1):
        for path, gradient in values(step).items():
            lr, decay = rates[path]
            if frozen(path, step):
                continue
            velocities[path] = MOMENTUM * velocities[path] - decay * lr * weights[path] - lr * gradient
            weights[path] = weights[path] + velocities[path]
    return weights


def step_of(optimizer, variables):
    return tf.function(lambda gradients: optimizer.apply(gradients, variables))


def assert_equal(variables, weights, rtol=1e-12):
    for variable in variables:
        np.testing.assert_allclose(variable.numpy(), weights[variable.path], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("graph", [False, True])
def test_is_the_update_of_2012(graph):
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, GROUPS)
    optimizer.build(variables)
    apply = (
        step_of(optimizer, variables) if graph else lambda gradients: optimizer.apply(gradients, variables)
    )
    for step in range(1, 6):
        apply(tensors(step))
        assert_equal(variables, reference(step))
    assert int(optimizer.iterations) == 5


def test_a_large_variable_is_updated_in_one_pass(monkeypatch):
    monkeypatch.setattr("alexnet_tf.training.optimizer.LARGE", 5)
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, GROUPS)
    optimizer.build(variables)
    apply = step_of(optimizer, variables)
    graph = apply.get_concrete_function(tensors(1)).graph
    assert [operation.type for operation in graph.get_operations()].count("ResourceApplyKerasMomentum") == 2
    for step in range(1, 6):
        apply(tensors(step))
        assert_equal(variables, reference(step))
    compiled = [each.numpy() for each in variables]
    eager = make_variables()
    optimizer = CoupledSGD(LR, MOMENTUM, DECAY, GROUPS)
    for step in range(1, 6):
        optimizer.apply(tensors(step), eager)
    for mine, other in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-12)


def test_multipliers_scale_the_rate_of_whatever_group():
    multipliers = {"rest": 0.5, "head": 4.0}
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, GROUPS, multipliers)
    optimizer.build(variables)
    for step in range(1, 4):
        optimizer.apply(tensors(step), variables)
    factors = {path: 4.0 if path.startswith("fc") else 0.5 for path in RATES}
    scaled = {path: (rate * factors[path], decay) for path, (rate, decay) in RATES.items()}
    assert_equal(variables, reference(3, scaled))
    again = CoupledSGD.from_config(optimizer.get_config())
    assert again.multipliers == multipliers


def test_the_longest_name_of_a_layer_counts_before_head_and_rest():
    def factor(layer, **multipliers):
        return CoupledSGD(multipliers=multipliers).multiplier(f"{layer}/kernel", "fc/bias")

    assert factor("conv1") == factor("fc") == 1.0
    assert factor("conv1", head=3.0) == 1.0
    assert factor("conv1_norm", conv1=2.0, rest=3.0) == 2.0
    assert factor("block1_conv1", block1=2.0, block1_conv1=5.0) == 5.0
    assert factor("fc", fc=2.0, head=3.0) == 2.0
    assert factor("fc", head=3.0, rest=0.1) == 3.0
    assert factor("fc", rest=0.1) == 0.1


def test_the_first_group_that_matches_takes_a_variable():
    optimizer = CoupledSGD(groups=GROUPS)
    assert [optimizer.group_of(path) for path in RATES] == ["rest", "biases", "late", "biases"]
    optimizer = CoupledSGD(groups=dict(reversed(GROUPS.items())))
    assert [optimizer.group_of(path) for path in RATES] == ["rest", "biases", "late", "late"]


def test_none_means_the_optimizers_own():
    groups = {"biases": {"match": "bias$", "learning_rate": None, "weight_decay": None, "trainable": True}}
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, groups)
    optimizer.build(variables)
    for step in range(1, 4):
        optimizer.apply(tensors(step), variables)
    assert_equal(variables, reference(3, dict.fromkeys(RATES, (LR, DECAY))))


def test_a_frozen_group_stands_still_and_goes_on_when_released():
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, GROUPS)
    optimizer.build(variables)

    def frozen(path, step):
        return path == "fc/kernel" and 3 <= step <= 5

    for step in range(1, 9):
        if step in (1, 3, 6):
            optimizer.set_trainable("late", not frozen("fc/kernel", step))
            apply = step_of(optimizer, variables)
        before = variables[2].numpy()
        apply(tensors(step))
        assert np.array_equal(variables[2].numpy(), before) == frozen("fc/kernel", step)
    assert_equal(variables, reference(8, frozen=frozen))


LAYERS_2012 = {  # path -> shape; rate and decay at first, then the rate from the third step on
    "conv1/kernel": ((3, 2), (0.01, 5e-4), 1e-5),
    "conv1/bias": ((2,), (0.02, 0.0), 1e-5),
    "conv2/kernel": ((2, 4), (0.01, 5e-4), 1e-3),
    "conv2/bias": ((4,), (0.02, 0.0), 0.02),
    "fc6/kernel": ((4, 2), (0.01, 5e-4), 1e-3),
    "fc6/bias": ((2,), (0.02, 0.0), 0.02),
}


def test_the_recipe_of_2012_is_the_update_of_2012():
    """Five steps of the rule in NumPy: rates change in the third, conv1 is frozen in the fourth and fifth."""

    def draw(seed):
        generator = np.random.default_rng(seed)
        return {path: generator.normal(size=shape) for path, (shape, *_) in LAYERS_2012.items()}

    variables, weights = [], draw(0)
    for path, value in weights.items():
        with keras.name_scope(path.split("/")[0]):
            variables.append(keras.Variable(value, dtype="float64", name=path.split("/")[1]))
    optimizer = make_optimizer(compose(["optimizer=code2012"]).optimizer)
    optimizer.build(variables)
    apply = step_of(optimizer, variables)
    velocities = {path: np.zeros_like(value) for path, value in weights.items()}
    for step in range(1, 6):
        if step == 3:
            set_group_rates(optimizer, {"rest": 1e-3, "conv1_weights": 1e-5, "conv1_biases": 1e-5})
        if step == 4:
            set_frozen_groups(optimizer, {"conv1_weights", "conv1_biases"})
            apply = step_of(optimizer, variables)
        gradients = draw(step)
        apply([tf.constant(gradient) for gradient in gradients.values()])
        for path, (_, (lr, decay), later) in LAYERS_2012.items():
            if path.startswith("conv1") and step >= 4:
                continue
            lr = lr if step < 3 else later
            velocities[path] = 0.9 * velocities[path] - decay * lr * weights[path] - lr * gradients[path]
            weights[path] = weights[path] + velocities[path]
        assert_equal(variables, weights)


def test_frozen_groups_of_a_config_and_of_any_optimizer():
    groups = {"biases": GroupConfig(match="bias$", lr=0.5), "late": GroupConfig(match="^fc", trainable=False)}
    config = SGDConfig(lr=0.25, groups=groups)
    assert frozen_groups(config) == {"late"}
    assert frozen_groups(AdamConfig()) == set()
    variables = make_variables()
    optimizer = keras.optimizers.LossScaleOptimizer(make_optimizer(config), initial_scale=1.0)
    optimizer.build(variables)
    set_frozen_groups(optimizer, {"rest"})  # and `late` is released
    optimizer.apply(tensors(1), variables)
    moved = [not np.array_equal(v.numpy(), old) for v, old in zip(variables, values().values(), strict=True)]
    assert moved == [False, True, True, True]
    set_frozen_groups(make_optimizer(AdamConfig()), set())  # has none


def test_a_group_can_start_frozen():
    groups = {"late": {**GROUPS["late"], "trainable": False}}
    variables, optimizer = make_variables(), CoupledSGD(LR, MOMENTUM, DECAY, groups)
    optimizer.build(variables)
    for step in (1, 2):
        optimizer.apply(tensors(step), variables)
    for variable, start in zip(variables, values().values(), strict=True):
        assert np.array_equal(variable.numpy(), start) == variable.path.startswith("fc")


def test_the_rate_is_kept_to_the_last_bit():
    optimizer = CoupledSGD(0.01)
    assert float(optimizer.learning_rate.numpy()) == optimizer.get_config()["learning_rate"] == 0.01
    optimizer.learning_rate = 0.003
    assert float(optimizer.learning_rate.numpy()) == 0.003
    assert [variable.path.split("/")[-1] for variable in optimizer.variables] == [
        "iteration",
        "learning_rate",
    ]


def test_the_decay_of_keras_is_another():
    theirs, ours = make_variables(), make_variables()
    keras_sgd = keras.optimizers.SGD(LR, momentum=MOMENTUM, weight_decay=DECAY)
    sgd = CoupledSGD(LR, MOMENTUM, DECAY)
    for optimizer, variables in ((keras_sgd, theirs), (sgd, ours)):
        optimizer.build(variables)
        for step in (1, 2, 3):
            optimizer.apply(tensors(step), variables)
    assert_equal(ours, reference(3, dict.fromkeys(RATES, (LR, DECAY))))
    assert not np.allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-4)


def test_without_decay_it_is_sgd_of_keras():
    # A momentum that float32 holds exactly: Keras rounds it even for float64 variables.
    theirs, ours = make_variables(), make_variables()
    for optimizer, variables in (
        (keras.optimizers.SGD(LR, momentum=0.875), theirs),
        (CoupledSGD(LR, 0.875), ours),
    ):
        optimizer.build(variables)
        for step in (1, 2, 3):
            optimizer.apply(tensors(step), variables)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-12)


def test_rates_can_be_set_in_a_step_that_is_traced_already():
    variables, optimizer = make_variables(), CoupledSGD(LR, 0.0, 0.0, GROUPS)
    optimizer.build(variables)
    apply = step_of(optimizer, variables)
    gradients = [tf.ones_like(variable) for variable in variables]
    apply(gradients)
    traces = apply.experimental_get_tracing_count()
    optimizer.set_rates({"rest": 0.5, "biases": 0.25})
    before = [variable.numpy() for variable in variables]
    apply(gradients)
    assert apply.experimental_get_tracing_count() == traces == 1
    moved = [(old - variable.numpy()).mean() for old, variable in zip(before, variables, strict=True)]
    late = 0.003 * (1 + 0.25 * before[2].mean())
    assert moved == pytest.approx([0.5, 0.25, late, 0.25], rel=1e-12)


def test_comes_back_from_its_config():
    optimizer = CoupledSGD(LR, MOMENTUM, DECAY, GROUPS, name="mine")
    for again in (
        CoupledSGD.from_config(optimizer.get_config()),
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer)),
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
    ):
        assert type(again) is CoupledSGD
        assert again.get_config() == optimizer.get_config()
        assert (again.momentum, again.decay, again.groups) == (MOMENTUM, DECAY, GROUPS)
        assert again.weight_decay is None  # or Keras would shrink the weights a second time


def small_model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu", name="fc1"), keras.layers.Dense(3, name="fc2")]
    return keras.Sequential(layers)


@pytest.mark.parametrize("scaled", [False, True])
def test_plain_keras_trains_saves_and_goes_on_with_it(tmp_path, scaled):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32") + (x[:, 1] > 1)
    model = small_model()
    optimizer = CoupledSGD(0.1, 0.9, 1e-3, {"biases": GROUPS["biases"]})
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, y, epochs=8, batch_size=16, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inner = again.optimizer.inner_optimizer if scaled else again.optimizer
    assert type(inner) is CoupledSGD
    assert inner.groups == {"biases": GROUPS["biases"]}
    for mine, other in zip(optimizer.variables, again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())
    for each in (model, again):
        each.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    for mine, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


@pytest.mark.parametrize("group", ["biases", "rest"])
def test_what_was_frozen_is_frozen_when_it_is_loaded(tmp_path, group):
    model, optimizer = small_model(), CoupledSGD(0.1, groups={"biases": GROUPS["biases"]})
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer.build(model.trainable_variables)
    optimizer.set_trainable(group, False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    before = [weight.numpy() for weight in again.weights]
    again.fit(np.ones([8, 4], "float32"), np.zeros(8, "int32"), verbose=0)
    for weight, old in zip(again.weights, before, strict=True):
        assert np.array_equal(weight.numpy(), old) == (weight.path.endswith("bias") == (group == "biases"))


def test_a_group_that_starts_frozen_is_so_when_it_is_loaded_before_the_first_step():
    optimizer = CoupledSGD(0.1, groups={"biases": {**GROUPS["biases"], "trainable": False}})
    store = {}
    optimizer.save_own_variables(store)
    again = CoupledSGD.from_config(optimizer.get_config())
    again.load_own_variables(store)
    variables = make_variables()
    again.build(variables)
    again.apply(tensors(1), variables)
    for variable, start in zip(variables, values().values(), strict=True):
        assert np.array_equal(variable.numpy(), start) == variable.path.endswith("bias")


def test_a_group_is_frozen_within_fit_once_the_step_is_traced_anew():
    x, y, model = np.ones([8, 4], "float32"), np.zeros(8, "int32"), small_model()
    optimizer = CoupledSGD(0.1, groups={"biases": GROUPS["biases"]})
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    optimizer.set_trainable("biases", False)
    model.make_train_function(force=True)
    before = [weight.numpy() for weight in model.weights]
    model.fit(x, y, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        assert np.array_equal(weight.numpy(), old) == weight.path.endswith("bias")


def test_wrong_arguments():
    with pytest.raises(ValueError, match=re.escape("Expected 0 <= momentum < 1. Received: 1.5")):
        CoupledSGD(momentum=1.5)
    with pytest.raises(ValueError, match="reserved name"):
        CoupledSGD(groups={"rest": {"match": "x"}})


def test_configs_become_optimizers():
    groups = {
        "biases": GroupConfig(match="bias$", lr=0.5, weight_decay=0.0),
        "late": GroupConfig(match="^fc", trainable=False),
    }
    config = SGDConfig(lr=0.25, momentum=0.5, weight_decay=0.125, groups=groups)
    optimizer = make_optimizer(config)
    assert type(optimizer) is CoupledSGD
    assert (float(optimizer.learning_rate), optimizer.momentum, optimizer.decay) == (0.25, 0.5, 0.125)
    assert optimizer.groups["biases"] == {
        "match": "bias$",
        "learning_rate": 0.5,
        "weight_decay": 0.0,
        "trainable": True,
    }
    assert optimizer.groups["late"]["trainable"] is False
    assert group_rates(config) == {"rest": 0.25, "biases": 0.5}  # `late` goes with the rest

    plain = make_optimizer(AdamConfig(lr=0.5, beta_1=0.75))
    assert type(plain) is keras.optimizers.Adam
    assert plain.get_config()["beta_1"] == 0.75
    decayed = make_optimizer(AdamConfig(weight_decay=0.25))
    assert type(decayed) is keras.optimizers.AdamW
    assert decayed.weight_decay == 0.25
    assert group_rates(AdamConfig(lr=0.5)) == {"rest": 0.5}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("config", [SGDConfig(), AdamConfig()], ids=["sgd", "adam"])
def test_rates_of_any_optimizer_can_be_set(config, scaled):
    optimizer = make_optimizer(config)
    wrapped = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    wrapped.build(make_variables("float32"))
    set_group_rates(wrapped, {"rest": 0.375})
    assert float(optimizer.learning_rate) == 0.375
    set_group_rates(wrapped, {}) if isinstance(config, SGDConfig) else None


def test_a_group_without_a_rate_goes_with_the_rest():
    optimizer = CoupledSGD(0.5, momentum=0.0, groups={"biases": {"match": "bias$", "learning_rate": None}})
    variables = [keras.Variable(np.zeros(2), name=name) for name in ("kernel", "bias")]
    optimizer.build(variables)
    optimizer.learning_rate = 0.25  # as Keras's callbacks do
    optimizer.apply([tf.ones(2), tf.ones(2)])
    for variable in variables:
        np.testing.assert_array_equal(variable.numpy(), [-0.25, -0.25])
