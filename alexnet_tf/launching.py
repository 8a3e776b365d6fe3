"""`strategy.local_workers`: a run whose workers are processes of this machine, watched by this one. Imports no TensorFlow."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO

from alexnet_tf.config import Config, ConfigError, from_run, to_yaml
from alexnet_tf.config.schema import StrategyConfig
from alexnet_tf.processes import GPUS, NOTICE, THREADS, Children, death, handling, last_line, visible_gpus
from alexnet_tf.runs import CONFIG, GO_ON, STOPPED, RunError, RunFolder, State, Stopped, WriteError, is_locked

CLUSTER = "TF_CONFIG"
"""The variable in which TensorFlow looks for a worker's place among the others."""
FAILED_SECONDS = 5.0
"""When a worker has failed, the others have so long to say why themselves; then they are killed."""
ENDED_SECONDS = 60.0
"""When a worker has come to its proper end, the others must follow within so long."""
LOOK_SECONDS = 0.1
WRONG_USE, HUNG = 2, 124
"""Exit statuses of workers; the second stands for one that had to be killed because it did not end."""


def starts_workers(config: Config, overrides: Sequence[str]) -> bool:
    """Whether a run has workers to be started; not so in one of them."""
    return CLUSTER not in os.environ and _strategy(config, overrides).local_workers is not None


def train_in_workers(config: Config, overrides: Sequence[str]) -> RunFolder:
    """Train in `strategy.local_workers` processes, with their lines on our terminal and in `worker-N.log` of the run.

    Args:
        config: As `training.train` takes it.
        overrides: What was typed; with `resume` set what is to change.

    Returns:
        The finished run.

    Raises:
        ConfigError: If the workers say that the config is wrong; a folder made for the run goes again.
        RunError: If a worker failed, was killed or did not come to its end; the others are ended within seconds.
        Stopped: If SIGINT or SIGTERM came; the state is saved.
    """
    environments = _environments(_strategy(config, overrides))
    target = Path(config.run_dir) if config.run_dir else None
    others = {path.name for path in target.iterdir()} if target and target.is_dir() else None
    if config.resume:
        folder, changes = RunFolder.open(config.resume), changes_on_resume(overrides)
    else:
        name = f"{config.model.name}_{config.data.name}"
        folder, changes = RunFolder.new(config.run_dir, name, to_yaml(config), overrides), []
    codes, received = _run(folder, changes, environments)
    failed = {index: code for index, code in codes.items() if code not in (0, STOPPED)}
    if (
        received is not None
        and codes
        and set(codes.values()) <= {0, STOPPED, -signal.SIGINT, -signal.SIGTERM}
    ):
        if STOPPED not in codes.values() and any(codes.values()):  # they had not come to a first step
            folder.write_status(State.stopped, reason=f"{received.name} before the first step")
        if not any(codes.values()):  # it came after the last step
            return folder
        raise Stopped(folder, folder.status().get("step", 0))
    if failed:
        index, code = next(iter(failed.items()))  # what others said after it is only that they miss it
        line = last_line(_log(folder, index)).removeprefix("alexnet: ")
        if code == WRONG_USE:
            if not config.resume:
                _undo(folder, others)
            raise ConfigError(line)
        _raise_failure(folder, index, code, line)
    if STOPPED in codes.values():
        raise Stopped(folder, folder.status().get("step", 0))
    return folder


def _undo(folder: RunFolder, others: Collection[str] | None) -> None:
    """Take a new run's folder away if it was never trained; what else was in it stays.

    Args:
        folder: The run.
        others: Names of what was there before; None where there was no folder.
    """
    if folder.status()["state"] != State.pending or is_locked(folder.path):
        return
    if others is None:
        shutil.rmtree(folder.path)
        return
    for path in folder.path.iterdir():
        if path.name not in others:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _raise_failure(folder: RunFolder, index: int, code: int, line: str) -> None:
    """Say which worker failed first and why."""
    reason = f"worker {index}: {line}"
    if code == HUNG:
        reason = f"worker {index} did not end within {ENDED_SECONDS:g} s of the others"
    elif code < 0:
        reason = f"worker {index} was {death(code, _log(folder, index))}"
    if not is_locked(folder.path):  # else another process trains this run
        with contextlib.suppress(WriteError):  # the worker's own reason must still be seen
            folder.write_status(State.failed, reason=reason)
    if GO_ON not in reason:  # else the worker said so itself
        reason = f"{reason}; {GO_ON}{folder.path}"
    raise RunError(reason)


