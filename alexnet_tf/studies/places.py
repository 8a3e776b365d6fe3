"""Which part of a machine a job has, where several run on it at once. Imports no TensorFlow."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from alexnet_tf.config.schema import StrategyConfig
from alexnet_tf.processes import GPUS, THREADS, visible_gpus
from alexnet_tf.runs import WrongPathError, is_locked, locked

PLACES = "ALEXNET_PLACES"
"""The variable that names a folder of places, of which every job of the machine locks one as long as it runs.

The sweep itself locks the folder, so that a worker sees when it was killed.
"""


def abandoned() -> bool:
    """Whether this is a worker of a sweep that is gone: joblib's go on with what they have when nobody waits any more."""
    return PLACES in os.environ and not is_locked(Path(os.environ[PLACES]))


@contextlib.contextmanager
def job_environment(strategy: StrategyConfig) -> Iterator[dict[str, str]]:
    """The environment of a job's process: one GPU and its part of the cores, where other jobs run beside it.

    Launchers that place jobs by themselves (Slurm, Ray) have set `CUDA_VISIBLE_DEVICES` already. How many threads a job
    should take they say in `OMP_NUM_THREADS`, as joblib does, which TensorFlow does not look at by itself.
    `strategy=mirrored` and `multi_worker` ask for all GPUs and get them.
    """
    environment = dict(os.environ)
    if threads := environment.get("OMP_NUM_THREADS"):
        environment.setdefault(THREADS, threads)
    gpus = visible_gpus()
    with contextlib.ExitStack() as stack:
        place = _take_place(stack)
        if place is not None and gpus and strategy.name not in ("mirrored", "multi_worker"):
            environment[GPUS] = gpus[place % len(gpus)]
        yield environment


def _take_place(stack: contextlib.ExitStack) -> int | None:
    """The first place that no other job has, until the stack is left; None where there are no places."""
    folder = Path(os.environ.get(PLACES, ""))
    if PLACES not in os.environ or not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(WrongPathError):
            stack.enter_context(locked(path, "taken", wait=0))
            return int(path.name)
    return None
