"""Finished runs: views and ensembles against averages by hand, each example once, and what stays in the run."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml

from alexnet_tf import runs
from alexnet_tf.config import ConfigError, compose
from alexnet_tf.data import DataError, load_source
from alexnet_tf.evaluation import Settings, evaluate_ensemble, evaluate_runs, measure
from alexnet_tf.inference import load_run
from alexnet_tf.runs import RunError, WrongPathError
from alexnet_tf.training import train

COLUMNS = (
    "time,split,views,runs,loss,top1_error,top1_low,top1_high,top5_error,top5_low,top5_high,examples,folder"
)
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
TABLES = ["confusion.csv", "confusion.png", "per_class.csv"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs that pad and crop, with other seeds, and one of another network and preprocessing that does not."""
    folder = tmp_path_factory.mktemp("measure")
    small = [
        "data.train_examples=100",
        "training.batch_size=50",
        "training.epochs=1",
        "training.progress=none",
    ]
    crops = ["model=digits_quick", "augment=cifar", "model.init=he_normal", "augment.pad_crop.padding=2"]
    values = {
        "first": [*crops, "model.input_size=8", "model.stages.conv3.pool=null"],
        "second": [*crops, "model.input_size=8", "model.stages.conv3.pool=null", "seed=1"],
        "plain": ["model=digits_quick", "model.input_size=16", "model.init=he_normal"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE_DIR", str(folder / "cache"))
        for name, choices in values.items():
            train(compose([*choices, *small, f"run_dir={folder / name}"]))
    return folder


@pytest.fixture
def members(trained, tmp_path):
    """The runs as `first`, `second` and `plain`, in a folder of the test's own."""
    for name in ("first", "second", "plain"):
        shutil.copytree(trained / name, tmp_path / name)
    return SimpleNamespace(**{name: load_run(tmp_path / name) for name in ("first", "second", "plain")})


@pytest.fixture(scope="module")
def validation(trained):
    """uint8 images `[N, 8, 8, 1]` and labels of the validation split."""
    split = load_run(trained / "first").load_source().split("validation")
    images, labels = split.store.arrays
    return images.numpy()[split.ids], labels.numpy()[split.ids]


def by_hand(run, images):
    """The averaged probabilities of ten views, cut and mirrored by slicing, in NumPy float64."""
    mean = np.load(run.path / runs.STATISTICS)["mean_image"]
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)]).astype("float32")
    model, total = run.model(), 0
    for top, left in [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]:
        crop = padded[:, top : top + 8, left : left + 8]
        for view in (crop, crop[:, :, ::-1]):
            logits = model.predict((view - mean) / 64, verbose=0).astype("float64")
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            total = total + exponents / exponents.sum(axis=1, keepdims=True)
    return total / 10


def check_scores(evaluation, probabilities, labels):
    """Compare all that an evaluation says with a count over probabilities."""
    own = probabilities[np.arange(len(labels)), labels]
    ranks = (probabilities > own[:, np.newaxis]).sum(axis=1)
    scores = evaluation.scores
    assert scores.examples == len(labels)
    assert scores.loss == pytest.approx(-np.log(own).mean(), rel=1e-5)
    assert scores.top1_error == pytest.approx((ranks >= 1).mean(), abs=1e-12)
    assert scores.top5_error == pytest.approx((ranks >= 5).mean(), abs=1e-12)
    expected = np.zeros((10, 10), int)
    for label, row in zip(labels, probabilities, strict=True):
        expected[label, row.argmax()] += 1
    np.testing.assert_array_equal(evaluation.confusion, expected)


def test_ten_views_are_the_average_of_crops_by_hand(members, validation):
    images, labels = validation
    probabilities = by_hand(members.first, images)
    np.testing.assert_allclose(members.first.predict(images, views=10), probabilities, rtol=1e-4, atol=1e-6)
    (evaluation,) = evaluate_runs([members.first], Settings(views=10))
    check_scores(evaluation, probabilities, labels)
    one = members.first.predict(images)
    assert np.abs(one - probabilities).max() > 0.01  # the views do matter
    check_scores(evaluate_runs([members.first], Settings())[0], one, labels)


