"""A sweep's jobs: what they are called, and how one of them runs in a process of its own. Imports no TensorFlow."""

import contextlib
import glob
import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet_tf.config import Config, ConfigError, override_key, to_dict, to_yaml
from alexnet_tf.config.schema import OnError
from alexnet_tf.processes import Children, death, handling
from alexnet_tf.runs import (
    CONFIG,
    LOG,
    MANIFEST,
    STOPPED,
    Job,
    RunError,
    RunFolder,
    State,
    SweepFolder,
    WrongPathError,
    is_locked,
)
from alexnet_tf.studies.places import PLACES, abandoned, job_environment

NOT_IDENTITY = ("run_dir", "resume", "study", "scale")
"""Keys that say where a run goes, not what it is."""
WATCHERS = ("progress", "mlflow")
"""Keys of `training` that say who looks on."""
GUARDS = {OnError.fail: ("dir", "max_skipped", "max_pixels"), OnError.skip: ("dir", "max_skipped")}
"""Keys of `data` that say where it is and when to give up. What is skipped `max_pixels` decides too."""
ORPHAN_SECONDS = 120.0
"""A job whose sweep was killed finishes its step and saves; the sweep that goes on waits for it so long."""


def make_job(
    config: Config, *, arm: str, phase: str, overrides: Sequence[str], start: Job | None = None
) -> Job:
    """Name a job by arm, seed and a hash of its resolved config, so that the same job has the same folder always.

    Args:
        config: The job's.
        arm: The study's, or what was typed.
        phase: See `Job`.
        overrides: What makes the config.
        start: The job of the same sweep whose run it starts from: that counts, not where the run is.
    """
    content = {key: value for key, value in to_dict(config).items() if key not in NOT_IDENTITY}
    if start is not None:
        content["init_from"] = start.recipe
    for key in WATCHERS:
        content["training"].pop(key)
    for key in GUARDS[config.data.on_error]:
        content["data"].pop(key)
    content["augment"].pop("device")  # it says where images are made, not which
    prefix = "" if phase == "train" else f"{phase}-"
    name = f"{prefix}{arm}-seed{config.seed}-{_digest(content)}"
    recipe = _digest({key: value for key, value in content.items() if key != "seed"})
    return Job(name=name, arm=arm, seed=config.seed, phase=phase, overrides=tuple(overrides), recipe=recipe)


def finished_elsewhere(job: Job, sweeps: Path) -> RunFolder | None:
    """A finished run with a job's resolved config, and so its seed, in any sweep of a folder, whatever its arm is called."""
    suffix = job.name.removeprefix(job.arm if job.phase == "train" else f"{job.phase}-{job.arm}")
    found = (RunFolder(path) for path in sorted(sweeps.glob(f"*/*{glob.escape(suffix)}")))
    return next((run for run in found if run.status()["state"] == State.finished), None)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def superseded(known: Sequence[Job], planned: Sequence[Job]) -> list[Job]:
    """The known jobs of the phase and arm of a planned one, but of none of its recipes.

    A study whose arm was changed, or another value chosen for it, would else count both.
    """
    recipes: dict[tuple[str, str], set[str]] = {}
    for job in planned:
        recipes.setdefault((job.phase, job.arm), set()).add(job.recipe)
    return [
        job
        for job in known
        if job.recipe and job.recipe not in recipes.get((job.phase, job.arm), {job.recipe})
    ]


def resume_command(
    path: Path, changes: Sequence[str] = (), *, skip_failed: bool = False
) -> tuple[list[str], Path | None]:
    """What goes on with a sweep: the arguments for `alexnet train`, and the folder to give them in.

    Args:
        path: The sweep.
        changes: Overrides or Hydra's options; one of a key that the sweep's command has takes its place.
        skip_failed: Whether to leave alone what failed.

    Returns:
        The arguments, and the folder in which the sweep's command was given, None if it is no more.

    Raises:
        RunError: If it is no sweep, or its manifest is damaged or does not name the command.
    """
    sweep = SweepFolder.open(path)
    if not sweep.command:
        raise RunError(
            f"{path / MANIFEST}: does not say how the sweep was started; give its command again with run_dir={path}"
        )
    given = {override_key(text) for text in changes}
    if "run_dir" in given:
        raise WrongPathError(f"run_dir: a sweep goes on where it is, in {path}")
    kept = [text for text in sweep.command if text.startswith("-") or override_key(text) not in given]
    own = [quoted("run_dir", str(path.absolute())), "hydra.sweeper.leftovers=true"]
    if skip_failed:
        own.append("hydra.sweeper.retry_failed=false")
    folder = Path(sweep.cwd)
    return [*kept, *changes, *own], folder if sweep.cwd and folder.is_dir() else None


