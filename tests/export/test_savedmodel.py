import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

import alexnet_tf
from alexnet_tf import cli
from alexnet_tf.config import ConfigError
from alexnet_tf.config.schema import Precision
from alexnet_tf.data import DamagedError, DataError, load_source, preprocess_images
from alexnet_tf.export import ExportResult, card, comparison, export_run, exporting, pictures, reload
from alexnet_tf.export.job import Job, LoadedRun
from alexnet_tf.inference import Run
from alexnet_tf.runs import DATASET, ENVIRONMENT, RunError, WrongPathError, write_json

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
for key, x in images.items():
    outputs[f"float.{key}"] = model.signatures["serve_float"](images=tf.cast(x, tf.float32))["probabilities"].numpy()
    outputs[f"features.{key}"] = model.signatures["embed"](images=x)["features"].numpy()
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in x], tf.string, [len(x)])
    for name, value in model.signatures["serve_bytes"](images=encoded).items():
        outputs[f"bytes_{name}.{key}"] = value.numpy()
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model.functions["serving_default"](images["stored"])["probabilities"][:, 0])
assert all(float(tf.norm(gradient)) > 0 for gradient in tape.gradient(loss, model.weights))
assert "alexnet_tf" not in sys.modules
np.savez(sys.argv[3], **{key: value.astype(str) if value.dtype == object else value for key, value in outputs.items()})
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained for sixty steps, with an LRN, whose gradient is our own, and 12 outputs for the ten digits."""
    folder = tmp_path_factory.mktemp("export") / "run"
    overrides = ["model=cifar_quick", "model.input_size=16", "model.init=he_normal", "model.num_classes=12"]
    overrides += ["model.stages.conv1.norm=lrn", "augment=plain", "optimizer=sgd"]
    overrides += ["training.steps=60", "training.progress=none", "training.tensorboard=false"]
    return alexnet_tf.train(alexnet_tf.compose([*overrides, f"run_dir={folder}"]))


@pytest.fixture(scope="module")
def exported(run: Run) -> ExportResult:
    return export_run(run)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload in this process, which is three seconds faster than a fresh one."""

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(exporting, "_run_script", reload.main)


def copy(run: Run, folder: Path, **changes: dict[str, Any]) -> Run:
    """The run without exports, with changes to groups of its config."""
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("export"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for group, values in changes.items():
        config[group].update(values)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return alexnet_tf.load_run(folder)


def test_export_agrees_with_the_run_and_says_so(run: Run, exported: ExportResult) -> None:
    assert exported.path == run.path / "export" / "savedmodel" / "1"
    own = exported.comparison
    assert (own.images, exported.reference.origin, exported.reference.note) == (256, "validation", "")
    assert own.max_difference <= own.tolerance == 1e-5
    assert own.top1_agreement == 1.0
    assert own.run_error == own.export_error
    lines = str(exported).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{exported.path}: savedmodel, {exported.bytes:,} bytes")
    assert "256 images of the validation split" in lines[1]
    assert "top-1 agrees on 100.0 %" in lines[1]


def test_the_folder_holds_model_labels_preprocessing_and_card(run: Run, exported: ExportResult) -> None:
    labels = (exported.path / "assets" / "labels.txt").read_text().splitlines()
    assert labels == [*map(str, range(10)), "class 10", "class 11"]
    preprocessing = json.loads((exported.path / "assets" / "preprocessing.json").read_text())
    assert preprocessing["input"] == {
        "dtype": "uint8", "shape": ["N", "H", "W", 1], "channels": "grey", "values": "0-255"
    }  # fmt: skip
    assert [operation["name"] for operation in preprocessing["inside"]] == [
        "resize",
        "subtract_mean",
        "scale",
    ]
    assert preprocessing["before"] == []
    card = json.loads((exported.path / "model_card.json").read_text())
    assert (card["format"], card["quantize"], card["views"]) == ("savedmodel", "none", 1)
    assert (card["run"]["name"], card["run"]["step"]) == ("run", 60)
    assert card["classes"] == labels
    assert card["comparison"]["images"] == 256
    assert card["config"]["model"]["name"] == "cifar_quick"
    assert card["versions"]["tensorflow"] == tf.__version__
    page = (exported.path / "README.md").read_text()
    for text in ("serve_bytes", "## Limits", "`resize` (size 16", card["run"]["examples"]):
        assert text in page
    assert str(run.path) not in json.dumps(card) + page
    assert not list(exported.path.parent.glob(".*"))


def test_plain_tensorflow_serves_it(run: Run, exported: ExportResult, tmp_path: Path) -> None:
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
        np.testing.assert_allclose(outputs[f"float.{name}"], probabilities, atol=1e-6)
        np.testing.assert_allclose(outputs[f"bytes_probabilities.{name}"], probabilities, atol=1e-6)
        np.testing.assert_array_equal(outputs[f"bytes_top_classes.{name}"][:, 0], classes)
        assert outputs[f"top_labels.{name}"].shape == (len(classes), 5)
        features = keras.Model(model.inputs, model.get_layer("fc10").input)(prepared)
        np.testing.assert_allclose(outputs[f"features.{name}"], features, rtol=1e-4, atol=1e-4)
    assert outputs["probabilities.empty"].shape == outputs["bytes_probabilities.empty"].shape == (0, 12)
    assert outputs["features.empty"].shape == (0, 256)
    assert outputs["classes.empty"].shape == outputs["labels.empty"].shape == (0,)


@pytest.mark.usefixtures("in_process")
def test_versions_count_on(run: Run, exported: ExportResult) -> None:
    (exported.path.parent / "notes").mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in exported.path.rglob("*")}
    assert export_run(run).path == run.path / "export" / "savedmodel" / "2"
    assert before == {path: path.stat().st_mtime_ns for path in exported.path.rglob("*")}


