"""Residual networks for small images (He et al., 2015, section 4.2)."""

import keras

from alexnet_tf.config.schema import Init, ResidualConfig
from alexnet_tf.model.dense import Dense
from alexnet_tf.model.initializers import kernel_initializer, part_seed
from alexnet_tf.model.shortcut import ZeroPaddedShortcut

NORM_MOMENTUM = 0.9
"""Of BatchNorm's moving statistics, with `NORM_EPSILON` as in the authors' reimplementation (fb.resnet.torch): Keras's 0.99
has not forgotten its start after a few epochs."""
NORM_EPSILON = 1e-5


def apply_residual(
    images: keras.KerasTensor, config: ResidualConfig, dtype: str, seed: int
) -> keras.KerasTensor:
    """The logits of a first 3x3 convolution, groups of residual blocks, global average pooling and a dense layer.

    Convolutions have no bias, and BatchNorm after them; shortcuts have no parameters (option A). The layers of the second
    block of the first group are called `group1_block2_conv1`, `..._norm1`, `..._relu1`, `..._conv2`, `..._norm2`,
    `..._add`, `..._relu2`, and `..._shortcut` where the shape changes.

    Args:
        images: `[N, input_size, input_size, input_channels]`.
        config: Checked, with its number of classes.
        dtype: The policy of every layer but the last, which computes in the dtype of the images.
        seed: Seed of the initial weights, those of He et al. (2015), "Delving Deep into Rectifiers".
    """

    def normalized(
        x: keras.KerasTensor, place: str, number: str, filters: int, strides: int = 1
    ) -> keras.KerasTensor:
        name = f"{place}conv{number}"
        convolution = keras.layers.Conv2D(
            filters,
            3,
            strides,
            # One zero pixel on each side whatever the stride, where "same" puts none on the left and top.
            padding="same" if strides == 1 else "valid",
            use_bias=False,
            kernel_initializer=kernel_initializer(Init.he_normal, 0.0, part_seed(seed, name, "kernel")),
            dtype=dtype,
            name=name,
        )
        norm = keras.layers.BatchNormalization(
            momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, dtype=dtype, name=f"{place}norm{number}"
        )
        if strides > 1:
            x = keras.layers.ZeroPadding2D(1, dtype=dtype, name=f"{place}pad{number}")(x)
        return norm(convolution(x))

    def relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Activation("relu", dtype=dtype, name=name)(x)

    def block(x: keras.KerasTensor, place: str, filters: int, strides: int) -> keras.KerasTensor:
        inner = relu(normalized(x, place, "1", filters, strides), f"{place}relu1")
        inner = normalized(inner, place, "2", filters)
        if strides > 1 or x.shape[-1] != filters:
            x = ZeroPaddedShortcut(filters, strides, dtype=dtype, name=f"{place}shortcut")(x)
        return relu(keras.layers.Add(dtype=dtype, name=f"{place}add")([inner, x]), f"{place}relu2")

    x = relu(normalized(images, "", "0", config.filters[0]), "relu0")
    for group, filters in enumerate(config.filters, 1):
        for number in range(1, config.blocks + 1):
            strides = 2 if group > 1 and number == 1 else 1
            x = block(x, f"group{group}_block{number}_", filters, strides)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pool")(x)
    return Dense(
        config.num_classes,
        kernel_initializer=kernel_initializer(Init.he_normal, 0.0, part_seed(seed, "fc", "kernel")),
        dtype=images.dtype,
        name="fc",
    )(x)
