"""What saving in the background costs: neighbouring epochs of one run, with and without a checkpoint, in pairs.

    python experiments/background_saving/measure.py [--wait] [KEY=VALUE...]

`--wait` measures what it would cost if training waited for the disk. Overrides are those of `alexnet train`.
"""

import itertools
import statistics
import sys
import tempfile
import time

import keras

from alexnet_tf.config import compose
from alexnet_tf.training import checkpoint, train

PAIRS = 10
SAVED_EVERY = 2
"""Epochs; a checkpoint is taken when an even one has ended, and written while the odd one after it trains."""


class Clock(keras.callbacks.Callback):
    """When epochs end, before anything is saved: seconds, and seconds of all processors."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time."""
        del epoch, logs
        self.ends.append((time.perf_counter(), time.process_time()))


class WaitingKeeper(checkpoint.Keeper):
    """Writes in the foreground."""

    def save(self, step: int, content: checkpoint.Checkpoint, *, best: bool) -> None:
        """Write and wait."""
        super().save(step, content, best=best)
        self.wait()


def main(*arguments: str) -> None:
    """Train and print the medians."""
    overrides = [text for text in arguments if text != "--wait"]
    if "--wait" in arguments:
        checkpoint.Keeper = WaitingKeeper  # type: ignore[misc]
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="saving-", dir=".") as folder:
        config = [
            f"run_dir={folder}/run",
            f"training.epochs={SAVED_EVERY * (PAIRS + 1)}",  # the first epochs warm up
            f"training.checkpoint_every={SAVED_EVERY} epochs",
            "training.evaluate_every=0",
            "training.progress=none",
            *overrides,
        ]
        run = train(compose(config), callbacks=[clock])
        size = run.checkpoints()[-1].stat().st_size
    print(f"{PAIRS} pairs of epochs, checkpoints of {size / 1e6:.1f} MB")
    for name, ends in zip(("seconds", "processor seconds"), zip(*clock.ends, strict=True), strict=True):
        epochs = [end - start for start, end in itertools.pairwise(ends)]
        saved, unsaved = epochs[1::SAVED_EVERY][:PAIRS], epochs[2::SAVED_EVERY][:PAIRS]
        ratios = [first / second for first, second in zip(saved, unsaved, strict=True)]
        print(
            f"{name}: {statistics.median(unsaved):.2f} without, {statistics.median(saved):.2f} with one; "
            f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
