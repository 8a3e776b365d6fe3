"""Normalisation within each map (cuda-convnet's `rnorm`, Caffe's `WITHIN_CHANNEL`): a window in space, per channel."""

from functools import partial
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.model.energy import EnergyNormalization, divide_by_energy, window_matrix


@keras.saving.register_keras_serializable(package="alexnet_tf")
class WithinMapNormalization(EnergyNormalization):
    """Divides each value by a power of the energy in a square window of its own map.

    Formula, for pixel `(r, c)` of one channel:

        y[r, c] = x[r, c] / (k + a * sum(x[i, j]**2))**beta    with i from r - size//2 to r + (size - 1)//2,
                                                               and j likewise around c

    where `a` is `alpha / size**2` in the convention `"mean"` (the authors' 2012 code, Caffe) and `alpha` in the
    convention `"sum"`. The window ends at the map's borders; the divisor stays `size**2` there. The defaults are those
    of the 2012 network file, `layers-145.cfg`; its kernel, and with it its `k`, was not published.

    The sum is a product with a banded matrix along each axis; in training, where it is compiled by XLA, a sum of shifts.

    Example:
    >>> WithinMapNormalization(size=3, alpha=9.0, beta=1.0)(np.ones((1, 1, 2, 1), "float32"))[0, 0, :, 0]
    <tf.Tensor: ... array([0.33333334, 0.33333334], dtype=float32)>

    Args:
        size: Side of the window in pixels.
        k: Constant term of the denominator, positive.
        alpha: Weight of the energy, not negative.
        beta: Exponent, not negative.
        convention: `"sum"` or `"mean"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input and output: floats of any dtype, `[N, H, W, channels]`; H, W and channels must be known.

    Raises:
        ValueError: An argument is out of range, or a side of the map is not known.
    """

    def __init__(
        self,
        size: int = 5,
        k: float = 1.0,
        alpha: float = 1e-3,
        beta: float = 0.75,
        convention: str = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(size, k, alpha, beta, convention, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the map's shape (there are no variables)."""
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                f"The input does not fit layer '{self.name}'. Expected [N, H, W, channels] of known sizes. Received: "
                f"shape {tuple(input_shape)}"
            )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Normalises `[N, H, W, channels]`."""
        compiled = self.is_compiled(inputs, training=training)
        if compiled:
            window_sum, transposed_sum = (
                partial(_shifted_box_sum, size=self.size, transpose=way) for way in (False, True)
            )
        else:
            bands = [
                tf.constant(window_matrix(int(side), self.size), inputs.dtype) for side in inputs.shape[1:3]
            ]
            # The matrix has the window of pixel i in its column i.
            window_sum, transposed_sum = (
                partial(_box_sum, rows=bands[0], columns=bands[1], transpose=way) for way in (True, False)
            )
        return divide_by_energy(
            inputs,
            window_sum,
            transposed_sum,
            self.k,
            self.weight_over(self.size**2),
            self.beta,
            compiled=compiled,
        )


def _shifted_box_sum(x: tf.Tensor, size: int, *, transpose: bool) -> tf.Tensor:
    """Sums of `[N, H, W, C]` over square windows by shifts along both axes."""
    return _shifted_sum(_shifted_sum(x, size, 1, transpose=transpose), size, 2, transpose=transpose)


def _shifted_sum(x: tf.Tensor, size: int, axis: int, *, transpose: bool) -> tf.Tensor:
    """Sums over windows along one axis, by shifts of one padded tensor, which is stored.

    Were each shift padded by itself, as for channels, XLA would compute the sums along the first axis anew for every
    shift along the second: 2 and 8 times as long with windows of 5 and 9.
    """
    before, after = size // 2, (size - 1) // 2
    edges = [[0, 0]] * len(x.shape)
    edges[axis] = [after, before] if transpose else [before, after]
    before_axis = [slice(None)] * axis
    padded, length = tf.pad(x, edges), x.shape[axis]
    return tf.add_n([padded[*before_axis, shift : shift + length] for shift in range(size)])


def _box_sum(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, *, transpose: bool) -> tf.Tensor:
    """Sums of `[N, H, W, C]` over windows by `rows` `[H, H]` and `columns` `[W, W]`; reshapes in place of transposes."""
    height, width, channels = x.shape[1:]
    down = tf.matmul(rows, tf.reshape(x, [-1, height, width * channels]), transpose_a=transpose)
    across = tf.matmul(columns, tf.reshape(down, [-1, width, channels]), transpose_a=transpose)
    return tf.reshape(across, [-1, height, width, channels])
