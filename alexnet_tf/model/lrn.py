"""Local response normalisation over channels (paper, section 3.3), in both conventions, across columns or within."""

from functools import partial
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.model.energy import EnergyNormalization, divide_by_energy, window_matrix


@keras.saving.register_keras_serializable(package="alexnet_tf")
class LocalResponseNormalization(EnergyNormalization):
    """Divides each value by a power of the energy in a window of neighbouring channels.

    Formula, for channel `i` of one pixel:

        y[i] = x[i] / (k + a * sum(x[j]**2))**beta    with j from i - size//2 to i + (size - 1)//2

    where `a` is `alpha` in the convention `"sum"` (the paper, and `tf.nn.local_response_normalization`) and
    `alpha / size` in the convention `"mean"` (the authors' 2012 code, Caffe). The window ends at the first and the
    last channel and, with `columns > 1`, at the edges of a column; the divisor stays `size` there.

    TensorFlow's own op has no bfloat16 kernel and a slow gradient. In training this one is three passes over memory,
    which XLA makes of shifts, and keeps nothing but its input for the way back; so is its way there for large maps in a
    `one_pass_scope`. Elsewhere its sums are products with a banded matrix, which every runtime has:

        dx = g * d**-beta - 2 * a * beta * x * (band.T @ (g * y / d))    with d = k + a * (band @ x**2)

    Example:
    >>> LocalResponseNormalization(size=5, k=2.0, alpha=1e-4)(np.ones((1, 1, 1, 3), "float32"))
    <tf.Tensor: ... array([[[[0.5945368, 0.5945368, 0.5945368]]]], dtype=float32)>

    Args:
        size: Channels in the window (the paper's n), not the half-width that TensorFlow calls `depth_radius`.
        k: Constant term of the denominator, positive.
        alpha: Weight of the energy, not negative.
        beta: Exponent, not negative.
        convention: `"sum"` or `"mean"`.
        columns: Columns that the channels are divided into and windows do not leave; 1: windows reach across.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input and output: floats of any dtype, `[..., channels]`.

    Raises:
        ValueError: An argument is out of range, or the channels are no multiple of `columns`.
    """

    def __init__(
        self,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        convention: str = "sum",
        columns: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, k, alpha, beta, convention, **kwargs)
        if columns < 1:
            raise ValueError(f"Invalid columns. Expected at least 1. Received: columns={columns}")
        self.columns = columns

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the channels (there are no variables)."""
        channels = input_shape[-1]
        if channels is None or channels % self.columns:
            raise ValueError(
                f"The channels do not fit layer '{self.name}'. Expected a multiple of its columns ({self.columns}). "
                f"Received: {channels} channels"
            )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises `[..., channels]`."""
        channels = inputs.shape[-1] // self.columns
        compiled = self.is_compiled(inputs, training=training)
        if compiled:
            window_sum, transposed_sum = (
                partial(_shifted_sum, size=self.size, transpose=way) for way in (False, True)
            )
        else:
            band = tf.constant(window_matrix(channels, self.size), inputs.dtype)
            window_sum, transposed_sum = (
                partial(tf.matmul, b=band, transpose_b=way) for way in (False, True)
            )
        normalized = divide_by_energy(
            tf.reshape(inputs, [-1, channels]),
            window_sum,
            transposed_sum,
            self.k,
            self.weight_over(self.size),
            self.beta,
            compiled=compiled,
        )
        return tf.reshape(normalized, tf.shape(inputs))

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {**super().get_config(), "columns": self.columns}


def _shifted_sum(x: tf.Tensor, size: int, *, transpose: bool) -> tf.Tensor:
    """Sums of `[N, channels]` over the windows of `window_matrix`, or over those whose windows hold the value.

    Each shift has a padding of its own, which becomes a part of XLA's one pass; one padding for all would be a pass more.
    """
    before, after = size // 2, (size - 1) // 2
    first, last = (-after, before) if transpose else (-before, after)
    channels = x.shape[1]

    def shifted(by: int) -> tf.Tensor:
        return tf.pad(x[:, max(0, by) : channels + min(0, by)], [[0, 0], [max(0, -by), max(0, by)]])

    reach = channels - 1
    return tf.add_n([shifted(by) for by in range(max(first, -reach), min(last, reach) + 1)])