def quoted(key: str, value: str) -> str:
    """An override whose value is taken as it is, blanks, commas and equal signs included."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def run_job(config: Config, overrides: Sequence[str]) -> dict[str, Any]:
    """Run one job in a child process; what goes wrong there is a status, not an exception.

    A job that has finished is not run again; one that was interrupted goes on from its last checkpoint.

    Args:
        config: The job's config; `run_dir` is its folder.
        overrides: What made it, to be kept with the run.

    Returns:
        The run's status.

    Raises:
        SystemExit: With status 75 if a signal came to this process; the job has saved.
        ConfigError: If `run_dir` is null, because another sweeper than ours made the job.
    """
    if config.run_dir is None:
        raise ConfigError("run_dir=null: expected a job's folder, which hydra/sweeper=study and =optuna give")
    path = Path(config.run_dir)
    if (path / CONFIG).exists():
        run = RunFolder.open(path)
        if not wait_until_free([run], ORPHAN_SECONDS):
            _say(f"{run.name}: another process is training it; left alone")
            return run.status()
        if run.status()["state"] == State.finished:
            return run.status()
    else:
        run = RunFolder.create(path, to_yaml(replace(config, study=None)), overrides)
    run.write_status(State.pending)  # what the last attempt said is no more
    _say(f"{run.name}: started")
    started = time.monotonic()
    with job_environment(config.strategy) as environment:
        code, received = _train_in_child(run, environment)
    state = run.status()["state"]
    if received is not None and code != 0:
        if state != State.stopped:  # it had not come to its first step
            run.write_status(State.stopped, reason=f"{received.name} before the first step")
        if abandoned():
            os._exit(STOPPED)  # a worker that nobody waits for would wait for ever
        raise SystemExit(STOPPED)
    if code not in (0, STOPPED) and state != State.failed:  # it had no time to say so itself
        run.write_status(State.failed, reason=death(code, path / LOG))
    status = run.status()
    end = f"{status['state']} after {time.monotonic() - started:.0f} s ({status.get('reason', '')})"
    _say(f"{run.name}: {end}{f'; see {path / LOG}' if status['state'] == State.failed else ''}")
    if received is not None:
        raise SystemExit(STOPPED)
    return status


def stop_jobs(runs: Sequence[RunFolder], seconds: float) -> None:
    """Ask those of these runs that train on this machine to save and stop, and wait for them."""
    for run in runs:
        status = run.status()
        here = status.get("host") == socket.gethostname()
        if (
            status["state"] == State.running and here and is_locked(run.path)
        ):  # so its process lives, and is no other
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(status["pid"]), signal.SIGTERM)
    wait_until_free(runs, seconds)


def wait_until_free(runs: Sequence[RunFolder], seconds: float) -> bool:
    """Wait for other processes that still train any of these runs; whether all are free now."""
    deadline = time.monotonic() + seconds
    announced = False
    while busy := [run for run in runs if is_locked(run.path)]:
        if time.monotonic() > deadline:
            return False
        if not announced:
            _say(f"{busy[0].name}: waiting for the process that still saves it")
            announced = True
        time.sleep(0.2)
    return True


def _say(line: str) -> None:
    print(line, flush=True)


def _train_in_child(run: RunFolder, environment: dict[str, str]) -> tuple[int, signal.Signals | None]:
    """Start `python -m alexnet_tf.training RUN`, pass on signals, and wait: its exit status, and the signal if one came."""
    children = Children()
    with (
        (run.path / LOG).open("ab") as log,
        handling(children.forward),
        children.start(run.path, environment, log) as child,
    ):
        code = None
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=1.0 if PLACES in os.environ else None)
            if children.received is None and abandoned():
                children.forward(signal.SIGTERM)
    return code, children.received
