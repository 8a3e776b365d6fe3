"""Run an export as a stranger would: a script for a fresh process that has nothing of ours.

Usage: `python -P reload.py FORMAT PATH IMAGES.npz OUTPUTS.npz`. Every array of `IMAGES.npz` goes through the export,
`one` for the time; `OUTPUTS.npz` gets each output as `<output>.<name of the array>`, and `seconds`. Only a `.keras`
file, whose layers are ours, is loaded with `alexnet_tf`.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

BLOCKED = "alexnet_tf"
ONE = "one"
FEW = 8
"""So many images and batches go through the other signatures of a SavedModel too, and the empty batch."""
Answer = Callable[[np.ndarray], dict[str, Any]]


class Blocker:
    """Makes the import of our package fail, although it is installed here."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:  # noqa: ARG004
        """Refuse the package; leave the rest to the other finders."""
        if name.partition(".")[0] == BLOCKED:
            raise ImportError(f"the export needs {name}, which others do not have")


def median_seconds(call: Callable[[], object], rounds: int = 15) -> float:
    """The median time of a call, after two that do not count."""
    times = []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times[2:]))


def load_savedmodel(path: str) -> tuple[Answer, Answer]:
    """Answers of `serving_default`, with the other signatures on the first images, and of it alone."""
    import tensorflow as tf

    signatures, calls = tf.saved_model.load(path).signatures, itertools.count()

    def serve(images: np.ndarray) -> dict[str, Any]:
        return {
            name: tensor.numpy()
            for name, tensor in signatures["serving_default"](images=tf.constant(images)).items()
        }

    def answer(images: np.ndarray) -> dict[str, Any]:
        answers, few = serve(images), tf.constant(images[:FEW])
        if next(calls) < FEW or not len(images):
            encoded = tf.constant([tf.io.encode_png(image).numpy() for image in few], tf.string, [len(few)])
            floats = signatures["serve_float"](images=tf.cast(few, tf.float32))
            answers["float_probabilities"] = floats["probabilities"].numpy()
            answers["bytes_probabilities"] = signatures["serve_bytes"](images=encoded)[
                "probabilities"
            ].numpy()
            answers["features"] = signatures["embed"](images=few)["features"].numpy()
        return answers

    return answer, serve


def load_litert(path: str) -> tuple[Answer, Answer]:
    """Answers of a .tflite file by LiteRT, on all cores."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=path, num_threads=os.cpu_count()).get_signature_runner("serving_default")

    def answer(images: np.ndarray) -> dict[str, Any]:
        return {"probabilities": run(images=images)["probabilities"]}

    return answer, answer


def load_onnx(path: str) -> tuple[Answer, Answer]:
    """Answers of an ONNX file by ONNX Runtime, on all cores."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(images: np.ndarray) -> dict[str, Any]:
        return {"probabilities": session.run(["probabilities"], {"images": images})[0]}

    return answer, answer


def load_keras(path: str) -> tuple[Answer, Answer]:
    """Answers of a .keras file, by Keras and our layers."""
    import importlib

    import keras
    import tensorflow as tf

    importlib.import_module(f"{BLOCKED}.model")
    model = keras.models.load_model(path, compile=False, safe_mode=True)
    look = tf.function(lambda images: tf.nn.softmax(tf.cast(model(images, training=False), tf.float32)))

    def answer(images: np.ndarray) -> dict[str, Any]:
        return {"probabilities": look(tf.constant(images)).numpy()}

    return answer, answer


LOADERS = {
    "savedmodel": load_savedmodel,
    "litert": load_litert,
    "onnx": load_onnx,
    "keras": load_keras,
}


def main(kind: str, path: str, images: str, outputs: str) -> None:
    """Load, run, write."""
    if kind != "keras":
        sys.meta_path.insert(0, Blocker)
    answer, timed = LOADERS[kind](path)
    results: dict[str, Any] = {}
    with np.load(images) as batches:
        for key in batches.files:
            if key == ONE:
                continue
            for name, array in answer(batches[key]).items():
                text = array.dtype == object
                results[f"{name}.{key}"] = np.vectorize(bytes.decode, otypes=[str])(array) if text else array
        one = batches[ONE]
        results["seconds"] = median_seconds(lambda: timed(one))
    np.savez(outputs, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
