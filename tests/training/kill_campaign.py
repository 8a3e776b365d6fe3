"""Kill a run again and again with SIGKILL, at random moments and during saves, and compare its end with one left alone.

    python tests/training/kill_campaign.py FOLDER KILLS everything|digits

Prints one JSON object. Every leg is a process of its own, forked after the libraries are loaded.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CLASSES, IMAGES, STEPS_PER_EPOCH, EPOCHS = 3, 96, 5, 5
DIGITS = (
    "data.train_examples=80",
    "data.validation_fraction=0.05",
    "model=digits_quick",
    "model.input_size=8",
    "model.init=he_normal",
    "model.stages.conv3.dropout=0.25",
    "model.stages.conv3.pool=null",
    "optimizer=paper",
    "optimizer.lr=0.001",
    "schedule=plateau",
    "schedule.patience=1",
    "schedule.reductions=9",
    "training.batch_size=16",
    f"training.epochs={EPOCHS}",
    "training.early_stopping.patience=9",
    "training.probe.every=2",
    "training.probe.examples=40",
    "training.checkpoint_every=1 step",
    "training.deterministic=true",
    "training.progress=none",
)
"""Dropout, momentum, a plateau schedule, early stopping and the probe."""
EVERYTHING = (
    *DIGITS,
    "data=folder",
    "data.train_examples=null",
    "data.validation_fraction=0.16",
    "augment=paper",
    "augment.resize.size=12",
    "augment.center_crop.size=12",
)
"""On colour images, with crops, mirrors and PCA colour too."""
SAVING = ".step-*"
"""The temporary file of a checkpoint that is being written."""


def write_images(folder: Path) -> Path:
    """Colour images in class folders: noise around a colour of each class."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        label = number % CLASSES
        path = folder / f"class_{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.normal(128, 50, [12, 12, 3]) + 40 * np.eye(3)[label]
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return folder


def outcome(run: Path) -> dict[str, bytes]:
    """What must be equal to the byte: the rows, and the arrays and counters of the last and of the best checkpoint."""
    found = {"metrics.csv": (run / "metrics.csv").read_bytes()}
    (newest, best) = sorted((run / "checkpoints").glob("step-*.npz"))[-1], run / "checkpoints" / "best.npz"
    for path in (newest, best):
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                found[f"{path.name}/{name}"] = archive[name].tobytes()
        state = json.loads(found.pop(f"{path.name}/state"))
        del state["timing"], state["counters"]["seconds"], state["counters"]["epoch_seconds"]
        del found[f"{path.name}/sha256"]
        found[f"{path.name}/state"] = json.dumps(state).encode()
    return found


def forked(work: Callable[[], object]) -> int:
    """A child that does the work and ends."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def ended(child: int) -> bool:
    """Whether a child has done its work."""
    found, status = os.waitpid(child, os.WNOHANG)
    if found and status:
        raise SystemExit(f"a leg failed: status {status}")
    return bool(found)


def wait(condition: Callable[[], object], child: int) -> bool:
    """Wait for a condition; False if the child ended before."""
    while not condition():
        if ended(child):
            return False
        time.sleep(0.0002)
    return True


def trains(run: Path, child: int) -> bool:
    """Whether a run has come to its steps, in this process."""
    status = run / "status.json"
    return status.exists() and json.loads(status.read_text()).get("pid") == child


def kill(child: int, run: Path, how: str, chance: random.Random, seconds: float) -> bool:
    """Kill a child; False if it was done before.

    Args:
        child: Its process.
        run: The run that it trains.
        how: `start`, at any moment from the start; `run`, while it trains; `save`, while it writes a checkpoint.
        chance: What is random.
        seconds: Within which the kill comes.
    """
    saves = run / "checkpoints"
    if how != "start" and not wait(lambda: trains(run, child), child):
        return False
    if how == "save":
        for _ in range(chance.randint(1, 4)):
            if not (
                wait(lambda: any(saves.glob(SAVING)), child)
                and wait(lambda: not any(saves.glob(SAVING)), child)
            ):
                return False
        if not wait(lambda: any(saves.glob(SAVING)), child):
            return False
    else:
        end = time.monotonic() + chance.uniform(0, seconds)
        if not wait(lambda: time.monotonic() > end, child):
            return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(folder: Path, kills: int, kind: str) -> dict[str, int]:
    """Kill so often, over as many runs as that takes, and let each come to its end."""
    from alexnet_tf.config import compose
    from alexnet_tf.training import train

    chance, config = random.Random(0), list(DIGITS)
    if kind == "everything":
        config = [*EVERYTHING, f"data.dir={write_images(folder / 'images')}"]

    def leg(run: Path) -> Callable[[], object]:
        where = f"resume={run}" if (run / "config.yaml").exists() else f"run_dir={run}"
        return lambda: train(compose([*config, where]))

    whole = folder / "whole"
    started, child = time.monotonic(), forked(leg(whole))
    wait(lambda: trains(whole, child), child)
    began = time.monotonic()
    wait(lambda: False, child)
    startup, work, expected = began - started, time.monotonic() - began, outcome(whole)
    report = {"kills": 0, "during_a_save": 0, "legs": 0, "runs": 0, "equal": 0}
    while report["kills"] < kills:
        run = folder / f"killed-{report['runs']}"
        report["runs"] += 1
        finished = False
        while not finished:
            child = forked(leg(run))
            report["legs"] += 1
            left = report["kills"] < kills
            how, seconds = (
                ("save", 0.0),
                ("run", work / 2),
                ("save", 0.0),
                ("run", work / 2),
                ("start", startup + work / 2),
            )[report["kills"] % 5]
            if left and kill(child, run, how, chance, seconds):
                report["kills"] += 1
                report["during_a_save"] += any((run / "checkpoints").glob(SAVING))
            else:
                finished = left or not wait(lambda: False, child)
        report["equal"] += outcome(run) == expected
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), sys.argv[3])))
