"""Errors of models and finished runs: exact, with intervals, over several views, of one run or the average of several."""

from alexnet_tf.evaluation.ensemble import evaluate_ensemble
from alexnet_tf.evaluation.evaluator import Evaluator, distribute
from alexnet_tf.evaluation.measure import Settings, evaluate_runs
from alexnet_tf.evaluation.results import Evaluation
from alexnet_tf.evaluation.scores import Scores, cross_entropy, tally, wilson

__all__ = [
    "Evaluation",
    "Evaluator",
    "Scores",
    "Settings",
    "cross_entropy",
    "distribute",
    "evaluate_ensemble",
    "evaluate_runs",
    "tally",
    "wilson",
]
