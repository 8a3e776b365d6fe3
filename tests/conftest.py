"""What all tests share: the command as a subprocess, in a folder of its own and with a cache of its own."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_finish() -> None:
    """Python's search for cycles goes through all that TensorFlow and Hydra hold; so it does that less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics are cached in the user's home by default; tests neither use nor fill that cache."""
    path = tmp_path_factory.mktemp("cache")
    os.environ["ALEXNET_CACHE_DIR"] = str(path)
    return path


def run_alexnet(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    """`python -m alexnet_tf` with arguments, its output captured."""
    command = [sys.executable, "-m", "alexnet_tf", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def alexnet(tmp_path: Path) -> Command:
    """The command, started in an empty folder."""
    return lambda *arguments, **options: run_alexnet(*arguments, **{"cwd": tmp_path, **options})


@pytest.fixture(scope="session")
def alexnet_in() -> Command:
    """The command, started in the folder `cwd`."""
    return run_alexnet


@pytest.fixture
def alexnet_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The command within this process and in an empty folder, for what starting a process adds nothing to."""
    from alexnet_tf import cli

    level = logging.root.level  # which Hydra changes

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["alexnet", *arguments])
        for name, value in {"HYDRA_FULL_ERROR": "", "TF_CPP_MIN_LOG_LEVEL": "2"}.items():
            monkeypatch.setenv(
                name, value
            )  # the command sets them; children of later tests must not inherit that
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, *capfd.readouterr())

    yield run
    logging.root.setLevel(level)
