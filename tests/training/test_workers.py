"""Runs of two workers, which are processes: the result of one device, what each writes, and how all end when one does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from equal_runs import differences, table

from alexnet_tf import launching
from alexnet_tf.config import ConfigError, compose
from alexnet_tf.inference import Run
from alexnet_tf.launching import CLUSTER, FAILED_SECONDS, _free_addresses
from alexnet_tf.runs import RunFolder, State
from alexnet_tf.training import DivergedError, checkpoint, train, workers

VALUES = (
    "model=digits_quick",
    "model.input_size=8",
    "model.stages.conv3.pool=null",
    "model.stages.conv3.dropout=0.5",
    "model.init=he_normal",
    "data.train_examples=330",
    "training.batch_size=64",
    "training.eval_batch_size=50",
    "training.epochs=2",
    "training.precision=float64",
    "training.probe.every=5",
    "training.probe.examples=101",
)
pytestmark = pytest.mark.timeout(1200)  # processes that share two cores
ALONE = ("strategy.name=one_device", "strategy.local_workers=null", "training.progress=none")
LAUNCH = ("strategy=multi_worker", "strategy.local_workers=2")
BOUND = 20.0
"""Seconds within which all must have ended; `FAILED_SECONDS` and some more on a busy machine."""


def environment(**values: str) -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **values}


def metrics(path: Path) -> pd.DataFrame:
    return pd.read_csv(path / "metrics.csv")


@pytest.mark.slow
def test_two_workers_train_as_one_device_does(alexnet, tmp_path) -> None:
    done = alexnet("train", *LAUNCH, *VALUES, "run_dir=two")
    assert done.returncode == 0, done.stderr[-3000:]
    two = RunFolder.open(tmp_path / "two")
    assert (two.status()["state"], two.environment()["replicas"]) == ("finished", 2)

    one = train(
        compose([*VALUES, "strategy=one_device", f"run_dir={tmp_path / 'one'}", "training.progress=none"])
    )
    frame = metrics(tmp_path / "two")
    assert len(frame) == 7
    pd.testing.assert_frame_equal(frame, metrics(one.path), rtol=1e-9)

    progress = [line for line in done.stdout.splitlines() if "epoch " in line]
    assert [line.split("|")[0] for line in progress] == ["[worker 0] epoch 1/2 ", "[worker 0] epoch 2/2 "]
    assert "epoch" in (two.path / "worker-0.log").read_text()
    assert "epoch" not in (two.path / "worker-1.log").read_text()
    added = {path.name for path in two.path.iterdir()} - {path.name for path in one.path.iterdir()}
    assert added == {
        "worker-0.log",
        "worker-1.log",
    }


# ------------------------------------------------------------------------------------------- without processes


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
     '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
     '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
     '{"cluster": {"worker": ["a:1", "b:99999"]}, "task": {"type": "worker", "index": 0}}',
     '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}'],
)  # fmt: skip
def test_a_cluster_that_makes_no_sense_is_one_line(text) -> None:
    with pytest.raises(ConfigError, match=r"^TF_CONFIG=.*expected addresses of workers") as caught:
        workers._check_cluster(text)
    assert "\n" not in str(caught.value)


def test_workers_need_a_cluster(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv(CLUSTER, raising=False)
    with pytest.raises(
        ConfigError, match=r"expected TF_CONFIG, the variables of a Slurm step .* strategy.local_workers=N"
    ):
        workers.join_cluster(1.0)


@pytest.mark.parametrize(
    ("node", "local", "index"), [("n9", 0, 2), ("n9", 1, 3), ("n10", 0, 0), ("n10", 1, 1)]
)
def test_slurm_tasks_know_their_own_address(monkeypatch, node, local, index) -> None:
    variables = {
        "SLURM_PROCID": {"n9": 0, "n10": 2}[node] + local, "SLURM_LOCALID": local, "SLURMD_NODENAME": node,
        "SLURM_STEP_NUM_TASKS": 4, "SLURM_STEP_NODELIST": "n[9-10]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_JOB_ID": 70123,
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    content = workers._slurm_cluster()
    addresses = content["cluster"]["worker"]
    assert addresses == ["n10:30123", "n10:30124", "n9:30123", "n9:30124"]
    assert content["task"] == {"type": "worker", "index": index}
    assert addresses[index] == f"{node}:{30123 + local}"
    workers._check_cluster(json.dumps(content))


def test_slurm_variables_that_are_no_step_are_one_line(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for name in ("SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ConfigError, match=r"strategy=multi_worker: Slurm's variables are not those of a step"
    ):
        workers._slurm_cluster()


def test_the_watchdog_ends_what_takes_too_long(monkeypatch, capsys) -> None:
    ended, reasons = [], []
    monkeypatch.setattr(workers.os, "_exit", ended.append)
    with workers.Watchdog(0.2) as watchdog:
        watchdog.on_end = reasons.append
        watchdog.doing(None)
        time.sleep(0.5)
        assert not ended
        watchdog.doing("reading a batch")
        deadline = time.monotonic() + 20
        while not ended and time.monotonic() < deadline:
            time.sleep(0.05)
    assert ended[0] == 1
    assert reasons[0] == "reading a batch for more than strategy.timeout_seconds=0.2"
    assert f"alexnet: {reasons[0]}\n" in capsys.readouterr().err


def test_the_watchdog_ends_the_process_whatever_its_last_word_does(monkeypatch, capsys) -> None:
    ended = []
    monkeypatch.setattr(workers.os, "_exit", ended.append)
    monkeypatch.setattr(workers, "LAST_SECONDS", 0.1)
    for last_word in (refuse, lambda _: time.sleep(1)):
        ended.clear()
        with workers.Watchdog(0.1) as watchdog:
            watchdog.on_end = last_word
            watchdog.doing("reading a batch")
            deadline = time.monotonic() + 20
            while not ended and time.monotonic() < deadline:
                time.sleep(0.02)
        assert ended[0] == 1
    assert "Traceback" not in capsys.readouterr().err


def refuse(_: str) -> None:
    raise OSError("the disk is full")


def test_workers_meet_as_often_as_their_steps_take(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(workers.time, "perf_counter", lambda: clock[0])
    team = workers.Team(tf.distribute.get_strategy(), 1.0)
    monkeypatch.setattr(team, "count", 2)
    monkeypatch.setattr(team, "sum", lambda values: 2 * np.asarray(values))
    team.begin(40)  # a run that goes on
    clock[0] = 1.0
    assert not team.any(False, 41)
    clock[0] = 1.001
    assert not team.any(False, 41)  # at the end of an epoch they ask twice
    assert team.meets(42, 0.0)
    clock[0] = 1.003  # steps of two milliseconds
    team.any(False, 42)
    assert not team.meets(43, 0.0)
    assert team.meets(142, 0.0)


def test_what_was_in_the_folder_stays_when_a_new_run_is_taken_away(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    folder = RunFolder.create(tmp_path / "mine", "a: 1", [])
    (folder.path / "worker-0.log").write_text("...")
    launching._undo(folder, {"thesis.txt"})
    assert [path.name for path in folder.path.iterdir()] == ["thesis.txt"]
    folder = RunFolder.create(tmp_path / "new", "a: 1", [])
    folder.write_status(State.running)
    launching._undo(folder, None)
    assert folder.path.exists()  # it has been trained
    folder.write_status(State.pending)
    launching._undo(folder, None)
    assert not folder.path.exists()


@pytest.mark.parametrize(
    ("cause", "who"),
    [
        (
            "Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat",
            "worker 0",
        ),  # the chief runs it
        ("/job:worker/replica:0/task:2 unreachable", "worker 2"),
        ("something else", "another worker"),
    ],
)
def test_the_worker_that_is_gone_is_named(cause, who) -> None:
    error = tf.errors.DeadlineExceededError(None, None, f"Collective ops is aborted by: {cause}")
    found = workers.explain_error(error, SimpleNamespace(index=1, count=3))
    assert str(found) == f"{who} is gone or does not answer"
    assert workers.explain_error(error, SimpleNamespace(index=0, count=1)) is None


# -------------------------------------------------------------------------------------------------- campaigns


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[dict]]:
    """What one device and each of two workers say, with everything on that could depend on workers."""
    folder = tmp_path_factory.mktemp("workers")
    script, steps, one = Path(__file__).with_name("equal_runs.py"), "50", "strategy.name=one_device"
    command = [sys.executable, str(script), str(folder), steps]
    done = subprocess.run([*command, one], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    alone = json.loads((folder / "answer-0.json").read_text())
    (folder / "0").rename(folder / "alone")
    addresses = _free_addresses(2)
    children = [
        subprocess.Popen(
            [*command, "strategy.name=multi_worker", "strategy.name=multi_worker,training.accumulate=2"],
            env=environment(
                TF_CONFIG=json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                )
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        printed = [child.communicate(timeout=900)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0], "\n".join(printed)[-3000:]
    return alone, [json.loads((folder / f"answer-{index}.json").read_text()) for index in range(2)]


@pytest.mark.slow
def test_everything_on_two_workers_is_one_result(campaign) -> None:
    alone, answers = campaign
    (one,) = alone["runs"].values()
    assert np.mean(one["losses"][-5:]) < one["losses"][0] / 2
    for answer in answers:
        for case, run in answer["runs"].items():
            assert run["replicas"] == 2
            print(f"{case}: {np.max(np.abs(np.array(run['losses']) / one['losses'] - 1)):.1e}")
            np.testing.assert_allclose(run["losses"], one["losses"], rtol=1e-9)
            np.testing.assert_allclose(run["validation"], one["validation"], rtol=1e-9)


@pytest.mark.slow
def test_workers_share_every_batch_without_repetition(campaign) -> None:
    alone, answers = campaign
    (one,) = alone["runs"].values()
    for case in answers[0]["runs"]:
        first, second = (answer["runs"][case]["ids"] for answer in answers)
        for step, ((ids,), (others,)) in enumerate(zip(first, second, strict=True)):
            assert ids + others == one["ids"][step][0]
    epoch = [index for (ids,) in one["ids"][: alone["steps_per_epoch"]] for index in ids]
    assert len(epoch) == len(set(epoch)) == 32 * alone["steps_per_epoch"]


@pytest.mark.slow
def test_a_step_in_float32_on_two_workers(campaign) -> None:
    alone, answers = campaign
    (states,) = alone["gradients"].values()
    for answer in answers:
        for case, others in answer["gradients"].items():
            found = differences(states, others)
            print(table(case, found))
            assert max(found.values()) <= 1e-5


# ---------------------------------------------------------------------------------------- when one of them ends


class Launched:
    """`alexnet train` with two workers that would go on for long, come to its first epochs."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.child = subprocess.Popen(
            [sys.executable, "-m", "alexnet_tf", "train", *LAUNCH, *VALUES, "training.epochs=4000",
             "training.evaluate_every=0", "run_dir=run"],
            cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for line in self.child.stdout:
            if line.startswith("[worker 0] epoch 2/4000"):
                break
        self.started = time.monotonic()

    def workers(self) -> list[int]:
        """Their process ids, in the order in which they were started."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.child.pid)], capture_output=True, text=True, check=True
        )
        return sorted(map(int, listed.stdout.split()))

    def end(self, bound: float) -> str:
        """Wait; what it said on standard error."""
        since = time.monotonic()
        try:
            _, errors = self.child.communicate(timeout=120)
        finally:
            self.child.kill()
        print(f"ended after {time.monotonic() - since:.1f} s")
        assert time.monotonic() - since < bound
        assert "Traceback" not in errors
        return errors.splitlines()[-1]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def assert_goes_on_as_one_device(run: RunFolder, resume: Callable[..., Run], folder: Path) -> None:
    """What the workers saved one device takes up, and ends as a run that nothing happened to."""
    steps = checkpoint.load(run.checkpoints()[-1]).state["counters"]["step"] + 5
    done = resume(run.path, f"training.steps={steps}", *ALONE)
    assert (done.status()["state"], done.status()["step"]) == ("finished", steps)
    values = [*VALUES, "training.evaluate_every=0", f"training.steps={steps}", *ALONE]
    whole = train(compose([*values, f"run_dir={folder / 'whole'}"]))
    pd.testing.assert_frame_equal(metrics(done.path), metrics(whole.path), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_worker_ends_all_and_the_run_resumes(tmp_path, resume, index) -> None:
    launched = Launched(tmp_path)
    pids = launched.workers()
    os.kill(pids[index], signal.SIGKILL)
    said = launched.end(FAILED_SECONDS + BOUND)
    assert launched.child.returncode == 1
    assert (
        said
        == f"alexnet: worker {index} was killed by SIGKILL (out of memory?); go on with: alexnet train resume=run"
    )
    assert not alive(pids)
    run = RunFolder.open(launched.run)
    assert run.status()["state"] == "failed"
    assert run.status()["reason"].startswith(f"worker {index} was killed by SIGKILL")
    assert_goes_on_as_one_device(run, resume, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_frozen_worker_ends_all_and_the_run_resumes(tmp_path, resume, index) -> None:
    launched = Launched(tmp_path)
    pids = launched.workers()
    os.kill(pids[index], signal.SIGSTOP)
    said = launched.end(60.0)
    assert launched.child.returncode == 1
    assert said == (
        f"alexnet: worker {1 - index}: worker {index} is gone or does not answer; "
        f"go on with: alexnet train resume=run"
    )
    assert not alive(pids)
    run = RunFolder.open(launched.run)
    assert (run.status()["state"], run.status()["reason"]) == (
        "failed",
        f"worker {1 - index}: worker {index} is gone or does not answer",
    )
    assert_goes_on_as_one_device(run, resume, tmp_path)


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_all_and_keeps_the_last_good_checkpoint(
    tmp_path, alexnet, resume
) -> None:
    rise = ("optimizer=code2012", "schedule=code2012", "~schedule.phases.fourth", "training.precision=float32",
            "schedule.phases.second.epoch=3", "schedule.phases.second.rates.rest=1e30")  # fmt: skip
    done = alexnet("train", *LAUNCH, *VALUES, *rise, "training.epochs=4", "run_dir=run", timeout=900)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr + done.stdout
    assert re.fullmatch(
        r"alexnet: worker [01]: the loss became (nan|inf) in epoch 3 by step \d+; the layer is unknown, as workers do "
        r"not repeat their steps; one process does, with strategy\.name=one_device strategy\.local_workers=null: "
        r"try a smaller optimizer\.lr .*; the last good checkpoint is run/checkpoints/step-000000010\.npz; "
        r"go on with: alexnet train resume=run",
        said,
    )
    run = RunFolder.open(tmp_path / "run")
    assert run.status()["state"] == "failed"
    assert run.status()["reason"] in said
    assert run.checkpoints()[-1].name == "step-000000010.npz"
    assert checkpoint.load(run.checkpoints()[-1]).state["counters"]["step"] == 10
    with pytest.raises(DivergedError, match=r"first not finite: .* in step 1\d \(batch \d of epoch 3\)"):
        resume(run.path, *ALONE)
    assert resume(run.path, "schedule.phases.second.rates.rest=0.001", *ALONE).status()["state"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_stops_all_after_the_same_step(tmp_path, alexnet, kind) -> None:
    launched = Launched(tmp_path)
    pids = launched.workers()
    launched.child.send_signal(kind)
    said = launched.end(60.0)
    assert launched.child.returncode == 75
    status = RunFolder.open(launched.run).status()
    assert status["state"] == "stopped"
    assert status["reason"] == f"{kind.name} at step {status['step']}"
    assert said == f"alexnet: stopped at step {status['step']}; go on with: alexnet train resume=run"
    assert not alive(pids)
    done = alexnet("train", "resume=run", f"training.steps={status['step'] + 7}")
    assert done.returncode == 0, done.stderr
    assert RunFolder.open(launched.run).status()["step"] == status["step"] + 7
    whole = alexnet("train", *VALUES, "training.epochs=4000", "training.evaluate_every=0",
                    f"training.steps={status['step'] + 7}", "strategy=one_device", "run_dir=whole")  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    pd.testing.assert_frame_equal(
        metrics(launched.run).iloc[-1:],
        metrics(tmp_path / "whole").iloc[-1:],
        rtol=1e-6,
        check_index_type=False,
    )


@pytest.mark.slow
def test_workers_whose_parent_is_killed_save_and_stop(tmp_path) -> None:
    launched = Launched(tmp_path)
    pids = launched.workers()
    launched.child.kill()
    launched.child.communicate()
    deadline = time.monotonic() + 60
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(pids)
    status = RunFolder.open(launched.run).status()
    assert (status["state"], status["reason"]) == ("stopped", f"SIGTERM at step {status['step']}")


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_wrong_use_that_only_workers_find_leaves_nothing(tmp_path, alexnet, there) -> None:
    if there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.txt").write_text("x")
    done = alexnet("train", *LAUNCH, *VALUES, "data.train_examples=40", "run_dir=run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "alexnet: training.batch_size must be 1 to 40, the training examples of digits. Received 64."
    )
    assert [path.name for path in tmp_path.glob("run/*")] == ["thesis.txt"] * there
    assert (tmp_path / "run").exists() is there


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "status", "line"),
    [
        (
            ["seed=1", "seed=2"],
            1,
            "alexnet: worker 1 has other data or another config than worker 0. Expected",
        ),
        (["seed=1", "seed=1"], 2, "alexnet: run_dir=run: there is a run already"),
    ],
    ids=["differ", "no folder"],
)
def test_workers_that_cannot_begin_all_say_why(tmp_path, own, status, line) -> None:
    if status == 2:
        RunFolder.create(tmp_path / "run", "a: 1", [])
    addresses = _free_addresses(2)
    children = []
    for index, value in enumerate(own):
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [
            sys.executable,
            "-m",
            "alexnet_tf",
            "train",
            "strategy=multi_worker",
            *VALUES,
            value,
            "run_dir=run",
        ]
        child = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(**{CLUSTER: json.dumps(place)}),
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
    for child in children:
        _, errors = child.communicate(timeout=300)
        assert child.returncode == status, errors
        assert errors.splitlines()[-1].startswith(line)
        assert "Traceback" not in errors
