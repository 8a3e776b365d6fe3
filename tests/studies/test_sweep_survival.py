"""Sweeps that are killed: what the processes leave behind, and that going on gives what would have been."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_tf import runs
from alexnet_tf.config import compose, to_yaml
from alexnet_tf.runs import RunFolder, SweepFolder
from alexnet_tf.studies import run_job

TINY = [
    "model=digits_quick",
    "model.input_size=8",
    "model.stages.conv3.pool=null",
    "optimizer=sgd",
    "training.batch_size=8",
    "data.train_examples=256",
    "training.evaluate_every=0",
    "training.progress=none",
]
LONG = [*TINY, "training.epochs=4000", "training.checkpoint_every=100 epochs"]


@contextlib.contextmanager
def started(cwd: Path, *arguments: str):
    """The command as a child that can be killed, and is at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "alexnet_tf", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_for(condition, seconds: float = 90):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def running(sweep: Path) -> list[RunFolder]:
    """The runs that say so and are locked by a living process."""
    folders = [RunFolder(path.parent) for path in sweep.glob("*/status.json")]
    return [run for run in folders if run.status()["state"] == "running" and runs.is_locked(run.path)]


def jobs(path: Path) -> list[runs.Job]:
    return SweepFolder.open(path).jobs


def states(path: Path) -> list[str]:
    return [SweepFolder.open(path).run(job).status()["state"] for job in jobs(path)]


@pytest.mark.slow
def test_a_job_outlives_its_killed_sweep_only_to_save(tmp_path):
    with started(tmp_path, "train", "-m", *LONG, "seed=0,1", "run_dir=sweep"):
        run = wait_for(lambda: running(tmp_path / "sweep"))[0]
        assert not run.is_dead()
        wait_for(lambda: run.status()["step"] > 0)  # written within the epochs too
    wait_for(lambda: not runs.is_locked(run.path), 30)
    status = run.status()
    assert (status["state"], status["reason"]) == ("stopped", f"SIGTERM at step {status['step']}")
    assert [path.name for path in run.checkpoints()][-1] == f"step-{status['step']:09d}.npz"

    # Killed without a chance to say so: the status is a lie that a look at the lock finds out.
    with started(tmp_path, "sweep", "resume", "sweep"):
        run = wait_for(lambda: running(tmp_path / "sweep"))[0]
        assert run.status()["since_step"] == status["step"]
        os.kill(run.status()["pid"], signal.SIGSTOP)  # so that it cannot save when its sweep is gone
    os.kill(run.status()["pid"], signal.SIGKILL)
    wait_for(run.is_dead, 10)
    assert run.status()["state"] == "running"


def test_ctrl_c_before_the_first_step_is_no_failure(tmp_path):
    with started(tmp_path, "train", "-m", *LONG, "seed=0,1", "run_dir=sweep") as sweep:
        wait_for(lambda: list(tmp_path.glob("sweep/*/log.txt")))
        sweep.send_signal(signal.SIGINT)
        said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 75, said
    assert states(tmp_path / "sweep") == ["stopped", "pending"]
    assert "stopped; go on with: alexnet sweep resume sweep" in said
    assert "Traceback" not in said


def test_a_run_that_another_process_trains_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("alexnet_tf.studies.sweep.ORPHAN_SECONDS", 0.1)
    config = compose([*TINY, f"run_dir={tmp_path}"])
    run = RunFolder.create(tmp_path, to_yaml(config), [])
    run.write_status(runs.State.running, step=3)
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert run_job(config, [])["state"] == "running"
    os.close(holder)
    assert "waiting for the process that still saves it" in capsys.readouterr().out
    assert run.status()["step"] == 3
    assert not (tmp_path / runs.LOG).exists()