@pytest.mark.parametrize(
    ("views", "batch_size"), [pytest.param(5, 1, marks=pytest.mark.slow), (5, 70), (10, 5000)]
)
def test_every_example_counts_once_whatever_the_batch(members, validation, views, batch_size):
    images, labels = validation
    probabilities = members.first.predict(images, batch_size=33, views=views)
    (evaluation,) = evaluate_runs([members.first], Settings(views=views, batch_size=batch_size))
    check_scores(evaluation, probabilities, labels)


MIRRORED = """
import json, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from alexnet_tf.evaluation import Settings, evaluate_runs
from alexnet_tf.inference import load_run
answers = []
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
for batch_size in (150, 640):  # 16 images at once, whose last 7 leave a replica only padding; 64
    with strategy.scope():
        (evaluation,) = evaluate_runs([load_run(sys.argv[1])], Settings(views=10, batch_size=batch_size))
    answers.append([vars(evaluation.scores), evaluation.confusion.tolist()])
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_two_replicas_count_as_one_device_does(members, own_cache):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "ALEXNET_CACHE_DIR": str(own_cache)}
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, str(members.first.path)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (alone,) = evaluate_runs([members.first], Settings(views=10))
    for scores, confusion in json.loads(done.stdout.splitlines()[-1]):
        assert scores.pop("loss") == pytest.approx(alone.scores.loss, rel=1e-6)
        assert scores == {name: value for name, value in vars(alone.scores).items() if name != "loss"}
        np.testing.assert_array_equal(confusion, alone.confusion)


# ------------------------------------------------------------------------------------------ in the run


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_results_are_appended_to_the_run(members):
    run = members.first
    metrics = run.metrics().iloc[-1]
    evaluations = [
        *evaluate_runs([run], Settings("validation", 1, 50)),
        *evaluate_runs([run], Settings("train", 5)),
        *evaluate_runs([run], Settings("validation", 1)),
    ]
    assert evaluations[0].scores.top1_error == metrics["top1_error"]
    assert evaluations[0].scores.loss == pytest.approx(metrics["loss"], rel=1e-6)
    assert evaluations[1].scores.examples == 100
    assert (run.path / "evaluations.csv").read_text().splitlines()[0] == COLUMNS
    for row, evaluation in zip(rows(run.path / "evaluations.csv"), evaluations, strict=True):
        assert run.path / row["folder"] == evaluation.path
        assert float(row["loss"]) == evaluation.scores.loss
        low, error, high = (float(row[name]) for name in ("top1_low", "top1_error", "top1_high"))
        assert 0 <= low < error < high <= 1
        assert (row["views"], row["runs"]) == (str(evaluation.views), "1")
        counted = rows(evaluation.path / "per_class.csv")
        assert sum(int(line["examples"]) for line in counted) == evaluation.scores.examples
        assert sum(int(line["top1_errors"]) for line in counted) == round(error * evaluation.scores.examples)
        assert sorted(path.name for path in evaluation.path.iterdir()) == TABLES
    names = ["0001_validation_1view", "0002_train_5views", "0003_validation_1view"]
    assert sorted(path.name for path in (run.path / "evaluations").iterdir()) == names


def test_nothing_is_measured_where_anything_is_wrong(members, tmp_path):
    with pytest.raises(
        ConfigError, match=r"--split test: expected one of train, validation .the splits of digits."
    ):
        evaluate_runs([members.first], Settings("test"))
    for views in (0, 3):
        for ask in (
            lambda views=views: evaluate_runs([members.first], Settings(views=views)),
            lambda views=views: members.first.predict(np.zeros([1, 8, 8, 1], np.uint8), views=views),
        ):
            with pytest.raises(ConfigError, match=f"views={views}: expected one of 1, 5, 10"):
                ask()
    with pytest.raises(ConfigError, match="views=5: expected an operation that crops"):
        evaluate_runs([members.first, members.plain], Settings(views=5))
    (members.second.path / "evaluations.csv").write_text("time,split\n")
    with pytest.raises(RunError, match=r"evaluations\.csv: expected the columns time,split,views,.*, found"):
        evaluate_runs([members.first, members.second], Settings())
    members.second.write_status(runs.State.stopped)
    with pytest.raises(RunError, match=r"has no model\.keras: the run is stopped"):
        evaluate_runs([members.first, members.second], Settings())
    assert not [path for path in tmp_path.glob("*/evaluations*") if path.parent.name != "second"]


def test_an_interrupted_evaluation_leaves_nothing(members, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "tally", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_runs([members.first], Settings())
    assert not list(members.first.path.glob("evaluations*"))


def test_probabilities_that_are_not_numbers_are_refused(members):
    model = members.first.model()
    model.weights[-1].assign(np.full(10, np.nan))
    model.save(members.first.path / runs.MODEL)
    with pytest.raises(RunError, match="its model gives probabilities that are not numbers"):
        evaluate_runs([members.first], Settings())
    assert not list(members.first.path.glob("evaluations*"))


# ------------------------------------------------------------------------------------------ ensembles


def test_an_ensemble_is_the_average_of_its_members(members, validation, tmp_path):
    images, labels = validation
    out = tmp_path / "new" / "together"
    three = [members.first, members.second, members.plain]
    *alone, together = evaluate_ensemble(three, Settings(batch_size=100), out)
    each = [run.predict(images).astype("float64") for run in three]
    for evaluation, probabilities in zip(alone, each, strict=True):
        check_scores(evaluation, probabilities, labels)
    check_scores(together, np.mean(each, axis=0), labels)
    assert together.path == out
    assert sorted(path.name for path in out.iterdir()) == [*TABLES, "scores.csv"]
    table = rows(out / "scores.csv")
    assert [row["run"] for row in table] == [*(str(run.path) for run in three), "average of 3 runs"]
    assert [row["runs"] for row in table] == ["1", "1", "1", "3"]
    assert [row["folder"] for row in table] == [str(each.path) for each in [*alone, together]]
    assert float(table[-1]["loss"]) == together.scores.loss
    assert all(len(rows(run.path / "evaluations.csv")) == 1 for run in three)
    with pytest.raises(WrongPathError, match=r"together: exists already\. Expected the name of a new folder"):
        evaluate_ensemble(three, Settings(), out)


@pytest.mark.slow
def test_an_ensemble_averages_over_views_too(members, validation, tmp_path, monkeypatch):
    images, labels = validation
    monkeypatch.chdir(tmp_path)
    together = evaluate_ensemble([members.first, members.second], Settings(views=10))[-1]
    check_scores(together, (by_hand(members.first, images) + by_hand(members.second, images)) / 2, labels)
    assert together.path.parent.resolve() == tmp_path / "evaluations"
    assert together.path.name.endswith("_validation_ensemble")


def test_members_must_see_the_same(members, tmp_path):
    first, second = members.first, members.second
    with pytest.raises(ConfigError, match=r"--ensemble: expected at least two runs to average\. Received 1"):
        evaluate_ensemble([first], Settings())
    with pytest.raises(
        ConfigError, match=r"--ensemble: expected each run once\. Received .*first and .*first"
    ):
        evaluate_ensemble([first, second, load_run(first.path)], Settings())
    config = yaml.safe_load((second.path / "config.yaml").read_text())
    config["data"]["split_seed"] = 99
    (second.path / "config.yaml").write_text(yaml.safe_dump(config))
    message = r"--ensemble: expected runs of the same data\. Received .*first and .*second: data=digits \("
    with pytest.raises(ConfigError, match=message):
        evaluate_ensemble([first, load_run(second.path)], Settings(), tmp_path / "out")
    config["model"]["num_classes"] = 12
    (second.path / "config.yaml").write_text(yaml.safe_dump(config))
    message = r"--ensemble: expected runs of the same classes\. Received .*first and .*second, whose differ"
    with pytest.raises(ConfigError, match=message):
        evaluate_ensemble([first, load_run(second.path)], Settings(), tmp_path / "out")
    assert not list(tmp_path.glob("*/evaluations*"))
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ photos


@pytest.fixture
def photo_run(members, tmp_path):
    """The run that crops, said to be one of three photos of each of ten folders."""
    generator = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "photos" / f"c{number // 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            tf.io.encode_png(generator.integers(0, 256, [8, 9 + number % 2, 1], np.uint8)).numpy()
        )
    run = members.first
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    photos = {"name": "folder", "dir": str(tmp_path / "photos"), "train_examples": None, "image_size": None}
    config["data"].update(photos, validation_fraction=0.0)
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    run = load_run(run.path)
    runs.write_json(run.path / runs.DATASET, load_source(run.config.data).describe())
    return run


def test_the_photos_are_those_of_the_training(photo_run, tmp_path, caplog):
    assert evaluate_runs([photo_run], Settings("train"))[0].scores.examples == 30
    assert "has changed" not in caplog.text
    (tmp_path / "photos" / "c1" / "3.png").unlink()
    assert evaluate_runs([photo_run], Settings("train"))[0].scores.examples == 29
    assert "data=folder has changed since the training" in caplog.text


def test_images_that_have_no_room_are_reported(photo_run, tmp_path, caplog):
    config = photo_run.config
    config.augment.pad_crop = replace(config.augment.pad_crop, padding=0)
    assert evaluate_runs([photo_run], Settings("train", 5))[0].scores.examples == 30
    assert not [record for record in caplog.records if record.name.startswith("alexnet_tf")]
    for number in (0, 7):
        path = tmp_path / "photos" / f"c{number // 3}" / f"{number}.png"
        path.write_bytes(
            tf.io.encode_png(np.random.default_rng(number).integers(0, 256, [8, 8, 1], np.uint8)).numpy()
        )
    assert evaluate_runs([photo_run], Settings("train", 5))[0].scores.examples == 30
    assert "2 images look the same in all corners and the centre" in caplog.text


def test_other_classes_are_refused(photo_run, tmp_path):
    (tmp_path / "photos" / "c0").rename(tmp_path / "photos" / "z")
    with pytest.raises(ConfigError, match=r"expected the run's classes \[0: 'c0', .*, found \[0: 'c1', "):
        evaluate_runs([photo_run], Settings("train"))
    shutil.copytree(tmp_path / "photos" / "z", tmp_path / "photos" / "c0")
    with pytest.raises(ConfigError, match=r"classes \[\] of 10 in data=folder, found \[10: 'z'\] of 11$"):
        evaluate_runs([photo_run], Settings("train"))


def test_a_damaged_photo_is_named(photo_run, tmp_path):
    bad = tmp_path / "photos" / "c4" / "13.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=f"Cannot read the image {bad}"):
        evaluate_runs([photo_run], Settings("train"))
    assert not list(photo_run.path.glob("evaluations*"))


def test_the_bar_is_gone_before_an_error_is_told(members, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # which to rich means a terminal
    monkeypatch.setenv("TERM", "xterm")
    model = members.first.model()
    model.set_weights([np.full_like(array, np.nan) for array in model.get_weights()])
    model.save(members.first.path / runs.MODEL)
    with pytest.raises(RunError) as caught:
        evaluate_runs([members.first], Settings(progress=True))
    written = capsys.readouterr().err
    assert "first" in written
    assert written.rfind(SHOW_CURSOR) > written.rfind(HIDE_CURSOR) >= 0
    assert "not numbers" in str(caught.value)  # alive until here, and with it all frames that it came through


# ------------------------------------------------------------------------------------------ the command


@pytest.mark.usefixtures("members")
def test_the_command(alexnet):
    done = alexnet("evaluate", "first", "second", "--views", "10", "--ensemble", "--out", "both")
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # no bar where there is no terminal
    assert "validation split, 10 views; [95 % interval]" in done.stdout
    assert "average of 2 runs" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.splitlines()[-1] == "tables and confusion matrix: both"
    wrong = alexnet("evaluate", "plain", "--views", "5")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "alexnet: plain: views=5: expected an operation that crops in augment.order"
    )
    assert wrong.stderr.count("\n") == 1
