"""What a bench found, as a table and as JSON. Imports no TensorFlow."""

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from alexnet_tf import runs
from alexnet_tf.bench.benches import BENCHES, compose_bench
from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.trials import Measurement, Told, ratios, run_trials
from alexnet_tf.config import Config, ConfigError
from alexnet_tf.pages import TextTable


@dataclass(frozen=True)
class BenchResult:
    """What one bench found.

    Attributes:
        name: Of the bench.
        title: What one repetition was.
        threads: Of every contender.
        measurements: One for each contender.
        notes: What follows from them.
    """

    name: str
    title: str
    threads: int
    measurements: Sequence[Measurement]
    notes: Sequence[str]

    @property
    def failed(self) -> bool:
        """Whether a contender that began did not come to the end."""
        return any(each.failure != each.contender.missing() for each in self.measurements)

    def table(self) -> TextTable:
        """A row for each contender: median and spread, rate, fraction of the limit, how many times as fast ours is."""
        columns = ("", "ms", f"{BENCHES[self.name].items}/s", "of limit", "ours is faster by")
        rows = [self._row(each) for each in self.measurements]
        return TextTable(f"{self.title}; {self.threads} threads", columns, rows, numeric=True)

    def json(self) -> dict[str, Any]:
        """Everything: all trials, versions, and the ratios."""
        ours = self._ours()
        return {
            "bench": self.name,
            "title": self.title,
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": self.threads},
            "software": runs.software(),
            "notes": list(self.notes),
            "contenders": [
                {
                    "name": each.contender.name,
                    "role": each.contender.role,
                    "failure": each.failure or None,
                    "seconds": each.seconds,
                    "work": each.work,
                    "items": each.items,
                    "peak_bytes": each.peak_bytes,
                    "of_limit": self._of_limit(each),
                    "ours_is_faster_by": ratios(each, ours) if ours and each is not ours else None,
                    **each.facts,
                }
                for each in self.measurements
            ],
        }

    def _row(self, each: Measurement) -> tuple[str, ...]:
        name = each.contender.name
        if not each.seconds:
            return (name, "-", "", "", each.failure)
        share = self._of_limit(each)
        return (
            name,
            f"{_short(1000 * each.median)} ±{each.spread:.0%}",
            _short(each.items / each.median) if each.items else "",
            "" if share is None else f"{share:.1%}",
            each.failure or self._faster(each),
        )

    def _faster(self, each: Measurement) -> str:
        """How many times as fast ours is, where both do the same: the median of the rounds, and their range."""
        ours = self._ours()
        if ours is None or each.contender.role != "peer":
            return ""
        found = ratios(each, ours)
        return f"{median(found):.2f}x [{min(found):.2f}, {max(found):.2f}]"

    def _of_limit(self, each: Measurement) -> float | None:
        """The fraction of its limit's rate, the median over rounds."""
        limit = next((one for one in self.measurements if one.contender.name == each.contender.limit), None)
        if limit is None or not (limit.seconds and each.seconds):
            return None
        return median(ratios(limit, each)) * each.work / limit.work

    def _ours(self) -> Measurement | None:
        return next((one for one in self.measurements if one.contender.role == "ours" and one.seconds), None)


def run_bench(
    name: str,
    overrides: Sequence[str],
    *,
    rounds: int,
    seconds: float,
    only: Sequence[str] = (),
    profile: Path | None = None,
    told: Told = lambda *_: None,
) -> BenchResult:
    """Run a bench.

    Args:
        name: One of `BENCHES`.
        overrides: Changes of its config, in Hydra's syntax.
        rounds: Trials of each contender.
        seconds: How long a trial lasts at least.
        only: Parts of the names of the contenders that take part beside ours; none: all.
        profile: A folder for a TensorBoard trace of ours.
        told: Hears (turns done, turns in all).

    Raises:
        ConfigError: There is no such bench, contender or config.
    """
    if name not in BENCHES:
        raise ConfigError(f"bench {name}: expected one of {', '.join(BENCHES)}")
    bench = BENCHES[name]
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as folder:
        setting = compose_bench(bench, overrides, Path(folder))
        contenders = _chosen(bench.contenders(setting), only)
        measurements = run_trials(contenders, rounds=rounds, seconds=seconds, profile=profile, told=told)
    measured = {each.contender.name: each for each in measurements if each.seconds}
    notes = bench.notes(measured) if any(each.contender.role == "ours" for each in measured.values()) else []
    return BenchResult(name, _title(bench.title, setting.config), setting.threads, measurements, notes)


def _chosen(contenders: list[Contender], only: Sequence[str]) -> list[Contender]:
    """Ours and those whose names have a part that was asked for; all where none was."""
    if not only:
        return contenders
    names = [each.name for each in contenders]
    for part in only:
        if not any(part in name for name in names):
            raise ConfigError(f"--only {part}: expected a part of one of {', '.join(names)}")
    return [each for each in contenders if each.role == "ours" or any(part in each.name for part in only)]


def _short(value: float) -> str:
    """Four digits or all of the whole ones."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _title(text: str, config: Config) -> str:
    return text.format(
        model=config.model.name, batch=config.training.batch_size, precision=config.training.precision
    )
