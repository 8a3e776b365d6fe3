import json
import math

import pytest

from alexnet_tf.config import compose
from alexnet_tf.config.schema import (
    ConstantConfig,
    CosineConfig,
    PhaseConfig,
    PlateauConfig,
    StepsConfig,
    TableConfig,
)
from alexnet_tf.training.optimizer import group_rates
from alexnet_tf.training.schedule import make_schedule

BASE = {"rest": 0.1, "biases": 0.2}


def schedule(config, steps_per_epoch=5, total_steps=50):
    return make_schedule(config, BASE, steps_per_epoch, total_steps)


def factors(config, steps, **sizes):
    made = schedule(config, **sizes)
    for step in steps:  # each group keeps its ratio
        assert made.rates(step)["biases"] == pytest.approx(2 * made.rates(step)["rest"], rel=1e-15)
    return [made.rates(step)["rest"] / 0.1 for step in steps]


def test_constant():
    assert factors(ConstantConfig(), [0, 1, 49, 500]) == [1, 1, 1, 1]
    assert schedule(ConstantConfig()).rates(7) == BASE


def test_warm_up_rises_linearly_to_the_full_rate():
    got = factors(ConstantConfig(warmup_epochs=2), range(12))
    assert got == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1], rel=1e-12)
    assert factors(ConstantConfig(warmup_epochs=0.4), range(3)) == pytest.approx([0.5, 1, 1])


def test_steps_are_at_the_starts_of_epochs_counted_from_1():
    config = StepsConfig(epochs=[3, 5], divisor=10)
    # Five steps an epoch: the third epoch begins after 10 finished steps, the fifth after 20.
    got = factors(config, [0, 9, 10, 19, 20, 49])
    assert got == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)
    assert factors(StepsConfig(epochs=[1], divisor=2), [0]) == [0.5]


def test_steps_can_be_after_iterations_too():
    caffe = StepsConfig(iterations=[100_000, 200_000])
    got = factors(caffe, [0, 99_999, 100_000, 199_999, 200_000, 449_999])
    assert got == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)
    both = StepsConfig(epochs=[3], iterations=[12], divisor=2)
    assert factors(both, [9, 10, 11, 12]) == pytest.approx([1, 0.5, 0.5, 0.25], rel=1e-12)


# What the authors' code did on ILSVRC-2012, by its logs: first epoch, and from it on the rates of the weights and the
# biases of conv1 and of the weights and biases of all other layers, what is frozen and what is switched off.
CODE2012 = [
    (1, (1e-2, 2e-2), (1e-2, 2e-2), False, False),
    (25, (1e-3, 2e-2), (1e-3, 2e-2), False, False),
    (51, (1e-4, 2e-2), (1e-4, 2e-2), False, False),
    (67, (1e-5, 1e-5), (1e-4, 2e-2), False, True),
    (72, (1e-5, 1e-5), (1e-4, 2e-2), True, True),
    (79, (1e-5, 1e-5), (1e-5, 2e-2), True, True),
]


def test_the_table_of_the_2012_code():
    config = compose(["experiment=alexnet_ilsvrc2012_code2012"])
    assert config.training.epochs == 90
    steps = 10_009  # whole batches of 128 in the 1,281,167 images
    table = make_schedule(config.schedule, group_rates(config.optimizer), steps, 90 * steps)
    for epoch in range(1, 91):
        conv1, others, frozen, quiet = next(row[1:] for row in reversed(CODE2012) if row[0] <= epoch)
        for step in ((epoch - 1) * steps, epoch * steps - 1):  # the epoch's first and last
            assert table.rates(step) == {
                "conv1_weights": conv1[0],
                "conv1_biases": conv1[1],
                "rest": others[0],
                "biases": others[1],
            }
            assert table.frozen(step) == ({"conv1_weights", "conv1_biases"} if frozen else set())
            assert table.augment_off(step) == ({"pca"} if quiet else set())


def test_phases_accumulate_whatever_their_order_in_the_file_and_what_is_frozen_can_be_released():
    phases = {
        "late": PhaseConfig(epoch=4, rates={"rest": 0.5}, trainable={"biases": True, "rest": False}),
        "early": PhaseConfig(epoch=2, rates={"rest": 0.25, "biases": 0.75}, augment_off=["flip"]),
        "middle": PhaseConfig(epoch=3, trainable={"late": True}, augment_off=["pca"]),
    }
    config = TableConfig(phases=phases)
    table = make_schedule(config, BASE, 5, 50, base_frozen=["biases", "late"])
    got = [(table.rates(step), table.frozen(step), table.augment_off(step)) for step in (4, 5, 10, 15)]
    assert got == [
        ({"rest": 0.1, "biases": 0.2}, {"biases", "late"}, set()),
        ({"rest": 0.25, "biases": 0.75}, {"biases", "late"}, {"flip"}),
        ({"rest": 0.25, "biases": 0.75}, {"biases"}, {"flip", "pca"}),
        ({"rest": 0.5, "biases": 0.75}, {"rest"}, {"flip", "pca"}),
    ]


