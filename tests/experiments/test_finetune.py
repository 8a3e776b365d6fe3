"""The example of a study of one's own, on a few made-up pictures and with a source of two steps."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.runs import SweepFolder

FOLDER = Path(__file__).parents[2] / "experiments" / "finetune"
ARMS = {"scratch", "tuned", "slower", "linear"}


@pytest.mark.slow
def test_ants_and_bees(alexnet, tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for name in ("ants", "bees"):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                (folder / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    short = ["training.epochs=1", "training.batch_size=8", "study.seeds=[0]"]
    source = "study.pretrain.overrides=['training.steps=2']"  # of the same pictures
    command = ["train", "--config-dir", str(FOLDER), "experiment=ants_and_bees", *short, source]
    result = alexnet(*command, "data.dir=photographs", "run_dir=ants")
    assert result.returncode == 0, result.stderr
    sweep = SweepFolder.open(tmp_path / "ants")
    jobs = {job.arm: sweep.run(job) for job in sweep.jobs}
    assert jobs.keys() == {"source", *ARMS}
    assert {run.status()["state"] for run in jobs.values()} == {"finished"}
    started_from = {arm: run.config_dict()["init_from"] is not None for arm, run in jobs.items()}
    assert started_from == {"source": False, "scratch": False, "tuned": True, "slower": True, "linear": True}
