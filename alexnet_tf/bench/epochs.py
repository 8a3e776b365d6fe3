"""Contenders that train whole epochs, input included: a run of ours, and its steps alone."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data, model
from alexnet_tf.bench import ours
from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.process import BenchError, resident_memory
from alexnet_tf.config.schema import Config, Progress
from alexnet_tf.training import train
from alexnet_tf.training.trainer import complete

ENDLESS = 10**6
"""Epochs of a run that is told to stop."""


class Gate(keras.callbacks.Callback):
    """Lets a run do an epoch when it is told to, from the beginning of one to the beginning of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed, self.arrived = threading.Semaphore(0), threading.Semaphore(0)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Wait for the next word; all that belongs to the epoch before, its files too, is done."""
        del epoch, logs
        self.arrived.release()
        self.allowed.acquire()


def epoch(config: Config, folder: str) -> Subject:
    """An epoch of a real run, with its input, metrics, logs and checkpoints."""
    gate, failures = Gate(), []
    source = data.load_source(config.data)
    training = replace(config.training, epochs=ENDLESS, evaluate_every=0, progress=Progress.plain)
    endless = replace(config, run_dir=folder, training=training)

    def work() -> None:
        try:
            train(endless, callbacks=[gate])
        except BaseException as error:  # of another thread: it would be lost
            failures.append(error)
            gate.arrived.release()

    threading.Thread(target=work, daemon=True).start()
    _arrive(gate, failures)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            gate.allowed.release()
            _arrive(gate, failures)

    images = data.num_train_steps(source, config.training.batch_size) * config.training.batch_size
    flops = images * ours.training_flops(model.build(complete(config, source).model))
    return Subject(run, work=flops, items=images, warm_up=0)


def bare_steps(config: Config) -> Subject:
    """As many steps as an epoch has, over the same batch, in one call."""
    source = data.load_source(config.data)
    steps = data.num_train_steps(source, config.training.batch_size)
    return replace(ours.train_steps(complete(config, source), steps), warm_up=0)


def long_run(config: Config, epochs: tuple[int, ...], folder: str) -> Subject:
    """Memory held after some epochs of a real run, in `facts`; a repetition is one epoch more."""
    one = epoch(config, folder)
    facts = {}
    for number in range(1, max(epochs) + 1):
        one.run(1)
        if number in epochs:
            facts[f"resident_bytes_after_{number}"] = resident_memory()
    return Subject(one.run, items=one.items, facts=facts, warm_up=0)


def in_memory(config: Config) -> tuple[Config, np.ndarray, np.ndarray]:
    """For peers: the config with what the data know, all training images (uint8 [N, S, S, C]) and labels (int32 [N])."""
    source, size = data.load_source(config.data), config.model.input_size
    images, labels = [], []
    for image, label, _ in data.raw_examples(source, "train"):
        images.append(
            tf.cast(tf.round(tf.image.resize(image, (size, size), antialias=True)), tf.uint8).numpy()
        )
        labels.append(int(label))
    return complete(config, source), np.stack(images), np.array(labels, np.int32)


def _arrive(gate: Gate, failures: list[BaseException]) -> None:
    gate.arrived.acquire()
    if failures:
        raise BenchError(" ".join(str(failures[0]).split())) from failures[0]
