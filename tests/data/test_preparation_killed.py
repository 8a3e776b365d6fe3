"""`alexnet prepare` killed with SIGKILL at random moments, and while it finishes: it goes on to the same bytes."""

import multiprocessing
import os
import random
import sys
import time

import pytest
from ilsvrc import write_archives

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["alexnet_tf.cli", "alexnet_tf.data", "tensorflow_datasets"])
"""Each command is a process of its own, forked after the libraries are loaded."""


def command(log, *arguments):
    from alexnet_tf.cli import main

    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["alexnet", "prepare", *arguments]
    main()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start the command for a folder, with options."""
    folder = tmp_path_factory.mktemp("killed")
    write_archives(folder / "archives", per_class=40, validation=20)
    base = [
        "data=imagenet2012",
        f"data.dir={folder / 'archives'}",
        "data.on_error=skip",
        "--size=64",
        "--records=5",
    ]

    def begin(out, *options):
        process = SERVER.Process(target=command, args=(folder / "log.txt", *base, f"--out={out}", *options))
        process.start()
        return process

    return begin


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What is in the folder of a set that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "set"
    ended(start(out))
    return everything(out)


def ended(process):
    process.join()
    assert process.exitcode == 0


def everything(folder):
    """All files and folders, hidden ones too."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: path.is_file() and path.read_bytes() for name, path in paths.items()}


def kill(process):
    """Kill it, and return whether it was still at work."""
    process.kill()
    process.join()
    return process.exitcode != 0


@pytest.mark.parametrize("seed", range(3))
def test_at_random_moments(start, whole, tmp_path, seed):
    """First while it begins, then when it has come one to three shards further, and a random moment after."""
    chance, kills, progress = random.Random(seed), 0, [0]
    for attempt in range(7):
        goal = progress[-1] + chance.randrange(1, 4) if attempt else 0
        process = start(tmp_path / "set")
        while process.is_alive() and len(list(tmp_path.glob("set/*.array_record*"))) < goal:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02 if attempt else 0.5))
        kills += kill(process)
        progress.append(len(list(tmp_path.glob("set/*.array_record*"))))
    ended(start(tmp_path / "set"))
    assert everything(tmp_path / "set") == whole
    assert kills >= 5
    assert len(set(progress)) >= 5


@pytest.mark.parametrize(
    "moment",
    [
        "shards/*.npz",
        "shards/*.json",
        "*validation.array_record*",
        "statistics.npz",
        "dataset_info.json",
        "prepared.json",
    ],
)
def test_when_a_file_has_just_appeared(start, whole, tmp_path, moment):
    process = start(tmp_path / "set")
    while not any(tmp_path.glob(f"set/{moment}")):
        assert process.is_alive()
    kill(process)
    ended(start(tmp_path / "set"))
    assert everything(tmp_path / "set") == whole


def test_parts_at_once(start, whole, tmp_path):
    parts = [start(tmp_path / "set", f"--shard={part}/3") for part in range(3)]
    for process in parts:
        ended(process)
    assert everything(tmp_path / "set") == whole
