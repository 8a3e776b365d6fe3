"""`alexnet predict`: the same from a run and its SavedModel, whatever the files are like and however many."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import alexnet_tf
from alexnet_tf import cli
from alexnet_tf.export import export_run, exporting, reload
from alexnet_tf.inference import Run
from alexnet_tf.picture_files import Failure, check_inputs, count_pictures, find_pictures
from alexnet_tf.prediction import Classifier, Options, Prediction, draw_predictions, predict
from alexnet_tf.prediction.output import Writer
from alexnet_tf.runs import RunError, WrongPathError, find_savedmodel

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        path = root / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, [20 + number, 24, 3], np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    overrides = ["model=cifar_quick", "model.input_size=16", "model.init=he_normal", "data=folder"]
    overrides += ["augment=center", "augment.resize.size=20", "training.batch_size=2", "training.steps=2"]
    overrides += [f"data.dir={photos}", "training.progress=none"]
    folder = tmp_path_factory.mktemp("predict") / "run"
    return alexnet_tf.train(alexnet_tf.compose([*overrides, f"run_dir={folder}"]))


@pytest.fixture(scope="module")
def classifier(run: Run) -> Classifier:
    return Classifier.of_run(run)


@pytest.fixture(scope="module")
def saved(run: Run) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [*sys.meta_path])
        patch.setattr(exporting, "_run_script", reload.main)
        return export_run(run).path


def image(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)[None]


def pictures(folder: Path) -> list[Path]:
    return [path for path in find_pictures([str(folder)], io.BytesIO()) if isinstance(path, Path)]


def test_a_run_and_its_savedmodel_say_what_the_run_predicts(
    run: Run, classifier: Classifier, saved: Path, photos: Path
) -> None:
    paths = pictures(photos)
    assert len(paths) == 12
    assert paths == sorted(paths)
    for one in (classifier, Classifier.of_savedmodel(saved)):
        assert one.labels == ["class0", "class1", "class2"]
        found = list(one.stream(paths, 5))
        assert [answer.path for answer in found] == paths
        for answer in found:
            assert isinstance(answer, Prediction)
            np.testing.assert_allclose(answer.probabilities, run.predict(image(answer.path))[0], atol=1e-5)


def test_views_are_those_of_the_run(run: Run, photos: Path) -> None:
    path = pictures(photos)[0]
    (found,) = Classifier.of_run(run, 10).stream([path], 1)
    assert isinstance(found, Prediction)
    np.testing.assert_allclose(found.probabilities, run.predict(image(path), views=10)[0], atol=1e-5)


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """Two good pictures among bad ones of every kind."""
    folder = Path(shutil.copytree(photos / "class0", tmp_path / "mixed"))
    for extra in ("6.png", "9.png"):
        (folder / extra).unlink()
    (folder / "1_text.png").write_text("no picture")
    (folder / "2_half.png").write_bytes((folder / "0.png").read_bytes()[:300])
    (folder / "4_empty.jpg").write_bytes(b"")
    (folder / "5_gone.png").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("left out")
    (folder / ".hidden.png").write_text("left out")
    return folder


def test_bad_files_cost_only_themselves(classifier: Classifier, mixed: Path) -> None:
    found = list(classifier.stream(pictures(mixed), 4))
    reasons = {answer.path.name: answer.reason for answer in found if isinstance(answer, Failure)}
    assert {answer.path.name for answer in found if isinstance(answer, Prediction)} == {"0.png", "3.png"}
    assert reasons == {
        "1_text.png": "its first bytes are not those of a JPEG, PNG, GIF, BMP or WebP image",
        "2_half.png": reasons["2_half.png"],
        "4_empty.jpg": "the file is empty",
        "5_gone.png": "no such file",
    }
    assert "PNG" in reasons["2_half.png"]


def test_names_that_cannot_be_looked_at_cost_only_themselves(classifier: Classifier, photos: Path) -> None:
    good = pictures(photos)[0]
    assert isinstance(good, Path)
    found = list(classifier.stream([good, Path("a" * 300), Path("a\0b"), photos, good], 2))
    assert [type(answer) for answer in found] == [Prediction, Failure, Failure, Failure, Prediction]
    reasons = [answer.reason for answer in found if isinstance(answer, Failure)]
    assert reasons == ["File name too long", "embedded null byte", "not a file"]
    with pytest.raises(
        WrongPathError, match=r"^a+: File name too long. Expected pictures, folders of them, or -"
    ):
        check_inputs(["a" * 300])


def test_a_folder_that_cannot_be_read_costs_only_itself(
    classifier: Classifier, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, closed = os.scandir, photos / "class1"

    def refuse(folder: Path) -> object:
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    check_inputs([str(photos)])
    found = list(classifier.stream(find_pictures([str(photos)], io.BytesIO()), 4))
    assert count_pictures([str(photos)]) == len(found) == 9
    failed = [answer for answer in found if isinstance(answer, Failure)]
    assert failed == [Failure(closed, "this folder cannot be read (Permission denied)")]
    with pytest.raises(WrongPathError, match=r"class1: this folder cannot be read"):
        check_inputs([str(closed)])


def test_a_savedmodel_knows_its_most_pixels(saved: Path, run: Run, tmp_path: Path) -> None:
    assert Classifier.of_savedmodel(saved).max_pixels == run.config.data.max_pixels
    copy = Path(shutil.copytree(saved, tmp_path / "saved"))
    notes = json.loads((copy / "assets" / "preprocessing.json").read_text())
    (copy / "assets" / "preprocessing.json").write_text(json.dumps({**notes, "max_pixels": 100}))
    assert Classifier.of_savedmodel(copy).max_pixels == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: no such file or folder"),
        (["a.png", "--views", "0"], "run: views=0: expected one of 1, 5, 10"),
    ],
)
def test_wrong_use_is_said_before_tensorflow_is_loaded(
    alexnet_here: Any, run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(cli, "_import_tensorflow", lambda: pytest.fail("too late"))
    refused = alexnet_here("predict", str(run.path), *arguments)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert message in refused.stderr


def test_too_many_pixels_are_not_decoded(classifier: Classifier, photos: Path) -> None:
    small = Classifier(classifier.labels, classifier.serve, 100)
    (found,) = small.stream(pictures(photos)[:1], 1)
    assert isinstance(found, Failure)
    assert "more than data.max_pixels=100" in found.reason


def test_paths_from_standard_input_and_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    odd = os.fsdecode(b"\xff.png")
    (folder / odd).write_bytes(b"x")
    (tmp_path / "a" / "z.JPG").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    stdin = io.BytesIO(b"one.png\r\n\ntwo words.png\n\xff.png")
    found = [str(path) for path in find_pictures(["-", str(tmp_path / "a"), "x.bin"], stdin)]
    assert found == ["one.png", "two words.png", odd, f"{folder}/{odd}", f"{tmp_path}/a/z.JPG", "x.bin"]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "no such file or folder"), ("empty", "no pictures in this")]
)
def test_wrong_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongPathError, match=f"^{name}: {message}"):
        check_inputs(["-", name])


def written(
    kind: str, count: int | None, most: int = 2, labels: tuple[str, ...] = ("ant", "b,ee", "c")
) -> str:
    stream = io.StringIO()
    writer = Writer(kind, list(labels), most, count, stream)
    for name in ("x.png", "y.png"):
        writer.write(Prediction(Path(name), np.array([0.25, 0.625, 0.125], np.float32)))
    return stream.getvalue()


def test_what_is_written() -> None:
    assert written("text", None) == "x.png: b,ee 62.5 %, ant 25.0 %\ny.png: b,ee 62.5 %, ant 25.0 %\n"
    rows = list(csv.DictReader(io.StringIO(written("csv", 2, most=9))))
    assert len(rows) == 2
    assert rows[0]["label_1"] == "b,ee"
    assert (rows[1]["image"], rows[1]["label_3"], rows[1]["probability_3"]) == ("y.png", "c", "0.125")
    lines = [json.loads(line) for line in written("json", 2, most=1).splitlines()]
    assert lines[0] == {
        "image": "x.png",
        "predictions": [{"class": 1, "label": "b,ee", "probability": 0.625}],
    }
    table = written("text", 2)
    assert table.index("x.png") < table.index("62.5 %") < table.index("y.png")
    assert "█" * 19 in table


def test_an_empty_list_of_paths(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out := io.BytesIO()))
        assert predict(classifier, ["-"], Options("csv", 1, 4, None), lambda done, total: None) == (0, 0)  # noqa: ARG005
    assert out.getvalue() == b"image,label_1,probability_1\n"
    assert capfd.readouterr().err == ""


def test_the_picture_has_bars_for_each(classifier: Classifier, photos: Path) -> None:
    found = [answer for answer in classifier.stream(pictures(photos), 6) if isinstance(answer, Prediction)]
    picture = draw_predictions(found, classifier.labels, 5)
    assert picture.png[:4] == b"\x89PNG"
    texts = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
    assert len(texts) == 8 * 3 * 2  # the first eight, three classes, a label and a number
    assert "0.png: class" in picture.alt


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_takes_any_name(photos: Path, tmp_path: Path, kind: str) -> None:
    found = []
    for name in (b"$a_{b$.png", b"\xff.png", "\u2028蚁.png".encode()):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes((photos / "class0" / "0.png").read_bytes())
        found.append(Prediction(path, np.array([0.25, 0.75], np.float32)))
    picture = draw_predictions(found, ["$x_{$", "y"], 2)
    assert getattr(picture, kind)
    titles = [axes.get_title() for axes in picture.figure.axes if axes.get_title()]
    assert titles[:2] == ["$a_{b$.png", "\ufffd.png"]


def test_where_a_savedmodel_is(saved: Path, run: Run, tmp_path: Path) -> None:
    assert find_savedmodel(saved) == find_savedmodel(saved.parent) == saved
    assert find_savedmodel(run.path) is None
    (tmp_path / "models").mkdir()
    for version in ("2", "10"):
        (tmp_path / "models" / version).mkdir()
        (tmp_path / "models" / version / "saved_model.pb").write_bytes(b"")
    assert find_savedmodel(tmp_path / "models") == tmp_path / "models" / "10"
    with pytest.raises(RunError):
        Classifier.of_savedmodel(tmp_path / "models" / "10")


def test_the_command(alexnet_in, run: Run, mixed: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = alexnet_in(
        "predict", str(run.path), str(mixed), "--json", "--top", "1", "--plot", "bars.png", cwd=tmp_path
    )
    assert done.returncode == 1
    assert [Path(json.loads(line)["image"]).name for line in done.stdout.splitlines()] == ["0.png", "3.png"]
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert (
        lines[0]
        == f"alexnet: {mixed}/1_text.png: its first bytes are not those of a JPEG, PNG, GIF, BMP or WebP image; left out"
    )
    assert lines[-1] == "alexnet: 4 of 6 pictures could not be read"
    with Image.open(tmp_path / "bars.png") as picture:
        assert picture.size[0] > 300


@pytest.mark.slow
def test_a_reader_that_leaves_is_one_line(run: Run, photos: Path) -> None:
    shell = f"yes {photos / 'class0' / '0.png'} | head -3000 | {sys.executable} -m alexnet_tf predict {run.path} - --json | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == "alexnet: standard output was closed before all was written\n"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(run: Run, photos: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from alexnet_tf.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)"
    )
    peaks = []
    for count in (500, 20_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            os.link(photos / "class0" / "0.png", folder / f"{number:06}.png")
        command = [sys.executable, "-c", code, "predict", str(run.path), str(folder), "--csv"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.count("\n") == count + 1
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] - peaks[0] < 60, peaks  # MB
