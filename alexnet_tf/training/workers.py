"""The workers of one run: how they find each other, what they agree on, and how they end when one is gone."""

import contextlib
import functools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import tensorflow as tf

from alexnet_tf.config import ConfigError
from alexnet_tf.data import Share
from alexnet_tf.launching import CLUSTER
from alexnet_tf.runs import RunError

LAST_SECONDS = 5.0
"""For the last word of a process that ends itself."""
MEETING_SECONDS = 0.2
"""Workers read their sums and ask each other whether to stop about so often, and all after the same step."""
MEETING_STEPS = 100
"""The most steps between two meetings."""
TEXT_BYTES = 4096
FIRST_PORT, PORTS = 20000, 20000
COORDINATOR = "RPC: /tensorflow.CoordinationService/"
"""How TensorFlow's error begins a call to the service that knows who is there."""
EXAMPLE = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'


# -------------------------------------------------------------------------------------------- finding each other


@functools.cache  # TensorFlow joins a cluster once in a process
def join_cluster(timeout_seconds: float) -> tf.distribute.Strategy:
    """The strategy over the workers that `TF_CONFIG` names, or Slurm's variables where it is not set.

    Raises:
        ConfigError: If neither is there, or what they say makes no sense.
    """
    if CLUSTER not in os.environ:
        os.environ[CLUSTER] = json.dumps(_slurm_cluster())
    _check_cluster(os.environ[CLUSTER])
    with Watchdog(timeout_seconds) as watchdog:
        watchdog.doing("waiting for the other workers to start")
        return tf.distribute.MultiWorkerMirroredStrategy()


def _check_cluster(text: str) -> None:
    """Raise `ConfigError` unless the text is a cluster of workers, and a chief if need be, with this one among them."""
    try:
        content = json.loads(text)
        jobs, task = content["cluster"], content["task"]
        known = set(jobs) <= {"chief", "worker"}
        here = task["index"] in range(len(jobs[task["type"]]))
        addresses = [address for job in jobs.values() for address in job]
        known = known and here and all(_is_address(address) for address in addresses)
    except (ValueError, TypeError, LookupError, AttributeError):
        known = False
    if not known:
        raise ConfigError(
            f"{CLUSTER}={text}: expected addresses of workers and this one's place, as {EXAMPLE}"
        )


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


class _Slurm(tf.distribute.cluster_resolver.SlurmClusterResolver):
    """TensorFlow's resolver with the rank of a task by its node, as the addresses are in the order of the nodes' names.

    Slurm counts n9 before n10, the resolver after it.
    """

    def _resolve_own_rank(self) -> int:
        node, nodes = os.environ.get("SLURMD_NODENAME"), self._resolve_task_configuration()
        if node not in nodes:
            return super()._resolve_own_rank()
        before = sum(tasks for name, tasks in nodes.items() if name < node)
        return before + int(os.environ["SLURM_LOCALID"])


def _slurm_cluster() -> dict[str, Any]:
    """The content of `TF_CONFIG` for a task of a Slurm step; ports derive from the job's number.

    The GPUs of a task are those that Slurm binds to it (`--gpus-per-task`), so the resolver has none to give away; it
    wants some all the same.
    """
    if "SLURM_STEP_NUM_TASKS" not in os.environ:
        raise ConfigError(
            f"strategy=multi_worker: expected {CLUSTER}, the variables of a Slurm step (start it with srun), or "
            f"strategy.local_workers=N to start N workers on this machine"
        )
    port = FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", 0)) % PORTS
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    try:
        resolver = _Slurm(port_base=port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False)
        cluster = resolver.cluster_spec().as_dict()
    except (RuntimeError, ValueError, LookupError) as error:
        raise ConfigError(
            f"strategy=multi_worker: Slurm's variables are not those of a step ({error})"
        ) from error
    kind, index = resolver.get_task_info()
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


# ------------------------------------------------------------------------------------------------------ agreeing


