import json

import pytest

from alexnet_tf.config import compose
from alexnet_tf.config.schema import StudyConfig
from alexnet_tf.runs import RunError
from alexnet_tf.studies import claims_table, find_results, load_claims, write_report

STUDIES = [*sorted({claim.study for claim in load_claims()}), "history"]


def test_the_claims_that_are_tested():
    numbers = [claim.id for claim in load_claims()]
    assert list(dict.fromkeys(numbers)) == [
        f"C{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18)
    ]
    (pooling,) = (claim for claim in load_claims() if claim.id == "C3")
    assert pooling.text == "overlapping against separate: validation error at the end"
    assert pooling.says == "-0.4 points (paper, section 3.4)"
    texts = {claim.id: claim.text for claim in load_claims()}
    assert texts["C7"] == "net over 10 views against net over 1 view: validation error at the end"
    assert texts["C12"] == "the average of 3 runs of net against one of them: validation error over 1 view"


@pytest.mark.parametrize(
    "scale", [*(pytest.param(scale, marks=pytest.mark.slow) for scale in ("smoke", "small")), "paper"]
)
@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_composes_at_every_scale(study, scale):
    base = [f"experiment={study}", f"scale={scale}"]
    description = compose(base).study
    assert isinstance(description, StudyConfig)
    assert (description.name, description.scale, description.at) == (study, scale, {})
    averaged = max(item.average for item in description.comparisons.values())
    assert len(description.seeds) == ((2 if averaged == 1 else 3) if scale == "smoke" else 5 * averaged)
    starting = description.pretrain.arms
    configs = {
        arm: compose([*base, *description.common, *overrides]) for arm, overrides in description.arms.items()
    }
    assert len(
        {
            repr(
                [
                    config.model,
                    config.augment,
                    config.optimizer,
                    config.training,
                    config.data,
                    arm in starting,
                ]
            )
            for arm, config in configs.items()
        }
    ) == len(configs)
    own = "cifar10" if study == "relu_vs_tanh" else "imagenet2012"  # the paper's figure is of CIFAR-10
    names = {"smoke": "digits", "small": "cifar10", "paper": own}
    assert {config.data.name for config in configs.values()} == {names[scale]}


def test_results_are_found_by_study_and_shown(tmp_path, sweep_builder, monkeypatch):
    comparisons = {"overlapping": {"id": "C3", "arm": "quick", "reference": "slow", "claim": 2.0}}
    arms = {"quick": [100] * 5, "slow": [300, 330, 270, 310, 290]}
    sweep = sweep_builder(
        tmp_path / "sweeps" / "a", arms, comparisons, name="overlapping_pooling", scale="small"
    )
    write_report([sweep.path])
    monkeypatch.chdir(tmp_path)
    table = claims_table(load_claims(), find_results())
    (row,) = (row for row in table.rows if row[0] == "C3")
    assert row[4].startswith("3.0x [2.")
    assert row[4].endswith("(5 seeds, small)")
    assert (row[1], row[5]) == ("overlapping_pooling", "confirmed")
    looked_at = {row[0]: row for row in table.rows if row[0] in ("C13", "C14")}
    assert {row[4] for row in table.rows if row[0] not in ("C3", *looked_at)} == {"not yet"}
    assert looked_at["C13"][4] == "in each run: alexnet visualize RUN what=columns"
    assert looked_at["C14"][4] == "in each run: alexnet visualize RUN what=neighbours"
    assert list(dict.fromkeys(row[0] for row in table.rows)) == [f"C{n}" for n in range(1, 19)]
    assert find_results([sweep.path]) == find_results()


def test_smoke_scale_never_gives_a_verdict(tmp_path, sweep_builder):
    comparisons = {"speed": {"arm": "quick", "reference": "slow", "claim": 6.0}}
    arms = {"quick": [100] * 5, "slow": [300, 330, 270, 310, 290]}
    report = write_report([sweep_builder(tmp_path / "s", arms, comparisons, scale="smoke").path])
    assert report.answers[0].endswith("5 seeds; no verdict at smoke scale.")


def test_paths_without_results_are_one_line(tmp_path):
    with pytest.raises(RunError, match=r"no result\.json in it or one level below"):
        find_results([tmp_path])
    (tmp_path / "result.json").write_text(json.dumps({"study": "x"}))
    with pytest.raises(RunError, match="expected the keys study and comparisons"):
        find_results([tmp_path])
