import errno
import fcntl
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from alexnet_tf import runs
from alexnet_tf.runs import Job, RunError, RunFolder, State, SweepFolder, Table, WrongPathError

CONFIG = "seed: 1\nmodel: {name: tiny}\n"


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", CONFIG, ["seed=1", "model.lrn=null"])


# ------------------------------------------------------------------------------------------------- writing


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "status.json"
    runs.write_text(path, "old")

    def half(stream):
        stream.write(b"new, but ha")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        runs.write_atomic(path, half)
    assert path.read_text() == "old"
    with pytest.raises(RuntimeError, match="full"):
        runs.write_atomic(tmp_path / "other", half)
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path, texts = tmp_path / "file", [letter * 100_000 for letter in "ab"]
    runs.write_text(path, texts[0])
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        runs.write_text(path, texts[number % 2])
    done.set()
    reader.join()
    assert seen <= set(texts)


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "ordinary").write_text("")
    runs.write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_new_folders_do_not_collide(tmp_path):
    first = runs.new_folder(tmp_path, "digits")
    first.mkdir()
    second = runs.new_folder(tmp_path, "digits")
    assert first != second
    assert not second.exists()
    assert first.name.endswith("_digits")


# --------------------------------------------------------------------------------------------------- tables


def test_a_table_gives_back_the_numbers_that_it_was_given(tmp_path):
    values = [0.1, 1 / 3, 1e-300, 2**53 + 1.0, float(np.float32(0.1)), 1.0, 3e-5, 123456.789012345]
    table = Table(tmp_path / "t.csv", ("step", "loss", "note"))
    for step, value in enumerate(values):
        table.append(step=step, loss=value, note=None)
    table.save()
    assert (tmp_path / "t.csv").read_text().startswith("step,loss,note\n0,0.1,\n")
    again = Table(tmp_path / "t.csv", ("step", "loss", "note"))
    assert [float(row["loss"]) for row in again.rows] == values
    assert {row["note"] for row in again.rows} == {""}
    again.append(step=99, loss=0.5, note="x")
    again.save()
    assert Table(tmp_path / "t.csv", ("step", "loss", "note")).rows[-1] == {
        "step": "99",
        "loss": "0.5",
        "note": "x",
    }


def test_a_table_goes_on_from_rows_that_were_kept_elsewhere_whatever_the_file_holds(tmp_path):
    table = Table(tmp_path / "t.csv", ("step", "split"))
    for step in (0, 10):
        table.append(step=step, split=None)
    table.save()
    text, kept = table.path.read_text(), json.loads(json.dumps(table.content()))
    table.path.write_bytes(b"\xff damaged")
    again = Table(tmp_path / "t.csv", ("step", "split"), rows=table.parse(kept))
    again.save()
    assert again.path.read_text() == text
    Table(tmp_path / "t.csv", ("step", "split"), rows=[]).save()
    assert again.path.read_text() == "step,split\n"


def test_a_table_refuses_other_columns_and_incomplete_rows(tmp_path):
    (tmp_path / "t.csv").write_text("step,accuracy\n1,0.5\n")
    with pytest.raises(
        RunError, match=r"t\.csv: expected the columns step,loss, found \['step', 'accuracy'\]"
    ):
        Table(tmp_path / "t.csv", ("step", "loss"))
    with pytest.raises(KeyError):
        Table(tmp_path / "new.csv", ("step", "loss")).append(step=1)


