"""`study.pretrain`: runs that a study's arms start from."""

from dataclasses import replace

import pytest

from alexnet_tf.config import ConfigError, compose
from alexnet_tf.runs import Job, SweepFolder
from alexnet_tf.studies import load_study
from alexnet_tf.studies.sweep import make_job, superseded


def job(start: Job | None, where: str = "elsewhere", seed: int = 0) -> Job:
    config = compose(["data.classes=['1::2']", f"init_from={where}", f"seed={seed}"])
    return make_job(config, arm="tuned", phase="train", overrides=[], start=start)


def source(seed: int = 0, *overrides: str) -> Job:
    config = compose(["data.classes=['::2']", f"seed={seed}", *overrides])
    return make_job(config, arm="source", phase="pretrain", overrides=[])


def test_a_job_is_known_by_what_it_starts_from_and_not_by_the_place():
    assert source().name.startswith("pretrain-source-seed0-")
    assert job(source(), "here").name == job(source(), "there").name
    assert job(source()).name != job(source(0, "optimizer.lr=0.3")).name
    assert job(None, "here").name != job(None, "there").name  # a run of one's own is known by its path alone
    # Seeds share a recipe, so that more of them supersede nothing; another source does.
    assert superseded([job(source(), seed=0)], [job(source(1), seed=1)]) == []
    assert superseded([job(source())], [job(source(0, "optimizer.lr=0.3"))]) == [job(source())]


def test_what_arms_start_from_is_kept_out_of_the_comparison(tmp_path, sweep_builder, run_builder):
    arms = {"quick": [100], "slow": [300]}
    sweep = sweep_builder(tmp_path / "s", arms, {"speed": {"arm": "quick", "reference": "slow"}})
    sweep.jobs.append(
        Job(name="pretrain-source-seed0-1", arm="source", seed=0, phase="pretrain", overrides=())
    )
    run_builder(sweep.run(sweep.jobs[-1]).path, [(10, 0.1)])
    sweep.save()
    study = load_study(SweepFolder.open(sweep.path))
    assert [arm.name for arm in study.arms] == ["quick", "slow"]
    assert study.unfinished == []


def test_an_arm_that_is_not_there_is_one_line():
    with pytest.raises(ConfigError, match=r"study.pretrain.arms=nobody: expected one of scratch_few"):
        compose(["experiment=transfer", "study.pretrain.arms=[nobody]"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_trains_what_its_arms_start_from_once(tmp_path, alexnet):
    spare = [f"{kind}_many" for kind in ("scratch", "tuned", "linear")]
    result = alexnet(
        "train",
        "experiment=transfer",
        "scale=smoke",
        "study.seeds=[0,1]",
        "study.pretrain.arms=[tuned_few,linear_few]",
        *(f"~study.arms.{arm}" for arm in spare),
        *(f"~study.comparisons.{arm}" for arm in spare if "scratch" not in arm),
        "run_dir=study",
        timeout=800,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    sweep = SweepFolder.open(tmp_path / "study")
    assert [(job.phase, job.arm, job.seed) for job in sweep.jobs] == [
        ("pretrain", "source", 0),
        ("pretrain", "source", 1),
        *(("train", f"{kind}_few", seed) for seed in (0, 1) for kind in ("scratch", "tuned", "linear")),
    ]
    first, second, scratch, tuned, *_, last = (sweep.run(each) for each in sweep.jobs)
    assert first.dataset()["class_names"] == ["0", "2", "4", "6", "8"]
    assert tuned.dataset()["class_names"] == ["1", "3", "5", "7", "9"]
    assert tuned.config_dict()["init_from"] == str(first.path)
    assert last.config_dict()["init_from"] == str(second.path)
    assert scratch.config_dict()["init_from"] is None
    assert scratch.dataset()["fingerprint"] == tuned.dataset()["fingerprint"] != last.dataset()["fingerprint"]
    # Elsewhere it is the same sweep, of which nothing is left to do.
    (tmp_path / "study").rename(tmp_path / "moved")
    again = alexnet("sweep", "resume", "moved", timeout=300)
    assert again.returncode == 0, again.stderr
    assert "0 of 2 jobs are left to run" in again.stdout
    assert "0 of 6 jobs are left to run" in again.stdout
    moved = SweepFolder.open(tmp_path / "moved")
    assert [replace(job, overrides=()) for job in moved.jobs] == [
        replace(job, overrides=()) for job in sweep.jobs
    ]
