import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from alexnet_tf import data, evaluation, runs
from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import AugmentConfig, DataConfig, ScaleConfig
from alexnet_tf.data import DataError, load_source
from alexnet_tf.evaluation import Evaluator, Scores, cross_entropy, tally
from alexnet_tf.inference import load_run


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


# -------------------------------------------------------------------------------------------- finished runs


def test_a_run_is_measured_and_the_result_kept(tiny_run):
    first = evaluation.evaluate_run(tiny_run, "validation", batch_size=50)
    row = tiny_run.metrics().iloc[-1]
    assert first.examples == row["examples"]
    assert first.top1_error == row["top1_error"]
    assert first.loss == pytest.approx(row["loss"], rel=1e-6)
    again = evaluation.evaluate_run(tiny_run, "train", batch_size=64)
    assert again.examples == 100
    lines = (tiny_run.path / "evaluations.csv").read_text().splitlines()
    assert lines[0] == "time,split,loss,top1_error,top5_error,examples"
    assert [line.split(",")[1] for line in lines[1:]] == ["validation", "train"]
    assert float(lines[1].split(",")[2]) == first.loss
    with pytest.raises(
        ConfigError, match="--split test: expected one of train, validation, the splits of digits"
    ):
        evaluation.evaluate_run(tiny_run, "test")


@pytest.fixture
def photo_run(tiny_run, tmp_path):
    """The run of the digits, said to be one of three photos of each of ten folders."""
    for number in range(30):
        path = tmp_path / "photos" / f"c{number // 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(np.full([8, 8, 1], number, np.uint8)).numpy())
    shutil.copytree(tiny_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations.csv"))
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    photos = {"name": "folder", "dir": str(tmp_path / "photos"), "train_examples": None}
    config["data"].update(photos, validation_fraction=0.0)
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    run = load_run(tmp_path / "run")
    runs.write_json(run.path / runs.DATASET, load_source(run.config.data).describe())
    return run


def test_the_photos_are_those_of_the_training(photo_run, tmp_path, caplog):
    assert evaluation.evaluate_run(photo_run, "train").examples == 30
    assert "has changed" not in caplog.text
    (tmp_path / "photos" / "c1" / "3.png").unlink()
    assert evaluation.evaluate_run(photo_run, "train").examples == 29
    assert "data=folder has changed since the training" in caplog.text


def test_other_classes_are_refused(photo_run, tmp_path):
    (tmp_path / "photos" / "c0").rename(tmp_path / "photos" / "z")
    with pytest.raises(ConfigError, match=r"expected the run's classes \[0: 'c0', .*, found \[0: 'c1', "):
        evaluation.evaluate_run(photo_run, "train")
    shutil.copytree(tmp_path / "photos" / "z", tmp_path / "photos" / "c0")
    with pytest.raises(ConfigError, match=r"classes \[\] of 10 in data=folder, found \[10: 'z'\] of 11$"):
        evaluation.evaluate_run(photo_run, "train")


def test_a_damaged_photo_is_named(photo_run, tmp_path):
    bad = tmp_path / "photos" / "c4" / "13.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=f"Cannot read the image {bad}"):
        evaluation.evaluate_run(photo_run, "train")
    assert not (photo_run.path / "evaluations.csv").exists()


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    from alexnet_tf.config import compose
    from alexnet_tf.training import train

    folder = tmp_path_factory.mktemp("evaluation")
    values = ["model=digits_quick", "data.train_examples=100", "training.batch_size=50", "training.epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE_DIR", str(folder / "cache"))
        return train(compose([*values, "training.progress=none", f"run_dir={folder / 'run'}"]))