def test_pandas_reads_the_metrics(run):
    with pytest.raises(RunError, match="there is none yet; the run has not finished its first epoch"):
        run.metrics()
    table = Table(run.path / runs.METRICS, runs.METRICS_COLUMNS)
    row = {
        "epoch": 1,
        "step": 22,
        "split": "train",
        "loss": 1 / 3,
        "top1_error": 0.25,
        "lr": 0.01,
        "examples": 1408,
    }
    table.append(**row, top5_error=None)
    table.save()
    frame = run.metrics()
    assert tuple(frame.columns) == runs.METRICS_COLUMNS
    assert {name: frame[name][0] for name in row} == row
    assert frame["top5_error"].isna().all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"step,loss\n1,0.5\n2\n", r"t\.csv, line 3: expected 2 fields, found 1$"),
        (b"step,loss\n1,0.5,7\n", r"t\.csv, line 2: expected 2 fields, found 3$"),
        (b"step,loss\n1,\xff\n", r"t\.csv: cannot be read \(.*utf-8"),
        (b"", r"t\.csv: expected the columns step,loss, found None$"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        Table(tmp_path / "t.csv", ("step", "loss"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,22,train,0.5,0.1,,0.01,x", r"metrics\.csv: expected numbers \("),
        ("1,22,,0.5,0.1,,0.01,9", r"metrics\.csv: expected an epoch, a step and a split in every row"),
        ("1,22,train,0.5", r"metrics\.csv, line 2: expected 8 fields, found 4"),
    ],
)
def test_damaged_metrics_are_one_line(run, row, message):
    (run.path / runs.METRICS).write_text(f"{','.join(runs.METRICS_COLUMNS)}\n{row}\n")
    with pytest.raises(RunError, match=message) as caught:
        run.metrics()
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------------------------------------- run folder


def test_a_run_holds_its_config_and_what_was_typed(run):
    again = RunFolder.open(str(run.path))
    assert again == run
    assert again.config_dict() == {"seed": 1, "model": {"name": "tiny"}}
    assert again.overrides() == ["seed=1", "model.lrn=null"]
    assert again.name == "run"
    assert again.checkpoints() == []


def test_a_folder_that_holds_a_run_is_not_used_again(run):
    with pytest.raises(
        WrongPathError, match=f"run_dir={run.path}: there is a run already.*resume={run.path}"
    ) as caught:
        RunFolder.create(run.path, "seed: 2\n", [])
    assert caught.value.exit_status == 2
    assert run.config_dict()["seed"] == 1


def test_a_folder_that_holds_something_else_is_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path, CONFIG, [])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_open_says_what_is_wrong(tmp_path):
    with pytest.raises(WrongPathError, match=r"nowhere: no such folder\. Expected a run folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(WrongPathError, match=r"not a run folder \(it has no config\.yaml\)$"):
        RunFolder.open(tmp_path)
    SweepFolder(tmp_path / "sweep").save()
    with pytest.raises(WrongPathError, match="it is a sweep, whose runs are"):
        RunFolder.open(tmp_path / "sweep")


@pytest.mark.parametrize("name", ["a_file/run", "a_file"])
def test_a_folder_that_cannot_be_made(tmp_path, name):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(RunError, match=f"run_dir={tmp_path / name}: cannot be written") as caught:
        RunFolder.create(tmp_path / name, CONFIG, [])
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match="cannot be written"):
        SweepFolder(tmp_path / name).save()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written \\(Permission denied\\)"):
        RunFolder.create(tmp_path / "run", CONFIG, [])


def test_a_file_system_that_locks_only_what_is_open_for_writing(tmp_path, monkeypatch):
    """As NFS does."""
    flock = runs.fcntl.flock

    def strict(handle, kind):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(handle, kind)

    monkeypatch.setattr(runs.fcntl, "flock", strict)
    with runs.locked(tmp_path, "busy"):
        assert runs.is_locked(tmp_path)
        with pytest.raises(WrongPathError, match="busy"), runs.locked(tmp_path, "busy", wait=0):
            pass
    assert not runs.is_locked(tmp_path)


def test_status_keeps_what_it_is_not_told(run):
    assert run.status() == {"state": "pending"}
    run.write_status(State.running, step=10, steps=100)
    run.write_status(State.failed, reason="the loss became nan")
    status = run.status()
    assert (status["state"], status["step"], status["steps"]) == ("failed", 10, 100)
    assert status["reason"] == "the loss became nan"
    run.write_status(State.running, step=11)
    status = run.status()
    assert "reason" not in status  # it belongs to the state that it explained
    assert (status["state"], status["step"], status["steps"]) == ("running", 11, 100)
    assert status["updated"].endswith("+00:00")


def test_remains_of_a_killed_process_are_removed(run):
    folder = run.path / "checkpoints"
    folder.mkdir()
    for path in (
        run.path / ".status.json.x.tmp",
        run.path / ".model.tmp.keras",
        folder / ".step-000000300.npz.x.tmp",
    ):
        path.write_bytes(b"half")
    (run.path / ".export.tmp").mkdir()
    run.remove_remains()
    assert [path.name for path in run.path.glob(".*")] == [".export.tmp"]
    assert not list(folder.iterdir())
    assert run.config_dict()["seed"] == 1


def test_checkpoints_are_in_the_order_of_their_steps(run):
    folder = run.path / "checkpoints"
    folder.mkdir()
    for name in ("step-000000100.npz", "step-000000020.npz", "best.npz", ".step-000000300.npz.x.tmp"):
        (folder / name).write_bytes(b"")
    assert [path.name for path in run.checkpoints()] == ["step-000000020.npz", "step-000000100.npz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "expected a mapping, found list"),
        ("", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_damaged_json_is_one_line(run, content, message):
    if content is not None:
        (run.path / runs.ENVIRONMENT).write_text(content)
    with pytest.raises(RunError, match=rf"environment\.json: {message}") as caught:
        run.environment()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "cannot be read"), ("- 1", "expected a mapping, found list")]
)
def test_damaged_yaml_is_one_line(run, content, message):
    (run.path / runs.CONFIG).write_text(content)
    with pytest.raises(RunError, match=rf"config\.yaml: {message}") as caught:
        run.config_dict()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot be read"),
        ("a: 1", "expected a list, found dict"),
        ("", "expected a list, found NoneType"),
    ],
)
def test_damaged_overrides_are_one_line(run, content, message):
    (run.path / runs.OVERRIDES).write_text(content)
    with pytest.raises(RunError, match=rf"overrides\.yaml: {message}") as caught:
        run.overrides()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "found"), [("{}", "None"), ('{"state": "tired"}', "'tired'")])
