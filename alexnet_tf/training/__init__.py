"""Strategy, optimizer, schedule, step, loop, checkpoint, callbacks: a config becomes a run."""

from alexnet_tf.runs import Stopped
from alexnet_tf.training.checkpoint import Checkpoint
from alexnet_tf.training.loop import DivergedError
from alexnet_tf.training.optimizer import CoupledSGD
from alexnet_tf.training.trainer import train

__all__ = ["Checkpoint", "CoupledSGD", "DivergedError", "Stopped", "train"]
