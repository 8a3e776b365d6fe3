"""The bench: ours, its peers and the machine's own limit, measured in turns within one run."""

from alexnet_tf.bench.benches import BENCHES
from alexnet_tf.bench.process import BenchError
from alexnet_tf.bench.result import BenchResult, run_bench

__all__ = ["BENCHES", "BenchError", "BenchResult", "run_bench"]
