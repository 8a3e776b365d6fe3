"""SIGINT and SIGTERM as a request to stop after the present step, and a pipe whose end is one too."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Self

SAME_SECONDS = 1.0
"""Signals so close to the first are the same wish: a terminal tells a sweep and its workers, and each tells the job."""


class StopSignal:
    """Within its context the first signal is only noted; another one, a second later, takes effect at once.

    Attributes:
        received: The signal that came, or None. Always None outside the main thread, which alone receives signals.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                kind: signal.signal(kind, self._note) for kind in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._received_at > SAME_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())


def stop_at_end_of(descriptor: int) -> None:
    """Send this process SIGTERM when the other end of a pipe is closed.

    A parent that is killed cannot pass a signal on, but the system closes its end of the pipe, on every Unix.
    """

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="end of input", daemon=True).start()