def test_the_warm_up_multiplies_the_rates_of_a_table():
    phases = {"second": PhaseConfig(epoch=2, rates={"rest": 0.5})}
    table = schedule(TableConfig(phases=phases, warmup_epochs=2))
    assert [table.rates(step)["rest"] for step in (0, 4, 5, 9, 10)] == pytest.approx(
        [0.01, 0.05, 0.3, 0.5, 0.5], rel=1e-12
    )


def test_other_schedules_leave_groups_frozen_as_the_optimizer_has_them():
    made = make_schedule(ConstantConfig(), BASE, 5, 50, base_frozen=["biases"])
    assert made.frozen(7) == {"biases"}
    assert made.augment_off(7) == set()


def test_cosine_goes_from_the_full_rate_to_the_final_fraction():
    got = factors(CosineConfig(), [0, 10, 25, 40, 50, 60])
    assert got == pytest.approx(
        [1, math.cos(math.pi / 10) ** 2, 0.5, math.sin(math.pi / 10) ** 2, 0, 0], abs=1e-12
    )
    got = factors(CosineConfig(final_fraction=0.1), [0, 25, 50])
    assert got == pytest.approx([1, 0.55, 0.1], rel=1e-12)


def test_cosine_begins_after_the_warm_up():
    got = factors(CosineConfig(warmup_epochs=2), [0, 9, 10, 30, 50])
    assert got == pytest.approx([0.1, 1, 1, 0.5, 0], abs=1e-12)


def run_plateau(config, errors):
    made = schedule(config)
    said = [made.after_epoch(error) for error in errors]
    return made, said


def test_plateau_divides_and_at_last_stops():
    config = PlateauConfig(divisor=10, patience=2, reductions=2)
    made, said = run_plateau(config, [0.5, 0.4, 0.4])
    assert made.rates(0)["rest"] == 0.1
    assert made.after_epoch(0.41) is None  # second epoch without improvement
    assert made.rates(0)["rest"] == pytest.approx(0.01, rel=1e-12)
    assert [made.after_epoch(0.4) for _ in range(2)] == [None, None]
    assert made.rates(0)["rest"] == pytest.approx(0.001, rel=1e-12)
    assert made.rates(0)["biases"] == pytest.approx(0.002, rel=1e-12)
    assert made.after_epoch(0.4) is None
    assert made.after_epoch(0.4) == "plateau after 2 reductions of the rate"
    assert said == [None] * 3


def test_plateau_starts_waiting_anew_after_an_improvement():
    made, _ = run_plateau(PlateauConfig(patience=2, reductions=1), [0.5, 0.5, 0.4, 0.4])
    assert made.rates(0)["rest"] == 0.1
    made.after_epoch(0.4)
    assert made.rates(0)["rest"] == pytest.approx(0.01)


def test_plateau_ignores_improvements_below_min_delta_and_epochs_without_validation():
    made, _ = run_plateau(PlateauConfig(patience=2, min_delta=0.05), [0.5, 0.47, None, None, None, 0.46])
    assert made.rates(0)["rest"] == pytest.approx(0.01)
    made, _ = run_plateau(PlateauConfig(patience=2, min_delta=0.05), [0.5, 0.47, 0.44])
    assert made.rates(0)["rest"] == 0.1


@pytest.mark.parametrize("cut", range(10))
def test_plateau_goes_on_from_its_state(cut):
    config = PlateauConfig(patience=1, reductions=3)
    errors = [0.5, 0.5, 0.4, 0.4, 0.45, 0.3, 0.3, 0.2, 0.3, 0.3]
    whole, said = run_plateau(config, errors)
    first, before = run_plateau(config, errors[:cut])
    second = schedule(config)
    second.restore(json.loads(json.dumps(first.state())))  # a checkpoint keeps it as JSON
    after = [second.after_epoch(error) for error in errors[cut:]]
    assert before + after == said
    assert second.rates(0) == whole.rates(0)
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    "config", [ConstantConfig(), CosineConfig(), StepsConfig(epochs=[2]), TableConfig(phases={})], ids=type
)
def test_others_have_no_state(config):
    made = schedule(config)
    assert made.after_epoch(0.5) is None
    assert made.state() == {}
    made.restore({})
