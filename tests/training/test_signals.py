"""Signals as a wish to stop, and the end of a pipe as a signal."""

import os
import signal
import time

import pytest

from alexnet_tf.training import signals
from alexnet_tf.training.signals import StopSignal, stop_at_end_of


@pytest.fixture
def ctrl_c_interrupts():
    """Python's own handler, which it does not install where it was started in the background with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_signals_at_once_are_one_wish_and_a_later_one_takes_effect(monkeypatch):
    monkeypatch.setattr(signals, "SAME_SECONDS", 0.2)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGTERM
        time.sleep(0.3)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_end_of_a_pipe_is_a_signal():
    reading, writing = os.pipe()
    with StopSignal() as stop:
        stop_at_end_of(reading)
        os.write(writing, b"no end yet")
        time.sleep(0.1)
        assert stop.received is None
        os.close(writing)
        deadline = time.monotonic() + 10
        while stop.received is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert stop.received == signal.SIGTERM
    os.close(reading)
