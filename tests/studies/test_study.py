import math

import pytest

from alexnet_tf import runs
from alexnet_tf.config import flatten
from alexnet_tf.config.schema import Metric
from alexnet_tf.runs import Job, RunError, State, SweepFolder
from alexnet_tf.studies import (
    Bound,
    Reading,
    Trial,
    Verdict,
    best_value,
    choose_value,
    load_study,
    load_trials,
)
from alexnet_tf.studies.results import ABSENT, Measure, differences, load_run

RACE = Measure(Metric.time_to_error, "probe", 0.25)
FASTER = {"speed": {"arm": "quick", "reference": "slow", "claim": 6.0}}


def test_known_crossings_and_ratio(tmp_path, sweep_builder):
    sweep = sweep_builder(tmp_path / "s", {"quick": [100, 110, 90], "slow": [300, 330, 270]}, FASTER)
    study = load_study(SweepFolder.open(sweep.path))
    assert [arm.name for arm in study.arms] == ["quick", "slow"]
    quick = study.arms[0]
    assert [reading.value for reading in quick.readings(study.measure).values()] == pytest.approx(
        [100, 110, 90]
    )
    assert [reading.value for reading in quick.seconds(study.measure).values()] == pytest.approx([50, 55, 45])
    (comparison,) = study.comparisons
    assert comparison.effect.value == pytest.approx(3)
    assert comparison.seconds.value == pytest.approx(3)
    assert comparison.verdict is Verdict.none  # three seeds
    assert study.unfinished == []


def test_five_seeds_give_a_verdict(tmp_path, sweep_builder):
    arms = {"quick": [100, 110, 90, 95, 105], "slow": [200, 230, 190, 180, 220]}
    (comparison,) = load_study(sweep_builder(tmp_path / "s", arms, FASTER)).comparisons
    assert comparison.verdict is Verdict.confirmed
    assert comparison.effect.contains(6.0) is False


def test_arm_that_never_gets_there_is_kept_as_a_bound(tmp_path, sweep_builder):
    study = load_study(sweep_builder(tmp_path / "s", {"quick": [100, 100], "slow": [5000, 5000]}, FASTER))
    assert list(study.arms[1].readings(study.measure).values()) == [Reading(400, True)] * 2
    (comparison,) = study.comparisons
    assert comparison.effect.bound is Bound.at_least
    assert comparison.effect.value == pytest.approx(4)


def test_jobs_that_do_not_count_are_listed_with_their_reason(tmp_path, sweep_builder, run_builder):
    sweep = sweep_builder(tmp_path / "s", {"quick": [100] * 4, "slow": [300] * 4}, FASTER)
    sweep.run(sweep.jobs[0]).write_status(State.failed, reason="the loss\nbecame nan")
    sweep.run(sweep.jobs[1]).write_status(State.running, step=7, steps=90)
    (sweep.run(sweep.jobs[2]).path / runs.METRICS).write_text("epoch,step\n1,1\n")
    sweep.jobs.append(Job(name="never", arm="slow", seed=9))
    run_builder(sweep.path / "no-probe")
    sweep.jobs.append(Job(name="no-probe", arm="slow", seed=10))
    study = load_study(sweep)
    found = [(item.job.name, item.state, item.reason) for item in study.unfinished]
    assert found[0] == ("job-0", "failed", "the loss became nan")
    assert found[1][:2] == ("job-1", "dead")  # nobody holds its folder
    assert found[1][2].startswith("interrupted: its process is gone, last heard of at 20")
    assert found[2][1] == "unreadable"
    assert "metrics.csv: expected the columns" in found[2][2]
    assert found[3] == ("never", "pending", "was never started (no folder)")
    assert found[4] == ("no-probe", "unreadable", "has no probe measurements (training.probe.every)")
    assert study.comparisons[0].effect.n == 1  # of the quick arm only seed 3 is left
    assert list(study.arms[0].runs) == [3]


def test_config_differences_name_only_what_differs(tmp_path, sweep_builder):
    names, found = load_study(
        sweep_builder(tmp_path / "s", {"quick": [100], "slow": [300]})
    ).config_differences()
    assert names == ["quick", "slow"]
    assert found == {"model.kind": ["quick", "slow"]}


def test_flatten_and_differences():
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1, 2]}) == {"a.b": 1, "a.c": {}, "d": [1, 2]}
    first = {"seed": 1, "a": {"b": 0.01, "c": None}, "study": {"x": 1}}
    second = {"seed": 2, "a": {"b": 0.02}}
    assert differences({"x": first, "y": second}) == {"a.b": ["0.01", "0.02"], "a.c": ["null", ABSENT]}


def trial(value: float, steps: float | None, *, censored: bool = False, error: float = 0.1) -> Trial:
    crossing = None if steps is None else Reading(steps, censored)
    return Trial("relu", value, 100, crossing, error if steps is not None else math.inf)


def test_choose_value_takes_the_lowest_mean():
    trials = [trial(0.1, 100), trial(0.1, 300), trial(0.2, 150), trial(0.2, 160)]
    assert choose_value(trials, "relu") == 0.2


