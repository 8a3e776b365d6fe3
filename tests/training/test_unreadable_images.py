"""Training on a folder with damaged images: stopped by name, or without them, and resumed without them too."""

import pytest
from kill_campaign import EVERYTHING, outcome, write_images

from alexnet_tf import runs
from alexnet_tf.config import compose
from alexnet_tf.data import DataError
from alexnet_tf.runs import RunFolder
from alexnet_tf.training import train

SKIP = ("data.on_error=skip", "data.max_skipped=0.03")


@pytest.fixture
def folder(tmp_path):
    """96 images, of which one is truncated and one is empty."""
    found = write_images(tmp_path / "images")
    truncated = found / "class_1" / "1.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    (found / "class_2" / "2.png").write_bytes(b"")
    return found


def composed(folder, *values):
    return compose([*EVERYTHING, f"data.dir={folder}", *values])


@pytest.mark.slow
def test_a_run_without_the_damaged_images_resumes_exactly(folder, tmp_path):
    whole = train(composed(folder, *SKIP, "training.epochs=2", f"run_dir={tmp_path}/whole"))
    train(composed(folder, *SKIP, "training.epochs=1", f"run_dir={tmp_path}/legs"))
    legs = train(compose([f"resume={tmp_path}/legs"]), overrides=["training.epochs=2"])
    assert outcome(legs.path) == outcome(whole.path)
    for run in (whole, legs):
        dataset = run.dataset()
        assert (sum(dataset["splits"].values()), dataset["skipped"]) == (94, 2)
        assert dataset["skipped_images"] == {
            f"{folder}/class_1/1.png": "Invalid PNG data, size 200",
            f"{folder}/class_2/2.png": "the file is empty",
        }


def test_a_truncated_image_ends_the_run_by_its_name(folder, tmp_path):
    (folder / "class_2" / "2.png").unlink()
    with pytest.raises(DataError) as caught:
        train(composed(folder, "training.epochs=1", f"run_dir={tmp_path}/run"))
    line = f"Cannot read the image {folder}/class_1/1.png: Invalid PNG data, size 200. Repair or remove it, or set data.on_error=skip."
    assert str(caught.value) == line
    path = tmp_path / "run"
    assert RunFolder.open(path).status()["reason"] == line
    assert not (path / runs.MODEL).exists()
