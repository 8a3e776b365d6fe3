import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.trials import Measurement, ratios, run_trials


def contender(called: str, what: str = "sleeper", **arguments) -> Contender:
    return Contender(name=called, make=f"bench_subjects:{what}", arguments=arguments)


def turns(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


def test_contenders_take_turns_in_processes_of_their_own(tmp_path):
    log = tmp_path / "log"
    names = ["one", "two", "three"]
    heard = []
    contenders = [contender(name, seconds=0.002, log=str(log), name=name) for name in names]
    found = run_trials(contenders, rounds=3, seconds=0.0, told=lambda *counts: heard.append(counts))
    assert [each.contender.name for each in found] == names
    # Each is tried twice when it is made; then every turn begins with a repetition that does not count.
    order = [name for name, *_ in turns(log)][6:]
    assert order[::2] == order[1::2]
    rounds = [order[begin : begin + 6 : 2] for begin in (0, 6, 12)]
    assert all(sorted(each) == sorted(names) for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert len({pid for *_, pid in turns(log)} | {str(os.getpid())}) == 4
    assert heard[0] == (0, 12)
    assert heard[-1] == (12, 12)
    for each in found:
        assert not each.failure
        assert len(each.seconds) == 3
        assert each.median >= 0.002
        assert each.items == 10
        assert each.facts == {"seconds": 0.002}


def test_a_trial_lasts_as_long_as_was_asked(tmp_path):
    log = tmp_path / "log"
    (found,) = run_trials([contender("a", seconds=0.01, log=str(log), name="a")], rounds=1, seconds=0.1)
    repetitions = int(turns(log)[-1][1])
    assert 5 <= repetitions <= 10  # a sleep lasts 10 ms or more
    assert 0.01 <= found.seconds[0] < 0.1  # of one repetition


def test_what_is_a_beginning_itself_has_no_warm_up(tmp_path):
    log = tmp_path / "log"
    subject = contender("a", seconds=0.001, log=str(log), name="a", warm_up=0)
    run_trials([subject], rounds=2, seconds=0.0)
    assert len(turns(log)) == 2 + 2


def test_a_subject_may_count_by_itself():
    (found,) = run_trials([contender("a", "own_clock", seconds=0.25)], rounds=2, seconds=1.0)
    assert found.seconds == [0.25, 0.25]


def test_one_that_fails_is_a_row_and_the_others_go_on():
    contenders = [
        contender("good", seconds=0.001),
        contender("raises at once", "failing", after=0),
        contender("raises later", "failing", after=4),
        contender("dies", "dying"),
        contender("is not there", "nothing"),
        Contender(name="needs", make="bench_subjects:sleeper", needs=("a_package_nobody_has",)),
    ]
    found = {each.contender.name: each for each in run_trials(contenders, rounds=3, seconds=0.0)}
    assert len(found["good"].seconds) == 3
    assert found["raises at once"].failure == "ValueError: no more of 1"
    assert not found["raises at once"].seconds
    assert found["raises later"].failure == "ValueError: no more of 1"
    assert len(found["raises later"].seconds) == 1
    assert found["dies"].failure == "killed by SIGKILL (out of memory?)"
    assert "no attribute 'nothing'" in found["is not there"].failure
    assert found["needs"].failure == "a_package_nobody_has not installed"


def test_memory_is_each_ones_own():
    small, large = run_trials(
        [contender("small", "hoarder", megabytes=1), contender("large", "hoarder", megabytes=200)],
        rounds=1,
        seconds=0.0,
    )
    assert 190 * 2**20 < large.peak_bytes - small.peak_bytes < 450 * 2**20


def test_ratios_are_of_the_same_round():
    slow = Measurement(contender("slow"), seconds=[2.0, 9.0, 4.0, 8.0])
    quick = Measurement(contender("quick"), seconds=[1.0, 3.0, 2.0])
    assert ratios(slow, quick) == [2.0, 3.0, 2.0]
    assert statistics.median(ratios(slow, quick)) == 2.0
    assert quick.median == 2.0
    assert quick.spread == pytest.approx(0.25)  # quartiles 1.5 and 2.5
    assert Measurement(contender("once"), seconds=[1.0]).spread == 0.0


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.trials import run_trials
if __name__ == "__main__":
    arguments = {"seconds": 0.01, "log": sys.argv[2], "name": "a"}
    run_trials([Contender(name="a", make="bench_subjects:sleeper", arguments=arguments)], rounds=1000, seconds=0.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_nothing_lives_on(tmp_path, number):
    log, script = tmp_path / "log", tmp_path / "script.py"
    script.write_text(SCRIPT)
    bench = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(log)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not (log.exists() and len(turns(log)) > 5):
        assert time.monotonic() < deadline
        assert bench.poll() is None
        time.sleep(0.05)
    child = int(turns(log)[-1][2])
    bench.send_signal(number)
    bench.wait(60)
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
