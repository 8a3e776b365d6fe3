"""ONNX Runtime on the network exported to ONNX."""

import tempfile
from pathlib import Path
from typing import Any

import onnxruntime

from alexnet_tf import model
from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.ours import made_up_batch
from alexnet_tf.config.schema import Config
from alexnet_tf.training.trainer import DTYPES


def inference(config: Config, threads: int) -> Subject:
    """The logits of a batch."""
    network = model.build(config.model, dtype=DTYPES[config.training.precision], seed=config.seed)
    images = made_up_batch(config)[0]
    network(images[:1])  # Keras exports what has been called
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        network.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path, options)
    feed: dict[str, Any] = {session.get_inputs()[0].name: images}

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            session.run(None, feed)

    return Subject(run, items=len(images), facts={"onnxruntime": onnxruntime.__version__, "threads": threads})
