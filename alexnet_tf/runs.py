"""The run folder and the sweep folder: their file names, and reading and writing them. Imports no TensorFlow.

A run folder holds `config.yaml`, `overrides.yaml`, `environment.json`, `status.json`, `metrics.csv`, `timing.csv`,
`statistics.npz`, `dataset.json`, `checkpoints/`, `events/`, `model.keras`, and what later commands add under
`evaluations.csv`, `evaluations/`, `plots/` and `export/`. A sweep folder holds `sweep.yaml`, its runs, and the study's report. Every file is written
to a temporary name and renamed, so a reader never sees half of one.
"""

import contextlib
import csv
import json
import os
import platform
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import pandas as pd

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
METRICS = "metrics.csv"
TIMING = "timing.csv"
STATISTICS = "statistics.npz"
DATASET = "dataset.json"
MODEL = "model.keras"
EVALUATIONS = "evaluations.csv"
SCORES = "scores.csv"
MANIFEST = "sweep.yaml"

METRICS_COLUMNS = ("epoch", "step", "split", "loss", "top1_error", "top5_error", "lr", "examples")
"""Errors are fractions (0-1); `top5_error` is empty up to five classes; `split` is train, validation or probe."""
TIMING_COLUMNS = ("epoch", "step", "split", "seconds", "images_per_second")
"""`seconds` is the training time so far without validation and probe, carried over resumes."""

DATASET_KEYS = ("name", "class_names", "image_shape", "channels", "splits", "fingerprint")
"""What `dataset.json` holds."""
PACKAGES = ("tensorflow", "keras", "numpy", "hydra-core", "tensorflow-datasets")
"""Packages whose versions a run records."""
IMPORTED = "imported"
"""Key of `status.json`: the file that the weights of a run come from, if they were not trained there."""


STOPPED = 75
"""Exit status of a process that a signal stopped after it had saved (EX_TEMPFAIL: try again)."""


class RunError(Exception):
    """A run or sweep folder is missing, damaged or not what was asked for; the message is one line."""

    exit_status = 1


class WrongPathError(RunError):
    """What was given is no run or sweep."""

    exit_status = 2


