"""Why a run failed: the layer whose numbers were the first that are none, and one line for a lack of memory.

Order, augmentation and dropout are functions of the step, so the steps since the last checkpoint can be repeated until
the numbers are no longer finite, and the step where it happens taken apart.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from alexnet_tf import data
from alexnet_tf.config import Config
from alexnet_tf.evaluation import cross_entropy, distribute
from alexnet_tf.model import mask_scope
from alexnet_tf.runs import RunError
from alexnet_tf.training import checkpoint

if TYPE_CHECKING:
    from alexnet_tf.training.loop import Loop

MOST_REPEATED = 1000
"""Steps that are repeated at most to find where a loss stopped being a number."""
SEVERAL_WORKERS = (
    "the layer is unknown, as workers do not repeat their steps; one process does, with strategy.name=one_device "
    "strategy.local_workers=null"
)
"""What takes the place of an origin where steps would have to be repeated by all workers together."""


def explain_origin(loop: "Loop") -> str:
    """Say where the first number was not finite, or why that is unknown; see `find_origin`."""
    if loop.team.count > 1:
        return SEVERAL_WORKERS
    try:
        return find_origin(loop)
    except (
        tf.errors.OpError,
        MemoryError,
        data.DataError,
        RunError,
    ) as error:  # it needs more memory than training
        return f"the layer is unknown, as repeating the steps failed ({' '.join(str(error).split())[:80]})"


def find_origin(loop: "Loop") -> str:
    """Repeat a run from its last good state up to its present step, and say where the first number is not finite.

    Variables and counters are those of that step afterwards; the run cannot go on.
    """
    end, start = loop.counters.step, _start(loop)
    if start is None:
        return "the step is unknown, as there is nothing to repeat it from"
    begin = start.state["counters"]["step"]
    if end - begin > MOST_REPEATED:
        return f"the step is unknown, as the last checkpoint is {end - begin} steps back"
    checkpoint.restore(loop.variables(), start, loop.run.path)
    loop.rates = {}  # the optimizer has those of the checkpoint again
    try:
        for step, batch in _batches(loop, begin, end):
            loop.counters.step = step
            if step >= loop.finite_step:
                if found := _not_finite_weights(loop.model):
                    return f"first {found} after {_place(loop, step)}"
                if found := first_not_finite(loop, *batch[:2]):
                    return f"first {found} in {_place(loop, step + 1)}"
            _repeat(loop, batch)
    finally:
        loop.counters.step = end
    if found := _not_finite_weights(loop.model):
        return f"first {found} after {_place(loop, end)}"
    return "the step is unknown, as it did not happen again when the steps were repeated"


def _start(loop: "Loop") -> checkpoint.Checkpoint | None:
    """The last good state, if the steps since then follow from it alone."""
    try:
        found = checkpoint.load_newest(loop.run)
    except RunError:  # all are damaged
        found = None
    start = found[1] if found else loop.start
    # A plateau that was met since then has changed the rates of all steps.
    return (
        start
        if start and start.state["schedule"].get("reductions") == loop.schedule.state().get("reductions")
        else None
    )


def _place(loop: "Loop", step: int) -> str:
    epoch, index = divmod(step - 1, loop.steps_per_epoch)
    return f"step {step} (batch {index + 1} of epoch {epoch + 1})"


def _batches(loop: "Loop", begin: int, end: int) -> Iterator[tuple[int, Any]]:
    """The number of finished steps before each step, and its global batch."""
    while begin < end:
        epoch, first = divmod(begin, loop.steps_per_epoch)
        last = min(end, (epoch + 1) * loop.steps_per_epoch)
        yield from zip(range(begin, last), loop.batches(epoch, first), strict=False)
        begin = last


def _repeat(loop: "Loop", batch: Any) -> None:
    """Do a step again."""
    loop.follow_schedule()
    if loop.strategy.num_replicas_in_sync > 1:
        rows = tf.data.Dataset.from_tensor_slices(batch).batch(loop.config.training.batch_size)
        batch = next(iter(distribute(loop.strategy, rows)))
    images, labels, _ = batch
    totals = tf.zeros(4, tf.float64)
    loop.train_step(images, labels, tf.constant(loop.counters.step, tf.int64), totals)


def first_not_finite(loop: "Loop", images: tf.Tensor, labels: tf.Tensor) -> str | None:
    """The first thing of a training step that is not finite: an input, a layer's output, the loss, or a gradient.

    Gradients count in the order in which they are computed, from the last layer to the first. In float16 they do not
    count: the loss scale grows until some overflow, and such a step is left out.

    Args:
        loop: Before the step.
        images: The global batch, as the model takes it.
        labels: Its labels.
    """
    model, seed, rows = loop.model, loop.config.seed, loop.config.training.batch_size
    layers = model.layers
    inside = keras.Model(model.input, [layer.output for layer in layers])
    with mask_scope(seed, loop.counters.step, global_rows=rows), tf.GradientTape() as tape:
        outputs = inside(images, training=True)
        loss = tf.reduce_mean(cross_entropy(outputs[-1], labels))
    for layer, output in zip(layers, outputs, strict=True):
        if not _finite(output):
            return f"not finite: the output of {layer.name}"
    if not _finite(loss):
        return "not finite: the loss itself"
    if isinstance(loop.optimizer, keras.optimizers.LossScaleOptimizer):
        return None
    variables = model.trainable_variables
    for variable, gradient in reversed(list(zip(variables, tape.gradient(loss, variables), strict=True))):
        if gradient is not None and not _finite(gradient):
            return f"not finite: the gradient of {variable.path}"
    return None


def _not_finite_weights(model: keras.Model) -> str | None:
    for variable in model.weights:
        if variable.dtype.startswith(("float", "bfloat")) and not _finite(variable):
            return f"not finite: {variable.path}"
    return None


def _finite(values: Any) -> bool:
    return bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(values))))


def out_of_memory(error: BaseException, config: Config) -> RunError | None:
    """One line for TensorFlow's or Python's error of that kind, None for any other."""
    if not isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
        return None
    training = config.training
    size = f"training.batch_size={training.batch_size}"
    if training.eval_batch_size:
        size += f" or training.eval_batch_size={training.eval_batch_size}"
    text = str(getattr(error, "message", error))
    tensor = re.search(r"OOM when allocating tensor with shape\s?\[[\d,]*\] and type \w+", text)
    what = tensor[0] if tensor else " ".join(text.split())[:200]
    return RunError(
        f"out of memory: {size} is too much for model={config.model.name} with "
        f"model.input_size={config.model.input_size} on this machine. Expected a smaller one, such as half of it "
        f"({what or type(error).__name__})"
    )
