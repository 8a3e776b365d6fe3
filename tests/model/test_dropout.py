import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import Dropout, mask_scope

ONES = np.ones((8, 40), "float32")


def drop(x=ONES, rate=0.5, name="fc6_dropout", **scope):
    with mask_scope(**{"seed": 1, "step": 3, "global_rows": len(x), **scope}):
        return Dropout(rate, name=name)(x, training=True).numpy()


def test_replicas_share_the_mask_of_the_global_batch():
    whole = drop()
    parts = [drop(ONES[first : first + 2], first_row=first, global_rows=8) for first in (0, 2, 4, 6)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len({part.tobytes() for part in parts}) == 4


def test_the_mask_depends_on_seed_step_and_layer_and_on_nothing_else():
    masks = [drop(), drop(step=4), drop(seed=2), drop(name="fc7_dropout"), drop(seed=3, step=1)]
    assert len({mask.tobytes() for mask in masks}) == 5
    np.testing.assert_array_equal(drop(), drop())
    # Seen once, and to stay: a run that is resumed by a later version must draw the masks it would have drawn.
    assert [int(kept) for kept in drop()[0, :12] > 0] == [0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]


def test_python_integers_and_tensors_give_the_same_mask():
    @tf.function
    def graph(seed, step, first, rows):
        with mask_scope(seed, step, first, global_rows=rows):
            return layer(ONES[:4], training=True)

    layer = Dropout(0.5, name="fc6_dropout")
    for dtype in (tf.int32, tf.int64):
        numbers = [tf.constant(number, dtype) for number in (1, 3, 4, 8)]
        np.testing.assert_array_equal(graph(*numbers), drop()[4:])


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_keeps_the_right_share_and_the_mean(rate):
    x = np.full((200, 500), 3.0, "float32")
    y = drop(x, rate)
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 3 / (1 - rate), rtol=1e-6)
    deviation = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept.size / x.size - (1 - rate)) < 5 * deviation
    assert abs(y.mean() - 3) < 5 * deviation * 3 / (1 - rate)


def test_rows_and_columns_of_a_mask_are_independent():
    kept = drop(np.ones((300, 300), "float32")) > 0
    bound = 6 * np.sqrt(300 * 0.25)
    assert np.abs(kept.sum(0) - 150).max() < bound
    assert np.abs(kept.sum(1) - 150).max() < bound


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16", "mixed_float16"])
def test_precisions_share_their_masks(dtype):
    with mask_scope(1, 3, global_rows=8):
        y = Dropout(0.5, name="fc6_dropout", dtype=dtype)(ONES, training=True)
    assert y.dtype == dtype.removeprefix("mixed_")
    np.testing.assert_array_equal(tf.cast(y, "float32"), drop())


def test_is_the_identity_in_inference_and_at_rate_zero():
    x = np.random.default_rng(0).normal(size=(8, 40)).astype("float32")
    with mask_scope(1, 3, global_rows=8):
        np.testing.assert_array_equal(Dropout(0.5)(x, training=False), x)
        np.testing.assert_array_equal(Dropout(0.5)(x), x)
        np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


def test_scaling_at_test_time_keeps_what_training_keeps_and_multiplies_in_inference():
    x = np.arange(1.0, 321, dtype="float32").reshape(8, 40)
    layer = Dropout(0.25, "test", name="fc6_dropout")
    with mask_scope(1, 3, global_rows=8):
        y = layer(x, training=True).numpy()
    kept = drop(rate=0.25) > 0  # the same mask as with the other scaling
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(y, np.where(kept, x, 0))
    np.testing.assert_array_equal(layer(x, training=False), x * np.float32(0.75))
    np.testing.assert_array_equal(Dropout(0.0, "test")(x, training=False), x)
    half = Dropout(0.25, "test", dtype="mixed_float16")(x, training=False)
    assert half.dtype == "float16"
    np.testing.assert_array_equal(half, x.astype("float16") * np.float16(0.75))


def test_outside_any_scope_masks_follow_the_layers_own_seed():
    first, second = Dropout(0.5, seed=4), Dropout(0.5, seed=4)
    masks = [first(ONES, training=True).numpy() for _ in range(2)]
    assert not np.array_equal(*masks)
    np.testing.assert_array_equal(second(ONES, training=True), masks[0])
    assert not np.array_equal(Dropout(0.5, seed=5)(ONES, training=True), masks[0])


def test_fit_draws_new_masks_outside_any_scope():
    # One weight of 1 that does not learn: the loss is the mean of the dropped inputs, and moves with the mask.
    layers = [
        keras.Input((40,)),
        Dropout(0.5),
        keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.0), loss=lambda _, y: keras.ops.mean(y))
    history = model.fit(ONES, np.zeros((8, 1)), epochs=3, verbose=0).history["loss"]
    assert len(set(history)) == 3
    assert model.evaluate(ONES, np.zeros((8, 1)), verbose=0) == pytest.approx(40)


def test_scopes_nest_and_end_even_with_an_error():
    layer = Dropout(0.5, name="fc6_dropout")
    with mask_scope(1, 3, global_rows=8):
        with pytest.raises(RuntimeError), mask_scope(1, 9, global_rows=8):
            raise RuntimeError
        np.testing.assert_array_equal(layer(ONES, training=True), drop())
    assert not np.array_equal(layer(ONES, training=True), drop())


def test_a_scope_holds_for_its_own_thread_only():
    layer, seen = Dropout(0.5, name="fc6_dropout"), []
    with mask_scope(1, 3, global_rows=8):
        other = threading.Thread(target=lambda: seen.append(layer(ONES, training=True).numpy()))
        other.start()
        other.join()
    assert not np.array_equal(seen[0], drop())


def test_rows_past_the_global_batch_are_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError):
        drop(ONES[:1], first_row=8, global_rows=8)


MIRRORED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from alexnet_tf.model import Dropout, mask_scope
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = Dropout(0.5, name="fc6_dropout")

@tf.function
def step(number):
    def replica():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        with mask_scope(1, number, 4 * index, global_rows=8):
            return layer(tf.ones([4, 40]), training=True)
    return strategy.experimental_local_results(strategy.run(replica))

print("".join(str(int(kept)) for kept in np.concatenate(step(tf.constant(3))).ravel() > 0))
"""


@pytest.mark.slow
def test_mirrored_replicas_take_their_own_rows():
    run = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "".join(str(int(kept)) for kept in drop().ravel() > 0)


def test_config_round_trip():
    layer = Dropout(0.3, "test", seed=7, name="d", dtype="mixed_float16")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert (again.rate, again.scaling, again.seed) == (0.3, "test", 7)
    stored = layer.get_config()
    del stored["scaling"]  # a model of before there was a choice
    assert Dropout.from_config(stored).scaling == "train"


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_wrong_arguments(rate):
    with pytest.raises(ValueError, match=rf"Expected a fraction in \[0, 1\)\. Received: rate={rate}"):
        Dropout(rate)


def test_an_unknown_scaling():
    with pytest.raises(ValueError, match=r"Expected one of \('train', 'test'\)\. Received: scaling='never'"):
        Dropout(0.5, "never")
