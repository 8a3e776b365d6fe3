"""`write_report`: a sweep or runs in, one HTML page, pictures and a table for the terminal out. Imports no TensorFlow."""

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from alexnet_tf.config import override_key
from alexnet_tf.pages import Link, Page, TextTable, rich_table, write_page
from alexnet_tf.runs import CONFIG, MANIFEST, RunError, RunFolder, State, SweepFolder, write_json, write_text
from alexnet_tf.studies import tables, wording
from alexnet_tf.studies.claims import RESULT, result_json
from alexnet_tf.studies.measures import RULE
from alexnet_tf.studies.plots import run_pictures, study_pictures
from alexnet_tf.studies.progress import read_standings
from alexnet_tf.studies.results import DEAD, RunResult, environment_rows, load_jobs, load_run
from alexnet_tf.studies.study import StudyResult, load_study

if TYPE_CHECKING:
    from rich.console import Console, Group

HTML = "report.html"
CSV = "results.csv"
COMPARISON = "comparison"
"""Folder beside the first of several runs that their common report goes to."""


@dataclass(frozen=True)
class Report:
    """A written report.

    Args:
        html: The page.
        page: What it says.
    """

    html: Path
    page: Page

    @property
    def answers(self) -> list[str]:
        """A sentence for each comparison, or one on the runs."""
        return list(self.page.answers)

    def table(self) -> "Group":
        """The page's tables of results, and the jobs that do not count, for a rich console."""
        from rich.console import Group

        shown = [table for table in (*self.page.results, *self.page.details) if not table.wide]
        return Group(*(rich_table(table) for table in shown))

    def print(self, console: "Console | None" = None) -> None:
        """Print the tables, the answers and where the page is."""
        from rich.console import Console

        console = console or Console()
        console.print(self.table())
        for answer in self.answers:
            console.print(answer, markup=False, highlight=False)
        console.print(f"Report: {self.html}", markup=False, highlight=False, soft_wrap=True)


def write_report(paths: Sequence[Path], out: Path | None = None) -> Report:
    """Write the report of a sweep or of runs.

    Args:
        paths: One sweep folder (with a study: its comparison; without: its jobs side by side), one run folder,
            one folder of sweeps (the report of each, and an index of all), or several folders, of which a sweep
            stands for its finished runs.
        out: The folder for `report.html`, `plots/` and (for a study) `results.csv`. None: the sweep or the run
            itself; for several folders `comparison` beside the first.

    Raises:
        RunError: If a path is no run or sweep, holds nothing to report, or `out` cannot be written.
    """
    if not paths:
        raise RunError("no folder to report on. Expected run folders or a sweep folder.")
    folders = [Path(path) for path in paths]
    first = folders[0]
    if len(folders) > 1:
        results = [result for folder in folders for result in _several(folder)]
        return _write(_runs_page(results), out or first.parent / COMPARISON)
    if sweeps := _sweeps_in(first):
        return _write_index(first, sweeps, out or first)
    if not (first / MANIFEST).is_file():
        return _write(_runs_page([load_run(RunFolder.open(first))]), out or first)
    sweep = SweepFolder.open(first)
    if sweep.study is None:
        return _write(_grid_page(sweep), out or first)
    study = load_study(sweep)
    report = _write(_study_page(study), out or first)
    write_text(report.html.parent / CSV, tables.results_csv(study))
    write_json(report.html.parent / RESULT, result_json(study))
    return report


def _sweeps_in(folder: Path) -> list[Path]:
    """The sweeps one level below a folder that is itself no sweep and no run."""
    if not folder.is_dir() or (folder / MANIFEST).is_file() or (folder / CONFIG).is_file():
        return []
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _write_index(folder: Path, sweeps: Sequence[Path], out: Path) -> Report:
    """The report of each sweep, and a page that leads to them."""
    links, empty = [], []
    for path in sweeps:
        try:
            report = write_report([path])
        except RunError as error:
            empty.append(f"{path.name}: {error}")
            continue
        place = os.path.relpath(report.html, out)
        links.append(Link(report.page.title, quote(Path(place).as_posix()), report.answers))
    if not links:
        raise RunError(f"{folder}: none of its {len(sweeps)} sweeps has anything to report ({empty[0]})")
    page = Page(
        title=f"Sweeps in {folder.resolve().name}",
        answers=[f"{wording.counted(len(links), 'sweep')}.", *empty],
        links=links,
        commands=[("Make these pages again:", f"alexnet report {shlex.quote(_shown(folder))}")],
    )
    return _write(page, out)


def _several(folder: Path) -> list[RunResult]:
    if not (folder / MANIFEST).is_file():
        return [load_run(RunFolder.open(folder))]
    sweep = SweepFolder.open(folder)
    finished, _ = load_jobs(sweep, sweep.jobs)
    if not finished:
        raise RunError(f"{folder}: none of the sweep's {len(sweep.jobs)} jobs has finished")
    return finished


def _write(page: Page, folder: Path) -> Report:
    write_page(page, folder / HTML)
    return Report(folder / HTML, page)


