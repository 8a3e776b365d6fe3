import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml

import alexnet_tf
from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import Precision
from alexnet_tf.data import DataError, load_source, preprocess_images
from alexnet_tf.export import comparison, export_savedmodel, reload, savedmodel
from alexnet_tf.inference import Run
from alexnet_tf.runs import DATASET, RunError, WrongPathError, write_json

STRANGER = """
import sys

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("alexnet_tf", "hydra_plugins"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker)
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
images = {key: tf.constant(value) for key, value in np.load(sys.argv[2]).items()}
outputs = {f"{name}.{key}": value.numpy() for key, x in images.items() for name, value in serve(images=x).items()}
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model.serve(images["stored"])["probabilities"][:, 0])
assert all(float(tf.norm(gradient)) > 0 for gradient in tape.gradient(loss, model.weights))
assert "alexnet_tf" not in sys.modules
np.savez(sys.argv[3], **{key: value.astype(str) if value.dtype == object else value for key, value in outputs.items()})
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for three steps, with an LRN, whose gradient is our own, and 12 outputs for the ten digits."""
    folder = tmp_path_factory.mktemp("export") / "run"
    overrides = ["model=cifar_quick", "model.input_size=16", "model.init=he_normal", "model.num_classes=12"]
    overrides += ["model.stages.conv1.norm=lrn", "augment=plain", "optimizer=sgd"]
    overrides += ["training.steps=3", "training.progress=none", "training.tensorboard=false"]
    return alexnet_tf.train(alexnet_tf.compose([*overrides, f"run_dir={folder}"]))


