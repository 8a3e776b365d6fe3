"""Processes of this machine: the GPUs they share, signals, the notices of TensorFlow, why one died. Imports no TensorFlow."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GPUS, THREADS = "CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS"
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


def death(code: int, log: Path) -> str:
    """Why a child ended without saying so: its signal, or the last line that it printed."""
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    return f"exit status {code}: {last_line(log)[:300]}"


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty if there is none."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip() and not NOTICE.match(line)), "")