def _study_page(study: StudyResult) -> Page:
    results = [tables.arms_table(study)]
    if study.comparisons:
        results.append(tables.comparisons_table(study))
    if study.trials:
        results.append(tables.tuning_table(study))
    differing = tables.differences_table(*study.config_differences())
    details = [
        tables.unfinished_table(study.unfinished),
        tables.seeds_table(study),
        differing,
        tables.environment_table(environment_rows(study.finished)),
    ]
    return Page(
        title=study.name.replace("_", " "),
        question=study.question,
        source=study.source,
        answers=_study_answers(study),
        pictures=study_pictures(study),
        results=results,
        rule=RULE if study.comparisons else "",
        details=_filled(details),
        commands=_sweep_commands(study.sweep, "study"),
    )


def _study_answers(study: StudyResult) -> list[str]:
    answers = [f"{item.name}: {wording.finding(item)}." for item in study.comparisons]
    missing = len(study.unfinished)
    if missing:
        jobs = wording.counted(missing + len(study.finished), "job")
        verb = "does" if missing == 1 else "do"
        answers.append(f"{missing} of {jobs} {verb} not count; the reasons are listed.")
    return answers or ["The study compares no arms; the tables hold the results."]


def _grid_page(sweep: SweepFolder) -> Page:
    results, unfinished = load_jobs(sweep, sweep.jobs)
    count = f"{len(results)} of {len(sweep.jobs)} jobs finished."
    details = [
        tables.unfinished_table(unfinished),
        tables.run_differences(results),
        tables.environment_table(environment_rows(results)),
    ]
    return Page(
        title=f"Sweep {sweep.path.resolve().name}",
        answers=[count, *_best_answer(results)],
        pictures=run_pictures(results) if results else (),
        results=_filled([tables.runs_table(results)]),
        details=_filled(details),
        commands=_sweep_commands(sweep, "sweep"),
    )


def _runs_page(results: Sequence[RunResult]) -> Page:
    one = len(results) == 1
    details = [tables.run_differences(results), tables.environment_table(environment_rows(results))]
    answers = [_run_answer(results[0])] if one else [f"{len(results)} runs.", *_best_answer(results)]
    folders = " ".join(shlex.quote(_shown(run.folder.path)) for run in results)
    trained = [("Train again:" if one else f"Train {run.name} again:", _run_command(run)) for run in results]
    return Page(
        title=f"Run {results[0].name}" if one else f"Comparison of {len(results)} runs",
        answers=answers,
        pictures=run_pictures(results),
        results=[tables.runs_table(results)],
        details=_filled(details),
        commands=[
            *trained,
            *_resume_commands(results),
            ("Make this page again:", f"alexnet report {folders}"),
        ],
    )


def _run_answer(run: RunResult) -> str:
    train, validation = (wording.percent(run.last(split, "top1_error")) for split in ("train", "validation"))
    epochs = wording.steps(float(run.rows["epoch"].max()))
    state = f"{run.state} (interrupted: its process is gone)" if run.state == DEAD else run.state
    return f"State {state}, epoch {epochs}: training error {train}, validation error {validation}."


def _best_answer(results: Iterable[RunResult]) -> list[str]:
    ends = [(run.last("validation", "top1_error"), run.name) for run in results]
    known = [(error, name) for error, name in ends if error == error]  # NaN: the run has no validation
    if not known:
        return []
    error = min(known)[0]
    names = " and ".join(name for other, name in known if other == error)
    return [f"The lowest validation error at the end is {wording.percent(error)}, of {names}."]


def _filled(candidates: Iterable[TextTable]) -> list[TextTable]:
    return [table for table in candidates if table.rows]


def _sweep_commands(sweep: SweepFolder, what: str) -> list[tuple[str, str]]:
    """How to run a sweep again, to go on with it, and to make its page; a manifest of old names no command."""
    path = shlex.quote(_shown(sweep.path))
    states = {standing.state for standing in read_standings(sweep)}
    again = [(f"Run the {what}:", shlex.join(["alexnet", "train", *sweep.command]))] if sweep.command else []
    idle = State.running not in states and states != {State.finished}
    resumable = bool(sweep.command) and idle
    go_on = [("Go on with what has not finished:", f"alexnet sweep resume {path}")] if resumable else []
    return [*again, *go_on, ("Make this page again from its runs:", f"alexnet report {path}")]


def _run_command(run: RunResult) -> str:
    kept = [text for text in run.folder.overrides() if override_key(text) not in ("run_dir", "resume")]
    return shlex.join(["alexnet", "train", *kept])


def _resume_commands(results: Sequence[RunResult]) -> list[tuple[str, str]]:
    """How to go on with the runs that have ended before their time."""
    ended = [run for run in results if run.state in (DEAD, State.stopped, State.failed)]
    return [
        (f"Go on with {run.name}:", shlex.join(["alexnet", "train", f"resume={_shown(run.folder.path)}"]))
        for run in ended
    ]


def _shown(path: Path) -> str:
    """A path as the user would type it: relative where it lies below the working folder."""
    absolute = path.resolve()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
