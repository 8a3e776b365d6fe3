"""A sweep's jobs: what they are called, and how one of them runs in a process of its own. Imports no TensorFlow."""

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet_tf.config import Config, to_dict, to_yaml
from alexnet_tf.runs import CONFIG, STOPPED, Job, RunFolder, State

LOG = "log.txt"
"""What a job's process printed, in its run folder."""
NOT_IDENTITY = ("run_dir", "resume", "study", "scale")
"""Keys that say where a run goes, not what it is."""


def make_job(config: Config, *, arm: str, phase: str, overrides: Sequence[str]) -> Job:
    """Name a job by arm, seed and a hash of its resolved config, so that the same job has the same folder always."""
    content = {key: value for key, value in to_dict(config).items() if key not in NOT_IDENTITY}
    content["training"].pop("progress")
    content["data"].pop("dir")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    prefix = "" if phase == "train" else f"{phase}-"
    name = f"{prefix}{arm}-seed{config.seed}-{digest}"
    return Job(name=name, arm=arm, seed=config.seed, phase=phase, overrides=tuple(overrides))


def run_job(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one job in a child process; what goes wrong there is a status, not an exception.

    A job that has finished is not run again; one that was interrupted goes on from its last checkpoint.

    Args:
        config: The job's config; `run_dir` is its folder.
        overrides: What made it, to be kept with the run.

    Returns:
        The run's status.

    Raises:
        SystemExit: With status 75 if a signal came; the job has saved and the sweep ends.
    """
    assert config.run_dir is not None
    path = Path(config.run_dir)
    config = replace(config, study=None)
    if (path / CONFIG).exists():
        run = RunFolder.open(path)
        if run.status()["state"] == State.finished:
            return run.status()
    else:
        run = RunFolder.create(path, to_yaml(config), overrides)
    print(f"{run.name}: started", flush=True)
    started = time.monotonic()
    code = _train_in_child(run)
    status = run.status()
    if code == STOPPED:
        raise SystemExit(STOPPED)
    if code != 0 and status["state"] != State.failed:  # it had no time to say so itself
        run.write_status(State.failed, reason=_death(code, run.path / LOG))
    status = run.status()
    reason = status.get("reason", "")
    print(f"{run.name}: {status['state']} after {time.monotonic() - started:.0f} s ({reason})", flush=True)
    return status


def _train_in_child(run: RunFolder) -> int:
    """Start `python -m alexnet_tf.training RUN`, pass on signals, and wait."""
    command = [sys.executable, "-m", "alexnet_tf.training", str(run.path)]
    with (run.path / LOG).open("ab") as log:
        # A session of its own: Ctrl-C in the terminal reaches the child once, through us, and not twice.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        with _forwarding(child):
            return child.wait()


@contextlib.contextmanager
def _forwarding(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to a child as long as it runs."""

    def forward(number: int, frame: Any) -> None:
        del frame
        child.send_signal(number)

    previous = {kind: signal.signal(kind, forward) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
        if child.poll() is None:
            child.kill()


def _death(code: int, log: Path) -> str:
    """Why a child ended without saying so: its signal, or the last line that it printed."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = log.read_text(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"exit status {code}: {said[:300]}"
