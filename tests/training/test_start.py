"""`init_from`: the first weights of a run are the last ones of another."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from alexnet_tf.config import ConfigError
from alexnet_tf.model import build
from alexnet_tf.runs import RunError, WrongPathError, write_json
from alexnet_tf.training.start import start_from

LR = "optimizer.lr=1e-30"  # too small to move a float32


@pytest.fixture(scope="module")
def first(run, tmp_path_factory):
    return run(
        tmp_path_factory.mktemp("first") / "run", "training.steps=2", "training.checkpoint_every=never"
    )


def values(run) -> dict[str, np.ndarray]:
    return {variable.path: variable.numpy() for variable in run.model().weights}


def same(one, other) -> list[str]:
    """The paths of variables that are equal."""
    return [path for path, value in values(one).items() if (value == values(other)[path]).all()]


def said(caplog) -> list[str]:
    """Our own messages: TensorFlow's about retracing depend on what has been trained before in this process."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("alexnet_tf")]


def check_fresh_head(run, config, classes: int, seed: int) -> None:
    """The last layer of a run that has hardly learned is the one that its seed gives."""
    *_, kernel, bias = values(run)
    fresh = build(replace(config.model, num_classes=classes, input_channels=1), seed=seed)
    for variable in fresh.weights:
        if variable.path in (kernel, bias):
            np.testing.assert_allclose(values(run)[variable.path], variable.numpy(), atol=1e-25)


