"""Networks: the functional builder, its layers, and a table of what a model holds and costs."""

from alexnet_tf.model.alexnet import ACTIVATIONS, leaky_relu
from alexnet_tf.model.builder import build, build_model
from alexnet_tf.model.convolution import ColumnConv2D
from alexnet_tf.model.dense import Dense
from alexnet_tf.model.dropout import Dropout, mask_scope
from alexnet_tf.model.energy import one_pass_scope
from alexnet_tf.model.lrn import LocalResponseNormalization
from alexnet_tf.model.map_norm import WithinMapNormalization
from alexnet_tf.model.parts import end_of, head, is_in, part_names
from alexnet_tf.model.pooling import Pool2D
from alexnet_tf.model.shortcut import ZeroPaddedShortcut
from alexnet_tf.model.summary import LayerRow, layer_table, total

__all__ = [
    "ACTIVATIONS",
    "ColumnConv2D",
    "Dense",
    "Dropout",
    "LayerRow",
    "LocalResponseNormalization",
    "Pool2D",
    "WithinMapNormalization",
    "ZeroPaddedShortcut",
    "build",
    "build_model",
    "end_of",
    "head",
    "is_in",
    "layer_table",
    "leaky_relu",
    "mask_scope",
    "one_pass_scope",
    "part_names",
    "total",
]
