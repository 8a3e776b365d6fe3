import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from alexnet_tf import data
from alexnet_tf.config.schema import AugmentConfig, DataConfig, ScaleConfig
from alexnet_tf.data import load_source
from alexnet_tf.evaluation import Evaluator, Scores, cross_entropy, tally, wilson


def reference(logits, labels, weights):
    """The sums by NumPy, example by example: a label's rank is how many classes stand before it."""
    totals = np.zeros(4)
    for row, label, weight in zip(np.asarray(logits, "float64"), labels, weights, strict=True):
        if not weight:
            continue
        before = [
            np.isnan(row[other]) or np.isnan(row[label]) or row[other] > row[label]
            or (row[other] == row[label] and other < label)
            for other in range(len(row)) if other != label or np.isnan(row[label])
        ]  # fmt: skip
        rank = sum(before)
        totals += [logsumexp(row) - row[label], rank >= 1, rank >= 5, 1]
    return totals


def tallied(logits, labels, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights
    result = tally(tf.constant(logits), tf.constant(labels, tf.int32), tf.constant(weights, tf.float32))
    assert result.dtype == tf.float64
    return result.numpy()


@pytest.mark.parametrize("classes", [2, 5, 6, 10, 40])
@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_tally_is_that_of_numpy_with_many_ties(classes, levels):
    generator = np.random.default_rng(classes * levels)
    logits = generator.integers(0, levels, [200, classes]).astype("float64") / 7
    labels, weights = generator.integers(0, classes, 200), generator.integers(0, 2, 200)
    np.testing.assert_allclose(
        tallied(logits, labels, weights), reference(logits, labels, weights), rtol=1e-12
    )


def test_numbers_that_are_none_are_never_right():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=[300, 8])
    logits[generator.random(logits.shape) < 0.1] = np.nan
    labels = generator.integers(0, 8, 300)
    got, expected = tallied(logits, labels), reference(logits, labels, np.ones(300))
    np.testing.assert_array_equal(got[1:], expected[1:])
    assert np.isnan(got[0])
    broken = np.full([4, 8], np.nan)
    np.testing.assert_array_equal(tallied(broken, [0, 1, 2, 7])[1:], [4, 4, 4])


def test_infinite_logits_count():
    logits = np.array([[np.inf, 0.0, 0.0], [0.0, np.inf, 0.0]])
    assert list(tallied(logits, [0, 0])[1:]) == [1, 0, 2]


def test_who_says_the_same_of_all_classes_is_right_by_chance_only():
    labels = np.arange(10)
    _, top1, top5, count = tallied(np.zeros([10, 10]), labels)
    assert (top1, top5, count) == (9, 5, 10)


def test_known_numbers():
    logits = [[2.0, 1.0, 0.0, -1.0, -2.0, -3.0]] * 6
    loss, top1, top5, count = tallied(logits, range(6))
    assert (top1, top5, count) == (5, 1, 6)
    assert loss == pytest.approx(6 * np.log(np.exp([2, 1, 0, -1, -2, -3.0]).sum()) + 3, rel=1e-6)


@pytest.mark.parametrize("padding", [0.0, np.nan, np.inf, 1e30])
def test_padding_counts_for_nothing(padding):
    generator = np.random.default_rng(1)
    logits, labels = generator.normal(size=[9, 7]), generator.integers(0, 7, 9)
    padded = np.concatenate([logits, np.full([4, 7], padding)])
    got = tallied(padded, [*labels, 0, 0, 0, 0], [1] * 9 + [0] * 4)
    np.testing.assert_allclose(got, reference(logits, labels, np.ones(9)), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_sums_are_exact_in_any_dtype(dtype):
    logits = tf.cast(tf.zeros([5000, 10]), dtype)
    loss, top1, _, count = tally(logits, tf.ones(5000, tf.int32), tf.ones(5000)).numpy()
    assert (top1, count) == (5000, 5000)  # float16 ends at 2048 where ones are added
    assert loss / 5000 == pytest.approx(np.log(10), rel=1e-6 if dtype == "float32" else 4e-3)


def test_cross_entropy_is_that_of_each_example():
    logits = np.random.default_rng(0).normal(size=[6, 4])
    labels = np.array([0, 1, 2, 3, 0, 1])
    expected = logsumexp(logits, axis=1) - logits[np.arange(6), labels]
    got = cross_entropy(tf.constant(logits), tf.constant(labels, tf.int32))
    assert got.dtype == tf.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_scores_are_means():
    assert Scores.of([6.0, 3, 1, 12], 10) == Scores(0.5, 0.25, 1 / 12, 12)
    assert Scores.of([6.0, 3, 1, 12], 5).top5_error is None
    with pytest.raises(ValueError, match="no examples"):
        Scores.of([0.0, 0, 0, 0], 10)


def closed_wilson(errors, examples, z=1.959963984540054):
    """Wilson (1927): centre and half width from the fraction, the number and the normal quantile."""
    fraction = errors / examples
    centre = (fraction + z**2 / (2 * examples)) / (1 + z**2 / examples)
    root = np.sqrt(fraction * (1 - fraction) / examples + z**2 / (4 * examples**2))
    half = z * root / (1 + z**2 / examples)
    return centre - half, centre + half


@pytest.mark.parametrize(
    ("errors", "examples"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (180, 359), (20350, 50000)]
)
def test_wilson_is_the_closed_formula(errors, examples):
    np.testing.assert_allclose(wilson(errors, examples), closed_wilson(errors, examples), atol=1e-12)


def test_intervals_of_scores():
    scores = Scores(1.0, 3 / 7, None, 7)
    np.testing.assert_allclose(scores.interval(scores.top1_error), closed_wilson(3, 7), atol=1e-12)
    assert scores.interval(scores.top5_error) == (None, None)


# ------------------------------------------------------------------------------------------------ evaluator

AUGMENT = AugmentConfig(order=["scale"], scale=ScaleConfig(divisor=255.0))


@pytest.fixture(scope="module")
def source():
    return load_source(DataConfig(name="digits", channels=1, image_size=8, validation_fraction=0.1))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs)))


@pytest.fixture(scope="module")
def expected(source, model):
    bunch, ids = load_digits(), source.split("validation").ids
    images = np.round(bunch.images * (255 / 16))[ids].reshape(len(ids), 64) / 255
    kernel, bias = (weight.numpy().astype("float64") for weight in model.weights)
    loss, top1, top5, count = reference(images @ kernel + bias, bunch.target[ids], np.ones(len(ids)))
    return Scores(loss / count, top1 / count, top5 / count, int(count))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 180, 500])
def test_every_example_counts_once_whatever_the_batch(source, model, expected, batch_size):
    evaluator = Evaluator(model, tf.distribute.get_strategy(), eager=batch_size == 500)
    got = evaluator(data.eval_batches(source, "validation", AUGMENT, None, batch_size=batch_size))
    assert got.examples == expected.examples == 180
    assert (got.top1_error, got.top5_error) == (expected.top1_error, expected.top5_error)
    assert got.loss == pytest.approx(expected.loss, rel=1e-6)


def test_dropout_is_off(source):
    inputs = keras.Input((8, 8, 1))
    dropped = keras.layers.Dropout(0.9)(keras.layers.Flatten()(inputs))
    evaluator = Evaluator(keras.Model(inputs, keras.layers.Dense(10)(dropped)), tf.distribute.get_strategy())
    batches = data.eval_batches(source, "validation", AUGMENT, None, batch_size=60)
    assert evaluator(batches) == evaluator(batches)
