"""The command as a user meets it: help, Hydra's options, wrong input, exit statuses."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WRONG = [
    (["train", "model=alexnt"], "model=alexnt: no such choice. Expected one of: alexnet, "),
    (["train", "model.droput=1"], "model.droput: no such key. Expected one of: name, input_size"),
    (
        ["train", "+model.droput=1"],
        "droput: no such key of StagedModelConfig. Expected one of: name, input_size",
    ),
    (["train", "optimizer.lr=fast"], "optimizer.lr=fast: Expected float"),
    (
        ["train", "data=cifar10", "model=alexnet", "augment=mean_only"],
        "model.input_size=224: model=alexnet expects 224",
    ),
    (
        ["train", "strategy=mirrored", "strategy.logical_devices=4", "training.batch_size=2"],
        "training.batch_size=2: expected a multiple of the 4 replicas",
    ),
    (["train", "data=folder", "model=alexnet", "data.dir=nowhere"], "data.dir"),
    (["train", "resume=nowhere"], "resume=nowhere: no such folder. Expected a run folder"),
    (["train", "-m", "resume=nowhere"], "resume=nowhere: goes on with one run, came with a sweep"),
    (["train", "--nonsense"], "unrecognized arguments: --nonsense. See alexnet train --help"),
    (["train", "--config-dir"], "argument --config-dir/-cd: expected one argument. See alexnet train"),
    (
        ["sweep", "export", "nowhere", "--out", "a.txt"],
        "--out a.txt: expected a name that ends in .csv or .parquet",
    ),
    (["sweep", "export", "nowhere"], "nowhere: no such folder"),
    (["sweep", "status", "nowhere", "--json", "--watch"], "--watch: expected without --json"),
    (["nonsense"], "No such command 'nonsense'"),
    (["evaluate"], "Missing argument"),
    (["summary", "data=cifar10"], "data=cifar10: expected model=NAME or model.KEY=VALUE"),
    (["evaluate", "nowhere"], "nowhere: no such folder. Expected a run folder"),
    (["evaluate", "nowhere", "--out", "x"], "--out x: expected --ensemble with it"),
    (["export", "nowhere"], "nowhere: no such folder"),
    (
        ["export", "nowhere", "--format", "tflite"],
        "--format tflite: expected one of savedmodel, litert, onnx",
    ),
    (
        ["export", "nowhere", "--quantize", "int8"],
        "--quantize int8: expected one of none with --format savedmodel",
    ),
    (["predict", "nowhere", "x.png"], "nowhere: no such folder. Expected a run folder"),
    (["predict", "nowhere"], "Missing argument"),
    (["predict", "nowhere", "x.png", "--json", "--csv"], "--json --csv: expected one of them"),
    (
        ["predict", "nowhere", "x.png", "--plot", "x.gif"],
        "--plot x.gif: expected a name that ends in .png or .svg",
    ),
    (["visualize", "nowhere"], "nowhere: no such folder. Expected a run folder"),
    (["visualize", "nowhere", "what=nonsense"], "what=nonsense: expected one of all, kernels, columns"),
    (["visualize", "nowhere", "lyaer=conv1"], "lyaer: no such option. Expected one of: what, layer"),
    (["report", "nowhere"], "nowhere"),
    (["figures", "convergence", "--run", "nowhere"], "nowhere: no such folder. Expected a run folder"),
    (["figures", "augmentation_effect", "--sweep", "nowhere"], "nowhere: no such folder"),
    (["figures", "model=alexnt"], "model=alexnt: no such choice. Expected one of: alexnet, "),
    (["figures", "ilsvrc", "--image", "x.jpg"], "--image: expected with figures augmentation, came ilsvrc"),
    (
        ["figures", "augmentation", "--run", "nowhere"],
        "--run: expected with figures convergence, came augmentation",
    ),
    (
        ["figures", "ilsvrc", "--sweep", "x"],
        "--sweep: expected with figures augmentation_effect, came ilsvrc",
    ),
    (["figures", "ilsrvc"], "figures ilsrvc: no such figure. Expected one of: architecture, activations, "),
    (["train", "init_from=nowhere"], "init_from=nowhere: no such folder. Expected a run folder"),
    (["train", "experiment=finetune"], "init_from=RUN: no such folder. Expected a run folder"),
    (["import-weights", "nowhere.pth", "--model", "alexnet_owt", "--out", "x"], "nowhere.pth: no such file"),
    (["import-weights", "nowhere.pth", "--out", "x"], "expected --model NAME to make a run, or --to torch"),
    (
        ["import-weights", "nowhere", "--to", "torch", "--out", "x.pth"],
        "nowhere: no such folder. Expected a run",
    ),
    (["import-weights", "nowhere", "--to", "onnx", "--out", "x"], "--to onnx: expected torch"),
    (["export", __file__], "test_cli.py: a file. Expected a run folder"),
    (["summary", "model=alexnet", "model.input_size=20"], "model.stages.conv2: The map has become too small"),
]


def test_help_answers_at_once_and_names_the_verbs(alexnet):
    alexnet("--help")  # the first call may compile bytecode
    started = time.monotonic()
    result = alexnet("--help")
    assert time.monotonic() - started < 1.0
    assert result.returncode == 0
    assert all(
        verb in result.stdout
        for verb in (
            "train",
            "evaluate",
            "report",
            "claims",
            "export",
            "import-weights",
            "summary",
            "fidelity",
            "sweep",
            "visualize",
        )
    )


OF_EACH_KIND = [
    ["train", "model=alexnt"],
    ["nonsense"],
    ["summary", "model=alexnet", "model.input_size=20"],
]
"""Those that a quick process shows: what Hydra says, Typer, and the library when TensorFlow has come."""
assert all(arguments in [case[0] for case in WRONG] for arguments in OF_EACH_KIND)


def assert_one_line(result, folder, message):
    assert result.returncode == 2
    assert result.stderr.startswith("alexnet: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(folder.iterdir())  # nothing half-made is left


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_input_is_one_line_and_status_2(alexnet_here, tmp_path, arguments, message):
    assert_one_line(alexnet_here(*arguments), tmp_path, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(*case, id=" ".join(case[0]), marks=() if case[0] in OF_EACH_KIND else pytest.mark.slow)
        for case in WRONG
    ],
)
def test_wrong_input_to_a_process_is_one_line_and_status_2(alexnet, tmp_path, arguments, message):
    assert_one_line(alexnet(*arguments), tmp_path, message)


def test_a_users_own_file_with_a_wrong_key_is_named(alexnet, tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wide.yaml").write_text(
        "defaults: [cifar_quick, _self_]\nactivaton: relu\n"
    )
    result = alexnet("train", "--config-dir", "mine", "model=wide")
    assert result.returncode == 2
    assert "model/wide" in result.stderr
    assert "activaton: no such key" in result.stderr
    assert "did you mean activation?" in result.stderr


def test_hydras_own_options_work(alexnet_here):
    shown = alexnet_here("train", "--cfg", "job", "model=cifar_quick", "~model.stages.conv3")
    assert shown.returncode == 0
    assert "name: cifar_quick" in shown.stdout
    assert "conv3" not in shown.stdout
    helped = alexnet_here("train", "--help")
    assert helped.returncode == 0
    models = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "model").glob("*.yaml"))
    assert f"model: {', '.join(models)}\n" in helped.stdout
    assert alexnet_here("train", "--info", "searchpath").returncode == 0


def test_completion_reaches_train(alexnet):
    line = "alexnet train model=cifar"
    result = alexnet("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert "model=cifar_quick" in result.stdout.split()


def test_summary_counts_the_papers_parameters(alexnet_here):
    result = alexnet_here("summary", "model=alexnet")
    assert result.returncode == 0
    assert "60,965,224" in result.stdout
    assert not result.stderr


def test_light_commands_leave_tensorflow_alone(tmp_path):
    script = (
        "import sys, alexnet_tf, alexnet_tf.cli, alexnet_tf.studies\n"
        "alexnet_tf.compose(['experiment=relu_vs_tanh'])\n"
        "sys.argv = ['alexnet', 'figures', 'ilsrvc']\n"
        "try: alexnet_tf.cli.main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "work", "status", "said"),
    [
        (["figures", "ilsvrc"], "visualize.draw_figures", 130, "interrupted"),
        (["inspect", "data=digits"], "visualize.inspect_data", 130, "stopped; the same command begins anew"),
        (
            ["prepare", "data=digits", "--out", "x"],
            "data.make_plan",
            75,
            "stopped; what is finished stays, and the same command goes on",
        ),
    ],
)
def test_a_signal_ends_with_75_only_where_the_command_goes_on(
    alexnet_here, monkeypatch, tmp_path, arguments, work, status, said
):
    monkeypatch.setattr(f"alexnet_tf.{work}", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    done = alexnet_here(*arguments)
    assert (done.returncode, done.stderr) == (status, f"alexnet: {said}\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("clumsy", [False, True])
def test_an_interruption_is_one_line_and_status_130(tmp_path, clumsy):
    code = f"""
import sys
from alexnet_tf import cli, config

def interrupt(*_):  # in the midst of the work, as a signal comes
    try:
        raise KeyboardInterrupt
    finally:
        if {clumsy}:  # as OmegaConf does here and there
            None.missing

config.compose_model = interrupt
sys.argv = ["alexnet", "summary"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "alexnet: interrupted\n")
