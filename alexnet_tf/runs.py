"""The run folder and the sweep folder: their file names, and reading and writing them. Imports no TensorFlow.

A run folder holds `config.yaml`, `overrides.yaml`, `environment.json`, `status.json`, `metrics.csv`, `timing.csv`,
`statistics.npz`, `dataset.json`, `checkpoints/`, `events/`, `model.keras` or `classifier.npz`, and what later commands add under
`evaluations.csv`, `evaluations/`, `plots/` and `export/`. A sweep folder holds `sweep.yaml`, its runs, and the study's report. Every file is written
to a temporary name and renamed, so a reader never sees half of one.
"""

import contextlib
import csv
import errno
import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
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

# The C library's are ten times as fast, which a manifest of a thousand jobs needs; not every PyYAML is built with it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
ENVIRONMENT = "environment.json"
STATUS = "status.json"
METRICS = "metrics.csv"
TIMING = "timing.csv"
STATISTICS = "statistics.npz"
DATASET = "dataset.json"
MODEL = "model.keras"
CLASSIFIER = "classifier.npz"
"""The final model where it is features and an SVM on them; see `alexnet_tf.classical`."""
EVALUATIONS = "evaluations.csv"
SCORES = "scores.csv"
MANIFEST = "sweep.yaml"

METRICS_COLUMNS = ("epoch", "step", "split", "loss", "top1_error", "top5_error", "lr", "examples")
"""Errors are fractions (0-1); `top5_error` is empty up to five classes; `split` is train, validation or probe."""
TIMING_COLUMNS = ("epoch", "step", "split", "seconds", "images_per_second")
"""`seconds` is the training time so far without validation and probe, carried over resumes."""
SCORE_COLUMNS = (
    "time", "split", "views", "runs", "loss", "top1_error", "top1_low", "top1_high",
    "top5_error", "top5_low", "top5_high", "examples",
)  # fmt: skip
"""Errors are fractions (0-1) between the bounds of their 95 % intervals; `runs` is how many were averaged."""
EVALUATION_COLUMNS = (*SCORE_COLUMNS, "folder")
"""`folder` has the tables; in a run it is relative to the run."""

DATASET_KEYS = ("name", "class_names", "image_shape", "channels", "splits", "fingerprint")
"""What `dataset.json` holds."""
PACKAGES = ("tensorflow", "keras", "numpy", "hydra-core", "tensorflow-datasets")
"""Packages whose versions a run records."""
IMPORTED = "imported"
"""Key of `status.json`: the file that the weights of a run come from, if they were not trained there."""


LOG = "log.txt"
"""What a sweep's job printed, in its run folder."""
UMASK = os.umask(0)
os.umask(UMASK)  # read once: while it is 0, a file of another thread would be open to all
LOCK_SECONDS = 2.0
"""A lock is waited for so long, because a look at it (`is_locked`) takes it for a moment."""
NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What `flock` says on network file systems that cannot lock a folder."""
SILENT_SECONDS = 600.0
"""A run on another machine, whose lock cannot be seen from here, counts as dead when it says nothing for so long."""

GO_ON = "go on with: alexnet train resume="
"""What a run that has stopped says last, before its folder."""
STOPPED = 75
"""Exit status of a process that a signal stopped after it had saved (EX_TEMPFAIL: try again)."""


class RunError(Exception):
    """A run or sweep folder is missing, damaged or not what was asked for; the message is one line."""

    exit_status = 1


class WrongPathError(RunError):
    """What was given is no run or sweep."""

    exit_status = 2


class WriteError(RunError, OSError):
    """A file cannot be written: no room, no permission. An `OSError` too, for who has more to say about it."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause), str(path))

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written ({self.strerror})"


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """A signal ended the run after its state was saved."""

    exit_status = STOPPED

    def __init__(self, run: "RunFolder", step: int) -> None:
        super().__init__(f"stopped at step {step}; {GO_ON}{run.path}")
        self.run = run


