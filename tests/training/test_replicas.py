"""One result on 1, 2 and 4 replicas and with accumulation: the campaign, with everything on that could depend on them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from equal_runs import differences, table

SCRIPT = Path(__file__).with_name("equal_runs.py")
STEPS = 50
ONE, TWO, FOUR, PARTS = (
    "strategy.logical_devices=1",
    "strategy.logical_devices=2",
    "strategy.logical_devices=4",
    "strategy.logical_devices=2,training.accumulate=4",
)
DEVICE = "strategy.logical_devices=2,augment.device=accelerator"
CASES = (
    FOUR,
    ONE,
    TWO,
    PARTS,
    DEVICE,
)  # first the one that needs the most devices, which TensorFlow then keeps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("replicas")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), str(STEPS), *CASES],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "answer-0.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_losses_are_those_of_one_replica(answer: dict, case: str) -> None:
    alone, run = answer["runs"][ONE], answer["runs"][case]
    assert run["replicas"] == int(case.split(",")[0][-1])
    losses = np.array(run["losses"])
    assert len(losses) == STEPS
    assert losses[-5:].mean() < losses[0] / 2
    print(f"{case}: {np.max(np.abs(losses / alone['losses'] - 1)):.1e}")
    np.testing.assert_allclose(losses, alone["losses"], rtol=1e-9)
    np.testing.assert_allclose(run["validation"], alone["validation"], rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_every_example_is_on_one_replica_once(answer: dict, case: str) -> None:
    alone, run = answer["runs"][ONE], answer["runs"][case]
    for step, replicas in enumerate(run["ids"]):
        assert len(replicas) == run["replicas"]
        assert len({len(ids) for ids in replicas}) == 1
        assert [index for ids in replicas for index in ids] == alone["ids"][step][
            0
        ]  # the same rows, in the order of the replicas


@pytest.mark.parametrize("case", [FOUR, TWO, PARTS])
def test_a_step_in_float32_is_that_of_one_replica(answer: dict, case: str) -> None:
    states = answer["gradients"]
    found = differences(states[ONE], states[case])
    print(table(case, found))
    assert max(found.values()) <= 1e-5


OVERFLOW = """
import keras, numpy as np, tensorflow as tf
from alexnet_tf.config.schema import TrainingConfig
from alexnet_tf.training.step import make_train_step

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
with strategy.scope():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0)
    optimizer.build(model.trainable_variables)
step = make_train_step(model, optimizer, strategy, TrainingConfig(batch_size=4), seed=0)
before = model.get_weights()
for number, broken in enumerate((0, 3)):  # a row of the first replica, one of the second
    rows = np.ones([4, 3], "float32")
    rows[broken] = np.inf
    halves = strategy.experimental_distribute_values_from_function
    images = halves(lambda context: tf.constant(np.split(rows, 2)[context.replica_id_in_sync_group]))
    labels = halves(lambda context: tf.constant([0, 1]))
    step(images, labels, tf.constant(number, tf.int64), tf.zeros(4, tf.float64))
    for variable, old in zip(model.weights, before):
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy.numpy(), old)
    assert float(optimizer.dynamic_scale.numpy()) == 8.0 / 2 ** (number + 1)
"""


def test_an_overflow_on_one_replica_skips_the_step_on_all() -> None:
    done = subprocess.run([sys.executable, "-c", OVERFLOW], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


BATCH_NORM = """
import json
import keras, numpy as np, tensorflow as tf
from alexnet_tf import build_model
from alexnet_tf.config.schema import TrainingConfig
from alexnet_tf.training.step import make_train_step

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
one = tf.distribute.OneDeviceStrategy("CPU:0")
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
stages = {"conv1": {"norm": "batch"}, "conv3": {"pool": None}}

def weights(strategy, sync):
    with strategy.scope():
        model = build_model(
            "digits_quick", 10, input_size=8, input_channels=1, dtype="float64", sync_batch_norm=sync,
            init="he_normal", stages=stages,
        )
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
    step = make_train_step(model, optimizer, strategy, TrainingConfig(batch_size=8), seed=0)
    for number in range(3):
        generator, replicas = np.random.default_rng(number), strategy.num_replicas_in_sync
        rows, labels = generator.normal(size=[8, 8, 8, 1]), generator.integers(0, 10, 8).astype("int32")
        shares = [
            strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(np.split(values, replicas)[context.replica_id_in_sync_group])
            )
            for values in (rows, labels)
        ]
        step(*shares, tf.constant(number, tf.int64), tf.zeros(4, tf.float64))
    return {variable.path: variable.numpy() for variable in model.weights}

answer = {}
for sync in (True, False):
    alone, both = weights(one, sync), weights(two, sync)
    answer[str(sync)] = max(float(np.abs(alone[name] - both[name]).max()) for name in alone)
print(json.dumps(answer))
"""


def test_batch_norm_is_that_of_one_replica_where_it_is_synchronised() -> None:
    done = subprocess.run([sys.executable, "-c", BATCH_NORM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["True"] < 1e-9
    assert answer["False"] > 1e-4  # as the documentation says