def test_choose_value_ranks_censored_by_error_and_failed_last():
    slow, slower = trial(0.1, 400, censored=True, error=0.3), trial(0.2, 350, censored=True, error=0.4)
    failed = trial(0.3, None)
    assert choose_value([failed, slower, slow], "relu") == 0.1
    assert choose_value([failed, slower, slow, trial(0.4, 399)], "relu") == 0.4
    assert choose_value([trial(0.3, 10), failed, slower], "relu") == 0.2  # one of the seeds of 0.3 failed
    with pytest.raises(RunError, match="arm relu: none of 1 tuning runs finished"):
        choose_value([failed], "relu")


def test_tuning_runs_are_read_and_kept_out_of_the_comparison(
    tmp_path, sweep_builder, run_builder, probe_line
):
    sweep = sweep_builder(tmp_path / "s", {"quick": [100], "slow": [300]}, FASTER)
    for value, crossing in ((0.01, 200), (0.02, 120)):
        job = Job(
            name=f"tune-{value}",
            arm="quick",
            seed=100,
            phase="tune",
            overrides=("optimizer.lr=0.5", f"optimizer.lr={value}"),
        )
        sweep.jobs.append(job)
        run_builder(sweep.run(job).path, probe_line(crossing))
    sweep.jobs.append(Job(name="lost", arm="quick", seed=100, phase="tune", overrides=("optimizer.lr=9",)))
    sweep.save()
    assert [(item.value, item.reading and round(item.reading.value)) for item in load_trials(sweep)] == [
        (0.01, 200),
        (0.02, 120),
        (9.0, None),
    ]
    assert best_value(SweepFolder.open(sweep.path), "quick") == 0.02
    study = load_study(sweep)
    assert list(study.arms[0].runs) == [0]
    assert study.unfinished == []
    assert study.trials[2].reason == "pending: was never started (no folder)"


def test_descriptions_that_cannot_be_read(tmp_path, sweep_builder):
    def read(**study: object) -> None:
        load_study(sweep_builder(tmp_path / str(len(list(tmp_path.iterdir()))), {"quick": [100]}, **study))

    with pytest.raises(RunError, match="expected one of time_to_error, error"):
        read(metric="beauty")
    with pytest.raises(RunError, match=r"study\.comparisons.speed.reference=slow: expected one of quick"):
        read(comparisons=FASTER)
    with pytest.raises(RunError, match="this sweep has no study"):
        load_study(SweepFolder(tmp_path, None))
    with pytest.raises(RunError, match="the study lacks arms, threshold"):
        load_study(SweepFolder(tmp_path, {"name": "x", "question": "y"}))


def test_run_without_timing_has_no_seconds(tmp_path, run_builder, probe_line):
    folder = run_builder(tmp_path / "r", probe_line(100))
    (folder.path / runs.TIMING).unlink()
    run = load_run(folder)
    assert math.isnan(run.seconds_to(run.read(RACE)).value)


@pytest.mark.parametrize("text", ["", "a,b\n\x00", "epoch,step\n1,2,3,4\n5\n"])
def test_damaged_metrics_are_one_line(tmp_path, run_builder, text):
    folder = run_builder(tmp_path / "r")
    (folder.path / runs.METRICS).write_text(text)
    with pytest.raises(RunError, match=r"metrics\.csv") as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)


def errors_study(metric: str, split: str, **spec) -> dict:
    comparison = {"arm": "quick", "reference": "slow", "metric": metric, "split": split, **spec}
    return {"metric": "error", "split": "validation", "comparisons": {"it": comparison}}


@pytest.mark.parametrize(
    ("metric", "split", "effect"),
    [
        ("error", "validation", 20.0),  # ends at 50 % against 30 %
        ("best_error", "validation", 10.0),  # lowest 40 % against 30 %
        ("gap", "train", 0.0),  # 50 - 30 against 30 - 10
        ("area", "validation", 5.0),  # (0.4 + 0.5) / 2 against (0.5 + 0.3) / 2
    ],
)
def test_errors_are_compared_as_differences_in_points(
    tmp_path, sweep_builder, run_builder, metric, split, effect
):
    sweep = sweep_builder(
        tmp_path / "s", {"quick": [], "slow": []}, **errors_study(metric, split, claim=-1.0)
    )
    curves = {
        "quick": [(2.0, 2.0, 0.6, 0.4), (1.0, 1.0, 0.3, 0.5)],
        "slow": [(2.0, 2.0, 0.6, 0.5), (1.0, 1.0, 0.1, 0.3)],
    }
    for arm, epochs in curves.items():
        for seed in range(5):
            job = Job(name=f"{arm}-{seed}", arm=arm, seed=seed)
            sweep.jobs.append(job)
            run_builder(sweep.path / job.name, epochs=epochs)
    sweep.save()
    study = load_study(SweepFolder.open(sweep.path))
    assert study.races == []
    (item,) = study.comparisons
    assert (item.effect.value, item.effect.n, item.seconds) == (pytest.approx(effect), 5, None)
    expected = Verdict.inconclusive if effect == 0 else Verdict.contradicted
    assert item.verdict is expected


def test_a_run_without_the_measured_split_does_not_count(tmp_path, sweep_builder, run_builder):
    sweep = sweep_builder(tmp_path / "s", {"quick": [], "slow": []}, **errors_study("gap", "probe"))
    sweep.jobs.append(Job(name="only-epochs", arm="quick", seed=0))
    run_builder(sweep.path / "only-epochs")
    (item,) = load_study(sweep).unfinished
    assert item.reason == "has no probe measurements (training.probe.every)"
