"""The whole report: our networks agree with their sources, and every single line could have failed."""

import io

import pytest
from rich.console import Console

from alexnet_tf.fidelity import (
    agree,
    check,
    compose_checked,
    load_sources,
    print_end,
    print_report,
    show,
)
from alexnet_tf.fidelity.sampled import Sampled

SOURCES = load_sources()
QUICK = ("lenet5", "cifar_quick", "alexnet_caffe")


def report_on(name, *overrides):
    return check(name, SOURCES.of(name), compose_checked(name, SOURCES.of(name), overrides))


@pytest.fixture(scope="module", params=QUICK)
def report(request):
    return report_on(request.param)


def changed(value):
    """What a source could have said instead: each of the numbers or words in turn."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.2, value * 0.8] if value else [1e-3]
    if isinstance(value, str):
        return [f"{value} and more"]
    if isinstance(value, dict):
        pairs = [{**value, key: other} for key, entry in value.items() for other in changed(entry)]
        return [*pairs, dict(list(value.items())[1:])]
    others = [
        [*value[:i], other, *value[i + 1 :]] for i, entry in enumerate(value) for other in changed(entry)
    ]
    return [*others, [*value, *value[-1:], "one more"]]


def assert_agrees_and_could_fail(report):
    assert [line for line in report.lines if not line.agrees] == []
    assert report.ok
    for line in report.lines:
        for other in changed(line.said):
            assert not agree(other, line.ours), line


def test_what_the_source_says_is_what_we_build(report):
    assert_agrees_and_could_fail(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SOURCES.networks) - set(QUICK)))
def test_what_the_other_sources_say_is_what_we_build(name):
    assert_agrees_and_could_fail(report_on(name))


def test_a_changed_network_differs_in_the_line_that_was_changed():
    report = report_on(
        "cifar_quick", "model.stages.conv2.pool.kind=max", "model.stages.conv1.weight_std=1e-3"
    )
    assert not report.ok
    assert [line.what for line in report.lines if not line.agrees] == ["after conv2", "initial std, conv1"]
    assert report.agreeing == len(report.lines) - 2


def test_a_stage_that_is_missing_is_said_to_be():
    lines = {line.what: line for line in report_on("lenet5", "~model.stages.fc4").lines}
    assert lines["after fc4"].ours is None
    assert not lines["after fc4"].agrees
    assert lines["dense units"].ours == [120, 10]


def test_a_sampled_number_agrees_within_four_standard_errors():
    assert agree(0.5, Sampled(0.539, error=0.01))
    assert not agree(0.5, Sampled(0.541, error=0.01))
    assert not agree(0.5, 0.501)
    assert not agree(1.0, float("nan"))
    assert not agree([1], [1, 1])
    assert not agree({1: 0.1}, {1: 0.1, 2: 0.1})
    assert not agree(1, None)


def printed(report, width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_report(report, console)
    print_end([report], SOURCES.titles, console)
    return console.file.getvalue()


def test_lines_are_whole_in_a_narrow_terminal(report):
    text = printed(report, 80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert f"{report.name}: {len(report.lines)} of {len(report.lines)} agree" in text
    assert "DIFFERENT" not in text


def test_a_line_that_differs_stays_whole_in_a_narrow_terminal():
    report = report_on("cifar_quick", "model.stages.conv2.pool.kind=max")
    rows = [line for line in printed(report, 80).splitlines() if " ok " in line or "DIFFERENT" in line]
    assert len(rows) == len(report.lines)
    assert all(row.rstrip().endswith("layers-19pct") for row in rows)


def test_numbers_are_shown_as_people_write_them():
    assert show(60965224) == "60,965,224"
    assert show([True, False]) == "yes no"
    assert show([1e-4, 0.5]) == "0.0001 0.5"
    assert show(["relu", "max pool"]) == "relu, max pool"
    assert show([]) == "nothing"
    assert show(None) == "none"
    assert show({1: 0.01, 72: -0.0}) == "1: 0.01, 72: 0"
    assert show(Sampled(0.00998, error=0.00005)) == "0.00998±2%"
    assert show(Sampled(0.0, error=0.0)) == "0"  # such as weights that start at 0


@pytest.mark.slow
def test_the_command_tells_agreement_by_its_status(alexnet):
    agreeing = alexnet("fidelity", "model=lenet5")
    assert agreeing.returncode == 0, agreeing.stderr
    assert "lenet5: 13 of 13 agree" in agreeing.stdout
    assert "Gradient-Based Learning" in agreeing.stdout
    differing = alexnet("fidelity", "model=lenet5", "model.activation=relu")
    assert differing.returncode == 1
    assert differing.stderr == ""
    assert "DIFFERENT" in differing.stdout
    assert "In all 9 of 13 agree; lenet5: 9 of 13 agree" in differing.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=alexnt"], "model=alexnt: no source says anything of it. Expected one of: alexnet, "),
        (["model=alexnet_small"], "model=alexnet_small: no source to compare with, it is our own"),
        (["model=lenet5", "model.lrn.q=2"], "model.lrn.q: no such key. Expected one of: size, k"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(alexnet_here, arguments, message):
    result = alexnet_here("fidelity", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"alexnet: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
