"""LiteRT, ONNX and Keras files: run for real by their own runtimes, with labels and the preprocessing inside."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

import alexnet_tf
from alexnet_tf.bench.process import peak_memory, resident_memory
from alexnet_tf.config import ConfigError, formats
from alexnet_tf.config.schema import Precision
from alexnet_tf.export import ExportResult, export_run, exporting, reload
from alexnet_tf.export.job import Job, LoadedRun
from alexnet_tf.export.onnx_file import write_onnx
from alexnet_tf.inference import Run
from alexnet_tf.model import build
from alexnet_tf.runs import RunError
from alexnet_tf.training.trainer import DTYPES

NEEDS = {"litert": ["ai_edge_litert"], "onnx": ["tf2onnx", "onnxruntime"]}
QUICK = (("litert", "none"), ("onnx", "none"))
QUANTIZED = [
    pytest.param(kind, quantize, marks=() if (kind, quantize) in QUICK else pytest.mark.slow)
    for kind in ("litert", "onnx")
    for quantize in ("none", "float16", "dynamic", "int8")
]


def need(kind: str) -> None:
    for module in NEEDS.get(kind, []):
        pytest.importorskip(module, reason=f"{module} comes with the extra export")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A network of columns and LRN that has learned digits, padded and cropped, so that it has ten views."""
    folder = tmp_path_factory.mktemp("formats") / "run"
    overrides = ["model=alexnet_small", "model.input_size=16", "augment=cifar", "optimizer=adam"]
    overrides += ["optimizer.lr=0.002", "training.steps=90", "training.progress=none"]
    overrides += ["augment.order=[resize,pad_crop,subtract_mean,scale]", "augment.resize.size=16"]
    overrides += [f"model.stages.{name}.units=8" for name in ("conv1", "conv2", "conv3", "conv4", "conv5")]
    return alexnet_tf.train(alexnet_tf.compose([*overrides, f"run_dir={folder}"]))


