"""A fitted model as a run: the same files and columns as a network's, and one line for what it is not."""

import csv
import signal
import sys

import keras
import numpy as np
import pytest

from alexnet_tf import runs
from alexnet_tf.classical import Classifier
from alexnet_tf.config import ConfigError, compose
from alexnet_tf.data import eval_batches, load_source
from alexnet_tf.inference import load_run
from alexnet_tf.studies import write_report
from alexnet_tf.training import Stopped, train
from alexnet_tf.training.fit import Fit, framing

TINY = (
    "model=sift_bow_svm",
    "model.words=40",
    "model.vocabulary_images=60",
    "data.train_examples=200",
    "data.validation_fraction=0.1",
    "training.probe.every=1",
    "training.probe.examples=50",
    "training.progress=none",
)


def fit(path, *overrides):
    return train(compose([*TINY, f"run_dir={path}", *overrides]), overrides=overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("fit") / "run")


def rows(run, name):
    with (run.path / name).open() as stream:
        return list(csv.DictReader(stream))


def test_it_is_an_ordinary_run(run):
    found = rows(run, runs.METRICS)
    assert tuple(found[0]) == runs.METRICS_COLUMNS
    assert [(row["epoch"], row["step"], row["split"]) for row in found] == [
        ("1", "1", split) for split in ("train", "probe", "validation")
    ]
    assert {(row["loss"], row["lr"]) for row in found} == {("", "")}
    assert [row["examples"] for row in found] == ["200", "50", "180"]
    assert float(found[2]["top5_error"]) <= float(found[2]["top1_error"]) < 0.2
    assert tuple(rows(run, runs.TIMING)[0]) == runs.TIMING_COLUMNS
    status = run.status()
    assert (status["state"], status["step"], status["steps"]) == ("finished", 1, 1)
    assert status["best_error"] == float(found[2]["top1_error"])
    assert run.dataset()["splits"] == {"train": 200, "validation": 180}
    assert run.environment()["end"] >= run.environment()["start"]
    assert "validation error" in repr(run)


def test_the_saved_arrays_give_the_same_errors(run):
    classifier = Classifier.load(run.path / runs.CLASSIFIER, run.config.model)
    source, wrong, total = load_source(run.config.data), 0, 0
    for images, labels, weights in eval_batches(
        source, "validation", framing(run.config.augment), None, batch_size=100
    ):
        there = weights.numpy() > 0
        wrong += (classifier.scores(images.numpy()[there]).argmax(axis=1) != labels.numpy()[there]).sum()
        total += there.sum()
    assert wrong / total == run.status()["best_error"]


def test_only_the_seed_decides(run, tmp_path):
    again, other = fit(tmp_path / "again"), fit(tmp_path / "other", "seed=1")
    assert (again.path / runs.METRICS).read_bytes() == (run.path / runs.METRICS).read_bytes()
    arrays = [dict(np.load(each.path / runs.CLASSIFIER)) for each in (run, again, other)]
    for name, values in arrays[0].items():
        np.testing.assert_array_equal(values, arrays[1][name])
        assert not np.array_equal(values, arrays[2][name])


def test_reports_take_it(run, tmp_path):
    (answer,) = write_report([run.path], tmp_path).answers
    error = f"{100 * run.status()['best_error']:.1f}"
    assert answer.startswith("State finished, epoch 1: training error ")
    assert answer.endswith(f"validation error {error} %.")
    assert (tmp_path / "report.html").exists()


def test_pixels_keep_their_values(run):
    assert framing(run.config.augment).order == ["resize"]
    cropped = compose(["model=sift_bow_svm", "data=cifar10"]).augment
    assert framing(cropped).order == ["pad_crop"]


def test_a_signal_stops_it_and_resume_begins_anew(run, tmp_path, monkeypatch):
    said = []

    def interrupt(_, line):  # between the features and the first class
        said.append(line)
        if line.startswith("linear SVM"):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_say", interrupt)
        with pytest.raises(Stopped, match="go on with: alexnet train resume="):
            fit(tmp_path / "stopped")
    assert said[-1].startswith("linear SVM: 10 classes, 40 features of 200 images")
    stopped = load_run(tmp_path / "stopped")
    assert (stopped.status()["state"], stopped.status()["reason"]) == ("stopped", "SIGINT during the fit")
    assert not (stopped.path / runs.METRICS).exists()
    resumed = train(compose([f"resume={stopped.path}"]))
    assert (resumed.path / runs.METRICS).read_bytes() == (run.path / runs.METRICS).read_bytes()


def test_what_fails_leaves_the_reason(tmp_path):
    with pytest.raises(ConfigError, match=r"^model\.words: 9000 words need .* there are 2940; use fewer"):
        fit(tmp_path / "failed", "model.words=9000")
    status = load_run(tmp_path / "failed").status()
    assert status["state"] == "failed"
    assert status["reason"].startswith("model.words: 9000 words")


def test_what_needs_a_network_says_so(run, tmp_path):
    with pytest.raises(ConfigError, match="is fitted at once and has finished"):
        train(compose([f"resume={run.path}"]))
    with pytest.raises(ConfigError, match="is no network but an SVM on features"):
        run.model()
    with pytest.raises(ConfigError, match="is no network but an SVM on features"):
        train(compose([f"init_from={run.path}", f"run_dir={tmp_path / 'x'}"]))
    with pytest.raises(ConfigError, match="is no Keras model"):
        train(compose([*TINY, f"run_dir={tmp_path / 'x'}"]), callbacks=[keras.callbacks.Callback()])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("init_from=somewhere", "expected a network, but model=sift_bow_svm is fitted at once"),
        ("training.overfit_batches=1", "expected a network, but model=sift_bow_svm is fitted at once"),
        ("model.words=1", "model.words=1: expected at least 2"),
        ("model.cell=9", "model.cell=9: needs 36 pixels, more than model.input_size=32"),
        ("model.c=0", "model.c=0.0: expected more than 0"),
        ("model.stages.conv1.units=3", "stages"),
    ],
)
def test_wrong_configs_are_one_line(override, message):
    with pytest.raises(ConfigError) as caught:
        compose([*TINY, override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_said_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    config = compose(
        ["model=hog_svm", f"run_dir={tmp_path / 'run'}"]
    )  # composing and reporting need no package
    with pytest.raises(
        ConfigError, match=r"^model=hog_svm: needs the package scikit-image; install .*\[classical\]$"
    ):
        train(config)
    assert list(tmp_path.iterdir()) == []


def test_hog_tells_digits_apart(tmp_path):
    pytest.importorskip("skimage", reason="the extra classical is not installed")
    config = ("model=hog_svm", "data.train_examples=500", f"run_dir={tmp_path / 'hog'}")
    run = train(compose([*config, "training.progress=none"]))
    assert run.status()["best_error"] < 0.08
    assert np.load(run.path / runs.CLASSIFIER).keys() == {"coefficients", "intercepts"}
