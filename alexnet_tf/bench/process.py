"""A contender's own process: nothing that another one holds in memory, threads or libraries touches it.

The parent says `("run", repetitions)` and hears `(seconds, peak bytes)`; between its turns a contender sleeps. Imports
no TensorFlow by itself.
"""

import contextlib
import importlib
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from alexnet_tf.bench.contender import Contender, Subject
from alexnet_tf.processes import ALLOCATOR, death, keep_freed_memory

CONTEXT = multiprocessing.get_context("spawn")
PROFILED = 3
"""Repetitions in a profile."""


class BenchError(RuntimeError):
    """The bench, or one contender, could not be run; the message is one line."""

    exit_status = 1


class Process:
    """A contender that runs when it is told to.

    Args:
        contender: What to run.
        seconds: How long a turn should last at least; a contender repeats its work for so long.

    Raises:
        BenchError: If it cannot be made.
    """

    def __init__(self, contender: Contender, seconds: float) -> None:
        self._connection, theirs = CONTEXT.Pipe()
        # A path and not an open file: the child opens it for itself.
        handle, path = tempfile.mkstemp(prefix="alexnet-bench-")
        os.close(handle)
        self._log = Path(path)
        arguments = (theirs, contender, path)
        self._process = CONTEXT.Process(target=_serve, args=arguments, daemon=False)
        self._process.start()
        theirs.close()
        try:
            self.work, self.items, self.facts, self.warm_up = self._hear()
            # The first run traces, compiles and allocates; the second says how long one takes.
            self.run(1)
            once, _ = self.run(1)
            self.repetitions = max(1, math.ceil(seconds / max(once, 1e-9)))
        except BaseException:
            self.close()
            raise

    def trial(self) -> tuple[float, int]:
        """One turn: seconds for one repetition, and the most bytes that the process ever had in memory."""
        if self.warm_up:
            self.run(self.warm_up)
        seconds, peak = self.run(self.repetitions)
        return seconds / self.repetitions, peak

    def run(self, repetitions: int) -> tuple[float, int]:
        """So many repetitions: their seconds, and the process's peak of memory in bytes."""
        self._connection.send(("run", repetitions))
        return self._hear()

    def profile(self, folder: Path) -> None:
        """Leave a trace for TensorBoard; for contenders that use TensorFlow."""
        self._connection.send(("profile", str(folder)))
        self._hear()

    def close(self) -> None:
        """End the process."""
        self._connection.close()  # it ends when it finds that nobody speaks
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._log.unlink(missing_ok=True)

    def _hear(self) -> Any:
        try:
            kind, content = self._connection.recv()
        except EOFError:
            self._process.join()
            raise BenchError(death(self._process.exitcode or 0, self._log)) from None
        if kind == "error":
            raise BenchError(content)
        return content


def _serve(connection: Connection, contender: Contender, log: str) -> None:
    """What the child does: make the subject, and run it whenever the parent says so."""
    os.setsid()  # Ctrl-C is for the parent, who then closes the connection
    with Path(log).open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        if contender.role == "peer":  # as whoever uses it has it
            os.environ.setdefault(ALLOCATOR, "false")
        else:
            keep_freed_memory()
        module, _, name = contender.make.partition(":")
        subject: Subject = getattr(importlib.import_module(module), name)(**contender.arguments)
        connection.send(("ready", (subject.work, subject.items, dict(subject.facts), subject.warm_up)))
        answers: dict[str, Callable[[Any], Any]] = {
            "run": lambda count: _timed(subject, count),
            "profile": lambda path: _profile(subject, path),
        }
        while True:
            what, argument = connection.recv()
            connection.send(("done", answers[what](argument)))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        with contextlib.suppress(OSError):
            connection.send(("error", f"{type(error).__name__}: {text}" if text else type(error).__name__))


def _timed(subject: Subject, repetitions: int) -> tuple[float, int]:
    started = time.perf_counter()
    own = subject.run(repetitions)
    seconds = time.perf_counter() - started if own is None else own
    return seconds, peak_memory()


def peak_memory() -> int:
    """The most bytes of memory that this process ever had (resident set); Linux only."""
    return _memory("VmHWM")  # getrusage's peak would be that of the parent, where that had more


def resident_memory() -> int:
    """The bytes of memory that this process has now (resident set); Linux only."""
    return _memory("VmRSS")


def _memory(field: str) -> int:
    """A line of proc(5)'s status file, which is in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _profile(subject: Subject, folder: str) -> None:
    import tensorflow as tf

    with tf.profiler.experimental.Profile(folder):
        subject.run(PROFILED)
