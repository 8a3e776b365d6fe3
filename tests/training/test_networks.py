"""Training of networks that hold more than weights: BatchNorm's moving statistics through checkpoints and replicas."""

import numpy as np
import pytest
import yaml

BATCH_NORM = ("model.stages.conv1.norm=batch", "training.deterministic=true")


def newest_statistics(run):
    """The moving statistics in a run's last checkpoint, by the variable's path."""
    (path,) = sorted((run.path / "checkpoints").glob("step-*.npz"))[-1:]
    with np.load(path) as stored:
        return {name.split("/", 2)[2]: stored[name] for name in stored.files if "/moving_" in name}


def test_moving_statistics_are_kept_and_go_on(run, resume, tmp_path):
    straight = run(tmp_path / "straight", *BATCH_NORM, "training.epochs=2")
    parts = run(tmp_path / "parts", *BATCH_NORM, "training.epochs=1")
    after_one = newest_statistics(parts)
    norm = parts.model().get_layer("conv1_norm")
    np.testing.assert_array_equal(after_one["conv1_norm/moving_mean"], norm.moving_mean)
    np.testing.assert_array_equal(after_one["conv1_norm/moving_variance"], norm.moving_variance)
    assert after_one["conv1_norm/moving_mean"].all()  # they start at 0
    resume(parts.path, "training.epochs=2")
    for name, values in newest_statistics(straight).items():
        np.testing.assert_array_equal(newest_statistics(parts)[name], values)
        assert not np.array_equal(after_one[name], values)


@pytest.mark.slow
def test_resnet50_trains_on_two_replicas_and_is_evaluated_and_exported(alexnet_in, tmp_path):
    train = "train model=resnet50 model.input_size=32 data.train_examples=32 training.batch_size=8 training.steps=2"
    where = "strategy=mirrored strategy.logical_devices=2 training.progress=none run_dir=run"
    done = alexnet_in(*train.split(), *where.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    assert (config["application"], config["num_classes"], config["input_channels"]) == ("resnet50", 10, 1)
    with np.load(tmp_path / "run" / "checkpoints" / "step-000000002.npz") as stored:
        statistics = [stored[name] for name in stored.files if "/moving_" in name]
    assert len(statistics) == 2 * 53  # a BatchNorm after each of 53 convolutions
    assert all(np.isfinite(values).all() and np.ptp(values) > 0 for values in statistics)
    for verb in (("evaluate", "run"), ("export", "run")):
        done = alexnet_in(*verb, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "top-1 agrees on 100.0 %" in done.stdout
