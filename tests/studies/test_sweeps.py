"""Whole sweeps through the command: jobs in processes of their own, failures, going on, tuning, the report."""

from pathlib import Path

import pytest

from alexnet_tf.config import compose
from alexnet_tf.runs import Job, RunFolder, SweepFolder, WrongPathError
from alexnet_tf.studies import resume_command
from alexnet_tf.studies.sweep import make_job, superseded

TINY = ["model=digits_quick", "optimizer=sgd", "training.batch_size=32", "data.train_examples=64"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory, alexnet_in):
    """A grid of two jobs, of which the second one's loss becomes infinite; then a third is added."""
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
    more = ["optimizer.lr=0.01,1e20,0.02", "--skip-failed"]
    second = alexnet_in("sweep", "resume", "my sweep, 1", *more, cwd=folder)
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


def test_only_what_is_added_runs(grid):
    path, _, second, untouched = grid
    assert second.returncode == 1  # one has still failed
    assert untouched
    assert "1 of 3 jobs are left to run" in second.stdout
    sweep = SweepFolder.open(path)
    assert [sweep.run(job).status()["state"] for job in sweep.jobs] == ["finished", "failed", "finished"]
    assert [job.overrides[-1] for job in sweep.jobs][2] == "optimizer.lr=0.02"
    assert sweep.command[-1] == "optimizer.lr=0.01,1e20,0.02"
    assert Path(sweep.cwd) == path.parent


def test_what_has_finished_in_another_sweep_is_copied(grid, alexnet_in):
    path, *_ = grid
    command = ["train", "-m", *TINY, "model.activation=leaky_relu", "training.epochs=2", "optimizer.lr=0.01"]
    result = alexnet_in(*command, "run_dir=second", "hydra.sweeper.reuse=.", cwd=path.parent)
    assert result.returncode == 0, result.stderr
    assert "0 of 1 jobs are left to run" in result.stdout
    other = SweepFolder.open(path.parent / "second")
    original, copied = (
        next(sweep.run(job) for job in sweep.jobs if "optimizer.lr=0.01" in job.overrides)
        for sweep in (SweepFolder.open(path), other)
    )
    assert copied.status()["copied_from"] == str(original.path)
    files = [
        {item.relative_to(run.path): item.read_bytes() for item in run.path.rglob("*") if item.is_file()}
        for run in (original, copied)
    ]
    assert files[0].keys() == files[1].keys()
    assert {name.name for name in files[0] if files[0][name] != files[1][name]} == {"status.json"}
    refused = alexnet_in(*command, "run_dir=third", "hydra.sweeper.reuse=nowhere", cwd=path.parent)
    assert refused.returncode == 2
    expected = "hydra.sweeper.reuse=nowhere: no such folder. Expected a folder of sweeps"
    assert refused.stderr == f"alexnet: {expected}\n"


def test_what_was_typed_is_kept_but_for_what_is_typed_now(tmp_path):
    typed = ("-m", "--config-dir", "mine", "+optimizer.x=1", "seed=0,1", "hydra/launcher=basic")
    path = tmp_path / "it's"
    SweepFolder(path, command=typed, cwd=str(tmp_path)).save()
    arguments, origin = resume_command(path, ["seed=0,1,2", "hydra/launcher=joblib"])
    assert arguments == [
        *typed[:4],
        "seed=0,1,2",
        "hydra/launcher=joblib",
        f"run_dir='{tmp_path}/it\\'s'",
        "hydra.sweeper.leftovers=true",
    ]
    assert origin == tmp_path
    SweepFolder(path, command=typed, cwd=str(tmp_path / "gone")).save()
    arguments, origin = resume_command(path, skip_failed=True)
    assert arguments[-1] == "hydra.sweeper.retry_failed=false"
    assert origin is None
    with pytest.raises(WrongPathError, match="run_dir: a sweep goes on where it is"):
        resume_command(path, ["run_dir=other"])


def test_a_changed_arm_takes_the_place_of_the_old_one():
    def job(arm: str, seed: int, lr: float, phase: str = "train") -> Job:
        config = compose(["optimizer=sgd", f"optimizer.lr={lr}", f"seed={seed}"])
        return make_job(config, arm=arm, phase=phase, overrides=[f"typed for {seed}"])

    known = [job("a", 9, 0.1, "tune"), job("a", 0, 0.1), job("a", 1, 0.1), job("b", 0, 0.1), job("b", 1, 0.1)]
    planned = [job("a", 0, 0.2), job("b", 0, 0.1), job("c", 0, 0.1)]
    assert (
        superseded(known, planned) == known[1:3]
    )  # with the seeds of another command; those of b are still b's
    assert superseded(known, [job("a", 9, 0.1, "tune"), job("a", 9, 0.3, "tune")]) == []
    assert len({item.name for item in known}) == len(known)


def test_what_only_ends_a_run_does_not_make_another_job():
    def name(*overrides: str) -> str:
        return make_job(compose(["data=folder", *overrides]), arm="a", phase="train", overrides=[]).name

    assert name("data.max_skipped=0.5", "data.max_pixels=9", "data.dir=elsewhere") == name()
    skip = "data.on_error=skip"
    assert name(skip, "data.max_skipped=0.5") == name(skip) != name()
    assert name(skip, "data.max_pixels=9") != name(skip)


def test_a_run_is_no_place_for_a_sweep(alexnet_here, tmp_path):
    RunFolder.create(tmp_path / "run", "{}", [])
    result = alexnet_here("train", "-m", *TINY, "seed=0,1", "run_dir=run")
    assert result.returncode == 2
    assert result.stderr == "alexnet: run_dir=run: expected a new folder or a sweep, came a run\n"


@pytest.mark.slow
def test_a_study_tunes_compares_and_reports(tmp_path, alexnet):
    result = alexnet(
        "train",
        "experiment=relu_vs_tanh",
        "scale=smoke",
        *TINY[2:],
        "training.epochs=3",
        "study.seeds=[0]",
        *(f"~study.at.smoke.arms.{arm}" for arm in ("relu_2012", "tanh_2012", "sigmoid_glorot")),
        *(f"~study.comparisons.{name}" for name in ("init_2012", "sigmoid")),
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
    assert "no verdict at smoke scale" in result.stdout.replace("\n", " ")
    assert "init_glorot" in (tmp_path / "study" / "report.html").read_text()


def test_a_study_refuses_a_sweep_beside_it(alexnet_here, tmp_path):
    result = alexnet_here("train", "experiment=relu_vs_tanh", "seed=0,1")
    assert result.returncode == 2
    assert "seed=0,1: a study's arms and seeds are study.arms and study.seeds" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrong_arm_stops_the_study_before_its_first_job(alexnet_here, tmp_path):
    result = alexnet_here("train", "experiment=relu_vs_tanh", "+study.arms.wrong=['model.activation=rel']")
    assert result.returncode == 2
    assert "model.activation=rel: Expected one of" in result.stderr
    assert not list(tmp_path.iterdir())
