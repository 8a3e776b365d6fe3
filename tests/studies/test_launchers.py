"""Jobs beside each other: Hydra's launchers really launched, each with our presets, and the search with Optuna."""

import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from alexnet_tf import conf
from alexnet_tf.config.schema import StrategyConfig
from alexnet_tf.runs import RunFolder, SweepFolder, is_locked
from alexnet_tf.studies.places import PLACES, abandoned, job_environment, visible_gpus
from alexnet_tf.studies.results import load_run

TINY = [
    "model=digits_quick",
    "model.input_size=8",
    "model.stages.conv3.pool=null",
    "optimizer=sgd",
    "training.batch_size=32",
    "data.train_examples=64",
    "training.progress=none",
]
PRESETS = {
    "launcher/joblib": "hydra_joblib_launcher.config.JobLibLauncherConf",
    "launcher/submitit_local": "hydra_submitit_launcher.config.LocalQueueConf",
    "launcher/submitit_slurm": "hydra_submitit_launcher.config.SlurmQueueConf",
    "launcher/ray": "hydra_ray_launcher._config.RayLauncherConf",
    "sweeper/optuna": "hydra_optuna_sweeper.config.OptunaSweeperConf",
}
OWN = {"_target_", "_recursive_", "leftovers", "retry_failed"}


def plugin(name: str) -> str:
    """Skip a test whose plugin is not installed."""
    if importlib.util.find_spec(f"hydra_plugins.{name}") is None:
        pytest.skip(f"hydra_plugins.{name} is not installed (extra: sweep)")
    return name


def states(path: Path) -> list[str]:
    sweep = SweepFolder.open(path)
    return [sweep.run(job).status()["state"] for job in sweep.jobs]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_only_options_that_the_plugin_knows(preset):
    package, module, name = PRESETS[preset].split(".")
    plugin(package)
    known = getattr(importlib.import_module(f"hydra_plugins.{package}.{module}"), name)
    path = Path(conf.__file__).parent / "hydra" / f"{preset}.yaml"
    options = set(yaml.safe_load(path.read_text())) - OWN
    if preset == "launcher/joblib":
        options -= {"pre_dispatch"}  # of joblib itself, to which the plugin hands everything
    assert options <= {field.name for field in fields(known)}


# ------------------------------------------------------------------------------------------- places, by hand


@pytest.fixture
def places(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"{number:03d}").mkdir()
    assert not abandoned()
    monkeypatch.setenv(PLACES, str(tmp_path))
    assert abandoned()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")


@pytest.mark.usefixtures("places")
def test_jobs_at_once_take_turns_on_the_gpus():
    def devices(stack: contextlib.ExitStack, **options: str) -> str:
        return stack.enter_context(job_environment(StrategyConfig(**options)))["CUDA_VISIBLE_DEVICES"]

    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as short:
            assert [devices(short), devices(stack), devices(stack)] == ["3", "5", "3"]
        assert devices(stack) == "3"  # the place that the short one had
    assert devices(contextlib.ExitStack(), name="mirrored") == "3,5"


