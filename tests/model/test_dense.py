import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.model import Dense


def inputs(dtype="float64"):
    return tf.cast(tf.random.stateless_normal((5, 7), [0, 1], dtype=tf.float64), dtype)


def all_of(layer, x):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        upstream = tf.reshape(tf.range(tf.cast(tf.size(y), y.dtype)), tf.shape(y))
        first = tape.gradient(y, [x, *layer.trainable_variables], output_gradients=upstream)
        squares = tf.add_n([tf.reduce_sum(each**2) for each in first])
    return [y, *first, outer.gradient(squares, x)]


@pytest.mark.parametrize("arguments", [{}, {"activation": "tanh"}, {"use_bias": False}], ids=str)
@pytest.mark.parametrize("graph", [False, True])
def test_is_the_layer_of_keras_in_values_and_gradients_of_both_orders(arguments, graph):
    mine, other = Dense(3, dtype="float64", **arguments), keras.layers.Dense(3, dtype="float64", **arguments)
    x = inputs()
    mine(x), other(x)
    other.set_weights(mine.get_weights())
    compute = tf.function(all_of) if graph else all_of
    for ours, theirs in zip(compute(mine, x), compute(other, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_way_back_reads_the_kernel_along_its_rows():
    layer = Dense(3, dtype="float64")
    layer(inputs())

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, [x, layer.kernel.value])

    graph = gradient.get_concrete_function(inputs()).graph
    (product,) = (
        each for each in graph.get_operations() if each.type == "MatMul" and each.get_attr("transpose_b")
    )
    assert [each.shape for each in product.inputs] == [(7, 3), (5, 3)]
    (of_kernel,) = (
        each for each in graph.get_operations() if each.type == "MatMul" and each.get_attr("transpose_a")
    )
    (before,) = of_kernel.control_inputs  # its update waits, too, until nobody reads the kernel
    assert before.inputs[0].op is product


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_takes_a_policy_of_half_precision(policy):
    layer = Dense(3, dtype=policy)
    y, of_x, of_kernel, of_bias, _ = all_of(layer, inputs("float32"))
    assert y.dtype == layer.compute_dtype
    assert {of_x.dtype, of_kernel.dtype, of_bias.dtype} == {tf.float32}


def test_is_read_again_from_a_file(tmp_path):
    images = keras.Input((7,))
    model = keras.Model(images, Dense(3, activation="tanh", name="fc")(images))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(again.get_layer("fc"), Dense)
    np.testing.assert_array_equal(again(inputs("float32")), model(inputs("float32")))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_takes_rows_only(shape):
    with pytest.raises(ValueError, match="ndim"):
        Dense(5, name="fc")(np.zeros(shape, "float32"))
