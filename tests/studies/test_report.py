import csv
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from alexnet_tf.runs import Job, RunError, State, SweepFolder, locked
from alexnet_tf.studies import write_report
from alexnet_tf.studies.tables import comparisons_table

FASTER = {"speed": {"arm": "quick", "reference": "slow", "claim": 6.0}}


class Page(HTMLParser):
    """Collects what the assertions look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if data.strip():
            self.words.append(data.strip())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def printed(report, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    report.print(console)
    return console.file.getvalue()


@pytest.fixture
def sweep(tmp_path, sweep_builder) -> SweepFolder:
    return sweep_builder(tmp_path / "sweep", {"quick": [100, 110, 90], "slow": [250, 360, 300]}, FASTER)


def test_study_writes_page_pictures_and_csv(sweep):
    report = write_report([sweep.path])
    assert report.html == sweep.path / "report.html"
    names = sorted(path.name for path in (sweep.path / "plots").iterdir())
    assert names == [
        f"{name}.{kind}" for name in ("epochs", "iterations", "training_error") for kind in ("png", "svg")
    ]
    assert (sweep.path / "plots" / "iterations.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((sweep.path / "results.csv").read_text().splitlines()))
    assert [(row["arm"], row["seed"]) for row in rows] == [(a, s) for a in ("quick", "slow") for s in "012"]
    assert float(rows[0]["steps"]) == pytest.approx(100)
    assert rows[0]["steps_censored"] == "false"
    assert float(rows[0]["seconds"]) == pytest.approx(50)


def test_page_needs_nothing_else_and_is_described(sweep):
    text = write_report([sweep.path]).html.read_text()
    assert not re.search(r"https?://", text)
    page = Page(text)
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 3
    assert all(source and source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert all(len(image["alt"] or "") > 40 for image in page.all("img"))
    assert not page.all("script")
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]  # else a browser asks the server for one
    assert "url(" not in text
    assert page.all("html")[0]["lang"] == "en"
    assert {header["scope"] for header in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert "prefers-color-scheme: dark" in text


def test_terminal_and_page_show_the_same_numbers(sweep):
    report = write_report([sweep.path])
    words, terminal = Page(report.html.read_text()).words, printed(report)
    for table in [table for table in report.page.results if not table.wide]:
        for cell in (cell for row in table.rows for cell in row):
            assert cell in words
            assert cell in terminal
    assert "100 (90-110)" in words
    assert "3 of 3" in words
    (ratio,) = (row[4] for row in report.page.results[1].rows)
    assert ratio in words
    assert ratio in terminal
    assert re.fullmatch(r"3\.0x \[2\.\d, \d\.\d\]", ratio)
    assert f"quick reaches 25 % training error {ratio} as fast as slow (claimed: 6x" in report.answers[0]
    assert report.answers[0].endswith("3 seeds; no verdict below 5.")
    assert "A verdict needs at least 5 seeds" in report.html.read_text()


def test_names_are_escaped(tmp_path, sweep_builder):
    evil = "<script>alert(1)</script>"
    arms = {evil: [100, 110], "[red]$x_{": [200, 210]}
    comparisons = {"<b>": {"arm": evil, "reference": "[red]$x_{", "claim": 2.0}}
    sweep = sweep_builder(tmp_path / "s", arms, comparisons, question="<img src=x onerror=y>")
    report = write_report([sweep.path])
    page = Page(report.html.read_text())
    assert not page.all("script")
    assert not page.all("b")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert evil in page.words
    assert "<img src=x onerror=y>" in page.words
    terminal = printed(report)
    assert evil in terminal
    assert "[red]$x_{" in terminal


def test_failed_and_missing_jobs_stand_in_page_and_terminal(sweep):
    sweep.run(sweep.jobs[0]).write_status(State.failed, reason="killed by SIGKILL")
    sweep.jobs.append(Job(name="never", arm="slow", seed=9))
    sweep.save()
    report = write_report([sweep.path])
    for text in (report.html.read_text(), printed(report)):
        assert "killed by SIGKILL" in text
        assert "was never started (no folder)" in text
        assert "2 of 7 jobs do not count" in text
    assert comparisons_table_row(sweep)[3] == "2"


def comparisons_table_row(sweep: SweepFolder) -> tuple[str, ...]:
    from alexnet_tf.studies import load_study

    return comparisons_table(load_study(sweep)).rows[0]


def test_study_of_which_nothing_has_finished(sweep):
    for job in sweep.jobs:
        sweep.run(job).write_status(State.failed, reason="no memory")
    report = write_report([sweep.path])
    assert report.answers[0] == "speed: quick against slow: no seed has finished in both arms yet."
    assert report.page.pictures == []
    assert printed(report).count("no memory") == 6


def test_the_command_that_was_typed_reproduces_a_study(tmp_path, sweep_builder):
    typed = ["experiment=fast_or_slow", "data.name=a b"]
    sweep = sweep_builder(tmp_path / "s", {"quick": [100], "slow": [300]}, FASTER, command=typed)
    commands = [command for _, command in write_report([sweep.path]).page.commands]
    assert commands[0] == "alexnet train experiment=fast_or_slow 'data.name=a b'"
    assert commands[1].startswith("alexnet report ")


def test_a_manifest_of_old_without_the_command_has_a_page(sweep):
    (command,) = (command for _, command in write_report([sweep.path]).page.commands)
    assert command.startswith("alexnet report ")


def test_a_job_of_a_sweep_that_died_is_interrupted_and_can_go_on(tmp_path, sweep_builder):
    typed = ["experiment=fast_or_slow"]
    sweep = sweep_builder(tmp_path / "s", {"quick": [100, 100], "slow": [300]}, FASTER, command=typed)
    gone = sweep.run(sweep.jobs[0])
    gone.write_status(State.running, step=7, steps=90)
    with locked(gone.path, "held"):  # its process lives: the sweep goes on by itself
        report = write_report([sweep.path])
        assert "at step 7 of 90" in report.html.read_text()
        assert not any("resume" in command for _, command in report.page.commands)
    report = write_report([sweep.path])
    for text in (report.html.read_text(), printed(report)):
        assert "interrupted: its process is gone, last heard of at 20" in text
        assert "1 of 3 jobs does not count" in text
    assert report.page.commands[1][1] == f"alexnet sweep resume {sweep.path}"
    alone = write_report([gone.path], tmp_path / "alone")
    assert alone.answers[0].startswith("State dead (interrupted: its process is gone), epoch ")
    assert f"alexnet train resume={gone.path}" in [command for _, command in alone.page.commands]


def test_censored_and_log_scale_pictures(tmp_path, sweep_builder):
    sweep = sweep_builder(tmp_path / "s", {"quick": [20], "slow": [5000]}, FASTER)
    report = write_report([sweep.path])
    picture = next(picture for picture in report.page.pictures if picture.name == "iterations")
    assert picture.figure.axes[0].get_xscale() == "log"
    assert "hollow arrow" in picture.caption
    assert "slow > 400" in picture.alt
    assert picture.svg == replace(picture).svg  # drawn anew
    assert "at least 20x as fast" in report.answers[0]


def test_grid_of_jobs(tmp_path, run_builder):
    typed = ("-m", "model=a", "optimizer.lr=0.01,0.02")
    sweep = SweepFolder(tmp_path / "grid", command=typed)
    for rate in (0.01, 0.02):
        job = Job(name=f"lr{rate}", arm=f"lr{rate}", seed=0, overrides=("model=a", f"optimizer.lr={rate}"))
        sweep.jobs.append(job)
        end = [(1.0, 1.1, 0.3, 20 * rate)]
        run_builder(sweep.run(job).path, config={"optimizer": {"lr": rate}}, epochs=end)
    sweep.jobs.append(Job(name="dead", arm="dead", seed=0))
    sweep.save()
    report = write_report([sweep.path])
    assert report.answers[0] == "2 of 3 jobs finished."
    assert report.answers[1] == "The lowest validation error at the end is 20.0 %, of lr0.01."
    assert report.page.commands[0][1] == "alexnet train -m model=a optimizer.lr=0.01,0.02"
    assert report.page.commands[1][1] == f"alexnet sweep resume {sweep.path}"
    words = Page(report.html.read_text()).words
    assert {"30.0 % / 20.0 %", "1.00 / 1.10", "optimizer.lr", "dead", "256"} <= set(words)
    assert "dead" in printed(report)


def test_single_run(tmp_path, run_builder):
    run = run_builder(tmp_path / "run", overrides=["model=alexnet_small", "run_dir=/x", "name=a b"])
    report = write_report([run.path])
    assert report.html == run.path / "report.html"
    assert (run.path / "plots" / "learning_curves.svg").exists()
    assert report.answers == ["State finished, epoch 2: training error 30.0 %, validation error 40.0 %."]
    assert report.page.commands[0][1] == "alexnet train model=alexnet_small 'name=a b'"
    assert "1.00 / 1.20" in printed(report)


def test_several_runs_and_sweeps_side_by_side(tmp_path, run_builder, sweep):
    paths = [run_builder(tmp_path / name, config={"lr": rate}).path for name, rate in (("a", 1), ("b", 2))]
    report = write_report(paths)
    assert report.html == tmp_path / "comparison" / "report.html"
    assert report.page.details[0].rows == [("lr", "1", "2")]
    both = write_report([paths[0], sweep.path], tmp_path / "elsewhere")
    assert both.html == tmp_path / "elsewhere" / "report.html"
    assert len(both.page.results[0].rows) == 7


def test_many_runs_have_colours_of_their_own(tmp_path, run_builder):
    report = write_report([run_builder(tmp_path / str(n)).path for n in range(9)])
    lines = report.page.pictures[0].figure.axes[0].lines
    assert len({line.get_color() for line in lines}) == 9


def test_report_of_a_stopped_run_without_validation(tmp_path, run_builder, probe_line):
    run = run_builder(tmp_path / "run", probe_line(100), epochs=[], state=State.stopped)
    assert write_report([run.path]).answers[0].startswith("State stopped, epoch")


def test_bad_paths_are_one_clear_line(tmp_path, run_builder):
    def error(*paths):
        with pytest.raises(RunError) as caught:
            write_report(list(paths))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no folder to report on" in error()
    assert "no such folder. Expected a run folder" in error(tmp_path / "nothing")
    assert "not a run folder (it has no config.yaml)" in error(tmp_path)
    run = run_builder(tmp_path / "run")
    for name in ("timing.csv", "metrics.csv"):
        whole = (run.path / name).read_bytes()
        for damage, message in (
            (whole[: whole.rindex(b",")] + b"\n", r"line 5: expected \d fields, found \d$"),
            (whole.replace(b"\n1,", b"\none,"), r"expected numbers \("),
            (whole.replace(b"train", b"\xff"), r"cannot be read \("),
            (whole.replace(b"train", b""), r"expected an epoch, a step and a split"),
        ):
            (run.path / name).write_bytes(damage)
            assert re.search(message, error(run.path))
        (run.path / name).write_bytes(whole)
    for name in ("status.json", "overrides.yaml"):
        whole = (run.path / name).read_bytes()
        (run.path / name).write_bytes(b"{}")
        assert f"{name}: expected a " in error(run.path)
        (run.path / name).write_bytes(whole)
    (run.path / "metrics.csv").unlink()
    assert "the run has not finished its first epoch" in error(run.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_report([run_builder(tmp_path / "other").path], tmp_path / "file")


def test_a_report_imports_no_tensorflow(sweep):
    code = (
        "import sys; from alexnet_tf.studies.report import write_report; from pathlib import Path;"
        f"write_report([Path({str(sweep.path)!r})]); print(sorted({{'tensorflow', 'keras', 'matplotlib.pyplot'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_of_sweeps_gets_an_index(tmp_path, sweep_builder):
    first = sweep_builder(tmp_path / "all" / "a b", {"quick": [100], "slow": [300]}, FASTER, name="first_one")
    sweep_builder(tmp_path / "all" / "two", {"<b>": [100], "slow": [200]}, name="second")
    empty = sweep_builder(tmp_path / "all" / "void", {"quick": []})
    (empty.path / "sweep.yaml").write_text("jobs: [")
    report = write_report([tmp_path / "all"])
    assert report.html == tmp_path / "all" / "report.html"
    page = Page(report.html.read_text())
    assert [link["href"] for link in page.all("a")] == ["a%20b/report.html", "two/report.html"]
    assert (first.path / "report.html").is_file()
    assert "first one" in page.words
    assert any(word.startswith("speed: quick reaches 25 %") for word in page.words)
    assert any(word.startswith("void: ") for word in page.words)
    assert "2 sweeps." in page.words
