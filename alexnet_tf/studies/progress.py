"""How far a sweep is: the standing of every job, as a table, a live table or plain data. Imports no TensorFlow."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alexnet_tf.runs import LOG, Job, RunError, RunFolder, State, SweepFolder, is_locked
from alexnet_tf.studies.results import DEAD, UNREADABLE, state_and_reason

STYLES = {
    State.finished: "green",
    State.running: "cyan",
    State.pending: "dim",
    State.stopped: "yellow",
    State.failed: "red",
    DEAD: "red",
    UNREADABLE: "red",
}
"""Every state with its colour."""
LIVELY = (State.running, State.failed, DEAD, UNREADABLE, State.stopped, State.pending, State.finished)
"""The order in which a live table lists them: what moves stands where it is seen."""
REFRESH_SECONDS = 2.0
NAME_WIDTH = 36
"""Names up to here stay on one line, however much there is to say of a job."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a job stands.

    Args:
        name: Its folder's name.
        arm: Its arm.
        seed: Its seed.
        phase: See `Job`.
        state: A `State`, `dead` or `unreadable`.
        step: Steps done.
        steps: Steps in all; None before the first start.
        seconds_left: Time to the end at the present speed, if it is running.
        reason: Why it is in this state.
        log: What its process printed, if there is any.
    """

    name: str
    arm: str
    seed: int
    phase: str
    state: str
    step: int = 0
    steps: int | None = None
    seconds_left: float | None = None
    reason: str = ""
    log: str | None = None

    @property
    def fraction(self) -> float:
        """How much of it is done, 0-1."""
        if self.state == State.finished:  # a run may stop early
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def read_standings(sweep: SweepFolder) -> list[Standing]:
    """The standing of every job of a sweep, in the manifest's order."""
    return [_standing(sweep.run(job), job) for job in sweep.jobs]


def _standing(run: RunFolder, job: Job) -> Standing:
    log = run.path / LOG
    known: dict[str, Any] = {"name": job.name, "arm": job.arm, "seed": job.seed, "phase": job.phase}
    known["log"] = str(log) if log.exists() else None
    try:
        state, reason = state_and_reason(run)
        status = run.status()
        step, steps = int(status.get("step", 0)), status.get("steps")
        steps = None if steps is None else int(steps)
    except (RunError, TypeError, ValueError) as error:
        return Standing(**known, state=UNREADABLE, reason=" ".join(str(error).split()))
    left = _seconds_left(status, step, steps) if state == State.running else None
    return Standing(**known, state=state, step=step, steps=steps, seconds_left=left, reason=reason)


def _seconds_left(status: dict[str, Any], step: int, steps: int | None) -> float | None:
    """The remaining steps at the speed since the present process began; validation and saving count in."""
    try:
        began, said = (datetime.fromisoformat(str(status[key])) for key in ("since", "updated"))
        done, seconds = step - int(status["since_step"]), (said - began).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    if steps is None or done <= 0 or seconds <= 0:
        return None
    return (steps - step) * seconds / done


def standings_dict(sweep: SweepFolder, standings: Sequence[Standing]) -> dict[str, Any]:
    """The standings for programs."""
    counts = Counter(item.state for item in standings)
    return {
        "sweep": str(sweep.path),
        "active": _active(sweep, standings),
        "counts": {state: counts[state] for state in map(str, STYLES)},
        "jobs": [asdict(item) for item in standings],
    }


def _active(sweep: SweepFolder, standings: Sequence[Standing]) -> bool:
    """Whether anybody works on it."""
    return is_locked(sweep.path) or any(item.state == State.running for item in standings)


def counts_line(sweep: SweepFolder, standings: Sequence[Standing]) -> str:
    """How many jobs are in each state."""
    counts = Counter(item.state for item in standings)
    said = ", ".join(f"{counts[state]} {state}" for state in map(str, STYLES) if counts[state])
    return f"{sweep.path}: {len(standings)} jobs: {said or 'none'}"


def hint_line(sweep: SweepFolder, standings: Sequence[Standing]) -> str:
    """How to go on with a sweep that is unfinished and that nobody works on, else nothing."""
    if _active(sweep, standings) or all(item.state == State.finished for item in standings):
        return ""
    return f"nobody works on it; go on with: alexnet sweep resume {sweep.path}"


def status_table(standings: Sequence[Standing]) -> Table:
    """A row for each job."""
    table = Table(box=None, pad_edge=False)
    longest = max((len(item.name) for item in standings), default=0)
    table.add_column("job", no_wrap=longest <= NAME_WIDTH, overflow="fold")
    for name in ("state", "done"):
        table.add_column(name, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("left", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for item in standings:
        table.add_row(*_row(item))
    return table


def _row(item: Standing) -> list[RenderableType]:
    bar = ProgressBar(total=1.0, completed=item.fraction, width=12)
    percent = f"{math.floor(100 * item.fraction)} %"  # 100 only when it is
    left = "" if item.seconds_left is None else duration(item.seconds_left)
    why = item.reason
    if item.state == State.failed and item.log:
        why += f" ({Path(item.log).parent.name}/{LOG})"
    return [Text(item.name), Text(item.state, STYLES[item.state]), bar, Text(percent), Text(left), Text(why)]


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 min` or `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_status(path: Path, *, watch: bool = False) -> None:
    """Print the table; in a terminal with `watch` again and again, until no job runs or waits, or Ctrl-C.

    Raises:
        RunError: If it is no sweep, or its manifest is damaged.
    """
    sweep, console = SweepFolder.open(path), Console(highlight=False, markup=False)
    standings = read_standings(sweep)
    if not (watch and console.is_terminal):
        console.print(counts_line(sweep, standings), soft_wrap=True)
        console.print(status_table(standings))
        if hint := hint_line(sweep, standings):
            console.print(hint, soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            rows = sorted(standings, key=lambda item: LIVELY.index(item.state))
            lines = [Text(line(sweep, standings)) for line in (counts_line, hint_line)]
            live.update(Group(*lines, status_table(rows)), refresh=True)
            if not any(item.state in (State.running, State.pending) for item in standings):
                return
            time.sleep(REFRESH_SECONDS)
            sweep = SweepFolder.open(path)  # a study adds jobs when its tuning is done
            standings = read_standings(sweep)
