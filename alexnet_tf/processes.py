"""Processes of this machine: the GPUs they share, signals, the notices of TensorFlow, why one died. Imports no TensorFlow."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

GPUS, THREADS = "CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS"
ALLOCATOR, MOST_MEMORY = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"
NOTICE = re.compile(
    r"[IWE]\d{4} \d\d:|WARNING: All log messages before absl|To enable the following instructions"
)
"""A log line of TensorFlow's C++ libraries."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    named = os.environ.get(GPUS)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def keep_freed_memory() -> None:
    """Let TensorFlow keep the memory of tensors on the CPU for the next ones; without effect once it has devices.

    By default every large tensor is new pages of the system, each of which costs a fault and is filled with zeros: on a
    virtual machine that was a quarter of AlexNet's training step. What the two variables say already stays.
    """
    os.environ.setdefault(ALLOCATOR, "true")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    os.environ.setdefault(MOST_MEMORY, str(physical >> 20))  # TensorFlow's own limit is 64 GiB


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let a function have SIGINT and SIGTERM; in other threads than the main one, which alone receives them, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {kind: signal.signal(kind, handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, old in previous.items():
            signal.signal(kind, old)


class Children:
    """Processes that train, to which the signals that come to this one go on; see `handling`.

    Attributes:
        received: The last signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def forward(self, number: int, frame: Any = None) -> None:
        """Send a signal to all."""
        del frame
        self.received = signal.Signals(number)
        for child in self._started:
            child.send_signal(number)

    def start(
        self, run: Path, environment: Mapping[str, str], log: IO[bytes], *changes: str
    ) -> subprocess.Popen[bytes]:
        """Start `python -m alexnet_tf.training RUN CHANGES`, which prints to a file that outlives us.

        A session of its own: Ctrl-C in the terminal reaches the child once, through us, and not twice. Its input is a
        pipe that nothing is written to: where we die without a word, the system closes it, and the child stops.
        """
        child = subprocess.Popen(
            [sys.executable, "-m", "alexnet_tf.training", str(run), "--stop-at-end-of-input", *changes],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started.append(child)
        if self.received is not None:  # while it started
            child.send_signal(self.received)
        return child


def death(code: int, log: Path) -> str:
    """Why a child ended without saying so: its signal, or the last line that it printed."""
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"killed by {name}{hint}"
    return f"exit status {code}: {last_line(log)[:300]}"


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty if there is none."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip() and not NOTICE.match(line)), "")
