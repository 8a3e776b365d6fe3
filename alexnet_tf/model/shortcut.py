"""The parameter-free shortcut of residual networks where a block changes its input's shape."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="alexnet_tf")
class ZeroPaddedShortcut(keras.layers.Layer):
    """Every `strides`-th pixel of each map, and maps of zeros behind them: option A of He et al. (2015), section 3.3.

    Formula:

        y[n, i, j, c] = x[n, i * strides, j * strides, c] for c < channels, 0 for the rest up to filters

    Example:
    >>> ZeroPaddedShortcut(32, strides=2)(np.ones((1, 8, 8, 16), "float32")).shape
    TensorShape([1, 4, 4, 32])

    Args:
        filters: Channels of the output, at least those of the input.
        strides: Pixels between those that are kept, on both axes.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input: floats `[N, H, W, channels]`. Output: floats `[N, ceil(H / strides), ceil(W / strides), filters]`.

    Raises:
        ValueError: `strides` is below 1, or the input has more channels than `filters`.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if strides < 1:
            raise ValueError(f"Invalid strides. Expected at least 1. Received: strides={strides}")
        self.filters = filters
        self.strides = strides

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the channels."""
        channels = input_shape[-1]
        if channels is None or channels > self.filters:
            raise ValueError(
                f"The channels do not fit layer '{self.name}'. Expected at most its filters ({self.filters}). "
                f"Received: {channels} channels"
            )

    def call(self, inputs: Any) -> Any:
        """Thins out `[N, H, W, channels]` and pads it to `[N, H', W', filters]`."""
        thinned = inputs[:, :: self.strides, :: self.strides]
        return keras.ops.pad(thinned, [[0, 0], [0, 0], [0, 0], [0, self.filters - inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """`[N, H, W, channels]` to `[N, H', W', filters]`."""
        batch, *sides, _ = input_shape
        thinned = [None if side is None else -(-side // self.strides) for side in sides]
        return (batch, *thinned, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The arguments, to be built again from."""
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}