@pytest.fixture(scope="module")
def exported(run: Run) -> savedmodel.ExportResult:
    return export_savedmodel(run)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload in this process, which is three seconds faster than a fresh one."""

    def run_here(folder: Path, batches: list[np.ndarray], scratch: Path) -> dict[str, list[np.ndarray]]:  # noqa: ARG001
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
        outputs = [serve(images=tf.constant(batch)) for batch in batches]
        columns = {name: [output[name].numpy() for output in outputs] for name in outputs[0]}
        columns["labels"] = [rows.astype(str) for rows in columns["labels"]]
        return columns

    monkeypatch.setattr(savedmodel, "_run_fresh", run_here)


def copy(run: Run, folder: Path, **changes: dict[str, Any]) -> Run:
    """The run without exports, with changes to groups of its config."""
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("export"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for group, values in changes.items():
        config[group].update(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return alexnet_tf.load_run(folder)


def test_export_agrees_with_the_run_and_says_so(run: Run, exported: savedmodel.ExportResult) -> None:
    assert exported.path == run.path / "export" / "savedmodel" / "1"
    assert (exported.images, exported.origin, exported.note) == (64, "validation", "")
    assert exported.max_difference <= exported.tolerance == 1e-5
    assert exported.top1_agreement == 1.0
    lines = str(exported).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(str(exported.path))
    assert "64 images of the validation split" in lines[1]
    assert "top-1 agrees on 100.0 %" in lines[1]


def test_the_folder_holds_model_labels_and_facts(run: Run, exported: savedmodel.ExportResult) -> None:
    labels = (exported.path / "assets" / "labels.txt").read_text().splitlines()
    assert labels == [*map(str, range(10)), "class 10", "class 11"]
    facts = json.loads((exported.path / "export.json").read_text())
    assert facts["format"] == "savedmodel"
    assert facts["run"]["name"] == "run"
    assert facts["run"]["step"] == 3
    assert facts["classes"] == labels
    assert facts["input"]["images"]["shape"] == ["N", "H", "W", 1]
    assert facts["input"]["images"]["preprocessing"] == ["resize", "subtract_mean", "scale"]
    assert facts["comparison"]["images"] == 64
    assert facts["comparison"]["origin"] == "validation"
    assert facts["versions"]["tensorflow"] == tf.__version__
    assert str(run.path) not in json.dumps(facts)
    assert not list(exported.path.parent.glob(".*"))


def test_plain_tensorflow_serves_it(run: Run, exported: savedmodel.ExportResult, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shapes = {"stored": [5, 8, 8, 1], "large": [2, 40, 40, 1], "same": [1, 16, 16, 1], "empty": [0, 8, 8, 1]}
    images = {name: rng.integers(0, 256, shape, np.uint8) for name, shape in shapes.items()}
    np.savez(tmp_path / "images.npz", **images)
    moved = shutil.copytree(exported.path, tmp_path / "elsewhere")
    arguments = [str(moved), str(tmp_path / "images.npz"), str(tmp_path / "outputs.npz")]
    process = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "custom gradients" not in process.stderr
    outputs, model = np.load(tmp_path / "outputs.npz"), run.model()
    for name in ("stored", "large", "same"):
        probabilities, classes = outputs[f"probabilities.{name}"], outputs[f"classes.{name}"]
        assert (probabilities.dtype, classes.dtype) == (np.float32, np.int64)
        prepared = preprocess_images(tf.constant(images[name]), run.config.augment, run.statistics())
        np.testing.assert_allclose(probabilities, tf.nn.softmax(model(prepared)), atol=1e-5)
        np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))
        assert [int(label.removeprefix("class ")) for label in outputs[f"labels.{name}"]] == list(classes)
    assert outputs["probabilities.empty"].shape == (0, 12)
    assert outputs["classes.empty"].shape == outputs["labels.empty"].shape == (0,)


@pytest.mark.usefixtures("in_process")
def test_versions_count_on(run: Run, exported: savedmodel.ExportResult) -> None:
    (exported.path.parent / "notes").mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in exported.path.rglob("*")}
    assert export_savedmodel(run).path == run.path / "export" / "savedmodel" / "2"
    assert before == {path: path.stat().st_mtime_ns for path in exported.path.rglob("*")}


@pytest.mark.usefixtures("in_process")
def test_out_is_made_once(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "models" / "digits" / "7"
    assert export_savedmodel(run, out).path == out
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(WrongPathError, match=r"7: exists already\. Expected the name of a new folder\.$"):
        export_savedmodel(run, out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert os.listdir(out.parent) == ["7"]  # noqa: PTH208 - hidden files too


@pytest.mark.usefixtures("in_process")
def test_a_mismatch_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Run.predict
    monkeypatch.setattr(Run, "predict", lambda self, images: original(self, images)[:, ::-1])
    fresh = copy(run, tmp_path / "run")
    with pytest.raises(
        RunError, match=r"differs from the run's model: .*allowed 1e-05.*nothing was"
    ) as caught:
        export_savedmodel(fresh)
    assert "\n" not in str(caught.value)
    assert not (fresh.path / "export").exists()
    with pytest.raises(RunError, match="differs"):
        export_savedmodel(fresh, tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("in_process")
def test_wrong_labels_leave_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = savedmodel._run_fresh

    def swapped(*arguments: Any) -> dict[str, list[np.ndarray]]:
        outputs = honest(*arguments)
        return {**outputs, "labels": [np.full_like(rows, "0") for rows in outputs["labels"]]}

    monkeypatch.setattr(savedmodel, "_run_fresh", swapped)
    with pytest.raises(RunError, match="classes or labels are wrong"):
        export_savedmodel(run, tmp_path / "out")
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_a_failing_process_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such op')")
    monkeypatch.setattr(reload, "__file__", str(script))
    with pytest.raises(RunError, match=r"fails in a fresh process \(no such op\); nothing was exported"):
        export_savedmodel(run, tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken.py"]  # noqa: PTH208


def test_probabilities_that_are_not_numbers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "predict", lambda self, images: np.full([len(images), 12], np.nan))  # noqa: ARG005
    with pytest.raises(RunError, match="gives probabilities that are not numbers"):
        export_savedmodel(run, tmp_path / "out")
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.usefixtures("in_process")
def test_random_images_where_the_data_is_gone(run: Run, tmp_path: Path) -> None:
    result = export_savedmodel(
        copy(run, tmp_path / "run", data={"name": "folder", "dir": str(tmp_path / "gone")})
    )
    assert (result.images, result.origin) == (64, "random")
    assert "gone" in result.note
    assert "64 random images (the data cannot be read: " in str(result)
    assert "gone" not in (result.path / "export.json").read_text()


def photos(run: Run, tmp_path: Path) -> Run:
    """The run, said to be one of six photos of several sizes."""
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 256, [9 + number, 12, 1], np.uint8)
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    data = {"name": "folder", "dir": str(tmp_path / "photos"), "image_size": None, "validation_fraction": 0.0}
    order = ["resize", "center_crop", "subtract_mean", "scale"]
    augment = {"order": order, "center_crop": {"size": 16}}
    other = copy(run, tmp_path / "run", data=data, augment=augment)
    write_json(other.path / DATASET, load_source(other.config.data).describe())
    return alexnet_tf.load_run(other.path)


@pytest.mark.usefixtures("in_process")
def test_images_of_several_sizes(run: Run, tmp_path: Path) -> None:
    result = export_savedmodel(photos(run, tmp_path))
    assert (result.images, result.origin) == (6, "train")


@pytest.mark.parametrize("size", [5, 40])
def test_a_damaged_image_ends_the_export(run: Run, tmp_path: Path, size: int) -> None:
    other, bad = photos(run, tmp_path), tmp_path / "photos" / "class1" / "3.png"
    bad.write_bytes((b"text " if size == 5 else bad.read_bytes())[:size])
    with pytest.raises(DataError, match=f"Cannot read the image {bad}") as caught:
        export_savedmodel(other)
    assert "\n" not in str(caught.value)
    assert not (other.path / "export").exists()


def test_other_classes_end_the_export(run: Run, tmp_path: Path) -> None:
    other = photos(run, tmp_path)
    (tmp_path / "photos" / "class0").rename(tmp_path / "photos" / "z")
    with pytest.raises(ConfigError, match=r"classes \[0: 'class0', 1: 'class1'\] of 2 in data=folder, found"):
        export_savedmodel(other)
    assert not (other.path / "export").exists()


def test_a_run_without_its_model(run: Run, tmp_path: Path) -> None:
    fresh = copy(run, tmp_path / "run")
    (fresh.path / "model.keras").unlink()
    with pytest.raises(RunError, match=r"has no model\.keras"):
        export_savedmodel(fresh)
    assert not (fresh.path / "export").exists()


def test_a_parent_that_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        export_savedmodel(run, tmp_path / "file" / "1")


def test_every_precision_has_a_tolerance() -> None:
    assert set(comparison.TOLERANCES) == set(Precision)