class State(StrEnum):
    """Where a run stands."""

    pending = "pending"
    running = "running"
    finished = "finished"
    stopped = "stopped"
    failed = "failed"


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk and rename it to `path`."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp makes private files; a run is shared like any other
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomic(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` to be renamed; unless that happens, it goes, and so do parents that were missing."""
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    folder = parent / f".{uuid.uuid4().hex[:12]}.tmp"  # not a number: TensorFlow Serving does not look at it
    try:
        folder.mkdir(parents=True)
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def software() -> dict[str, Any]:
    """What `environment.json` says of where a run was made: Python, versions, the commit, the kind of machine."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": {name: version(name) for name in ("alexnet_tf", *PACKAGES)},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` if it has changes; None outside one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # An installed package may lie inside a repository of its user's, which does not track it.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True, timeout=10
        )
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def new_folder(parent: Path, name: str) -> Path:
    """A path `parent/<local time>_<name>` that does not exist yet."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}_{name}"
    candidates = (parent / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


class Table:
    """Rows of a CSV file that is rewritten as a whole, so that it is complete at any moment.

    Args:
        path: The file; rows that it holds already are kept.
        columns: The header; a row of another file's columns is an error.

    Raises:
        RunError: If the file cannot be read, or has other columns or a row that is too short or too long.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            try:
                with path.open(newline="", encoding="utf-8") as stream:
                    self.rows = self._read(stream)
            except (OSError, ValueError, csv.Error) as error:  # what is no UTF-8 is a ValueError
                raise _unreadable(path, error) from error

    def _read(self, stream: IO[str]) -> list[dict[str, str]]:
        reader = csv.reader(stream)
        header = next(reader, None)
        if tuple(header or ()) != self.columns:
            raise RunError(f"{self.path}: expected the columns {','.join(self.columns)}, found {header}")
        rows = []
        for fields in reader:
            if len(fields) != len(self.columns):
                raise RunError(
                    f"{self.path}, line {reader.line_num}: expected {len(self.columns)} fields, found {len(fields)}"
                )
            rows.append(dict(zip(self.columns, fields, strict=True)))
        return rows

    def append(self, **values: object) -> None:
        """Add one row; numbers are written so that they read back exactly, None as an empty field."""
        self.rows.append({name: "" if values[name] is None else str(values[name]) for name in self.columns})

    def truncate(self, last_step: int) -> None:
        """Drop the rows of steps after `last_step`, which a resumed run makes again.

        Raises:
            RunError: If a step is no number.
        """
        try:
            self.rows = [row for row in self.rows if int(row["step"]) <= last_step]
        except ValueError as error:
            raise RunError(f"{self.path}: expected whole numbers as steps ({error})") from error

    def save(self) -> None:
        """Write the file."""
        lines = [",".join(self.columns), *(",".join(row[name] for name in self.columns) for row in self.rows)]
        write_text(self.path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class RunFolder:
    """A run on the disk."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: str, overrides: Iterable[str]) -> "RunFolder":
        """Make a folder for a new run.

        Args:
            path: The folder; it may exist, but not hold a run.
            config: The resolved config as YAML.
            overrides: What the user typed.

        Raises:
            WrongPathError: If there is a run already.
            RunError: If the folder cannot be written.
        """
        if (path / CONFIG).exists():
            raise WrongPathError(
                f"run_dir={path}: there is a run already. Expected a new folder, or resume={path} to go on."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / CONFIG, config)
            write_text(path / OVERRIDES, yaml.safe_dump(list(overrides)))
        except OSError as error:
            raise RunError(f"run_dir={path}: cannot be written ({error.strerror})") from error
        return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """The existing run at `path`.

        Raises:
            WrongPathError: If there is none.
        """
        folder = Path(path)
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise WrongPathError(f"{folder}: {found}. Expected a run folder, which `alexnet train` makes.")
        if not (folder / CONFIG).is_file():
            hint = f"; it is a sweep, whose runs are {folder}/*" if (folder / MANIFEST).exists() else ""
            raise WrongPathError(f"{folder}: not a run folder (it has no {CONFIG}){hint}")
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def config_dict(self) -> dict[str, Any]:
        """The resolved config as plain dicts and lists."""
        return read_yaml(self.path / CONFIG)

    def overrides(self) -> list[str]:
        """What the user typed.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / OVERRIDES
        return [str(text) for text in _parsed(path, yaml.safe_load, list)] if path.exists() else []

    def status(self) -> dict[str, Any]:
        """`status.json`: `state`, `reason`, `step`, `steps`, `updated`; only `state: pending` before the start.

        Raises:
            RunError: If the file is damaged or its state is none of `State`.
        """
        path = self.path / STATUS
        if not path.exists():
            return {"state": State.pending.value}
        status = read_json(path)
        if status.get("state") not in list(State):
            raise RunError(f"{path}: expected a state of {', '.join(State)}, found {status.get('state')!r}")
        return status

    def write_status(self, state: State, **values: object) -> None:
        """Replace `status.json`, keeping what `values` does not name."""
        kept = {key: value for key, value in self.status().items() if key != "reason"}
        write_json(self.path / STATUS, {**kept, "state": state.value, **values, "updated": now()})

    def environment(self) -> dict[str, Any]:
        """`environment.json`: versions, git commit, devices, start and end."""
        return read_json(self.path / ENVIRONMENT)

    def dataset(self) -> dict[str, Any]:
        """`dataset.json`: name, class names, split sizes and fingerprint of the data that the run saw.

        Raises:
            RunError: If the file is missing or damaged.
        """
        path = self.path / DATASET
        content = read_json(path)
        if missing := [key for key in DATASET_KEYS if key not in content]:
            raise RunError(
                f"{path}: expected the keys {', '.join(DATASET_KEYS)}; {', '.join(missing)} missing"
            )
        names = content["class_names"]
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise RunError(f"{path}: expected a list of strings as class_names, found {str(names)[:60]}")
        return content

    def metrics(self) -> "pd.DataFrame":
        """`metrics.csv` with the columns `METRICS_COLUMNS`.

        Raises:
            RunError: If the file is missing or damaged.
        """
        if IMPORTED in self.status():
            raise RunError(f"{self.path}: was imported, not trained: there are no metrics of it")
        return _read_csv(self.path / METRICS, METRICS_COLUMNS)

    def timing(self) -> "pd.DataFrame":
        """`timing.csv` with the columns `TIMING_COLUMNS`.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return _read_csv(self.path / TIMING, TIMING_COLUMNS)

    def checkpoints(self) -> list[Path]:
        """The checkpoints by step, the oldest first (without `best.npz`)."""
        return sorted((self.path / "checkpoints").glob("step-*.npz"))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep: its folder's name is its identity."""

    name: str
    arm: str
    seed: int
    phase: str = "train"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on the disk: `sweep.yaml` names the study and the jobs, each job is a run folder beside it."""

    path: Path
    study: dict[str, Any] | None = None
    jobs: list[Job] = field(default_factory=list)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SweepFolder":
        """The existing sweep at `path`.

        Raises:
            WrongPathError: If there is none.
            RunError: If its manifest is damaged.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise WrongPathError(f"{folder}: not a sweep folder (it has no {MANIFEST})")
        content = read_yaml(folder / MANIFEST)
        try:
            jobs = [Job(**{**job, "overrides": tuple(job["overrides"])}) for job in content["jobs"]]
        except (KeyError, TypeError) as error:
            raise RunError(f"{folder / MANIFEST}: damaged ({error})") from error
        return cls(folder, content.get("study"), jobs)

    def save(self) -> None:
        """Write the manifest."""
        jobs = [{**vars(job), "overrides": list(job.overrides)} for job in self.jobs]
        text = yaml.safe_dump({"study": self.study, "jobs": jobs}, sort_keys=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / MANIFEST, text)
        except OSError as error:
            raise RunError(f"run_dir={self.path}: cannot be written ({error.strerror})") from error

    def run(self, job: Job) -> RunFolder:
        """The folder of a job; it need not exist yet."""
        return RunFolder(self.path / job.name)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RunError: If the file cannot be read or is no mapping.
    """
    return _parsed(path, yaml.safe_load, dict)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        RunError: If the file cannot be read or is no object.
    """
    return _parsed(path, json.loads, dict)


def _parsed(path: Path, parse: Callable[[str], Any], kind: type[dict] | type[list]) -> Any:
    """What a file holds, which must be of `kind`."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # no UTF-8 or JSON is a ValueError
        raise _unreadable(path, error) from error
    if not isinstance(content, kind):
        expected = "mapping" if kind is dict else "list"
        raise RunError(f"{path}: expected a {expected}, found {type(content).__name__}")
    return content


def _unreadable(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: cannot be read ({' '.join(str(error).split())})")


def _read_csv(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """A table of numbers, but for the column `split`; the first three columns say what a row is of."""
    import pandas as pd  # half a second that only readers of tables should pay

    if not path.exists():
        raise RunError(f"{path}: there is none yet; the run has not finished its first epoch")
    Table(path, columns)  # where pandas fills in or shifts, this complains
    try:
        table = pd.read_csv(path)
        for name in columns:
            if name != "split":
                pd.to_numeric(table[name])
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise RunError(f"{path}: expected numbers ({' '.join(str(error).split())})") from error
    if table[["epoch", "step", "split"]].isna().any(axis=None):
        raise RunError(f"{path}: expected an epoch, a step and a split in every row, found an empty field")
    return table
