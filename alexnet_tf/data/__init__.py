"""Data: sources of examples, operations on images, statistics of the training split, tf.data pipelines."""

from alexnet_tf.data.augment import NORMALISING, OPS
from alexnet_tf.data.conversion import Recipe
from alexnet_tf.data.folder import explain_error, explained
from alexnet_tf.data.pipeline import (
    WHOLE,
    Share,
    augmented_images,
    epoch_ids,
    epochs_at_once,
    eval_batches,
    finisher,
    num_train_steps,
    ordered_images,
    preprocess_images,
    probe_ids,
    raw_examples,
    train_batches,
)
from alexnet_tf.data.preparation import Plan, PrepareError, make_plan, prepare
from alexnet_tf.data.preprocessing import Preprocessing, make_preprocessing
from alexnet_tf.data.sources import SOURCES, DataError, DataSource, Split, load_source
from alexnet_tf.data.statistics import ARCHIVE_DAMAGES, Statistics, compute_statistics
from alexnet_tf.data.stores import DamagedError
from alexnet_tf.data.verification import verify_prepared

__all__ = [
    "ARCHIVE_DAMAGES",
    "NORMALISING",
    "OPS",
    "SOURCES",
    "WHOLE",
    "DamagedError",
    "DataError",
    "DataSource",
    "Plan",
    "PrepareError",
    "Preprocessing",
    "Recipe",
    "Share",
    "Split",
    "Statistics",
    "augmented_images",
    "compute_statistics",
    "epoch_ids",
    "epochs_at_once",
    "eval_batches",
    "explain_error",
    "explained",
    "finisher",
    "load_source",
    "make_plan",
    "make_preprocessing",
    "num_train_steps",
    "ordered_images",
    "prepare",
    "preprocess_images",
    "probe_ids",
    "raw_examples",
    "train_batches",
    "verify_prepared",
]
