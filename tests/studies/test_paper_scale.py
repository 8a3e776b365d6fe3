"""Studies at `scale=paper` on a miniature in the exact layout of the original ILSVRC-2012 archives: every arm starts."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ilsvrc import write_archives

from alexnet_tf.config import compose
from alexnet_tf.runs import RunFolder, State
from alexnet_tf.studies import load_claims
from alexnet_tf.training import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STUDIES = sorted({claim.study for claim in load_claims()} - {"relu_vs_tanh"})  # that one is of CIFAR-10
TINY = [
    "training.steps=1",
    "training.batch_size=4",
    "training.probe.examples=4",
    "training.checkpoint_every=never",
    "data.train_examples=null",
    "training.progress=none",
]
"""One step; the layers with most of the weights are made small by `narrow`."""


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory, alexnet_in) -> Path:
    """Archives placed where the error says, prepared with the command that the error says."""
    folder = tmp_path_factory.mktemp("imagenet")
    refused = alexnet_in("train", "data=imagenet2012", "model=alexnet", f"data.dir={folder}", cwd=folder)
    assert refused.returncode == 2, refused.stderr
    (manual,) = re.findall(r"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in (\S+),", refused.stderr)
    (script,) = re.findall(r'python -c "(.*)"', refused.stderr)
    write_archives(Path(manual))
    prepared = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert prepared.returncode == 0, prepared.stderr
    return folder


def narrow(model: str) -> list[str]:
    """Overrides that take the dense layers' weights away."""
    return [f"model.stages.{stage}.units=16" for stage in ("fc6", "fc7")] if model == "alexnet" else []


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_starts(study, imagenet, tmp_path):
    base = [f"experiment={study}", "scale=paper", f"data.dir={imagenet}"]
    description = compose(base).study
    assert description is not None
    arms = dict(description.arms)
    if description.pretrain.arms:
        arms["source"] = description.pretrain.overrides
    for arm, overrides in arms.items():
        shared = [*description.common, *base]
        model = compose([*shared, *overrides]).model.name
        config = compose([*shared, *overrides, *TINY, *narrow(model), f"run_dir={tmp_path / arm}", "~study"])
        assert config.data.name == "imagenet2012"
        run = train(config)
        assert RunFolder.open(tmp_path / arm).status()["state"] == State.finished
        rows = run.metrics()
        probed = {"probe"} if config.training.probe.every else set()
        assert set(rows["split"]) == {"train", "validation"} | probed
        images = 4 if study == "transfer" else 8  # of every second class
        assert rows.query("split == 'validation'")["examples"].item() == images
        assert np.isfinite(rows["loss"]).all()
