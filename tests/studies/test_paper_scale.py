"""Studies at `scale=paper` on a miniature in the exact layout of the original ILSVRC-2012 archives: every arm starts."""

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import compose
from alexnet_tf.runs import RunFolder, State
from alexnet_tf.studies import load_claims
from alexnet_tf.training import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SYNSETS = ("n01440764", "n02119789", "n15075141")
STUDIES = sorted({claim.study for claim in load_claims()} - {"relu_vs_tanh"})  # that one is of CIFAR-10
TINY = [
    "training.steps=1",
    "training.batch_size=4",
    "training.probe.examples=4",
    "training.checkpoint_every=never",
    "training.progress=none",
]
"""One step; the layers with most of the weights are made small by `narrow`."""


def jpeg(generator: np.random.Generator) -> bytes:
    """A photograph of noise, as big as small originals are."""
    height, width = (int(side) for side in generator.integers(260, 330, 2))
    blocks = generator.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return tf.io.encode_jpeg(np.repeat(np.repeat(blocks, 10, 0), 10, 1)).numpy()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory, alexnet_in) -> Path:
    """Archives placed where the error says, prepared with the command that the error says."""
    folder = tmp_path_factory.mktemp("imagenet")
    refused = alexnet_in("train", "data=imagenet2012", "model=alexnet", f"data.dir={folder}", cwd=folder)
    assert refused.returncode == 2, refused.stderr
    (manual,) = re.findall(r"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in (\S+),", refused.stderr)
    (script,) = re.findall(r'python -c "(.*)"', refused.stderr)
    Path(manual).mkdir(parents=True)
    generator = np.random.default_rng(0)
    with tarfile.open(Path(manual) / "ILSVRC2012_img_train.tar", "w") as archive:
        for synset in SYNSETS:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for number in range(6):
                    add(images, f"{synset}_{number}.JPEG", jpeg(generator))
            add(archive, f"{synset}.tar", inner.getvalue())
    with tarfile.open(Path(manual) / "ILSVRC2012_img_val.tar", "w") as archive:
        for number in range(1, 9):
            add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(generator))
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
    for arm, overrides in description.arms.items():
        shared = [*description.common, *base]
        model = compose([*shared, *overrides]).model.name
        config = compose([*shared, *overrides, *TINY, *narrow(model), f"run_dir={tmp_path / arm}", "~study"])
        assert config.data.name == "imagenet2012"
        run = train(config)
        assert RunFolder.open(tmp_path / arm).status()["state"] == State.finished
        rows = run.metrics()
        assert set(rows["split"]) == {"probe", "train", "validation"}
        assert rows.query("split == 'validation'")["examples"].item() == 8
        assert np.isfinite(rows["loss"]).all()
