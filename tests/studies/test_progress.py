"""`alexnet sweep status`: every state a job can be in, from folders made by hand."""

import fcntl
import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from alexnet_tf import runs
from alexnet_tf.runs import Job, RunFolder, State, SweepFolder
from alexnet_tf.studies import read_standings
from alexnet_tf.studies.progress import duration


def moment(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat(timespec="seconds")


@pytest.fixture
def sweep(tmp_path):
    """One job in each state; what is running is locked by this process, as a training does."""
    names = ["finished", "running", "waiting", "stopped", "failed", "dead", "elsewhere", "silent", "damaged"]
    folder = SweepFolder(
        tmp_path / "sweep", None, [Job(name=name, arm=name, seed=n) for n, name in enumerate(names)]
    )
    folder.save()
    made = {
        job.name: RunFolder.create(folder.run(job).path, "{}", []) for job in folder.jobs if job.seed != 2
    }
    made["finished"].write_status(State.finished, step=60, steps=100, reason="[early] enough")
    made["stopped"].write_status(State.stopped, step=50, steps=100, reason="SIGTERM at step 50")
    made["failed"].write_status(State.failed, step=1, steps=100, reason="the loss became nan")
    (made["failed"].path / runs.LOG).write_text("epoch 1\n")
    for name in ("running", "dead", "elsewhere", "silent"):
        made[name].write_status(State.running, step=30, steps=100, since=moment(40), since_step=10)
    for name, seconds in (("elsewhere", 20), ("silent", 20_000)):
        status = {**made[name].status(), "host": "another.machine", "updated": moment(seconds)}
        runs.write_json(made[name].path / runs.STATUS, status)
    (made["damaged"].path / runs.STATUS).write_text("{")
    handle = os.open(made["running"].path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield folder
    os.close(handle)


def test_every_state_is_told_from_the_others(sweep):
    found = {item.name: item for item in read_standings(sweep)}
    assert {name: item.state for name, item in found.items()} == {
        "finished": "finished",
        "running": "running",
        "waiting": "pending",
        "stopped": "stopped",
        "failed": "failed",
        "dead": "dead",
        "elsewhere": "running",
        "silent": "dead",
        "damaged": "unreadable",
    }
    assert found["running"].fraction == 0.3
    assert found["finished"].fraction == 1.0
    assert found["waiting"].steps is None
    assert found["elsewhere"].seconds_left == pytest.approx(70, abs=4)  # 20 steps in 20 s, 70 are left
    assert found["dead"].seconds_left is None


@pytest.mark.usefixtures("sweep")
def test_the_table_in_a_pipe(alexnet):
    result = alexnet("sweep", "status", "sweep", "--watch", env={"COLUMNS": "120"})
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    counts = "1 finished, 2 running, 1 pending, 1 stopped, 1 failed, 2 dead, 1 unreadable"
    assert lines[0] == f"sweep: 9 jobs: {counts}"
    rows = {line.split()[0]: line for line in lines[2:]}
    assert "[early] enough" in rows["finished"]
    assert "100 %" in rows["finished"]
    assert "30 %" in rows["running"]
    assert "the loss became nan (failed/log.txt)" in rows["failed"]
    assert "its process is gone" in rows["dead"]
    assert "go on with" not in result.stdout  # somebody works on it
    assert result.stderr == ""


@pytest.mark.usefixtures("sweep")
def test_data_for_programs(alexnet_here):
    result = alexnet_here("sweep", "status", "sweep", "--json")
    content = json.loads(result.stdout)
    assert content["active"] is True
    assert content["counts"]["running"] == 2
    failed = content["jobs"][4]
    assert (failed["name"], failed["state"], failed["reason"]) == ("failed", "failed", "the loss became nan")
    assert failed["log"] == "sweep/failed/log.txt"


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize("verb", ["status", "resume"])
def test_what_is_no_sweep_is_one_line(alexnet_here, tmp_path, verb):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / runs.MANIFEST).write_text("jobs: [")
    for path, message, code in (
        ("nowhere", "alexnet: nowhere: no such folder", 2),
        (
            "sweep/failed",
            "alexnet: sweep/failed: not a sweep folder (it has no sweep.yaml; it is a run of sweep)",
            2,
        ),
        ("broken", "alexnet: broken/sweep.yaml: cannot be read (", 1),
    ):
        result = alexnet_here("sweep", verb, path)
        assert result.returncode == code, result.stderr
        assert result.stderr.startswith(message)
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


@pytest.mark.usefixtures("sweep")
def test_a_sweep_that_does_not_say_its_command_cannot_go_on(alexnet_here):
    result = alexnet_here("sweep", "resume", "sweep")
    assert result.returncode == 1
    assert "sweep/sweep.yaml: does not say how the sweep was started" in result.stderr


def test_a_thousand_jobs_are_read_at_once(tmp_path):
    jobs = [Job(name=f"job{n}", arm="a", seed=n, overrides=("model=alexnet",) * 8) for n in range(1000)]
    sweep = SweepFolder(tmp_path, None, jobs)
    sweep.save()
    for job in jobs:
        sweep.run(job).path.mkdir()
        (sweep.run(job).path / runs.STATUS).write_text('{"state": "running", "step": 1, "steps": 2}')
    started = time.process_time()
    found = read_standings(SweepFolder.open(tmp_path))
    assert time.process_time() - started < 3
    assert {item.state for item in found} == {"dead"}


def test_durations_are_short():
    assert [duration(value) for value in (0.4, 89, 90, 5399, 9000)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "2.5 h",
    ]
