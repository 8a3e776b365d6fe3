"""Hand-made run and sweep folders with known curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from alexnet_tf import runs
from alexnet_tf.runs import Job, RunFolder, State, SweepFolder, Table

SECONDS_PER_STEP = 0.5


def make_run(
    path: Path,
    probe: Sequence[tuple[int, float]] = (),
    *,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    state: State = State.finished,
    reason: str = "",
    epochs: Sequence[tuple[float, float, float, float]] = ((2.0, 2.1, 0.6, 0.7), (1.0, 1.2, 0.3, 0.4)),
    steps_per_epoch: int = 50,
) -> RunFolder:
    """A run; `probe` holds (step, error), `epochs` (train loss, validation loss, train error, validation error)."""
    run = RunFolder.create(path, yaml.safe_dump({"seed": 0, **(config or {})}), overrides)
    metrics = Table(path / runs.METRICS, runs.METRICS_COLUMNS)
    timing = Table(path / runs.TIMING, runs.TIMING_COLUMNS)

    def add(epoch: int, step: int, split: str, loss: float | None, error: float) -> None:
        metrics.append(
            epoch=epoch,
            step=step,
            split=split,
            loss=loss,
            top1_error=error,
            top5_error=None,
            lr=0.01,
            examples=100,
        )
        seconds = step * SECONDS_PER_STEP
        timing.append(epoch=epoch, step=step, split=split, seconds=seconds, images_per_second=256.0)

    for step, error in probe:
        add(step // steps_per_epoch + 1, step, "probe", None, error)
    for epoch, (train_loss, validation_loss, train_error, validation_error) in enumerate(epochs, start=1):
        add(epoch, epoch * steps_per_epoch, "train", train_loss, train_error)
        add(epoch, epoch * steps_per_epoch, "validation", validation_loss, validation_error)
    metrics.save()
    timing.save()
    runs.write_json(
        path / runs.ENVIRONMENT,
        {"start": "2024-01-01T00:00:00+00:00", "versions": {"keras": "3.15.0"}, "devices": ["CPU:0"]},
    )
    run.write_status(state, step=100, steps=100, **({"reason": reason} if reason else {}))
    return run


def line(crossing: float, last: int = 400, every: int = 20) -> list[tuple[int, float]]:
    """A probe whose error falls linearly from 90 %, through 25 % at `crossing`, and not below 2 %."""
    return [(step, max(0.02, 0.9 - 0.65 * step / crossing)) for step in range(0, last + 1, every)]


def make_sweep(
    path: Path,
    arms: Mapping[str, Sequence[float]],
    comparisons: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    command: Sequence[str] = (),
    **study: Any,
) -> SweepFolder:
    """A study whose arms' seeds 0, 1, ... cross 25 % at the given steps."""
    description = {
        "name": "fast_or_slow",
        "question": "Is it fast?",
        "source": "paper, Figure 1",
        "metric": "time_to_error",
        "threshold": 0.25,
        "arms": {arm: [f"model.kind={arm}"] for arm in arms},
        "comparisons": dict(comparisons or {}),
        "tune": {"key": "optimizer.lr", "values": {}, "seeds": [100]},
        **study,
    }
    sweep = SweepFolder(path, description, command=tuple(command))
    for arm, crossings in arms.items():
        for seed, crossing in enumerate(crossings):
            overrides = ("experiment=fast_or_slow", "data.size=8", f"model.kind={arm}", f"seed={seed}")
            job = Job(name=f"job-{len(sweep.jobs)}", arm=arm, seed=seed, overrides=overrides)
            sweep.jobs.append(job)
            config = {"seed": seed, "model": {"kind": arm, "same": 1}}
            make_run(path / job.name, line(crossing), config=config, overrides=overrides)
    sweep.save()
    return sweep


@pytest.fixture(scope="session")
def run_builder() -> Callable[..., RunFolder]:
    return make_run


@pytest.fixture(scope="session")
def sweep_builder() -> Callable[..., SweepFolder]:
    return make_sweep


@pytest.fixture(scope="session")
def probe_line() -> Callable[..., list[tuple[int, float]]]:
    return line
