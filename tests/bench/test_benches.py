"""The benches as people run them, on small networks: rows, ratios, notes, files, wrong use."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.bench import BENCHES, run_bench
from alexnet_tf.bench.benches import OURS, compose_bench
from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.photographs import SIZE, write_photographs
from alexnet_tf.bench.result import BenchResult
from alexnet_tf.bench.trials import Measurement
from alexnet_tf.config import ConfigError

SMALL = ["model=digits_quick", "model.input_channels=1", "training.batch_size=8"]
QUICK = {"rounds": 2, "seconds": 0.0}


@pytest.fixture
def no_photographs(monkeypatch):
    monkeypatch.setattr("alexnet_tf.bench.benches.MADE_UP", 4)


@pytest.mark.parametrize("name", BENCHES)
@pytest.mark.usefixtures("no_photographs")
def test_every_contender_can_be_made(name, tmp_path):
    """Who takes part, with functions that exist, names that differ, and limits that are there."""
    contenders = BENCHES[name].contenders(compose_bench(BENCHES[name], [], tmp_path))
    assert [each.role for each in contenders].count("ours") == 1
    names = [each.name for each in contenders]
    assert len(set(names)) == len(names)
    for each in contenders:
        assert not each.limit or each.limit in names
        module, _, function = each.make.partition(":")
        if not each.missing():
            assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.slow
def test_step():
    found = run_bench("step", SMALL, only=["update", "Keras fit"], **QUICK)
    by_name = {each.contender.name: each for each in found.measurements}
    assert list(by_name) == [OURS, "... the update alone", "Keras fit", "Keras fit, XLA"]
    assert [each.failure for each in found.measurements] == [""] * 4
    assert by_name[OURS].work == by_name["Keras fit"].work  # the same arithmetic
    assert found.notes[0].startswith("the update's share of the step: ")
    rows = {row[0]: row for row in found.table().rows}
    assert rows["Keras fit"][-1].endswith("]")
    assert rows[OURS][-1] == ""
    json.dumps(found.json())


@pytest.mark.slow
def test_data(tmp_path):
    folder, generator = tmp_path / "pictures", np.random.default_rng(0)
    for number in range(24):
        path = folder / "train" / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (70, 90, 3), np.uint8)).save(path)
    sizes = ["augment.resize.size=64", "augment.center_crop.size=64", "model=alexnet_small"]
    overrides = [f"data.dir={folder}", "training.batch_size=4", "data.validation_fraction=0.2", *sizes]
    found = run_bench("data", overrides, only=["shards"], **QUICK)
    assert [each.failure for each in found.measurements] == ["", ""]
    assert found.notes[0].startswith("prepared shards are read ")
    assert all(each.items == 4 for each in found.measurements)


@pytest.mark.slow
def test_epoch_and_its_steps():
    overrides = ["data=digits", "model=digits_quick", "data.train_examples=64", "training.batch_size=16"]
    found = run_bench("epoch", overrides, only=["steps", "Keras"], **QUICK)
    assert [each.failure for each in found.measurements] == ["", "", ""]
    assert {each.items for each in found.measurements} == {64}
    assert "of the rate of its steps alone" in found.notes[0]


@pytest.mark.slow
def test_a_bench_without_its_data_says_so(tmp_path):
    found = run_bench("epoch", [f"data.dir={tmp_path}"], only=["alexnet_tf"], **QUICK)
    assert found.failed
    assert "cifar10" in found.measurements[0].failure


def test_what_fails_is_a_row():
    def measured(name, role, seconds, failure=""):
        contender = Contender(name=name, make="", role=role, limit="limit" if role == "ours" else "")
        return Measurement(contender, seconds, work=100.0, items=10, failure=failure)

    found = BenchResult(
        "step",
        "A step",
        2,
        [
            measured(OURS, "ours", [1.0, 2.0, 1.5]),
            measured("slow", "peer", [4.0, 6.0, 6.0]),
            measured("broken", "peer", [], "killed by SIGKILL"),
            measured("limit", "limit", [0.5, 0.5, 1.0]),
        ],
        [],
    )
    rows = {row[0]: row[1:] for row in found.table().rows}
    assert rows[OURS] == ("1,500 ±17%", "6.667", "50.0%", "")  # rounds: 0.5, 0.25, 0.667
    assert rows["slow"] == ("6,000 ±8%", "1.667", "", "4.00x [3.00, 4.00]")
    assert rows["broken"] == ("-", "", "", "killed by SIGKILL")
    assert found.failed
    assert found.json()["contenders"][1]["ours_is_faster_by"] == [4.0, 3.0, 4.0]


def test_photographs_are_as_large_as_imagenets(tmp_path):
    write_photographs(tmp_path, 18, different=16)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 18
    assert len({file.stat().st_ino for file in files}) == 16
    with Image.open(files[0]) as image:
        assert (image.height, image.width) == SIZE
    assert 80_000 < np.mean([file.stat().st_size for file in files]) < 140_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", []), "bench nothing: expected one of step, inference, lrn, data, "),
        (("step", ["modl=alexnet"]), "modl"),
        (("lrn", ["model=cifar_quick"]), "bench lrn: expected a network with LRN, came model=cifar_quick"),
        (("data", ["data=cifar10"]), "bench data: expected data=folder, came data=cifar10"),
    ],
)
def test_wrong_use(arguments, message):
    with pytest.raises(ConfigError, match=message):
        run_bench(*arguments, **QUICK)


def test_an_unknown_contender():
    with pytest.raises(ConfigError, match="--only nobody: expected a part of one of alexnet_tf, "):
        run_bench("step", SMALL, only=["nobody"], **QUICK)


def alexnet(*arguments, cwd: Path):
    return subprocess.run(
        [sys.executable, "-m", "alexnet_tf", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command(tmp_path):
    done = alexnet(
        "bench", "inference", *SMALL, "--only", "matrix", "--rounds", "1", "--seconds", "0",
        "--json", "found.json", "--profile", "trace", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Logits of 8 images by digits_quick, float32" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["name"] for each in found["contenders"]] == [OURS, "matrix products, float32"]
    assert 0 < found["contenders"][0]["of_limit"] < 1
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_the_command_says_what_is_wrong(tmp_path):
    done = alexnet("bench", "steps", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().startswith(
        "alexnet: bench steps: expected one of step, inference, lrn, data, "
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["startup", "scaling", "memory", "lrn"])
def test_the_other_benches(name):
    small = [*SMALL, "augment.resize.size=16"] if name == "startup" else ["training.batch_size=2"]
    overrides = small if name in ("startup", "lrn") else SMALL
    found = run_bench(name, overrides, **QUICK)
    assert not found.failed, [each.failure for each in found.measurements]
