import re
import sys

import pytest
from rich.console import Console

from alexnet_tf.config import ConfigError, compose
from alexnet_tf.config.schema import Progress
from alexnet_tf.runs import RunFolder
from alexnet_tf.training import callbacks
from alexnet_tf.training.callbacks import BarProgress, PlainProgress, epoch_line, make_progress, percent

LOGS = {
    "loss": 1.25,
    "top1_error": 0.5,
    "top5_error": None,
    "learning_rate": 0.001,
    "images_per_second": 12345.6,
}


def test_percent():
    assert percent(0.1234) == "12.3 %"
    assert percent(None) == "-"


def test_the_line_of_an_epoch():
    assert epoch_line(3, 10, LOGS) == "epoch 3/10 | loss 1.2500 error 50.0 % | lr 0.001 | 12,346 images/s"
    logs = {**LOGS, "val_loss": 2.0, "val_top1_error": 0.75, "val_top5_error": 0.25}
    assert epoch_line(3, 10, logs) == (
        "epoch 3/10 | loss 1.2500 error 50.0 % | validation loss 2.0000 error 75.0 % top-5 25.0 % | lr 0.001 | "
        "12,346 images/s"
    )


def test_the_kind_of_display():
    assert make_progress(Progress.none, 1, 1, 1) == []
    assert isinstance(make_progress(Progress.plain, 1, 1, 1)[0], PlainProgress)
    assert isinstance(make_progress(Progress.bar, 1, 1, 1)[0], BarProgress)
    (automatic,) = make_progress(Progress.auto, 1, 1, 1)
    assert isinstance(automatic, BarProgress if Console().is_terminal else PlainProgress)


@pytest.mark.parametrize("kind", ["plain", "bar"])
def test_a_run_shows_its_epochs(run, tmp_path, capsys, kind):
    run(tmp_path / "run", f"training.progress={kind}", "training.epochs=2")
    shown = capsys.readouterr().out
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2 \| loss \d\.\d{{4}} error \d+\.\d %", shown)
    if kind == "bar":
        assert "10/10" in shown
        assert "images/s" in shown


def test_long_epochs_have_lines_in_between(capsys, monkeypatch):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_LINES", -1.0)
    progress = PlainProgress(epochs=5, steps_per_epoch=100)
    progress.on_epoch_begin(1)
    progress.on_train_batch_end(41, LOGS)
    progress.on_train_batch_end(42, {})  # nothing has been read from the device yet
    assert capsys.readouterr().out == "epoch 2/5 step 42/100 | loss 1.2500 | error 50.0 % | 12,346 images/s\n"


def test_tensorboard_reads_what_was_typed_as_hparams(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.plugins.hparams import metadata

    typed = [
        "optimizer.lr=1e-05",
        "+model=lenet5",
        "~model.stages.conv3",
        "model.bias=true",
        "run_dir=x",
        "seed=3",
    ]
    callbacks.TensorBoard(tmp_path / "my run" / "events", typed)
    found = accumulator.EventAccumulator(str(tmp_path / "my run" / "events")).Reload()
    content = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    session = metadata.parse_session_start_info_plugin_data(content)
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in session.hparams.items()}
    assert values == {"optimizer.lr": 1e-5, "model": "lenet5", "model.bias": True, "seed": 3.0}
    assert session.group_name == "my run"


def test_mlflow_keeps_one_run_over_a_resume(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/tracked")
    config = compose(["optimizer.lr=0.125", "model.lrn=null"])
    folder = RunFolder.create(tmp_path / "run", "{}", [])
    for epoch in range(2):
        watcher = callbacks.MLflow(folder, config)
        watcher.on_epoch_end(epoch, {**LOGS, "loss": 1.0 + epoch})
        watcher.on_train_end()
    client = mlflow.MlflowClient()
    (kept,) = client.search_runs([client.get_experiment_by_name("alexnet_tf").experiment_id])
    assert kept.info.run_name == "run"
    assert kept.info.status == "FINISHED"
    assert kept.data.params["optimizer.lr"] == "0.125"
    assert [point.value for point in client.get_metric_history(kept.info.run_id, "loss")] == [1.0, 2.0]
    assert "top5_error" not in kept.data.metrics


def test_mlflow_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ConfigError, match=r"training\.mlflow=true: needs the package mlflow; install alexnet_tf\[track\]"
    ):
        callbacks.MLflow(RunFolder(tmp_path), compose([]))
