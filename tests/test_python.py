"""`import alexnet_tf as at`: its examples run, its names are listed, its types hold, its representations say something."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alexnet_tf as at
from alexnet_tf import inference

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def run_example(example):
    """The example of a docstring as a test."""
    (test,) = doctest.DocTestFinder(recurse=False).find(example, globs={})
    assert test.examples
    report = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append).failed
    assert not failed, "".join(report)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the example of `train` has left its runs, relu and tanh."""
    path = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        run_example(at.train)
    return path


@pytest.mark.parametrize("name", ["alexnet_tf", "compose", "build_model", "load_run", "Run"])
def test_the_examples_of_the_documentation_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    run_example(at if name == "alexnet_tf" else getattr(at, name))


def test_public_names_are_there_listed_and_documented():
    assert {*at.__all__} <= {*dir(at)}
    assert [*at.__all__] == sorted(at.__all__)
    for name in at.__all__:
        assert getattr(at, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'trian'; it has Config, "):
        at.trian  # noqa: B018


def test_a_config_says_what_it_is_by_the_keys_that_one_types():
    config = at.compose(
        ["data=cifar10", "model=cifar_quick", "optimizer.lr=0.002", "training.steps=70", "seed=3"]
    )
    assert repr(config) == (
        "Config(data.name=cifar10, model.name=cifar_quick, model.activation=relu, "
        "augment.order=['pad_crop', 'flip', 'subtract_mean', 'scale'], optimizer.name=sgd, optimizer.lr=0.002, "
        "schedule.name=constant, training.steps=70, training.batch_size=128, seed=3)"
    )
    study = repr(at.compose(["experiment=lrn", "scale=smoke"]))
    assert "study.name=lrn" in study
    residual = repr(at.compose(["model=resnet20", "augment=center"]))
    assert "model.name=resnet20" in residual
    assert "activation" not in residual


def test_overrides_train_as_their_config_does_and_are_kept(folder):
    run = at.load_run(folder / "runs/relu")  # trained of a list by the example of `train`
    assert run.overrides()[0] == "model=digits_quick"
    assert len(run.overrides()) == 6
    other = at.load_run(folder / "runs/tanh")  # of a config
    assert other.overrides() == []
    assert other.config.model.activation == "tanh"
    assert run.config.training == other.config.training
    frame = run.metrics()
    assert isinstance(frame, pd.DataFrame)
    assert frame["top1_error"].dtype == np.float64


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model=alexnet", "overrides='model=alexnet': expected a list of strings"),
        (["model=alexnt"], "model=alexnt: no such choice"),
        ([3], "expected strings such as 'model=alexnet', came 3"),
        (None, "overrides=None: expected a list of strings"),
    ],
)
def test_what_is_no_config_and_no_list_is_one_line(given, message):
    with pytest.raises(at.ConfigError) as error:
        at.train(given)
    assert str(error.value).startswith(message) or message in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_are_given_once():
    with pytest.raises(at.ConfigError, match=r"^overrides=\['seed=2'\]: expected with a Config alone"):
        at.train(["seed=1"], overrides=["seed=2"])


def test_a_damaged_run_can_still_be_looked_at(folder, tmp_path):
    path = tmp_path / "damaged"
    at.load_run(folder / "runs/relu").copy_to(path)
    (path / "status.json").write_text("{")
    assert repr(at.load_run(path)) == f"Run({str(path)!r}, status.json is damaged)"


CLIENT = """\
from typing import assert_type
import numpy as np
import alexnet_tf as at

config = at.compose(["data=digits"])
assert_type(config, at.Config)
assert_type(config.training.epochs, int)
assert_type(at.train(config), at.Run)
run = at.train(["data=digits", "training.epochs=5"])
assert_type(at.load_run(run.path), at.Run)
assert_type(run.class_names, list[str])
run.metrics().tail()
run.predict(np.zeros((1, 8, 8, 1), np.uint8), views=1).argmax(axis=1)
at.build_model("alexnet", num_classes=10, activation="tanh", lrn=None)
try:
    at.load_run("nowhere")
except (at.RunError, at.ConfigError):
    pass
"""
WRONG = {
    "at.load_run(5)": "arg-type",
    "at.train(5)": "arg-type",
    "at.compose(5)": "arg-type",
    "run.predict()": "call-arg",
    "at.build_model(num_classes='ten')": "arg-type",
    "config.trainig": "attr-defined",
    "at.trian": "attr-defined",
}


@pytest.mark.slow
def test_a_client_is_checked_strictly(tmp_path):
    client = tmp_path / "client.py"
    client.write_text(CLIENT + "\n".join(WRONG) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--hide-error-context"]
    done = subprocess.run(
        [*command, f"--cache-dir={tmp_path / 'cache'}", client.name],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    first = len(CLIENT.splitlines()) + 1
    expected = {str(first + index): kind for index, kind in enumerate(WRONG.values())}
    assert {line.split(":")[1]: line.rpartition("[")[2].rstrip("]") for line in found} == expected, (
        done.stdout
    )


def test_a_run_is_loaded_by_any_kind_of_path(folder):
    assert at.load_run(str(folder / "runs/relu")) == inference.load_run(folder / "runs/relu")
