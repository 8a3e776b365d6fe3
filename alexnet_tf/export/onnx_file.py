"""A run as an ONNX model, by tf2onnx; quantised by ONNX Runtime's own tools."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf.export.job import LABELS, Job
from alexnet_tf.runs import RunError

NAME = "model.onnx"
OPSET = 18


def convert(job: Job) -> Any:
    """The run's network from frames to probabilities as an ONNX model of our opset.

    The graph is converted with its weights as inputs, which are filled in afterwards: tf2onnx copies constants in each of
    its passes and keeps the copies, gigabytes for the paper's network. What is computed from weights alone, such as
    another order of a kernel's axes, ONNX Runtime folds.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    serve, variables = job.framed().serve, job.network.weights
    weights = {f"weight_{place}": variable for place, variable in enumerate(variables)}
    specifications = [tf.TensorSpec(each.shape, each.dtype, name=name) for name, each in weights.items()]

    @tf.function(input_signature=[*serve.input_signature, *specifications], autograph=False)
    def with_weights(images: tf.Tensor, *values: tf.Tensor) -> dict[str, tf.Tensor]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return serve.python_function(images)

    model, _ = tf2onnx.convert.from_function(with_weights, with_weights.input_signature, opset=OPSET)
    for taken in [each for each in model.graph.input if each.name in weights]:
        model.graph.input.remove(taken)
        value = keras.ops.convert_to_numpy(weights[taken.name])
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, taken.name))
    return model


def fold(model: Any, path: Path) -> Path:
    """Write a model with all that is computed from constants computed; it names every domain of ONNX Runtime's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def write_onnx(job: Job, folder: Path, scratch: Path) -> Path:
    """Convert frames to probabilities, and put labels and preprocessing into the metadata under their files' names."""
    import onnx

    plain = fold(convert(job), scratch / NAME)
    model = onnx.load(QUANTIZERS[job.quantize](job, plain, scratch))
    used = {node.domain for node in model.graph.node}
    for each in [each for each in model.opset_import if each.domain not in used]:
        model.opset_import.remove(each)  # other readers may not know it
    onnx.helper.set_model_props(
        model, {note.name: note.read_text(encoding="utf-8") for note in job.write_notes(scratch)}
    )
    onnx.save(model, folder / NAME)
    return folder / NAME


def check_onnx(job: Job, outputs: Mapping[str, list[np.ndarray]], made: Path) -> None:
    """Check the class names in the file.

    Raises:
        RunError: If they differ.
    """
    import onnx

    del outputs
    properties = {entry.key: entry.value for entry in onnx.load(made).metadata_props}
    if properties[LABELS].splitlines() != job.labels:
        raise RunError(f"{job.run.path}: the labels in {made.name} are wrong; nothing was exported")


def _none(job: Job, plain: Path, scratch: Path) -> Path:
    del job, scratch
    return plain


def _float16(job: Job, plain: Path, scratch: Path) -> Path:
    """Weights and arithmetic in float16, input and output in float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    del job
    onnx.save(convert_float_to_float16(onnx.load(plain), keep_io_types=True), path := scratch / "half.onnx")
    return path


def _dynamic(job: Job, plain: Path, scratch: Path) -> Path:
    """Weights in int8, scales of activations found as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    del job
    quantize_dynamic(_prepared(plain, scratch), path := scratch / "dynamic.onnx", weight_type=QuantType.QInt8)
    return path


def _int8(job: Job, plain: Path, scratch: Path) -> Path:
    """Weights and activations in int8, with a scale for each channel of weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Frames(CalibrationDataReader):
        def __init__(self, frames: np.ndarray) -> None:
            self._frames: Iterator[np.ndarray] = iter(frames)

        def get_next(self) -> dict[str, np.ndarray] | None:
            frame = next(self._frames, None)
            return None if frame is None else {"images": frame[None]}

    prepared, path = _prepared(plain, scratch), scratch / "int8.onnx"
    frames = Frames(job.calibration())
    quantize_static(prepared, path, frames, quant_format=QuantFormat.QDQ, per_channel=True)
    return path


def _prepared(plain: Path, scratch: Path) -> Path:
    """The model with all shapes known and constants folded, which the quantizers ask for."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(plain, path := scratch / "prepared.onnx")
    return path


QUANTIZERS = {"none": _none, "float16": _float16, "dynamic": _dynamic, "int8": _int8}
