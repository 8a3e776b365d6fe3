"""`alexnet sweep export`: one table of everything, from runs made by hand."""

import math
import os

import pandas as pd
import pytest

from alexnet_tf import runs
from alexnet_tf.config import ConfigError
from alexnet_tf.runs import Job, RunError, RunFolder, State, SweepFolder, Table
from alexnet_tf.studies import export_sweep, tidy_table

LOSS = 0.1 + 0.2  # no short decimal
PLACE = {"epoch": 1, "step": 10}


def make_run(folder: RunFolder, config: str, state: State, rows: bool = True) -> None:
    RunFolder.create(folder.path, config, [])
    folder.write_status(state, step=10, steps=10)
    if not rows:
        return
    metrics = Table(folder.path / runs.METRICS, runs.METRICS_COLUMNS)
    timing = Table(folder.path / runs.TIMING, runs.TIMING_COLUMNS)
    for split, error in (("train", 0.25), ("validation", 0.5)):
        values = {"loss": LOSS, "top1_error": error, "top5_error": None, "lr": 0.1, "examples": 64}
        metrics.append(**PLACE, split=split, **values)
        timing.append(**PLACE, split=split, seconds=1.5, images_per_second=100.0)
    metrics.save()
    timing.save()


@pytest.fixture
def sweep(tmp_path):
    names = ["null_lrn", "lrn", "failed", "waiting"]
    jobs = [Job(name=name, arm=f"arm, {name}", seed=n) for n, name in enumerate(names)]
    folder = SweepFolder(tmp_path / "sweep", None, jobs)
    folder.save()
    config = (
        "seed: {}\nrun_dir: x{}\noptimizer: {{lr: {}, name: sgd}}\nmodel: {{lrn: {}, deep: {{list: {}}}}}\n"
    )
    make_run(folder.run(jobs[0]), config.format(0, 0, 0.1, "null", [1]), State.finished)
    make_run(folder.run(jobs[1]), config.format(1, 1, 0.1, "{size: 5}", [1, 2]), State.finished)
    make_run(folder.run(jobs[2]), config.format(2, 2, 3, "null", [1]), State.failed, rows=False)
    return folder


def test_a_row_for_each_job_step_and_split(sweep):
    table = tidy_table(sweep)
    assert table["job"].tolist() == ["null_lrn"] * 2 + ["lrn"] * 2 + ["failed", "waiting"]
    assert table["state"].tolist() == ["finished"] * 4 + ["failed", "pending"]
    assert table["seed"].tolist() == [0, 0, 1, 1, 2, 3]
    differing = [name for name in table.columns if "." in name]
    assert differing == ["optimizer.lr", "model.deep.list", "model.lrn.size"]
    assert table["optimizer.lr"].tolist()[:5] == [0.1, 0.1, 0.1, 0.1, 3]
    assert math.isnan(table["optimizer.lr"][5])  # it has no config yet
    assert table["model.deep.list"].tolist()[:3] == ["[1]", "[1]", "[1, 2]"]
    assert table["split"].tolist()[:4] == ["train", "validation"] * 2
    assert table["split"].isna().tolist()[4:] == [True, True]
    first = table.iloc[0]
    assert (first["step"], first["loss"], first["seconds"]) == (10, LOSS, 1.5)


@pytest.mark.parametrize("name", [None, "table.csv", "table.parquet"])
def test_what_is_written_reads_back(sweep, tmp_path, name):
    if name == "table.parquet":
        pytest.importorskip("pyarrow")
    file = export_sweep(sweep.path, None if name is None else tmp_path / name)
    assert file == (sweep.path / "runs.csv" if name is None else tmp_path / name)
    back = pd.read_parquet(file) if name == "table.parquet" else pd.read_csv(file)
    table = tidy_table(sweep)
    pd.testing.assert_frame_equal(back, table, check_dtype=False, check_exact=True)
    assert back["loss"][0] == LOSS
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_damage_is_a_state_and_no_end(sweep):
    (sweep.path / "lrn" / runs.METRICS).write_text("a,b\n1,2\n")
    (sweep.path / "failed" / runs.CONFIG).write_text("a: [")
    table = tidy_table(sweep)
    assert dict(zip(table["job"], table["state"], strict=True))["lrn"] == "unreadable"
    assert len(table) == 5


def test_what_cannot_be_written_is_one_line(sweep, tmp_path, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"--out .*table\.xlsx: expected a name that ends in \.csv or \.parquet"
    ):
        export_sweep(sweep.path, tmp_path / "table.xlsx")
    with pytest.raises(
        RunError, match=r"nowhere/table\.csv: cannot be written \(No such file or directory\)"
    ):
        export_sweep(sweep.path, tmp_path / "nowhere" / "table.csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs the package pyarrow; install alexnet_tf\[sweep\]"):
        export_sweep(sweep.path, tmp_path / "table.parquet")
    SweepFolder(tmp_path / "empty").save()
    with pytest.raises(RunError, match="the sweep has no jobs"):
        export_sweep(tmp_path / "empty")
