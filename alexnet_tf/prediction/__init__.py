"""Prediction: what a run or a SavedModel says of pictures on the disk, however many."""

from alexnet_tf.prediction.classifier import Classifier, Prediction
from alexnet_tf.prediction.picture import draw_predictions
from alexnet_tf.prediction.stream import Options, predict

__all__ = [
    "Classifier",
    "Options",
    "Prediction",
    "draw_predictions",
    "predict",
]