def test_a_status_without_a_known_state(run, content, found):
    (run.path / runs.STATUS).write_text(content)
    states = "pending, running, finished, stopped, failed"
    with pytest.raises(RunError, match=rf"status\.json: expected a state of {states}, found {found}$"):
        run.status()


DATASET = {
    "name": "x",
    "class_names": ["a"],
    "image_shape": None,
    "channels": 1,
    "splits": {},
    "fingerprint": "f",
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected the keys name, class_names, .*; name, class_names, .*, fingerprint missing$"),
        ({**DATASET, "class_names": 3}, "expected a list of strings as class_names, found 3$"),
        ({**DATASET, "class_names": [1]}, r"expected a list of strings as class_names, found \[1\]$"),
    ],
)
def test_a_damaged_dataset_is_one_line(run, content, message):
    runs.write_json(run.path / runs.DATASET, DATASET)
    assert run.dataset() == DATASET
    runs.write_json(run.path / runs.DATASET, content)
    with pytest.raises(RunError, match=rf"dataset\.json: {message}"):
        run.dataset()


# --------------------------------------------------------------------------------------------- sweep folder


def test_a_sweep_comes_back(tmp_path):
    jobs = [
        Job(name="relu-seed0-abc", arm="relu", seed=0, overrides=("model.activation=relu", "seed=0")),
        Job(name="tune-tanh-seed100-def", arm="tanh", seed=100, phase="tune"),
    ]
    sweep = SweepFolder(tmp_path / "sweep", {"name": "race", "seeds": [0], "arms": {"relu": []}}, jobs)
    sweep.save()
    again = SweepFolder.open(tmp_path / "sweep")
    assert again == sweep
    assert again.run(jobs[0]).path == tmp_path / "sweep" / "relu-seed0-abc"
    assert again.run(jobs[0]).status() == {"state": "pending"}


def test_a_sweep_without_a_study(tmp_path):
    SweepFolder(tmp_path / "sweep").save()
    assert SweepFolder.open(tmp_path / "sweep") == SweepFolder(tmp_path / "sweep", None, [])


def test_what_is_no_sweep(tmp_path):
    with pytest.raises(WrongPathError, match=r"not a sweep folder \(it has no sweep\.yaml\)"):
        SweepFolder.open(tmp_path)
    for content in (
        {},
        {"jobs": [{"name": "a"}]},
        {"jobs": [{"overrides": [], "colour": "red"}]},
        {"jobs": 3},
    ):
        (tmp_path / runs.MANIFEST).write_text(yaml.safe_dump({"study": None, **content}))
        with pytest.raises(RunError, match=r"sweep\.yaml: damaged"):
            SweepFolder.open(tmp_path)


def test_json_is_readable_by_others(run):
    runs.write_json(run.path / "x.json", {"state": State.stopped, "path": "ü"})
    assert json.loads(Path(run.path / "x.json").read_bytes()) == {"state": "stopped", "path": "ü"}