def _strategy(config: Config, overrides: Sequence[str]) -> StrategyConfig:
    """The strategy of a run, or of the one to go on with."""
    if config.resume is None:
        return config.strategy
    changes = [text for text in changes_on_resume(overrides) if text.startswith("strategy.")]
    folder = RunFolder.open(config.resume)
    return from_run(folder.path / CONFIG, folder.config_dict(), changes).strategy


def changes_on_resume(overrides: Sequence[str]) -> list[str]:
    """Of what was typed that which is to change in the config of the run that goes on."""
    return [text for text in overrides if text.partition("=")[0] != "resume"]


def _log(folder: RunFolder, index: int) -> Path:
    return folder.path / f"worker-{index}.log"


def _environments(strategy: StrategyConfig) -> list[dict[str, str]]:
    """The environment of each worker: its address and those of the others, its GPUs or its part of the cores."""
    count = strategy.local_workers or 1
    gpus = visible_gpus()
    if gpus and len(gpus) % count:
        raise ConfigError(
            f"strategy.local_workers={count}: expected a divisor of the {len(gpus)} GPUs of this machine"
        )
    addresses = _free_addresses(count)
    share = len(gpus) // count
    environments = []
    for index in range(count):
        place = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        own = {CLUSTER: json.dumps(place), "PYTHONUNBUFFERED": "1"}
        if gpus:
            own[GPUS] = ",".join(gpus[index * share : (index + 1) * share])
        defaults = {"TF_CPP_MIN_LOG_LEVEL": "2", THREADS: str(max(1, (os.cpu_count() or 1) // count))}
        environments.append({**defaults, **os.environ, **own})
    return environments


def _free_addresses(count: int) -> list[str]:
    """Ports of the loopback device that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _run(
    folder: RunFolder, changes: Sequence[str], environments: Sequence[dict[str, str]]
) -> tuple[dict[int, int], signal.Signals | None]:
    """Start the workers and wait for all: their exit statuses in the order of their ends, and the signal if one came."""
    children = Children()
    workers: list[subprocess.Popen[bytes]] = []
    with handling(children.forward), contextlib.ExitStack() as stack, _ended_at_last(workers):
        for index, environment in enumerate(environments):
            log = stack.enter_context(_opened(_log(folder, index)))
            worker = stack.enter_context(children.start(folder.path, environment, log, *changes))
            workers.append(worker)
            stack.enter_context(_shown(index, worker, _log(folder, index), log.tell()))
        codes = _wait(workers)
    return codes, children.received


def _opened(log: Path) -> IO[bytes]:
    try:
        return log.open("ab")
    except OSError as error:
        raise WriteError(log, error) from error


@contextlib.contextmanager
def _ended_at_last(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Leave no worker behind, whatever happens here."""
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()


@contextlib.contextmanager
def _shown(index: int, worker: subprocess.Popen[bytes], path: Path, start: int) -> Iterator[None]:
    """Show a worker's lines on our terminal with its number before them, from a place of its log on until it ends."""

    def follow() -> None:
        rest = b""
        with path.open("rb") as log:
            log.seek(start)
            ended = False
            while not ended:
                time.sleep(LOOK_SECONDS)
                ended = worker.poll() is not None  # before the last look
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in [*lines, *([rest] if ended else [])]:
                    text = line.decode(errors="replace").rstrip()
                    if text and not NOTICE.match(text):
                        print(f"[worker {index}] {text}\n", end="", flush=True)

    thread = threading.Thread(target=follow, name=f"output of worker {index}", daemon=True)
    thread.start()
    yield
    thread.join()


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> dict[int, int]:
    """Wait for all workers, and kill those that do not follow the first in time.

    Returns:
        The exit status of each that ended by itself, in the order of their ends, those killed by a signal first.
    """
    codes: dict[int, int] = {}
    deadline = float("inf")
    while len(codes) < len(workers) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        for index, worker in enumerate(workers):
            code = worker.poll()
            if code is not None and index not in codes:
                codes[index] = code
                seconds = ENDED_SECONDS if code in (0, STOPPED) else FAILED_SECONDS
                deadline = min(deadline, time.monotonic() + seconds)
    late = [index for index in range(len(workers)) if index not in codes]
    if late and all(code in (0, STOPPED) for code in codes.values()):
        codes[late[0]] = HUNG
    for index in late:
        workers[index].kill()
        workers[index].wait()
    return dict(sorted(codes.items(), key=lambda item: item[1] >= 0))
