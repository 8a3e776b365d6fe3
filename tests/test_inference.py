import shutil

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from alexnet_tf import runs
from alexnet_tf.config import ConfigError, compose, to_yaml
from alexnet_tf.data import DataError
from alexnet_tf.inference import Run, load_run
from alexnet_tf.runs import RunError, RunFolder, State, WrongPathError
from alexnet_tf.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Digits at twice their size, so that preprocessing has something to do."""
    folder = tmp_path_factory.mktemp("inference")
    values = [
        "model=digits_quick",
        "model.input_size=16",
        "data.train_examples=200",
        "training.batch_size=50",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE_DIR", str(folder / "cache"))
        rest = [
            "training.epochs=2",
            "model.init=he_normal",
            "training.progress=none",
            f"run_dir={folder / 'run'}",
        ]
        return train(compose([*values, *rest]))


@pytest.fixture(scope="module")
def images():
    return np.round(load_digits().images[:70] * (255 / 16)).astype(np.uint8)[..., np.newaxis]


def upsampled(images):
    """Twice the size by bilinear interpolation between pixel centres, in NumPy."""
    weights = np.zeros((16, 8))
    for row in range(16):
        place = min(max((row + 0.5) / 2 - 0.5, 0), 7)
        low = min(int(place), 6)
        weights[row, low], weights[row, low + 1] = 1 - (place - low), place - low
    return np.einsum("ri,nijc,sj->nrsc", weights, images.astype("float64"), weights)


def test_a_loaded_run_is_the_run(run):
    again = load_run(str(run.path))
    assert type(again) is Run
    assert again.path == run.path
    assert again.config == run.config
    assert again.class_names == [str(digit) for digit in range(10)]
    assert again.config.model.num_classes == 10
    assert list(again.metrics()["split"]) == ["train", "validation"] * 2
    best = again.metrics().query("split == 'validation'")["top1_error"].min()
    assert (
        repr(again) == f"Run({str(run.path)!r}, finished, step 8, best validation error {100 * best:.1f} %)"
    )


def test_predictions_are_probabilities(run, images):
    probabilities = run.predict(images)
    assert probabilities.shape == (70, 10)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert probabilities.std(axis=0).max() > 1e-3  # it looks at the images


def test_predictions_are_those_of_the_model_on_preprocessed_images(run, images):
    mean = np.load(run.path / runs.STATISTICS)["mean_image"]
    inputs = ((upsampled(images) - mean) / 64).astype("float32")
    logits = run.model().predict(inputs, verbose=0).astype("float64")
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.predict(images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 32, 70, 1000])
def test_the_batch_does_not_matter(run, images, batch_size):
    few = images[:5] if batch_size == 1 else images
    np.testing.assert_allclose(
        run.predict(few, batch_size), run.predict(images)[: len(few)], rtol=1e-4, atol=1e-6
    )


def test_images_of_another_size_are_resized(run):
    assert run.predict(np.zeros((2, 32, 32, 1), np.uint8)).shape == (2, 10)


def test_no_images_give_no_rows(run):
    empty = run.predict(np.zeros((0, 8, 8, 1), np.uint8))
    assert empty.shape == (0, 10)
    assert empty.dtype == np.float32


@pytest.mark.parametrize(
    ("wrong", "received"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), r"float32 \[2, 8, 8, 1\]"),
        (np.zeros((8, 8, 1), np.uint8), r"uint8 \[8, 8, 1\]"),
        ([[1, 2], [3, 4]], r"int64 \[2, 2\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"uint8 \[2, 8, 8, 3\]"),
        (np.zeros((2, 0, 0, 1), np.uint8), r"uint8 \[2, 0, 0, 1\]"),
    ],
)
def test_other_images_are_refused(run, wrong, received):
    expected = r"Expected uint8 images \[N, H, W, 1\] of at least one pixel\. Received: "
    with pytest.raises(ValueError, match=expected + received):
        run.predict(wrong)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_at_least_one_image(run, images, batch_size):
    with pytest.raises(ValueError, match=rf"Expected a batch_size of at least 1\. Received: {batch_size}$"):
        run.predict(images, batch_size)


def test_an_unfinished_run_says_how_to_go_on(tmp_path):
    folder = RunFolder.create(tmp_path / "run", to_yaml(compose(["model=digits_quick"])), [])
    unfinished = load_run(folder.path)
    message = f"has no model.keras: the run is pending; go on with alexnet train resume={folder.path}"
    for ask in (unfinished.model, lambda: unfinished.predict(np.zeros((1, 8, 8, 1), np.uint8))):
        with pytest.raises(RunError, match=message):
            ask()
    folder.write_status(State.stopped, step=7, best_error=0.25)
    with pytest.raises(RunError, match="the run is stopped"):
        unfinished.model()
    assert repr(unfinished) == f"Run({str(folder.path)!r}, stopped, step 7, best validation error 25.0 %)"
    with pytest.raises(RunError, match=r"dataset\.json: cannot be read"):
        _ = unfinished.class_names


@pytest.mark.parametrize("state", [State.running, State.stopped, State.failed])
def test_the_model_of_an_earlier_end_is_not_used(run, tmp_path, state):
    shutil.copytree(run.path, tmp_path / "run")
    resumed = load_run(tmp_path / "run")
    assert resumed.model().count_params() > 0
    resumed.write_status(state)
    with pytest.raises(RunError, match=rf"has no model\.keras: the run is {state}; go on with"):
        resumed.model()


def test_damaged_statistics_are_one_line(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / runs.STATISTICS).write_bytes(b"no zip file")
    with pytest.raises(DataError, match=r"statistics\.npz is no statistics file"):
        load_run(tmp_path / "run").statistics()


def test_the_data_of_a_run_must_have_its_classes(run, tmp_path, caplog):
    assert run.load_source().fingerprint == run.dataset()["fingerprint"]
    assert not caplog.records
    shutil.copytree(run.path, tmp_path / "run")
    other, dataset = load_run(tmp_path / "run"), run.dataset()
    runs.write_json(other.path / runs.DATASET, {**dataset, "fingerprint": "another"})
    assert other.load_source().class_names == run.class_names
    assert "data=digits has changed since the training: the splits are not those of the run" in caplog.text
    runs.write_json(other.path / runs.DATASET, {**dataset, "class_names": ["0", "2", "1"]})
    with pytest.raises(ConfigError) as caught:
        other.load_source()
    assert str(caught.value).endswith(
        "expected the run's classes [1: '2', 2: '1'] of 3 in data=digits, "
        "found [1: '1', 2: '2', 3: '3', 4: '4', 5: '5', 4 more] of 10"
    )


def test_what_is_no_run(tmp_path):
    with pytest.raises(WrongPathError, match="no such folder"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_model_is_one_line(run, tmp_path, damage):
    folder = RunFolder.create(tmp_path / "run", to_yaml(run.config), [])
    whole = (run.path / runs.MODEL).read_bytes()
    folder.write_status(State.finished)
    (folder.path / runs.MODEL).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(RunError, match=r"model\.keras: cannot be loaded") as caught:
        load_run(folder.path).model()
    assert "\n" not in str(caught.value)


def test_the_model_takes_further_training_with_plain_keras(run, images):
    model = run.model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    inputs = ((upsampled(images) - 64) / 64).astype("float32")
    history = model.fit(inputs, load_digits().target[:70], epochs=4, batch_size=35, verbose=0).history["loss"]
    assert history[-1] < history[0]