def test_two_sweeps_in_one_folder_are_refused(tmp_path, alexnet):
    (tmp_path / "sweep").mkdir()
    holder = os.open(tmp_path / "sweep", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    result = alexnet("train", "-m", *TINY, "seed=0,1", "run_dir=sweep")
    os.close(holder)
    assert result.returncode == 2
    assert result.stderr == "alexnet: sweep: another process is running this sweep. Expected one at a time\n"
    assert not list((tmp_path / "sweep").iterdir())


# ------------------------------------------------------------------------------------------- a long campaign


STUDY = """# @package _global_
hydra: {mode: MULTIRUN}
study:
  name: accidents
  question: Do the others go on?
  metric: error
  split: train
  seeds: [0]
  arms:
    raises: [data=cifar10, data.dir=nowhere, model.input_size=32]
    becomes_nan: [optimizer.lr=1e20]
    is_killed: [training.epochs=100000]
    is_well: []
"""


@pytest.mark.slow
def test_jobs_that_raise_diverge_or_are_killed_are_recorded_and_the_others_go_on(tmp_path, alexnet):
    """Then going on, from another folder, tries again what failed, and only that."""
    (tmp_path / "here" / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "here" / "mine" / "experiment" / "accidents.yaml").write_text(STUDY)
    command = [
        "train",
        "--config-dir",
        "mine",
        *TINY,
        "training.epochs=1",
        "experiment=accidents",
        "run_dir=sweep",
    ]
    path = tmp_path / "here" / "sweep"
    with started(tmp_path / "here", *command) as sweep:
        run = wait_for(lambda: [run for run in running(path) if "killed" in run.name], 120)[0]
        os.kill(run.status()["pid"], signal.SIGKILL)
        said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 1, said
    assert "Traceback" not in said
    reasons = {job.arm: SweepFolder.open(path).run(job).status().get("reason", "") for job in jobs(path)}
    print(reasons)
    assert states(path) == ["failed", "failed", "failed", "finished"]
    assert "nowhere" in reasons["raises"]
    assert "the loss became" in reasons["becomes_nan"]
    assert reasons["is_killed"] == "killed by SIGKILL (out of memory?)"
    for job in jobs(path)[:3]:
        assert f"; see sweep/{job.name}/log.txt" in said
        assert (path / job.name / runs.LOG).exists()
    assert "3 failed, 1 finished; try again with: alexnet sweep resume sweep (--skip-failed" in said

    again = alexnet(
        "sweep", "resume", "here/sweep", "--skip-failed"
    )  # relative paths count from where it began
    assert again.returncode == 1
    assert "0 of 4 jobs are left to run" in again.stdout, again.stderr
    assert states(path) == ["failed", "failed", "failed", "finished"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_sweep_killed_four_times_gives_what_an_undisturbed_one_gives(tmp_path, alexnet):
    """12 jobs; SIGKILL to the sweep alone or to all of it, at random times; resumed each time with nothing typed."""
    options = [*TINY, "training.epochs=30", "training.checkpoint_every=100 steps", "training.probe.every=100"]
    command = ["train", "-m", *options, "model.activation=relu,tanh", "seed=0,1,2,3,4,5"]
    begin = time.monotonic()
    undisturbed = alexnet(*command, "run_dir=undisturbed", timeout=1200)
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr

    longest = (time.monotonic() - begin) / 4

    seed = random.SystemRandom().randrange(10**6)
    dice, story, path = random.Random(seed), [f"seed {seed}"], tmp_path / "killed"
    arguments = [*command, "run_dir=killed"]
    for _ in range(4):
        with started(tmp_path, *arguments) as sweep:
            wait_for(lambda: running(path))
            with pytest.raises(subprocess.TimeoutExpired):  # it must not come to its end
                sweep.communicate(timeout=dice.uniform(0, longest))
            found = subprocess.run(["pgrep", "-P", str(sweep.pid)], capture_output=True, text=True)
        children = found.stdout.split() if dice.random() < 0.5 else []
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        finished = states(path).count("finished")
        story.append(f"{'sweep and job' if children else 'sweep'} killed with {finished} finished")
        arguments = ["sweep", "resume", "killed"]
    stamps = {file: file.stat().st_mtime_ns for file in path.glob("*/model.keras")}
    last = alexnet(*arguments, timeout=1200)
    print(*story, sep="; ")
    assert last.returncode == 0, last.stdout + last.stderr
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps, "what has finished was repeated"
    assert jobs(path) == jobs(tmp_path / "undisturbed")
    assert {file.parent.name for file in path.glob("*/config.yaml")} == {job.name for job in jobs(path)}
    assert set(states(path)) == {"finished"}
    assert not list(path.rglob("*.tmp*"))
    for job in jobs(path):
        ours, theirs = (
            (tmp_path / name / job.name / runs.METRICS).read_bytes() for name in ("killed", "undisturbed")
        )
        assert ours == theirs, job.name
