"""Runs of seconds: a small net on 320 of the embedded digits, five steps an epoch."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from alexnet_tf.config import Config, compose, from_dict, to_dict
from alexnet_tf.inference import Run
from alexnet_tf.training import train

TINY = (
    "model=digits_quick",
    "model.input_size=8",
    "model.init=he_normal",
    "model.stages.conv3.dropout=0.25",
    "model.stages.conv3.pool=null",  # its 2 x 2 maps are too small for a window of 3
    "optimizer=paper",
    "optimizer.lr=0.02",
    "data.train_examples=330",
    "training.batch_size=64",
    "training.eval_batch_size=100",
    "training.epochs=3",
    "training.progress=none",
)


@pytest.fixture(scope="module", autouse=True)
def determinism_ends() -> Iterator[None]:
    """`training.deterministic` holds for the process; other tests must not inherit it."""
    yield
    disable_op_determinism()


def fresh_train(config: Config, **arguments: Any) -> Run:
    """Train without the determinism that an earlier run may have switched on."""
    disable_op_determinism()
    return train(config, **arguments)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Config]:
    """The config, with values changed; groups only at the first place, as `schedule="cosine"`."""
    composed: dict[tuple[str, ...], dict[str, Any]] = {}

    def make(*values: str, **groups: str) -> Config:
        chosen = tuple(f"{group}={name}" for group, name in groups.items())
        if chosen not in composed:
            composed[chosen] = to_dict(compose([*TINY, *chosen]))
        return from_dict(composed[chosen], values)

    return make


@pytest.fixture(scope="session")
def run(tiny: Callable[..., Config]) -> Callable[..., Run]:
    """Train the config with values changed into a folder."""

    def make(
        path: Path, *values: str, callbacks: Sequence[keras.callbacks.Callback] = (), **groups: str
    ) -> Run:
        return fresh_train(tiny(*values, f"run_dir={path}", **groups), callbacks=callbacks)

    return make


@pytest.fixture(scope="session")
def resume(tiny: Callable[..., Config]) -> Callable[..., Run]:
    """Go on with a run as `alexnet train resume=RUN values` does."""

    def make(path: Path, *values: str, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Run:
        return fresh_train(tiny(f"resume={path}"), callbacks=callbacks, overrides=[f"resume={path}", *values])

    return make


@pytest.fixture(autouse=True)
def no_strategy_is_left() -> Iterator[None]:
    yield
    assert not tf.distribute.has_strategy()
