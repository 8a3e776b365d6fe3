"""A sweep as one tidy table for people's own notebooks: a row for each job, step and split. Imports no TensorFlow."""

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf.config import check_table_file, flatten
from alexnet_tf.runs import (
    METRICS,
    METRICS_COLUMNS,
    TIMING_COLUMNS,
    RunError,
    RunFolder,
    SweepFolder,
    write_atomic,
)
from alexnet_tf.studies.progress import read_standings
from alexnet_tf.studies.results import IGNORED_KEYS, UNREADABLE, load_run

if TYPE_CHECKING:
    import pandas as pd

TIDY = "runs.csv"
"""Where `export_sweep` writes by default, in the sweep's folder."""
JOB_COLUMNS = ("job", "phase", "arm", "seed", "state")
MEASURED = tuple(dict.fromkeys((*METRICS_COLUMNS, *TIMING_COLUMNS)))
"""The columns of a run's own tables, those of the place (epoch, step, split) once."""
WRITERS = (".csv", ".parquet")


def tidy_table(sweep: SweepFolder) -> "pd.DataFrame":
    """All measurements of all jobs.

    The columns are `JOB_COLUMNS`, then a column for each config key in which the jobs differ under its dotted name, then
    `MEASURED`: errors are fractions (0-1), `seconds` is the training time. A job that has measured nothing has one row
    that ends after its config.

    Raises:
        RunError: If the sweep has no jobs.
    """
    import pandas as pd

    standings = read_standings(sweep)
    if not standings:
        raise RunError(f"{sweep.path}: the sweep has no jobs")
    configs = [_config(sweep.run(job)) for job in sweep.jobs]
    differing = _differing(configs)
    rows = []
    for job, standing, config in zip(sweep.jobs, standings, configs, strict=True):
        state, measured = _measured(sweep.run(job), standing.state)
        own: dict[Hashable, Any] = dict(
            zip(JOB_COLUMNS, (job.name, job.phase, job.arm, job.seed, state), strict=True)
        )
        own |= {key: config.get(key) for key in differing}
        rows += [{**own, **values} for values in measured or [{}]]
    table = pd.DataFrame(rows, columns=[*JOB_COLUMNS, *differing, *MEASURED])
    for name in differing:
        table[name] = _one_type(table[name])
    return table.astype({"epoch": "Int64", "step": "Int64", "examples": "Int64"})


def _config(run: RunFolder) -> dict[str, Any]:
    """A job's config under dotted keys; empty for one that was never started or is damaged."""
    try:
        content = run.config_dict()
    except RunError:
        return {}
    return flatten({key: value for key, value in content.items() if key not in IGNORED_KEYS})


def _measured(run: RunFolder, state: str) -> tuple[str, list[dict[Hashable, Any]]]:
    """The rows that a run has measured, and its state, which is `unreadable` if they are damaged."""
    if not (run.path / METRICS).exists():
        return state, []
    try:
        return state, load_run(run).rows.to_dict("records")
    except RunError as error:
        return (state if "has no rows" in str(error) else UNREADABLE), []


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys with more than one value among the configs that are known, in the configs' order."""
    known = [config for config in configs if config]
    keys = dict.fromkeys(key for config in known for key in config)
    return [key for key in keys if len({json.dumps(config.get(key), default=str) for config in known}) > 1]


def _one_type(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A config key's values as numbers, truths or strings; of more than one kind, or lists, as text."""
    kinds = {
        bool if isinstance(value, bool) else float if isinstance(value, int | float) else type(value)
        for value in column.dropna()
    }
    if kinds <= {float} or kinds == {str} or (kinds == {bool} and column.notna().all()):
        return column.infer_objects()
    return column.map(
        lambda value: value if isinstance(value, str) else json.dumps(value, default=str), na_action="ignore"
    )


def export_sweep(path: Path, out: Path | None = None) -> Path:
    """Write `tidy_table` as CSV, or as Parquet where the name ends so.

    Args:
        path: The sweep.
        out: The file; None: `runs.csv` in the sweep's folder.

    Raises:
        ConfigError: If the name ends otherwise, or Parquet's package is missing.
        RunError: If it is no sweep, or the file cannot be written.
    """
    file = out or path / TIDY
    check_table_file("--out", file, WRITERS)
    table = tidy_table(SweepFolder.open(path))
    try:
        if file.suffix == ".parquet":
            write_atomic(file, lambda stream: table.to_parquet(stream, engine="pyarrow", index=False))
        else:
            write_atomic(file, lambda stream: table.to_csv(stream, index=False))
    except OSError as error:
        raise RunError(f"--out {file}: cannot be written ({error.strerror})") from error
    return file
