"""Weights of others: the formats they come in, the layouts of their arrays, and which array is which variable."""

from alexnet_tf.model.weights.caffe import read_mean_blob
from alexnet_tf.model.weights.content import Weights, WeightsError
from alexnet_tf.model.weights.files import READERS, read_weights
from alexnet_tf.model.weights.layouts import CAFFE, CAFFE_TENSORFLOW, TORCH, Layout
from alexnet_tf.model.weights.state_dict import WRITERS
from alexnet_tf.model.weights.transfer import assign, class_count, state_dict

__all__ = [
    "CAFFE",
    "CAFFE_TENSORFLOW",
    "READERS",
    "TORCH",
    "WRITERS",
    "Layout",
    "Weights",
    "WeightsError",
    "assign",
    "class_count",
    "read_mean_blob",
    "read_weights",
    "state_dict",
]
