"""Every study from its command to its report, at the scale that takes seconds a run."""

import json

import pytest

from alexnet_tf.studies import load_claims

STUDIES = [*sorted({claim.study for claim in load_claims()}), "history"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("study", STUDIES)
def test_a_study_runs_at_smoke_scale(study, alexnet, tmp_path):
    if study == "history":
        pytest.importorskip("skimage", reason="the extra classical is not installed")
    done = alexnet("train", f"experiment={study}", "scale=smoke", "run_dir=sweep", timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "sweep" / "result.json").read_text())
    assert (result["study"], result["scale"], result["data"]) == (study, "smoke", ["digits"])
    for comparison in result["comparisons"].values():
        assert comparison["seeds"] == (1 if study == "ensemble" else 2)
        assert comparison["effect"] is not None or comparison["text"] == "undetermined"  # nobody got there
        if comparison["id"]:
            assert comparison["verdict"] == "no verdict at smoke scale"