def test_without_places_a_job_has_what_its_sweep_has(monkeypatch):
    monkeypatch.delenv(PLACES, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    with job_environment(StrategyConfig()) as environment:
        assert environment == dict(os.environ)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with job_environment(StrategyConfig()) as environment:
        assert environment["TF_NUM_INTRAOP_THREADS"] == "4"


@pytest.mark.parametrize(
    ("value", "expected"), [("", []), ("-1", []), ("0", ["0"]), ("1, GPU-7", ["1", "GPU-7"])]
)
def test_visible_gpus(monkeypatch, value, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == expected


# ------------------------------------------------------------------------------------------ really launched


@pytest.mark.slow
def test_joblib_runs_jobs_beside_each_other(alexnet, tmp_path):
    plugin("hydra_joblib_launcher")
    # Long enough for the second to start, however slow the machine, before the first has ended.
    options = [
        "training.epochs=120",
        "training.evaluate_every=0",
        "optimizer.lr=0.01,0.02",
        "hydra/launcher=joblib",
    ]
    quiet = ["training.checkpoint_every=never", "run_dir=sweep"]
    result = alexnet("train", "-m", *TINY, *options, *quiet)
    assert result.returncode == 0, result.stdout + result.stderr
    assert states(tmp_path / "sweep") == ["finished", "finished"]
    assert result.stderr == ""
    sweep = SweepFolder.open(tmp_path / "sweep")
    starts = [datetime.fromisoformat(sweep.run(job).environment()["start"]) for job in sweep.jobs]
    ends = [datetime.fromisoformat(sweep.run(job).status()["updated"]) for job in sweep.jobs]
    assert max(starts) <= min(ends), "one after the other"
    assert result.stdout.index("lr=0.02-seed0") < result.stdout.index("finished after")
    # No traces beside the sweep, and none in the config: the share of the machine is not the job's identity.
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert sweep.run(sweep.jobs[0]).config_dict()["training"]["intra_threads"] == 0


def test_a_missing_plugin_is_one_line(tmp_path):
    hide = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n.startswith('hydra_plugins.hydra_') else f(n, *a)"
    for choice in ("hydra/launcher=joblib", "hydra/sweeper=optuna"):
        arguments = ["alexnet", "train", "-m", "optimizer.lr=0.1,0.2", choice]
        code = f"{hide}; import sys; sys.argv = {arguments!r}; from alexnet_tf.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 2
        assert result.stderr.startswith(f"alexnet: {choice}: needs the package hydra_plugins.hydra_")
        assert result.stderr.endswith("; install alexnet_tf[sweep]\n")
        assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_jobs_in_workers_save_when_their_sweep_ends(tmp_path, kind):
    plugin("hydra_joblib_launcher")
    options = ["training.epochs=100000", "seed=0,1,2", "hydra/launcher=joblib", "run_dir=sweep"]
    command = [
        sys.executable,
        "-m",
        "alexnet_tf",
        "train",
        "-m",
        *TINY,
        "training.evaluate_every=0",
        *options,
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as sweep:
        try:
            deadline = time.monotonic() + 120
            while (
                len(
                    going := [
                        run for run in map(RunFolder, tmp_path.glob("sweep/*-*")) if is_locked(run.path)
                    ]
                )
                < 2
            ):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(5)
            found = subprocess.run(
                ["pgrep", "-P", str(sweep.pid), "-f", "LokyProcess"], capture_output=True, text=True
            )
            workers = found.stdout.split()
            assert len(workers) == 2
            sweep.send_signal(kind)
            sweep.wait(90)
        finally:
            sweep.kill()
    assert sweep.returncode == (75 if kind == signal.SIGINT else -signal.SIGKILL)
    while any(is_locked(run.path) for run in going):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)
    assert sorted(states(tmp_path / "sweep")) == ["pending", "stopped", "stopped"]
    for worker in workers:
        while (
            Path(f"/proc/{worker}/cmdline").exists()
            and b"loky" in Path(f"/proc/{worker}/cmdline").read_bytes()
        ):
            assert time.monotonic() < deadline + 60, "a worker was left behind"
            time.sleep(0.1)
    for run in going:
        assert run.checkpoints()[-1].name == f"step-{run.status()['step']:09d}.npz"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_a_cluster_launcher_on_this_machine(launcher, alexnet, tmp_path):
    plugin({"ray": "hydra_ray_launcher", "submitit_local": "hydra_submitit_launcher"}[launcher])
    pytest.importorskip(launcher.partition("_")[0], exc_type=ImportError)
    options = ["training.epochs=2", "seed=0,1", "run_dir=sweep", f"hydra/launcher={launcher}"]
    result = alexnet("train", "-m", *TINY, *options, env={"RAY_AUTH_MODE": "disabled"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert states(tmp_path / "sweep") == ["finished", "finished"]
    again = alexnet("sweep", "resume", "sweep")  # through the same launcher, with nothing to do
    assert again.returncode == 0
    assert "0 of 2 jobs are left to run" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_optuna_finds_a_good_learning_rate(alexnet, tmp_path):
    """12 trials over five decades of the rate, of which only about one trains well."""
    plugin("hydra_optuna_sweeper")
    pytest.importorskip("optuna")
    options = [
        "training.epochs=2",
        "training.evaluate_every=0",
        "model.activation=tanh",
        "model.init=glorot_uniform",
        "augment=plain",
        "augment.scale.divisor=64",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=12",
        "optimizer.lr=tag(log, interval(0.00001, 1))",
        "run_dir=search",
    ]
    net = ["model=digits_quick", "optimizer=sgd", "training.batch_size=32", "training.progress=none"]
    result = alexnet("train", "-m", *net, *options, timeout=1500)
    sweep = SweepFolder.open(tmp_path / "search")
    errors = {}
    for job in sweep.jobs:
        run = sweep.run(job)
        if run.status()["state"] == "finished":
            errors[run.config_dict()["optimizer"]["lr"]] = load_run(run).last("validation", "top1_error")
    print(*(f"lr {rate:.2g}: error {100 * error:.1f} %" for rate, error in sorted(errors.items())), sep="\n")
    best = yaml.safe_load((tmp_path / "search" / "optimization_results.yaml").read_text())
    assert best["best_value"] == min(errors.values())
    assert errors[best["best_params"]["optimizer.lr"]] == best["best_value"]
    assert best["best_value"] < 0.12  # the rates 0.03, 0.1 and 1 give 0.11, 0.07 and 0.44
    assert sorted(errors.values())[len(errors) // 2] > 2 * best["best_value"]
    assert f"lowest validation error {100 * best['best_value']:.2f} %" in result.stdout
    stamps = [path.stat().st_mtime_ns for path in sorted(sweep.path.glob("*/model.keras"))]
    again = alexnet("sweep", "resume", "search", "--skip-failed", timeout=600)
    assert again.returncode == result.returncode
    assert [path.stat().st_mtime_ns for path in sorted(sweep.path.glob("*/model.keras"))] == stamps
    assert SweepFolder.open(sweep.path).jobs == sweep.jobs, "the seeded search asked for other trials"
