"""Trains one config in several ways and prints what it saw as JSON; `test_replicas` and `test_workers` start it.

`python equal_runs.py FOLDER STEPS CASE...`, where a case is what differs, such as `strategy.logical_devices=4`, several
values with commas between them.
"""

import json
import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.config import Config, compose, from_dict, to_dict
from alexnet_tf.evaluation import distribute
from alexnet_tf.launching import CLUSTER
from alexnet_tf.training import checkpoint, loop, train, trainer, workers
from alexnet_tf.training.step import make_train_step
from alexnet_tf.training.strategy import configure_process, make_strategy

EVERYTHING = (
    "model=alexnet_small",  # LRN, columns, dropout
    "model.input_size=16",
    "model.stages.fc6.dropout=0.2",  # with 0.5 the loss would not halve in so few steps
    "model.stages.fc7.dropout=0.2",
    "data.channels=3",
    "data.train_examples=70",  # two batches of 32 and a rest
    "augment=cifar",
    "augment.order=[resize,pad_crop,flip,pca,subtract_mean,scale]",
    "augment.pad_crop.padding=1",
    "augment.flip.probability=0.5",
    "optimizer=paper",  # momentum, decay
    "optimizer.lr=0.03",
    "training.batch_size=32",
    "training.eval_batch_size=52",  # 359 validation examples: a remainder of 47
    "training.epochs=100",
    "training.evaluate_every=10",
    "training.progress=none",
)


STATES = (0, 10, 25, 50)
"""Finished steps of the states that gradients in float32 are compared from."""


def everything(*values: str) -> Config:
    """The config with values changed."""
    return from_dict(to_dict(compose([*EVERYTHING, "strategy=mirrored"])), values)


class Losses(keras.callbacks.Callback):
    """The loss of every step, out of the running sums of its epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        total = logs["loss"] * (batch + 1)
        self.steps.append(total - (self.total if batch else 0.0))
        self.total = total


def run_once(folder: Path, steps: int, *values: str) -> dict:
    """Losses of all steps, what `metrics.csv` says, and the ids that each replica here saw in each step."""
    workers.MEETING_SECONDS = 0.0  # so that every step's sums are read
    seen: list[list[list[int]]] = []

    def recording(strategy, batches):
        for batch in distribute(strategy, batches):
            seen.append([part.numpy().tolist() for part in strategy.experimental_local_results(batch[2])])
            yield batch

    loop.distribute = recording
    losses = Losses()
    run = train(
        everything(f"training.steps={steps}", f"run_dir={folder}", *values),
        callbacks=[losses],
    )
    metrics = run.metrics()
    metrics = metrics[metrics["split"] == "validation"]
    return {
        "losses": losses.steps,
        "validation": metrics[["loss", "top1_error", "top5_error", "examples"]].to_numpy().tolist(),
        "ids": seen,
        "replicas": run.environment()["replicas"],
    }


def gradients(checkpoints: list[Path], *values: str) -> list[dict]:
    """One step's loss and gradients, decay included, from the first weights and from those of checkpoints.

    With a rate of 1 and no momentum the velocity after a step is the negative gradient of the loss with its decay.
    """
    config = everything(*values, "optimizer.lr=1.0", "optimizer.momentum=0.0")
    configure_process(config)
    strategy = make_strategy(config.strategy, config.training)
    assert (
        config.strategy.name != "mirrored" or strategy.num_replicas_in_sync == config.strategy.logical_devices
    )
    team = workers.Team(strategy, 60.0)
    source = data.load_source(config.data)
    config = trainer.complete(config, source)
    statistics = data.compute_statistics(source, config.augment)
    model, optimizer = trainer.build_network(config, strategy)
    step_function = make_train_step(model, optimizer, strategy, config.training, config.seed)
    steps = data.num_train_steps(source, config.training.batch_size)
    answer = []
    for path in (None, *checkpoints):
        step = 0
        if path:
            content = checkpoint.load(path)
            kept = {name: array for name, array in content.arrays.items() if name.startswith("model/")}
            checkpoint.restore({"model": model.variables}, checkpoint.Checkpoint(kept, {}), path)
            step = content.state["counters"]["step"]
        batches = data.train_batches(
            source, config.augment, statistics, seed=config.seed, epoch=step // steps, first_step=step % steps,
            batch_size=config.training.batch_size, share=team.share,
        )  # fmt: skip
        images, labels, _ = next(iter(distribute(strategy, batches)))
        sums = step_function(images, labels, tf.constant(step, tf.int64), tf.zeros(4, tf.float64)).numpy()
        answer.append(
            {
                "step": step,
                "loss": float(sums[0] / sums[3]),
                "gradients": {
                    variable.path: (-velocity.numpy()).tolist()
                    for variable, velocity in zip(
                        model.trainable_variables, optimizer._velocities, strict=True
                    )
                },
            }
        )
    return answer


def differences(states: list[dict], others: list[dict]) -> dict[str, float]:
    """The largest relative difference over the states: of the loss, and of each gradient in the norm of its tensor."""
    assert [state["step"] for state in states] == [state["step"] for state in others] == list(STATES)
    found = {
        "loss": max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(states, others, strict=True))
    }
    for path in states[0]["gradients"]:
        pairs = [
            (np.array(a["gradients"][path]), np.array(b["gradients"][path]))
            for a, b in zip(states, others, strict=True)
        ]
        assert all(np.linalg.norm(one) > 0 for one, _ in pairs), path
        found[path] = max(float(np.linalg.norm(one - other) / np.linalg.norm(one)) for one, other in pairs)
    return found


def table(case: str, found: dict[str, float]) -> str:
    """What `differences` found, as lines."""
    return "\n".join(f"{case} {name:24} {value:.1e}" for name, value in found.items())


def main(folder: Path, steps: int, *cases: str) -> None:
    """Run all cases in float64 and float32; the first saves the states that the gradients are compared from."""
    answer = {"runs": {}, "gradients": {}}
    for number, case in enumerate(cases):
        values = case.split(",")
        answer["runs"][case] = run_once(folder / f"{number}", steps, "training.precision=float64", *values)
    states = folder / "states"
    if not states.exists():  # only where one process is all there is
        run_once(states, steps, *cases[0].split(","), "training.checkpoint_every=5 steps",
                 "training.keep_checkpoints=99")  # fmt: skip
    paths = [states / "checkpoints" / f"step-{step:09d}.npz" for step in STATES[1:]]
    for case in cases:
        answer["gradients"][case] = gradients(paths, *case.split(","))
    config = everything()
    answer["steps_per_epoch"] = data.num_train_steps(
        data.load_source(config.data), config.training.batch_size
    )
    index = json.loads(os.environ.get(CLUSTER, '{"task": {"index": 0}}'))["task"]["index"]
    (folder / f"answer-{index}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