class State(StrEnum):
    """Where a run stands."""

    pending = "pending"
    running = "running"
    finished = "finished"
    stopped = "stopped"
    failed = "failed"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` to fill; at the end it is flushed to the disk and renamed to `path`, the folder too.

    After an error, or a power cut at any moment, `path` is what it was before.

    Raises:
        WriteError: If it cannot be written; an `OSError` of whoever fills the file becomes one.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~UMASK)  # mkstemp makes private files; a run is shared like any other
        temporary.replace(path)
        _flush(path.parent)  # the new name is on the disk only then
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, WriteError):
            raise WriteError(path, error) from error
        raise


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk and rename it to `path`.

    Raises:
        WriteError: As `replacing`.
    """
    with replacing(path) as temporary, temporary.open("wb") as stream:
        write(stream)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush a folder
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomic(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_new(path: Path) -> None:
    """Raise `WrongPathError` for the name of a folder to make that exists."""
    if os.path.lexists(path):
        raise WrongPathError(f"{path}: exists already. Expected the name of a new folder.")


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


def seconds_since(moment: str) -> float:
    """Seconds from a time as `now` gives it; infinite for what is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without a zone
        return float("inf")


@contextlib.contextmanager
def locked(path: Path, message: str, wait: float = LOCK_SECONDS) -> Iterator[None]:
    """Keep other processes out of a folder; the system lets go of it however this process ends.

    Where the file system has no locks nothing is locked.

    Args:
        path: An existing folder.
        message: What the error says after the folder's name.
        wait: Seconds to try for.

    Raises:
        WrongPathError: If another process holds it all that time.
    """
    handle = _lock_handle(path)
    deadline = time.monotonic() + wait
    try:
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise WrongPathError(f"{path}: {message}")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds a folder that may not even exist."""
    try:
        handle = _lock_handle(path)
    except OSError:
        return False
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)


def _lock_handle(path: Path) -> int:
    """What is locked for a folder: itself, or on NFS, which locks only what is open for writing, a file in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno == errno.EBADF:
            os.close(handle)
            return os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    return handle


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def new_folder(parent: Path, name: str) -> Path:
    """A path `parent/<local time>_<name>` that does not exist yet."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}_{name}"
    candidates = (parent / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 1000))
    return next(path for path in candidates if not path.exists())


class Table:
    """Rows of a CSV file that is rewritten as a whole, so that it is complete at any moment.

    Args:
        path: The file.
        columns: The header; a row of another file's columns is an error.
        rows: The rows so far; None: those that the file holds already.

    Raises:
        RunError: If the file cannot be read, or has other columns or a row that is too short or too long.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]] | None = None
    ) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.rows: list[dict[str, str]] = list(rows or [])
        self._saved: str | None = None
        if rows is None and path.exists():
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

    def content(self) -> list[list[str]]:
        """The fields of every row, to be kept elsewhere; `parse` makes rows of them again."""
        return [list(row.values()) for row in self.rows]

    def parse(self, content: Sequence[Sequence[str]]) -> list[dict[str, str]]:
        """The rows that `content` gave."""
        return [dict(zip(self.columns, fields, strict=True)) for fields in content]

    def save(self) -> None:
        """Write the file, unless that was done already."""
        lines = [",".join(self.columns), *(",".join(row[name] for name in self.columns) for row in self.rows)]
        text = "\n".join(lines) + "\n"
        if text != self._saved:
            write_text(self.path, text)
            self._saved = text


def find_savedmodel(path: Path) -> Path | None:
    """The SavedModel in a folder, or the newest of numbered ones below it; None where there is none.

    A run is none, even if it has been exported.
    """
    versions = [folder for folder in path.glob("*") if folder.name.isdecimal()]
    candidates = [path, *sorted(versions, key=lambda folder: -int(folder.name))]
    return next((folder for folder in candidates if (folder / "saved_model.pb").is_file()), None)


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
            cls(path).write_overrides(overrides)
        except OSError as error:
            raise RunError(f"run_dir={path}: cannot be written ({error.strerror})") from error
        return cls(path)

    @classmethod
    def new(cls, path: str | None, name: str, config: str, overrides: Iterable[str]) -> "RunFolder":
        """Make the folder of a new run at `path`, or one under `runs/` that is called by the time and `name`."""
        return cls.create(Path(path) if path else new_folder(Path("runs"), name), config, overrides)

    @classmethod
    def open(cls, path: str | os.PathLike[str], key: str = "") -> "RunFolder":
        """The existing run at `path`.

        Args:
            path: The folder.
            key: Of the config that has the path, such as `init_from`, for the error.

        Raises:
            WrongPathError: If there is none.
        """
        folder = Path(path)
        named = f"{key}={folder}" if key else str(folder)
        if not folder.is_dir():
            found = "a file" if folder.exists() else "no such folder"
            raise WrongPathError(f"{named}: {found}. Expected a run folder, which `alexnet train` makes.")
        if not (folder / CONFIG).is_file():
            hint = f"; it is a sweep, whose runs are {folder}/*" if (folder / MANIFEST).exists() else ""
            raise WrongPathError(f"{named}: not a run folder (it has no {CONFIG}){hint}")
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    def config_dict(self) -> dict[str, Any]:
        """The resolved config as plain dicts and lists."""
        return read_yaml(self.path / CONFIG)

    def overrides(self) -> list[str]:
        """What the user typed; what was typed on a resume has taken the place of what was before for its key.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / OVERRIDES
        return [str(text) for text in _parsed(path, yaml.safe_load, list)] if path.exists() else []

    def write_overrides(self, overrides: Iterable[str]) -> None:
        """Replace what the user typed."""
        write_text(self.path / OVERRIDES, yaml.safe_dump(list(overrides)))

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
        own = {"host": socket.gethostname(), "updated": now()}
        write_json(self.path / STATUS, {**kept, "state": state.value, **values, **own})

    def copy_to(self, path: Path) -> None:
        """Copy the whole folder to a new place, which has all of it or nothing; its status says where it came from.

        Raises:
            RunError: If it cannot be written.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(self.path, temporary)
            copy = RunFolder(temporary)
            copy.write_status(State(copy.status()["state"]), copied_from=str(self.path.absolute()))
            temporary.rename(path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RunError(f"{path}: cannot be copied from {self.path} ({error.strerror})") from error

    def is_dead(self) -> bool:
        """Whether the status says `running`, but the process that wrote so is gone without a word.

        Raises:
            RunError: If the status is damaged.
        """
        if self.status()["state"] != State.running or is_locked(self.path):
            return False
        status = self.status()  # again: it may have ended between the two looks
        if status["state"] != State.running:
            return False
        elsewhere = status.get("host", socket.gethostname()) != socket.gethostname()
        return not (elsewhere and seconds_since(str(status.get("updated", ""))) < SILENT_SECONDS)

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

    def evaluations(self) -> Table:
        """`evaluations.csv` with the columns `EVALUATION_COLUMNS`; without rows where nothing was evaluated.

        Raises:
            RunError: If the file is damaged.
        """
        return Table(self.path / EVALUATIONS, EVALUATION_COLUMNS)

    def remove_remains(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote; the run must be locked.

        Raises:
            WriteError: If the folder can only be read.
        """
        for path in [*self.path.glob(".*.tmp*"), *(self.path / "checkpoints").glob(".*.tmp*")]:
            if path.is_file():  # a folder is what another command, such as an export, is filling
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise WriteError(path, error) from error

    def checkpoints(self) -> list[Path]:
        """The checkpoints by step, the oldest first (without `best.npz`)."""
        return sorted((self.path / "checkpoints").glob("step-*.npz"))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep: its folder's name is its identity.

    Args:
        name: Of its folder.
        arm: What it is called in the report.
        seed: Its seed.
        phase: `train`; `tune` for a run that chooses a value, `pretrain` for one that others start from.
        overrides: What its config is composed from.
        recipe: A hash of its config without the seed: the same for all seeds of an arm.
    """

    name: str
    arm: str
    seed: int
    phase: str = "train"
    overrides: tuple[str, ...] = ()
    recipe: str = ""


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on the disk: `sweep.yaml` names the study and the jobs, each job is a run folder beside it.

    Args:
        path: The folder.
        study: The study's description; None for a grid or a search.
        jobs: Its jobs, in the order in which they were added.
        command: The arguments of the `alexnet train` that was given last.
        cwd: The folder that it was given in.
    """

    path: Path
    study: dict[str, Any] | None = None
    jobs: list[Job] = field(default_factory=list)
    command: tuple[str, ...] = ()
    cwd: str = ""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "SweepFolder":
        """The existing sweep at `path`.

        Raises:
            WrongPathError: If there is none.
            RunError: If its manifest is damaged.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            found = f"; it is a run of {folder.parent}" if (folder.parent / MANIFEST).is_file() else ""
            found = found or ("; it is a run" if (folder / CONFIG).is_file() else "")
            missing = (
                f"not a sweep folder (it has no {MANIFEST}{found})" if folder.is_dir() else "no such folder"
            )
            raise WrongPathError(f"{folder}: {missing}")
        content = read_yaml(folder / MANIFEST)
        try:
            jobs = [_job(entry) for entry in content["jobs"]]
            command = tuple(str(text) for text in content.get("command") or ())
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{folder / MANIFEST}: damaged ({error})") from error
        study = content.get("study")
        if not isinstance(study, dict | None):
            raise RunError(f"{folder / MANIFEST}: expected a mapping as study, found {type(study).__name__}")
        return cls(folder, study, jobs, command, str(content.get("cwd") or ""))

    def save(self) -> None:
        """Write the manifest."""
        jobs = [{**vars(job), "overrides": list(job.overrides)} for job in self.jobs]
        content = {"command": list(self.command), "cwd": self.cwd, "study": self.study, "jobs": jobs}
        text = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / MANIFEST, text)
        except OSError as error:
            raise RunError(f"run_dir={self.path}: cannot be written ({error.strerror})") from error

    def run(self, job: Job) -> RunFolder:
        """The folder of a job; it need not exist yet."""
        return RunFolder(self.path / job.name)


def _job(entry: Any) -> Job:
    """A job of the manifest; its name is used as a folder's, so it must be one."""
    job = Job(**{**entry, "overrides": tuple(str(text) for text in entry["overrides"])})
    if not isinstance(job.name, str) or Path(job.name).name != job.name or not isinstance(job.seed, int):
        raise ValueError(f"expected a folder's name and a whole seed, found {job.name!r} and {job.seed!r}")
    return job


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RunError: If the file cannot be read or is no mapping.
    """
    return _parsed(path, lambda text: yaml.load(text, Loader=_Loader), dict)


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