class Team:
    """The workers that train a run together, or the one process that does.

    What decides about the next step must be the same everywhere, or a worker would wait in a reduction for others that
    never come to it. So all ask here, at the same places.

    Attributes:
        index: This worker's; 0 is the chief, which alone writes into the run folder.
        count: How many there are.
        watchdog: To be told what goes on.
    """

    def __init__(self, strategy: tf.distribute.Strategy, timeout_seconds: float) -> None:
        self.index, self.count = 0, 1
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            resolver = strategy.cluster_resolver
            jobs = resolver.cluster_spec().as_dict()
            self.count = sum(map(len, jobs.values()))
            self.index = resolver.task_id + (
                len(jobs.get("chief", ())) if resolver.task_type == "worker" else 0
            )
        self.strategy = strategy
        self.watchdog = Watchdog(timeout_seconds if self.count > 1 else None)
        self._add = tf.function(self._added)
        self._next_step = self._met_step = 0
        self._met_at = time.perf_counter()

    @property
    def chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.index == 0

    @property
    def share(self) -> Share:
        """The rows of each batch that this worker loads."""
        return Share(self.index, self.count)

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """The sums over all workers of numbers (float64) that each has."""
        if self.count == 1:
            return np.asarray(values, np.float64)
        return self._add(tf.constant(values, tf.float64)).numpy()

    def agree(self, flag: bool) -> bool:
        """Whether the chief has the flag; all must ask."""
        return bool(self.sum([float(flag and self.chief)])[0]) if self.count > 1 else flag

    def wait(self) -> None:
        """Go on when all have come here."""
        self.sum([0.0])

    def from_chief(self, text: str) -> str:
        """The chief's text, at most `TEXT_BYTES` long; what the others give does not count."""
        own = text.encode() if self.chief else b""
        summed = self.sum(
            np.frombuffer(own.ljust(TEXT_BYTES, b"\0")[:TEXT_BYTES], np.uint8).astype(np.float64)
        )
        return summed.astype(np.uint8).tobytes().rstrip(b"\0").decode()

    def begin(self, step: int) -> None:
        """Begin to measure how long steps take."""
        self._met_at, self._met_step = time.perf_counter(), step

    def meets(self, step: int, last: float) -> bool:
        """Whether the sums are read after a step, when that was done last at the time `last`."""
        if self.count == 1:
            return time.perf_counter() - last > MEETING_SECONDS
        return step >= self._next_step

    def any(self, flag: bool, step: int) -> bool:
        """Whether any worker has the flag after a step; decides, too, after which step they meet again."""
        if self.count == 1:
            return flag
        now = time.perf_counter()
        mine = (now - self._met_at) / max(1, step - self._met_step)
        flags, seconds = self.sum([float(flag), mine])
        if step != self._met_step:  # asked again after the same step, there is nothing to measure
            steps = int(MEETING_SECONDS * self.count / max(seconds, 1e-9))
            self._next_step = step + min(MEETING_STEPS, max(1, steps))
        self._met_at, self._met_step = now, step
        return bool(flags)

    def _added(self, values: tf.Tensor) -> tf.Tensor:
        replicas = len(self.strategy.extended.worker_devices)

        def replica(values: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % replicas, 0)  # each worker counts once
            own = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        return self.strategy.experimental_local_results(self.strategy.run(replica, args=(values,)))[0]


# -------------------------------------------------------------------------------------------------------- ending


class Watchdog:
    """Ends the process when one thing it does takes too long: no exception reaches a thread that waits in a collective.

    Args:
        seconds: How long; None: never.

    Attributes:
        on_end: Called with the reason first.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.on_end: Callable[[str], object] = lambda _: None
        self._what: str | None = None
        self._since = 0.0
        self._over = threading.Event()

    def doing(self, what: str | None) -> None:
        """Begin something; None: what may take any time."""
        self._what, self._since = what, time.monotonic()

    def __enter__(self) -> Self:
        if self.seconds is not None:
            threading.Thread(target=self._watch, args=(self.seconds,), name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self, seconds: float) -> None:
        while not self._over.wait(min(1.0, seconds / 4)):
            what = self._what
            if what is not None and time.monotonic() - self._since > seconds:
                reason = f"{what} for more than strategy.timeout_seconds={seconds:g}"
                print(f"alexnet: {reason}", file=sys.stderr, flush=True)
                last = threading.Thread(target=self._say, args=(reason,), daemon=True)
                last.start()  # in a thread, as it may wait for the same disk that all wait for
                last.join(LAST_SECONDS)
                os._exit(1)

    def _say(self, reason: str) -> None:
        with contextlib.suppress(OSError, RunError):
            self.on_end(reason)


def explain_error(error: BaseException, team: Team) -> RunError | None:
    """What TensorFlow's error means where another worker is gone; None for any other error."""
    text = str(error)
    if team.count == 1 or not isinstance(error, tf.errors.OpError) or "ollective" not in text:
        return None
    tasks = {int(task) for task in re.findall(r"task:(\d+)", text)}
    if not tasks and COORDINATOR in text:  # no answer from the service itself, which the chief runs
        tasks = {0}
    others = sorted(tasks - {team.index})
    who = f"worker {others[0]}" if len(others) == 1 else "another worker"
    return RunError(f"{who} is gone or does not answer")
