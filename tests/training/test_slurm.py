"""The README's job script, as it stands there, with an `srun` of our own that starts two tasks on this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from alexnet_tf.config import compose
from alexnet_tf.launching import CLUSTER
from alexnet_tf.runs import RunFolder
from alexnet_tf.training import train
from alexnet_tf.training.workers import FIRST_PORT, PORTS

README = Path(__file__).parents[2] / "README.md"
NETWORK = "model=alexnet data=imagenet2012"
SMALL = (
    "model=digits_quick",
    "model.input_size=8",
    "model.stages.conv3.pool=null",
    "model.stages.conv3.dropout=0.5",
    "model.init=he_normal",
    "data.train_examples=330",
    "training.batch_size=64",
    "training.evaluate_every=0",
    "training.precision=float64",
)
SRUN = """#!{python}
# Two tasks of a step on one node, with the variables that Slurm gives them; a signal goes to all of them.
import os, pathlib, signal, subprocess, sys

command = [text for text in sys.argv[1:] if not text.startswith("--")]
step = dict(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="localhost", SLURM_STEP_TASKS_PER_NODE="2",
            SLURMD_NODENAME="localhost")
tasks = [
    subprocess.Popen(command, env=os.environ | step | dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)))
    for rank in range(2)
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
pathlib.Path("srun.pid").write_text(str(os.getpid()))
codes = [task.wait() for task in tasks]
pathlib.Path("codes").write_text(" ".join(map(str, codes)))
sys.exit(max(codes))
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def script() -> str:
    """The script of the README, which has but one network's name to be replaced."""
    (text,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH .*?)```", README.read_text(), re.DOTALL)
    assert text.count(NETWORK) == 1
    return text


def free_job() -> str:
    """The number of a job both of whose ports are free."""
    for job in range(os.getpid() % PORTS, PORTS - 1):
        try:
            for port in (FIRST_PORT + job, FIRST_PORT + job + 1):
                with socket.socket() as each:
                    each.bind(("localhost", port))
        except OSError:
            continue
        return str(job)
    raise AssertionError("no free ports")


def start(folder: Path, text: str) -> "subprocess.Popen[str]":
    """Run a job's script as the batch step does."""
    (folder / "job.sh").write_text(text)
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != CLUSTER and "SLURM" not in name}
    environment = {**kept, "PATH": path, "SLURM_JOB_ID": free_job(), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        ["bash", "job.sh"],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_script_trains_stops_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text(SRUN.format(python=sys.executable))
    (tmp_path / "srun").chmod(0o755)
    run = tmp_path / "runs" / "big"

    job = start(tmp_path, script().replace(NETWORK, f"{' '.join(SMALL)} training.epochs=4000"))
    printed = []
    for line in job.stdout:
        printed.append(line)
        if line.startswith("epoch 2/4000"):
            break
    else:
        pytest.fail("".join(printed))
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGTERM)
    rest, _ = job.communicate(timeout=600)
    assert job.returncode == 75, rest
    assert (tmp_path / "codes").read_text() == "75 75"
    folder = RunFolder.open(run)
    status = folder.status()
    assert (status["state"], status["reason"]) == ("stopped", f"SIGTERM at step {status['step']}")
    assert folder.environment()["replicas"] == 2

    steps = status["step"] + 7
    job = start(tmp_path, script().replace("resume=runs/big", f"resume=runs/big training.steps={steps}"))
    rest, _ = job.communicate(timeout=900)
    assert job.returncode == 0, rest
    assert (folder.status()["state"], folder.status()["step"]) == ("finished", steps)
    values = [*SMALL, f"training.steps={steps}", "strategy=one_device", "training.progress=none"]
    whole = train(compose([*values, f"run_dir={tmp_path / 'whole'}"]))
    pd.testing.assert_frame_equal(
        pd.read_csv(run / "metrics.csv"), pd.read_csv(whole.path / "metrics.csv"), rtol=1e-9
    )
