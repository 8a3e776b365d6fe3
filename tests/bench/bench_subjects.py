"""Contenders without TensorFlow, which the tests of the bench's own machinery run in processes of their own."""

import os
import signal
import sys
import time
from pathlib import Path

from alexnet_tf.bench.contender import Subject


def sleeper(seconds: float, log: str = "", name: str = "", work: float = 0.0, warm_up: int = 1) -> Subject:
    """Sleeps, and writes into a log that all share whose turn it was."""

    def run(repetitions: int) -> None:
        if log:
            with Path(log).open("a") as file:
                print(name, repetitions, os.getpid(), file=file)
        time.sleep(seconds * repetitions)

    return Subject(run, work=work, items=10, facts={"seconds": seconds}, warm_up=warm_up)


def own_clock(seconds: float) -> Subject:
    """Says itself how long it took."""
    return Subject(lambda repetitions: seconds * repetitions)


def failing(after: int) -> Subject:
    """Raises in a later turn."""
    turns = 0

    def run(repetitions: int) -> None:
        nonlocal turns
        turns += 1
        if turns > after:
            raise ValueError(f"no more\nof {repetitions}")
        time.sleep(0.001)

    return Subject(run)


def dying() -> Subject:
    """Is killed, as by the kernel where memory runs out."""
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hoarder(megabytes: int) -> Subject:
    """Holds so much memory."""
    held = bytearray(os.urandom(2**20) * megabytes)
    return Subject(lambda repetitions: time.sleep(0.001 * repetitions), items=len(held))