def test_a_run_starts_from_another(run, tiny, first, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(first.path.parent)
    second = run(tmp_path / "second", LR, "training.steps=1", "seed=5", "init_from=run")
    assert same(second, first) == list(values(first))
    assert not said(caplog)
    assert second.config.init_from == str(first.path)  # absolute: the run may be used from elsewhere
    fresh = build(replace(tiny().model, num_classes=10, input_channels=1), seed=5)
    assert not any(
        (new.numpy() == values(first)[new.path]).all() for new in fresh.weights if "kernel" in new.path
    )


def test_another_number_of_classes_starts_the_last_layer_afresh(run, tiny, first, tmp_path, caplog):
    more = ["model.num_classes=12", f"init_from={first.path}"]
    second = run(tmp_path / "second", LR, "training.steps=1", "seed=5", *more)
    *below, kernel, _ = values(second)
    assert values(second)[kernel].shape[1] == 12
    assert all((values(second)[path] == values(first)[path]).all() for path in below)
    check_fresh_head(second, tiny(), 12, seed=5)
    assert said(caplog) == [
        f"init_from={first.path}: 3 of 4 layers with weights are taken from digits_quick; afresh start {kernel.split('/')[0]}: 12 classes "
        "instead of 10"
    ]


def test_as_many_other_classes_start_the_last_layer_afresh_too(run, tiny, tmp_path, caplog):
    one, other = (
        run(
            tmp_path / name,
            "training.steps=1",
            "training.checkpoint_every=never",
            "data.train_examples=64",
            *values,
        )
        for name, values in {
            "one": ["data.classes=['::2']"],
            "other": ["data.classes=['1::2']", LR, f"init_from={tmp_path / 'one'}"],
        }.items()
    )
    *below, kernel, _ = values(other)
    for path in below:
        np.testing.assert_allclose(values(other)[path], values(one)[path], atol=1e-25)
    check_fresh_head(other, tiny(), 5, seed=0)
    assert said(caplog) == [
        f"init_from={one.path}: 3 of 4 layers with weights are taken from digits_quick; afresh start {kernel.split('/')[0]}: 5 classes "
        "instead of others"
    ]


def test_a_resumed_run_goes_on_from_its_own_checkpoint(run, resume, first, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(first.path, source)
    second = run(tmp_path / "second", "training.steps=3", f"init_from={source}")
    reference = run(tmp_path / "reference", "training.steps=6", f"init_from={source}")
    shutil.rmtree(source)  # not needed any more
    longer = resume(second.path, "training.steps=6")
    assert same(longer, reference) == list(values(reference))


def built(config):
    """The network of a config for the digits, as a run would build it."""
    return build(replace(config.model, num_classes=10, input_channels=1), seed=5)


def start(tiny, first, *texts, config=None):
    """A network that starts from a run, its weights before, and the paths of those that it took."""
    config = config or tiny(*texts, f"init_from={first.path}")
    network = built(config)
    before = [variable.numpy() for variable in network.weights]
    start_from(network, config, first.class_names)
    theirs = values(first)
    return [
        variable.path.partition("/")[0]
        for variable, old in zip(network.weights, before, strict=True)
        if "kernel" in variable.path
        and variable.path in theirs
        and np.array_equal(variable.numpy(), theirs[variable.path])
        and not np.array_equal(variable.numpy(), old)
    ]


def test_layers_of_another_shape_start_afresh_and_one_line_names_them(tiny, first, caplog):
    assert start(tiny, first, "model.stages.conv2.units=20") == ["conv1", "fc10"]
    (line,) = said(caplog)
    assert line.startswith(
        f"init_from={first.path}: 2 of 4 layers with weights are taken from digits_quick; afresh start conv2, conv3: "
    )
    assert re.search(r"conv2/kernel \[5, 5, 32, 20\] \(there \[5, 5, 32, \d+\]\), conv3/kernel ", line)
    assert "\n" not in line


def test_layers_that_only_one_of_them_has_are_named(tiny, first, caplog):
    config = tiny(f"init_from={first.path}")
    (_, conv1), _, *others = config.model.stages.items()
    stages = dict([("conv1", conv1), ("extra", replace(conv1, pool=None)), *others])
    start(tiny, first, config=replace(config, model=replace(config.model, stages=stages)))
    (line,) = said(caplog)
    assert "afresh start extra, " in line
    assert "extra/kernel [5, 5, 32, 32] (there nothing)" in line
    assert line.endswith("; this network has no conv2")


def test_a_run_of_which_nothing_fits_is_refused_in_one_line(run, first, tmp_path):
    other = [f"model.stages.{name}.units=7" for name in ("conv1", "conv2", "conv3")]
    with pytest.raises(
        ConfigError, match=r"came those of digits_quick, of which no layer fits: conv1/kernel"
    ) as caught:
        run(tmp_path / "second", *other, f"init_from={first.path}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "second").exists()


def test_a_layer_that_starts_afresh_does_not_stand_still(tiny, first):
    with pytest.raises(
        ConfigError,
        match=r"^model.freeze_until=conv2: expected layers that init_from=.* conv2/kernel \[5, 5, 32, 20\]",
    ):
        start(tiny, first, "model.stages.conv2.units=20", "model.freeze_until=conv2")
    assert "conv1" in start(tiny, first, "model.stages.conv2.units=20", "model.freeze_until=conv1")


def test_weights_under_another_network_or_other_inputs_are_said_to_be(tiny, first, caplog):
    harmless = ["model.init=glorot_uniform", "model.stages.conv3.dropout=0.5", "augment.flip.probability=0.1"]
    assert start(tiny, first, *harmless) == ["conv1", "conv2", "conv3", "fc10"]
    assert not said(caplog)
    start(
        tiny, first, "model.activation=tanh", "augment.scale.divisor=16", "model.stages.conv2.pool.kind=max"
    )
    (line,) = said(caplog)
    assert line.startswith(
        f"init_from={first.path}: its weights were learnt under other values: model.activation=relu (here tanh), "
    )
    assert "model.stages.conv2.pool.kind=avg (here max)" in line
    assert "augment.scale.divisor=" in line
    caplog.clear()
    start(tiny, first, "augment.order=[resize,subtract_mean]")
    (line,) = said(caplog)
    assert re.search(r"learnt under other values: augment\.scale\.divisor=[\d.]+ \(here None\)$", line)


def test_where_it_starts_from_must_be_a_finished_run(run, first, tmp_path):
    with pytest.raises(WrongPathError, match=r"^init_from=.*nowhere: no such folder"):
        run(tmp_path / "second", f"init_from={tmp_path / 'nowhere'}")
    shutil.copytree(first.path, tmp_path / "running")
    write_json(tmp_path / "running" / "status.json", {"state": "running"})
    with pytest.raises(RunError, match=r"has no model.keras: the run is running"):
        run(tmp_path / "second", f"init_from={tmp_path / 'running'}")
    assert not (tmp_path / "second").exists()


def test_resuming_takes_no_other_start(resume, first):
    with pytest.raises(ConfigError, match=r"init_from: resume=.* goes on with the run's own config"):
        resume(first.path, "init_from=elsewhere")