@pytest.mark.usefixtures("in_process")
def test_out_is_made_once(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "models" / "digits" / "7"
    assert export_run(run, out=out).path == out
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(WrongPathError, match=r"7: exists already\. Expected the name of a new folder\.$"):
        export_run(run, out=out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert os.listdir(out.parent) == ["7"]  # noqa: PTH208 - hidden files too


@pytest.mark.usefixtures("in_process")
def test_a_mismatch_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Run.predict
    monkeypatch.setattr(
        Run, "predict", lambda self, images, views: original(self, images, views=views)[:, ::-1]
    )
    fresh = copy(run, tmp_path / "run")
    with pytest.raises(
        RunError, match=r"differs from the run's model: .*allowed 1e-05.*nothing was"
    ) as caught:
        export_run(fresh)
    assert "\n" not in str(caught.value)
    assert not (fresh.path / "export").exists()
    with pytest.raises(RunError, match="differs"):
        export_run(fresh, out=tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.usefixtures("in_process")
def test_wrong_labels_leave_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = exporting.run_fresh

    def swapped(*arguments: Any) -> dict[str, list[np.ndarray]]:
        outputs = honest(*arguments)
        return {**outputs, "labels": [np.full_like(rows, "0") for rows in outputs["labels"]]}

    monkeypatch.setattr(exporting, "run_fresh", swapped)
    with pytest.raises(RunError, match="classes or labels are wrong"):
        export_run(run, out=tmp_path / "out")
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_a_failing_process_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such op')")
    monkeypatch.setattr(reload, "__file__", str(script))
    with pytest.raises(RunError, match=r"fails in a fresh process \(no such op\); nothing was exported"):
        export_run(run, out=tmp_path / "out")
    assert os.listdir(tmp_path) == ["broken.py"]  # noqa: PTH208


def test_probabilities_that_are_not_numbers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "predict", lambda self, images, views: np.full([len(images), 12], np.nan))  # noqa: ARG005
    with pytest.raises(RunError, match="gives probabilities that are not numbers"):
        export_run(run, out=tmp_path / "out")
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.usefixtures("in_process")
def test_random_images_where_the_data_is_gone(run: Run, tmp_path: Path) -> None:
    result = export_run(copy(run, tmp_path / "run", data={"name": "folder", "dir": str(tmp_path / "gone")}))
    assert (result.comparison.images, result.reference.origin) == (64, "random")
    assert result.comparison.run_error is None
    assert "gone" in result.reference.note
    assert "64 random images (the data cannot be read: " in str(result)
    assert (
        "gone" not in (result.path / "model_card.json").read_text() + (result.path / "README.md").read_text()
    )


def photos(run: Run, tmp_path: Path, resized: int = 16) -> Run:
    """The run, said to be one of six photos of several sizes, whose shorter side is resized before they are cut."""
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 256, [9 + number, 12, 1], np.uint8)
        path = tmp_path / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    data = {"name": "folder", "dir": str(tmp_path / "photos"), "image_size": None, "validation_fraction": 0.0}
    order = ["resize", "center_crop", "subtract_mean", "scale"]
    augment = {"order": order, "center_crop": {"size": 16}, "resize": {"size": resized}}
    other = copy(run, tmp_path / "run", data=data, augment=augment)
    write_json(other.path / DATASET, load_source(other.config.data).describe())
    return alexnet_tf.load_run(other.path)


@pytest.mark.usefixtures("in_process")
def test_images_of_several_sizes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The empty batch too goes through every signature, and times are of images of the frame's size."""
    monkeypatch.setattr(reload, "FEW", 2)
    shapes, outputs = [], {}
    predict, run_fresh = Run.predict, exporting.run_fresh
    monkeypatch.setattr(
        Run,
        "predict",
        lambda self, images, views: shapes.append(images.shape) or predict(self, images, views=views),
    )
    monkeypatch.setattr(
        exporting, "run_fresh", lambda *arguments: outputs.update(run_fresh(*arguments)) or outputs
    )
    result = export_run(photos(run, tmp_path))
    assert (result.comparison.images, result.reference.origin) == (6, "train")
    for name in ("float_probabilities", "bytes_probabilities"):
        assert [rows.shape for rows in outputs[name]] == [(1, 12), (1, 12), (0, 12)]
    assert [rows.shape[0] for rows in outputs["features"]] == [1, 1, 0]
    assert {shape[1] for shape in shapes[:6]} == {9, 10, 11, 12, 13, 14}
    assert set(shapes[6:]) == {(1, 16, 16, 1)}


@pytest.mark.usefixtures("in_process")
def test_ten_views_are_averaged(run: Run, tmp_path: Path) -> None:
    fresh = photos(run, tmp_path, resized=20)
    result = export_run(fresh, views=10)
    assert result.path == fresh.path / "export" / "savedmodel_10views" / "1"
    batch = next(images for images in result.reference.batches if images.shape[1] == 9)
    one, ten = (fresh.predict(batch, views=views) for views in (1, 10))
    assert np.abs(one - ten).max() > 1e-3
    served = tf.saved_model.load(str(result.path)).signatures["serve_bytes"]
    encoded = tf.constant([(tmp_path / "photos" / "class0" / "0.png").read_bytes()])
    np.testing.assert_allclose(served(images=encoded)["probabilities"], ten, atol=1e-5)


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_it(exported: ExportResult, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 9, 9, 1), np.uint8))
    program = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    arguments = ["--dir", str(exported.path), "--tag_set", "serve", "--signature_def"]
    run = ["run", *arguments, "serving_default", "--inputs", f"images={tmp_path / 'images.npy'}"]
    for command, said in ((["show", *arguments, "serve_bytes"], "DT_STRING"), (run, "output key top_labels")):
        done = subprocess.run([*program, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


@pytest.mark.parametrize("size", [5, 40])
def test_a_damaged_image_ends_the_export(run: Run, tmp_path: Path, size: int) -> None:
    other, bad = photos(run, tmp_path), tmp_path / "photos" / "class1" / "3.png"
    bad.write_bytes((b"text " if size == 5 else bad.read_bytes())[:size])
    with pytest.raises(DataError, match=f"Cannot read the image {bad}") as caught:
        export_run(other)
    assert "\n" not in str(caught.value)
    assert not (other.path / "export").exists()


@pytest.mark.parametrize("place", ["read_pictures", "Run.load_source"])
def test_damaged_records_end_the_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Also where the data are read while they are looked for, as with data.classes."""

    def fail(*_: object) -> None:
        raise DamagedError("cannot read the split train: chunk data hash mismatch")

    monkeypatch.setattr(f"alexnet_tf.export.comparison.{place}", fail)
    with pytest.raises(DamagedError, match="hash mismatch"):
        export_run(run, out=tmp_path / "out")
    assert not os.listdir(tmp_path)  # noqa: PTH208


def evaluated(run: Run, time: str, views: int, error: float) -> None:
    """Add a row to the run's evaluations."""
    table = run.evaluations()
    numbers = dict.fromkeys(table.columns, error)
    table.append(
        **numbers | {"time": time, "split": "validation", "views": views, "examples": 10, "folder": "x"}
    )
    table.save()


def test_the_card_has_evaluations_of_this_model_alone(run: Run, tmp_path: Path) -> None:
    """A run that went on is another model; what was typed then is there too."""
    fresh = copy(run, tmp_path / "run")
    write_json(fresh.path / ENVIRONMENT, {**fresh.environment(), "end": "2026-05-05T10:00:00+00:00"})
    job = Job(LoadedRun(fresh.path), "savedmodel", "none", 1)
    assert card._evaluations(job) == []
    evaluated(fresh, "2026-05-05T09:59:59+00:00", 1, 0.5)
    evaluated(fresh, "2026-05-05T09:59:59+00:00", 10, 0.4)
    evaluated(fresh, "2026-05-05T10:00:00+00:00", 10, 0.3)
    evaluated(fresh, "2026-05-05T10:00:01+00:00", 10, 0.2)
    assert [(row["views"], row["top1_error"]) for row in card._evaluations(job)] == [(10, 0.2)]
    evaluated(fresh, "2026-05-05T10:00:02+00:00", 5, "one half")
    with pytest.raises(RunError, match=r"evaluations\.csv: is damaged"):
        card._evaluations(job)
    (fresh.path / "evaluations.csv").write_text("time,split\n")
    with pytest.raises(RunError, match=r"evaluations\.csv: expected the columns time,"):
        card._evaluations(job)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("data.classes=['::2'] <b>", "`data.classes=['::2'] <b>`"),
        ("a`b``c", "``` a`b``c ```"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_code_in_the_card_is_what_it_was(text: str, code: str) -> None:
    assert str(card._code(text)) == code


@pytest.mark.usefixtures("in_process")
def test_the_card_of_a_folder_of_ones_own(run: Run, tmp_path: Path) -> None:
    fresh = copy(run, tmp_path / "it's")
    fresh.write_overrides(["data.classes=['::2']"])
    page = (export_run(fresh, out=tmp_path / "out").path / "README.md").read_text()
    assert "this folder's number" not in page
    assert "wants a folder around this one" in page
    assert "Typed: `data.classes=['::2']`." in page
    assert "run `it's`." in page


def test_images_are_read_up_to_a_budget(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 20 * 64)
    source = run.load_source()
    found = pictures.read_pictures(source, "train", 256)
    assert len(found.images) == len(found.labels) == 20
    assert len(list(pictures.each_picture(source, "train", 10**9))) == source.split("train").num_examples
    assert len(set(found.labels)) > 5  # of the ten, although only the first of 256 were read
    assert [batch.shape for batch in found.batches()] == [(20, 8, 8, 1)]
    monkeypatch.setattr(pictures, "BATCH_BYTES", 1)
    assert [batch.shape for batch in found.batches()] == 20 * [(1, 8, 8, 1)]
    monkeypatch.setattr(pictures, "MOST_BYTES", 1)
    assert len(pictures.read_pictures(source, "train", 256).images) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(
    alexnet_here: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(exporting, "run_fresh", lambda *_: signal.raise_signal(number))
    done = alexnet_here("export", str(run.path), "--out", "out")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "alexnet: interrupted\n")
    assert not os.listdir(tmp_path)  # noqa: PTH208
    assert [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_folder_that_exists_is_said_before_tensorflow_is_loaded(
    alexnet_here: Any, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_import_tensorflow", lambda: pytest.fail("too late"))
    (tmp_path / "out").mkdir()
    done = alexnet_here("export", str(run.path), "--out", "out")
    expected = "alexnet: out: exists already. Expected the name of a new folder.\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_other_classes_end_the_export(run: Run, tmp_path: Path) -> None:
    other = photos(run, tmp_path)
    (tmp_path / "photos" / "class0").rename(tmp_path / "photos" / "z")
    with pytest.raises(ConfigError, match=r"classes \[0: 'class0', 1: 'class1'\] of 2 in data=folder, found"):
        export_run(other)
    assert not (other.path / "export").exists()


def test_a_run_without_its_model(run: Run, tmp_path: Path) -> None:
    fresh = copy(run, tmp_path / "run")
    (fresh.path / "model.keras").unlink()
    with pytest.raises(RunError, match=r"has no model\.keras"):
        export_run(fresh)
    assert not (fresh.path / "export").exists()


def test_a_parent_that_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        export_run(run, out=tmp_path / "file" / "1")


def test_every_precision_has_a_tolerance() -> None:
    assert set(comparison.TOLERANCES) == set(Precision)
