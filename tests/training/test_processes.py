"""What needs a process of its own: devices, which TensorFlow fixes when it starts, and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from alexnet_tf.runs import RunFolder

MIRRORED = """
import json, sys
import numpy as np
import tensorflow as tf
from alexnet_tf import data
from alexnet_tf.config import compose, from_dict, to_dict
from alexnet_tf.evaluation import Evaluator
from alexnet_tf.training import loop, train

loop.CALL_SECONDS = 1e9  # several steps in a call
folder, values = sys.argv[1], sys.argv[2:]
base = to_dict(compose([*values, "strategy=mirrored", "strategy.logical_devices=2"]))
ways = {
    "one_device": ["strategy.name=one_device"],
    "mirrored": [],
    "accumulated": ["training.accumulate=4"],
}
runs = {name: train(from_dict(base, [*way, f"run_dir={folder}/{name}"])) for name, way in ways.items()}
answer = {name: run.environment()["replicas"] for name, run in runs.items()}

# One model under two replicas, over sizes that leave a remainder, an empty replica, or both.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
run = runs["one_device"]
with strategy.scope():
    model = run.model()
source = data.load_source(run.config.data)
evaluator = Evaluator(model, strategy)
answer["evaluations"] = []
for size in (2, 64, 360):
    batches = data.eval_batches(
        source, "validation", run.config.augment, run.statistics(), batch_size=size, ids=source.splits["validation"].ids[:131]
    )
    answer["evaluations"].append(vars(evaluator(batches)))
alone = Evaluator(run.model(), tf.distribute.get_strategy())
answer["alone"] = vars(alone(batches))
weights = {name: [variable.numpy() for variable in run.model().weights] for name, run in runs.items()}
answer["weights"] = max(float(np.abs(a - b).max()) for way in ways for a, b in zip(weights["one_device"], weights[way]))
print(json.dumps(answer))
"""


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "ALEXNET_CACHE_DIR": str(cache)}


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, own_cache):
    folder = tmp_path_factory.mktemp("mirrored")
    (folder / "script.py").write_text(MIRRORED)
    values = [
        "model=digits_quick",
        "model.input_size=8",
        "model.stages.conv3.pool=null",
        "model.init=he_normal",
        "model.stages.conv3.dropout=0.5",
        "schedule=cosine",
        "data.train_examples=330",
        "training.batch_size=64",
        "training.epochs=2",
        "training.precision=float64",
        "training.progress=none",
        "training.probe.every=5",
        "training.probe.examples=101",
        "training.eval_batch_size=33",
    ]
    command = [sys.executable, str(folder / "script.py"), str(folder), *values]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(own_cache), cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_replicas_and_parts_train_as_one_device_does(mirrored):
    folder, answer = mirrored
    assert [answer[way] for way in ("one_device", "mirrored", "accumulated")] == [1, 2, 2]
    alone, *others = (
        pd.read_csv(folder / way / "metrics.csv") for way in ("one_device", "mirrored", "accumulated")
    )
    assert len(alone) == 7
    for frame in others:
        pd.testing.assert_frame_equal(alone, frame, rtol=1e-9)
    assert alone["loss"].iloc[-1] < alone["loss"].iloc[0]
    assert alone["lr"].iloc[-1] < 0.1 * alone["lr"].iloc[0]
    assert answer["weights"] < 1e-9


def test_two_replicas_evaluate_every_example_once(mirrored):
    _, answer = mirrored
    alone = answer["alone"]
    assert alone["examples"] == 131
    for scores in answer["evaluations"]:
        assert scores["loss"] == pytest.approx(alone["loss"], rel=1e-12)
        for name in ("top1_error", "top5_error", "examples"):
            assert scores[name] == alone[name]


def test_a_signal_ends_the_command_with_75_and_resume_finishes(resume, tmp_path, own_cache):
    values = [
        "model=digits_quick",
        "model.input_size=8",
        "model.stages.conv3.pool=null",
        "training.batch_size=8",
        "training.epochs=400",
        "training.evaluate_every=0",
        "training.progress=plain",
        "run_dir=run",
    ]
    command = [sys.executable, "-m", "alexnet_tf", "train"]
    child = subprocess.Popen(
        [*command, *values],
        cwd=tmp_path,
        env=environment(own_cache),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        for line in child.stdout:
            if line.startswith("epoch 1/400"):
                break
        child.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 75, errors
    assert time.monotonic() - asked < 30
    status = RunFolder.open(tmp_path / "run").status()
    assert status["state"] == "stopped"
    assert (
        errors.splitlines()[-1]
        == f"alexnet: stopped at step {status['step']}; go on with: alexnet train resume=run"
    )
    assert "Traceback" not in errors

    done = resume(tmp_path / "run", f"training.steps={status['step'] + 3}", "training.progress=none")
    assert (done.status()["state"], done.status()["step"]) == ("finished", status["step"] + 3)
