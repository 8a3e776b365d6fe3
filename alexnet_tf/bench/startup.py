"""How long the command takes before it works: each repetition is a process of its own. Imports no TensorFlow."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence

from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.process import BenchError

FIRST_STEP = """
import sys, time
import tensorflow
started = time.perf_counter()
import keras
import alexnet_tf
class First(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("first step after", time.perf_counter() - started, flush=True)
        self.model.stop_training = True
alexnet_tf.train(alexnet_tf.compose(sys.argv[1:]), callbacks=[First()])
"""


def command(arguments: Sequence[str]) -> Subject:
    """A command of Python's, from its start to its end."""

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            _output([sys.executable, *arguments])

    return Subject(run, items=1, warm_up=0)


def first_step(overrides: Sequence[str], folder: str) -> Subject:
    """From the end of importing TensorFlow to the end of the first step: data, network, tracing."""

    def run(repetitions: int) -> float:
        seconds = 0.0
        for _ in range(repetitions):
            run_dir = tempfile.mkdtemp(dir=folder)
            text = _output([sys.executable, "-c", FIRST_STEP, *overrides, f"run_dir={run_dir}/run"])
            seconds += float(text.rpartition("first step after")[2].split()[0])
        return seconds

    return Subject(run, items=1, warm_up=0)


def _output(arguments: Sequence[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise BenchError(last)
    return done.stdout
