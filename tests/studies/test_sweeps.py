"""Whole sweeps through the command: jobs in processes of their own, failures, going on, tuning, the report."""

import pytest

from alexnet_tf.runs import SweepFolder

TINY = ["model=digits_quick", "optimizer=sgd", "training.batch_size=32", "data.train_examples=64"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory, alexnet_in):
    """A grid of two jobs, of which the second one's loss becomes infinite; then the same command again."""
    folder = tmp_path_factory.mktemp("a grid")
    command = [
        "train",
        "-m",
        *TINY,
        "model.activation=leaky_relu",
        "training.epochs=2",
        "optimizer.lr=0.01,1e20",
        "run_dir='my sweep, 1'",
    ]
    first = alexnet_in(*command, cwd=folder)
    finished = next(folder.glob("my sweep, 1/lr=0.01-*/model.keras"))
    stamp = finished.stat().st_mtime_ns
    second = alexnet_in(*command, cwd=folder)
    return folder / "my sweep, 1", first, second, stamp == finished.stat().st_mtime_ns


def test_a_failed_job_is_recorded_and_the_others_go_on(grid):
    path, first, _, _ = grid
    assert first.returncode == 1
    sweep = SweepFolder.open(path)
    states = {job.overrides[-1]: sweep.run(job).status() for job in sweep.jobs}
    assert states["optimizer.lr=0.01"]["state"] == "finished"
    assert states["optimizer.lr=1e+20"]["state"] == "failed"
    assert "the loss became" in states["optimizer.lr=1e+20"]["reason"]
    assert "Traceback" not in first.stdout + first.stderr


def test_the_report_is_made_all_the_same(grid):
    path, first, _, _ = grid
    assert (path / "report.html").exists()
    assert "the loss became" in first.stdout.replace("\n", " ")


def test_what_has_finished_is_not_repeated(grid):
    path, _, second, untouched = grid
    assert second.returncode == 1
    assert untouched
    assert len(SweepFolder.open(path).jobs) == 2


def test_a_study_tunes_compares_and_reports(tmp_path, alexnet):
    result = alexnet(
        "train",
        "experiment=relu_vs_tanh",
        *TINY[2:],
        "training.epochs=3",
        "study.seeds=[0]",
        "~study.arms.relu_2012",
        "~study.arms.tanh_2012",
        "~study.comparisons.init_2012",
        "+study.tune.values.relu_glorot=[0.0001,0.1]",
        "run_dir=study",
    )
    assert result.returncode == 0, result.stderr
    sweep = SweepFolder.open(tmp_path / "study")
    assert [(job.phase, job.arm) for job in sweep.jobs] == [
        ("tune", "relu_glorot"),
        ("tune", "relu_glorot"),
        ("train", "relu_glorot"),
        ("train", "tanh_glorot"),
    ]
    assert "relu_glorot: optimizer.lr=0.1 chosen" in result.stdout
    chosen = sweep.run(sweep.jobs[2]).config_dict()
    assert chosen["optimizer"]["lr"] == 0.1
    assert "no verdict below 5" in result.stdout.replace("\n", " ")
    assert "init_glorot" in (tmp_path / "study" / "report.html").read_text()


def test_a_study_refuses_a_sweep_beside_it(alexnet, tmp_path):
    result = alexnet("train", "experiment=relu_vs_tanh", "seed=0,1")
    assert result.returncode == 2
    assert "seed=0,1: a study's arms and seeds are study.arms and study.seeds" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrong_arm_stops_the_study_before_its_first_job(alexnet, tmp_path):
    result = alexnet("train", "experiment=relu_vs_tanh", "+study.arms.wrong=['model.activation=rel']")
    assert result.returncode == 2
    assert "model.activation=rel: Expected one of" in result.stderr
    assert not list(tmp_path.iterdir())
