"""Contenders that read images: ours from originals and from prepared shards, as training does."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.bench.contender import Subject
from alexnet_tf.config.schema import AugmentDevice, Config
from alexnet_tf.training.strategy import configure_process

WARM_BATCHES = 2
"""Read before the clock starts: what a pipeline keeps ready would count as read in no time."""


def originals(config: Config) -> Subject:
    """Training batches of the data that the config names."""
    configure_process(config)
    source = data.load_source(config.data)
    statistics = data.compute_statistics(source, config.augment)
    size = config.training.batch_size
    steps = data.num_train_steps(source, size)
    unfinished = config.augment.device is AugmentDevice.accelerator  # that part is not the input's then
    epoch = 0

    def batches() -> Iterator[Any]:
        nonlocal epoch
        while True:  # epochs follow on one another, as in training
            yield from data.train_batches(
                source,
                config.augment,
                statistics,
                seed=config.seed,
                epoch=epoch,
                batch_size=size,
                unfinished=unfinished,
            )
            epoch += 1

    def run(repetitions: int) -> float:
        reading = batches()
        for _ in range(WARM_BATCHES):
            next(reading)
        started = time.perf_counter()
        for _ in range(repetitions):
            _, labels, _ = next(reading)
        labels.numpy()
        return time.perf_counter() - started  # what still reads ahead ends with the iterator

    return Subject(run, work=size, items=size, facts={"tensorflow": tf.__version__, "steps_per_epoch": steps})


def prepared(config: Config, originals_config: Config, folder: str) -> Subject:
    """Training batches of a set that is prepared first, which does not count."""
    plan = data.make_plan(originals_config.data, Path(folder), data.Recipe())
    data.prepare(plan)
    return originals(config)
