"""SIGINT and SIGTERM as a request to stop after the present step, and a pipe whose end is one too."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopSignal:
    """Within its context the first signal is only noted; a second one takes effect at once.

    Attributes:
        received: The signal that came, or None. Always None outside the main thread, which alone receives signals.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
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
        self.received = signal.Signals(number)
        self._restore()

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
