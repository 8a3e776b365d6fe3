"""Features of a run: the file, the classifier on them, and what is refused in one line."""

import json
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from alexnet_tf import cli, features
from alexnet_tf.classical import fit_best_svm, fit_svm
from alexnet_tf.config import ConfigError, compose
from alexnet_tf.data import DataError, eval_batches, load_source
from alexnet_tf.features import check_fit, fit_probe, prepare_extraction, read_features, write_features
from alexnet_tf.inference import load_run
from alexnet_tf.runs import WriteError
from alexnet_tf.training import train

EXAMPLES = 330


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = compose(
        [
            "model=digits_quick",
            "model.init=he_normal",
            f"data.train_examples={EXAMPLES}",
            "optimizer.lr=0.02",
            "training.batch_size=64",
            "training.epochs=2",
            "training.progress=none",
            "training.checkpoint_every=never",
            f"run_dir={tmp_path_factory.mktemp('features') / 'run'}",
        ]
    )
    return train(config)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The features of conv3 as both kinds of file, and the classifier."""
    folder, done = tmp_path_factory.mktemp("written"), []
    extraction = prepare_extraction(run)
    write_features(extraction, folder / "f.npz", batch_size=50, told=lambda *counts: done.append(counts))
    assert done[-1] == (extraction.total, extraction.total)
    return extraction, folder / "f.npz", fit_probe(folder / "f.npz", 10)


def by_hand(run, layer, split="validation"):
    """The output of a layer, by Keras, of every image of a split, and the labels."""
    import keras

    network = run.model()
    inner = keras.Model(network.inputs[0], network.get_layer(layer).output)
    (batch,) = eval_batches(
        run.load_source(), split, run.config.augment, run.statistics(), batch_size=EXAMPLES + 29
    )
    images, labels, weights = (part.numpy() for part in batch)
    there = weights > 0
    return inner(images).numpy()[there].reshape(there.sum(), -1), labels[there]


def test_the_archive_has_every_image_of_every_split_once(run, written):
    extraction, path, _ = written
    assert extraction.layer == "conv3"  # the one before the last
    with np.load(path, allow_pickle=False) as found:
        assert set(found) == {"features", "labels", "ids", "split", "class_names"}
        assert (found["features"].dtype, found["labels"].dtype, found["ids"].dtype) == (
            np.float32,
            np.int32,
            np.int64,
        )
        assert found["features"].shape == (EXAMPLES + 359, 2 * 2 * 64)
        assert list(found["class_names"]) == [str(digit) for digit in range(10)]
        source = run.load_source()
        for split in ("train", "validation"):
            here = found["split"] == split
            np.testing.assert_array_equal(found["ids"][here], source.split(split).ids)
        features, labels = by_hand(run, "conv3_pool")
        np.testing.assert_allclose(found["features"][here], features, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found["labels"][here], labels)
    assert [item.name for item in path.parent.iterdir()] == ["f.npz"]


def test_it_can_be_the_first_model_of_a_process(run):
    keras.utils.clear_session()  # the names that Keras gives begin anew: no layer of a loaded network may have one
    assert "flatten" in [layer.name for layer in run.model().layers]
    assert prepare_extraction(run).network.layers[-1].name == "features"


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_what_was_written_is_read_back_in_parts_of_one_split(written, tmp_path, monkeypatch, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra sweep is not installed")
    extraction, path, _ = written
    monkeypatch.setattr(features, "ROWS", 100)
    if kind == "parquet":
        path = tmp_path / "f.parquet"
        write_features(extraction, path, batch_size=100)
    parts = list(read_features(path))
    assert [(part.split, len(part.labels)) for part in parts] == [
        *(("train", count) for count in (100, 100, 100, 30)),
        *(("validation", count) for count in (100, 100, 100, 59)),
    ]
    with np.load(written[1]) as found:
        for name in ("features", "labels", "ids"):
            whole = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_allclose(whole, found[name], rtol=1e-5, atol=1e-5)
            assert whole.dtype == found[name].dtype


def test_parquet_holds_the_same(run, written, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra sweep is not installed")
    write_features(prepare_extraction(run), tmp_path / "f.parquet", batch_size=200)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert json.loads(table.schema.metadata[b"class_names"]) == [str(digit) for digit in range(10)]
    frame = table.to_pandas()
    with np.load(written[1]) as found:
        np.testing.assert_allclose(np.stack(frame["features"]), found["features"], rtol=1e-5, atol=1e-5)
        for column, name in (("label", "labels"), ("id", "ids"), ("split", "split")):
            np.testing.assert_array_equal(frame[column], found[name])
        np.testing.assert_array_equal(frame["class_name"], found["class_names"][found["labels"]])


@pytest.mark.slow
def test_the_classifier_is_chosen_by_training_examples_alone(written):
    _, path, probe = written
    with np.load(path) as found:
        split, features, labels = found["split"], found["features"], found["labels"]
    train_part, rest = split == "train", split == "validation"
    svm, c = fit_best_svm(features[train_part], labels[train_part], 10, seed=0)
    assert c == probe.c
    wrong = (svm.scores(features[rest]).argmax(axis=1) != labels[rest]).sum()
    assert (probe.errors["validation"], probe.examples["validation"]) == (wrong, 359)
    assert probe.examples["train"] == EXAMPLES
    assert wrong / 359 < 0.2  # trained for two epochs, and linear
    name, count, error = probe.rows()[-1]
    assert (name, count) == ("validation", "359")
    assert error.startswith(f"{100 * wrong / 359:.2f} [")


def test_the_scale_of_features_does_not_matter():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 90)
    features = (np.eye(3)[labels] + generator.normal(0, 0.4, [90, 3])).astype(np.float32)
    svm, c = fit_best_svm(features, labels, 3, seed=0)
    moved = (1000 * features + [5.0, -3000.0, 0.0]).astype(np.float32)
    again, same = fit_best_svm(moved, labels, 3, seed=0)
    assert c == same
    np.testing.assert_allclose(again.scores(moved), svm.scores(features), atol=0.02)
    scaled = (features - features.mean(0)) / features.std(0)
    direct = fit_svm(scaled, labels, 3, c=c, iterations=10_000, seed=0)
    np.testing.assert_allclose(svm.scores(features), direct.scores(scaled), atol=1e-4)
    constant = np.column_stack([features, np.full(90, 7, np.float32)])
    assert np.isfinite(fit_best_svm(constant, labels, 3, seed=0)[0].coefficients).all()


def test_other_images_and_another_preprocessing(run, tmp_path):
    for label, name in enumerate(["ant", "bee"]):
        (tmp_path / name).mkdir()
        for number in range(5):
            image = np.full([20, 30, 1], 40 * label + number, np.uint8)
            (tmp_path / name / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
    other = ["data=folder", f"data.dir={tmp_path}", "data.channels=1", "data.validation_fraction=0.2"]
    with pytest.raises(ConfigError, match="vary in size and are never cropped"):
        prepare_extraction(run, other)
    larger = ["augment.resize.size=20", "augment.order=[resize,subtract_mean,random_crop,scale]"]
    square = ["augment.resize.keep_aspect=false"]
    extraction = prepare_extraction(run, [*other, *square], "conv1")
    assert extraction.source.class_names == ["ant", "bee"]
    assert (extraction.total, extraction.width) == (10, 8 * 8 * 32)
    assert sum(len(block.ids) for block in extraction.blocks(3)) == 10
    with pytest.raises(
        ConfigError, match=r"augment.subtract_mean has values of shape \(16, 16, 1\), the image"
    ):
        prepare_extraction(run, [*other, *square, *larger])
    with pytest.raises(ConfigError, match=r"data.channels=3: expected 1, as .*run was trained with"):
        prepare_extraction(run, ["data.channels=3"])


@pytest.mark.parametrize(
    ("overrides", "layer", "message"),
    [
        ([], "fc7", r"--layer=fc7: no such layer of digits_quick. Expected one of conv1, conv2, conv3, fc10"),
        (
            ["model=alexnet"],
            None,
            "model=alexnet: expected data=NAME, data.KEY=VALUE, augment=NAME or augment.KEY",
        ),
        (["data.clases=[1,2]"], None, "clases"),
        (["data=digit"], None, "data=digit: no such choice"),
    ],
)
def test_a_wrong_request_is_one_line(run, overrides, layer, message):
    with pytest.raises(ConfigError, match=message) as caught:
        prepare_extraction(run, overrides, layer)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_written_leaves_nothing(run, tmp_path):
    extraction = prepare_extraction(run, ["data.classes=[0,1]", "data.train_examples=4"])
    with pytest.raises(
        ConfigError, match=r"data.train_examples: expected at least 5 .*digits has 4; .*--no-fit"
    ):
        check_fit(extraction)
    with pytest.raises(ConfigError, match=r"--out .*f.csv: expected a name that ends in .npz or .parquet"):
        write_features(extraction, tmp_path / "f.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        write_features(extraction, tmp_path / "file" / "f.npz")
    with pytest.raises(DataError, match=r"data.train_examples must be"):
        prepare_extraction(run, ["data.train_examples=99999"])


def test_a_fit_that_fails_keeps_the_features(written, tmp_path):
    check_fit(written[0])
    shutil.copy(written[1], tmp_path / "f.npz")
    with np.load(written[1]) as found:
        content = {**found, "labels": np.zeros_like(found["labels"])}
    np.savez(tmp_path / "f.npz", **content)
    with pytest.raises(ConfigError, match=r"330 training examples are too few .* of 10 classes; .*--no-fit"):
        fit_probe(tmp_path / "f.npz", 10)


def test_a_set_of_the_runs_name_is_carved_as_the_runs(run, tmp_path):
    """What the run trained on must not be held out."""
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["seed"] = config["data"]["split_seed"] = 3
    config["data"] |= {"validation_fraction": 0.1, "train_examples": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    other = load_run(folder)
    own = load_source(other.config.data).split("validation").ids

    def held_out(*overrides):
        return prepare_extraction(other, ["data=digits", *overrides]).source.split("validation").ids

    np.testing.assert_array_equal(held_out(), own)
    np.testing.assert_array_equal(held_out("data.split_seed=null"), own)  # the run's seed
    assert len(held_out("data.validation_fraction=0.2")) == 359
    assert set(held_out("data.split_seed=0")) != set(own)


def test_the_command_says_wrong_use_before_tensorflow_is_loaded(run, alexnet_here, monkeypatch):
    monkeypatch.setattr(cli, "_import_tensorflow", lambda: pytest.fail("too late"))
    refused = alexnet_here("features", str(run.path), "--out", "f.txt")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "expected a name that ends in .npz or .parquet" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_130_and_leaves_nothing(
    run, alexnet_here, monkeypatch, tmp_path, number
):
    monkeypatch.setattr(features.Extraction, "blocks", lambda *_: signal.raise_signal(number))
    done = alexnet_here("features", str(run.path), "--out", "f.npz")
    assert (done.returncode, done.stderr) == (130, "alexnet: stopped; nothing is written\n")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_fit_keeps_the_features(run, alexnet_here, monkeypatch, tmp_path):
    monkeypatch.setattr(features, "fit_best_svm", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    done = alexnet_here("features", str(run.path), "--out", "f.npz")
    assert (done.returncode, done.stderr) == (130, "alexnet: interrupted\n")
    assert "f.npz: 689 images" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


@pytest.mark.slow
def test_the_command(run, alexnet):
    done = alexnet(
        "features", str(run.path), "data.classes=[3,5]", "data.train_examples=100", "--layer", "conv2"
    )
    assert done.returncode == 0, done.stderr
    path = run.path / "features" / "digits_conv2.npz"
    assert f"{path}: 173 images, 512 features of conv2" in done.stdout.replace("\n", " ")
    assert "validation" in done.stdout