def in_precision(run: Run, folder: Path, precision: str) -> Run:
    """The run, as if it had been trained in another precision."""
    shutil.copytree(run.path, folder, ignore=shutil.ignore_patterns("export"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["training"]["precision"] = precision
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    other = alexnet_tf.load_run(folder)
    network = build(other.config.model, dtype=DTYPES[Precision(precision)])
    network.set_weights(run.model().get_weights())
    network.save(folder / "model.keras")
    return other


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload in this process, which is three seconds faster than a fresh one."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(exporting, "_run_script", reload.main)


def file(result: ExportResult) -> Path:
    return next(path for path in result.path.iterdir() if path.stem == "model")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("kind", "quantize"), QUANTIZED)
def test_it_agrees_with_the_run(run: Run, tmp_path: Path, kind: str, quantize: str) -> None:
    need(kind)
    result = export_run(run, kind, quantize=quantize, out=tmp_path / "out")
    own = result.comparison
    assert own.images == 256
    assert own.max_difference <= own.tolerance == {"none": 1e-5, "float16": 2e-2}.get(quantize, 1.0)
    assert own.top1_agreement >= own.least_agreement
    assert own.run_error is not None
    assert own.export_error is not None
    assert abs(own.run_error - own.export_error) <= 1 - own.top1_agreement + 1e-9
    if quantize != "none":
        assert own.max_difference > 1e-6, "nothing was quantised"
        assert result.bytes < 0.75 * 4 * run.model().count_params()
    card = json.loads((result.path / "model_card.json").read_text())
    assert (card["file"], card["quantize"]) == (file(result).name, quantize)
    assert card["input"]["shape"] == ["N", 16, 16, 1]
    assert [step["name"] for step in card["before"]] == ["resize"]
    assert [step["name"] for step in card["inside"]] == ["pad_crop", "subtract_mean", "scale"]


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", ["litert", "onnx"])
def test_ten_views_are_averaged_inside(run: Run, tmp_path: Path, kind: str) -> None:
    need(kind)
    result = export_run(run, kind, views=10, out=tmp_path / "out")
    assert result.comparison.max_difference <= 1e-5
    assert np.abs(run.predict(result.reference.batches[0]) - result.reference.probabilities[0]).max() > 1e-3


@pytest.mark.slow
def test_a_stranger_reads_labels_from_the_files(run: Run, tmp_path: Path) -> None:
    """And this reload is in a process of its own."""
    need("litert")
    need("onnx")
    lite = export_run(run, "litert", out=tmp_path / "lite")
    with zipfile.ZipFile(file(lite)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == run.class_names
        assert json.loads(archive.read("preprocessing.json"))["input"]["shape"] == ["N", 16, 16, 1]
    import onnxruntime

    result = export_run(run, "onnx", out=tmp_path / "onnx")
    session = onnxruntime.InferenceSession(file(result))
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["labels.txt"].splitlines() == run.class_names
    assert json.loads(metadata["preprocessing.json"])["views"] == 1


@pytest.mark.slow
def test_large_weights_are_copied_a_few_times_at_most(tmp_path: Path) -> None:
    """Twelve of tf2onnx's passes copied them twice over, 10 GB for the paper's network of 0.23."""
    need("onnx")
    import onnx

    overrides = ["model=alexnet_small", "model.input_size=16", "training.steps=1", "training.progress=none"]
    overrides += [f"model.stages.{name}.units=4096" for name in ("fc6", "fc7")]
    overrides += ["augment.order=[resize,subtract_mean,scale]", "augment.resize.size=16"]
    run = alexnet_tf.train(alexnet_tf.compose([*overrides, f"run_dir={tmp_path / 'run'}"]))
    job = Job(LoadedRun(run.path), "onnx", "none", 1)
    job.network.predict(np.zeros((1, *job.network.input_shape[1:]), np.float32), verbose=0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = resident_memory()
    (out := tmp_path / "out").mkdir()
    (scratch := tmp_path / "scratch").mkdir()
    made = write_onnx(job, out, scratch)
    size = made.stat().st_size
    assert size > 64 * 2**20
    assert peak_memory() - before < 7 * size
    model = onnx.load(made)
    constants = {each.name for each in model.graph.initializer}
    assert not [node.name for node in model.graph.node if constants.issuperset(node.input)], "not folded"
    assert ([each.name for each in model.graph.input], [each.domain for each in model.opset_import]) == (["images"], [""])  # fmt: skip


@pytest.mark.usefixtures("in_process")
def test_the_keras_file_is_the_network(run: Run) -> None:
    result = export_run(run, "keras")
    assert result.path == run.path / "export" / "keras" / "1"
    names = {path.name for path in result.path.iterdir()}
    assert names == {"model.keras", "labels.txt", "preprocessing.json", "statistics.npz", "README.md", "model_card.json"}  # fmt: skip
    page = (result.path / "README.md").read_text()
    assert "after all the operations below" in page


@pytest.mark.usefixtures("in_process")
def test_a_quantised_model_that_is_too_far_off_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("litert")
    original = Run.predict
    monkeypatch.setattr(
        Run, "predict", lambda self, images, views: original(self, images, views=views)[:, ::-1]
    )
    with pytest.raises(RunError, match=r"top-1 agrees on .* % of 256 images \(expected 90 %\); nothing was"):
        export_run(run, "litert", quantize="int8", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("in_process")
def test_what_a_converter_says_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("litert")

    def fail(converter: object) -> bytes:
        del converter
        raise Exception("no such\nkernel")

    monkeypatch.setattr(
        tf.lite.TFLiteConverter, "from_saved_model", lambda *_, **__: type("C", (), {"convert": fail})()
    )
    with pytest.raises(RunError, match=r"cannot be exported to litert \(no such kernel\)$"):
        export_run(run, "litert", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tflite", "none", 1), "--format tflite: expected one of savedmodel, litert, onnx, keras"),
        (("savedmodel", "int8", 1), "--quantize int8: expected one of none with --format savedmodel"),
        (
            ("litert", "int4", 1),
            "--quantize int4: expected one of none, float16, dynamic, int8 with --format",
        ),
        (("savedmodel", "none", 3), "--views=3: expected one of 1, 5, 10"),
        (("keras", "none", 10), "--views 10: expected 1 with --format keras"),
    ],
)
def test_wrong_use_is_said_before_anything(arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        formats.check_export(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "names"), [("litert", "ai-edge-litert"), ("onnx", "tf2onnx and onnxruntime")]
)
def test_a_missing_package_names_the_extra(kind: str, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(ConfigError) as caught:
        formats.check_export(kind, "none", 1)
    plural = "s" if "and" in names else ""
    assert (
        str(caught.value) == f"--format {kind}: needs the package{plural} {names}; install alexnet_tf[export]"
    )


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("litert", "bfloat16"),
        *(
            pytest.param(kind, precision, marks=pytest.mark.slow)
            for kind in ("litert", "onnx")
            for precision in ("bfloat16", "float16", "float64")
            if (kind, precision) != ("litert", "bfloat16")
        ),
    ],
)
def test_a_run_in_another_precision_is_exported_in_float32(
    run: Run, tmp_path: Path, kind: str, precision: str
) -> None:
    need(kind)
    other = in_precision(run, tmp_path / "run", precision)
    assert other.model().get_layer("conv1").compute_dtype == precision
    result = export_run(other, kind, out=tmp_path / "out")
    assert result.comparison.max_difference <= result.comparison.tolerance == 1e-5
    assert "compared with the run in float32 on 256 images" in str(result)
    page = (result.path / "README.md").read_text()
    assert "against the run's own model in float32:" in page
    assert f"parameters, in {precision};" in page
