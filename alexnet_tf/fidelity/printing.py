"""Reports on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from alexnet_tf.fidelity.comparison import ERRORS, Report
from alexnet_tf.fidelity.sampled import Sampled


def print_report(report: Report, console: Console) -> None:
    """A table with a line for each number that a source says, and how many agree."""
    table = Table(
        title=report.name, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for column in ("what", "source says", "ours"):
        table.add_column(column, overflow="fold")
    for column in ("", "where"):
        table.add_column(column, no_wrap=True)
    for line in report.lines:
        verdict = "ok" if line.agrees else "DIFFERENT"
        style = None if line.agrees else "bold red"
        table.add_row(line.what, show(line.said), show(line.ours), verdict, line.where, style=style)
    console.print(table)
    console.print(f"{summary(report)}\n", style=None if report.ok else "bold red")


def print_end(reports: Sequence[Report], titles: dict[str, str], console: Console) -> None:
    """What the sources are that the reports name, and how many lines agree in all."""
    places = {line.where for report in reports for line in report.lines}
    for short, title in titles.items():
        if any(place.startswith(short) for place in places):
            console.print(f"{short}: {title}")
    differing = [summary(report) for report in reports if not report.ok]
    agreeing, lines = (
        sum(counts) for counts in zip(*((r.agreeing, len(r.lines)) for r in reports), strict=True)
    )
    console.print(f"In all {agreeing} of {lines} agree", *(f"; {text}" for text in differing), sep="")


def summary(report: Report) -> str:
    """Such as `alexnet_caffe: 58 of 58 agree`."""
    return f"{report.name}: {report.agreeing} of {len(report.lines)} agree"


def show(value: Any) -> str:
    """A number, or several, as the report has them."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {show(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        separator = ", " if any(isinstance(entry, str) for entry in value) else " "
        return separator.join(map(show, value)) or "nothing"
    if isinstance(value, Sampled):
        margin = f"±{100 * ERRORS * value.error / value:.1g}%" if value else ""  # of 0 there is no share
        return f"{value:.4g}{margin}"
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # no -0
    return f"{value:,}" if isinstance(value, int) else value
