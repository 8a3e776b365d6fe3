"""The order of axes, colour channels and rows in others' arrays, and how to get from theirs to ours and back.

Ours: kernels of convolutions `[height, width, in / columns, out]` (TensorFlow's HWIO), of dense layers `[in, out]`,
maps flattened row by row with the channels of a pixel side by side (HWC), colours as RGB. Groups need no change of
their own: Caffe and PyTorch give filter `f` of `out` to group `f // (out / groups)`, as `ColumnConv2D` does.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """How a format orders its arrays.

    Attributes:
        channels_first: Kernels are `[out, in / groups, height, width]` and `[out, in]`, and maps are flattened
            channel by channel (CHW).
        bgr: The first convolution expects blue, green, red.
    """

    channels_first: bool
    bgr: bool


TORCH = Layout(channels_first=True, bgr=False)
CAFFE = Layout(channels_first=True, bgr=True)
CAFFE_TENSORFLOW = Layout(channels_first=False, bgr=True)
"""As the converter caffe-tensorflow left `bvlc_alexnet.npy`: axes and rows as ours, colours still Caffe's."""


def oihw_to_hwio(kernel: np.ndarray) -> np.ndarray:
    """A convolution's kernel `[out, in, height, width]` as `[height, width, in, out]`."""
    return kernel.transpose(2, 3, 1, 0)


def hwio_to_oihw(kernel: np.ndarray) -> np.ndarray:
    """A convolution's kernel `[height, width, in, out]` as `[out, in, height, width]`."""
    return kernel.transpose(3, 2, 0, 1)


def chw_rows_to_hwc(kernel: np.ndarray, maps: tuple[int, int, int]) -> np.ndarray:
    """A dense kernel `[in, out]` over flattened maps (height, width, channels): rows from CHW to HWC order."""
    height, width, channels = maps
    return kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)


def hwc_rows_to_chw(kernel: np.ndarray, maps: tuple[int, int, int]) -> np.ndarray:
    """A dense kernel `[in, out]` over flattened maps (height, width, channels): rows from HWC to CHW order."""
    height, width, channels = maps
    return kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def swap_red_and_blue(kernel: np.ndarray) -> np.ndarray:
    """A convolution's kernel `[height, width, in, out]` for the channels in opposite order."""
    return kernel[:, :, ::-1]
