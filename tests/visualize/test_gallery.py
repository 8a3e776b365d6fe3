"""A page of pictures from a run: what is on it, what is left out, and what is refused."""

import shlex
import shutil
import weakref
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config import ConfigError, compose, to_yaml
from alexnet_tf.config.look import PICTURES, parse_look
from alexnet_tf.inference import load_run
from alexnet_tf.model import build
from alexnet_tf.runs import RunError, RunFolder, State, WrongPathError
from alexnet_tf.training import train
from alexnet_tf.visualize import visualize_run
from alexnet_tf.visualize.gallery import FOLDER
from alexnet_tf.visualize.network import NotApplicableError
from alexnet_tf.visualize.sections import SECTIONS, _states
from alexnet_tf.visualize.subject import Subject


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small network with two columns, two epochs on 36 coloured pictures, one of which stands in both splits."""
    root = tmp_path_factory.mktemp("look")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for label, name in enumerate(("<i>red", "green", "blue")):
            (root / "photos" / split / name).mkdir(parents=True)
            for index in range(count):
                seed = np.full((4, 4, 3), 60.0) + 60 * rng.random((4, 4, 3))
                seed[..., label] += 80
                pixels = tf.cast(tf.image.resize(seed, [32, 32], "bicubic"), tf.uint8)
                path = root / "photos" / split / name / f"{index}.png"
                path.write_bytes(tf.io.encode_png(pixels).numpy())
    shutil.copy(root / "photos/train/green/5.png", root / "photos/val/green/0.png")
    small = [
        f"model.stages.{name}.units={units}" for name, units in {"conv1": 8, "conv2": 8, "conv3": 8}.items()
    ]
    small += [f"model.stages.{name}.units=8" for name in ("conv4", "conv5", "fc6", "fc7")]
    texts = [
        "data=folder", f"data.dir='{root / 'photos'}'", "data.image_size=32", "augment=cifar", "model=alexnet_small",
        *small, "training.batch_size=12", "training.epochs=2", "training.progress=none", "optimizer.lr=0.002",
        f"run_dir={root / 'run'}",
    ]  # fmt: skip
    return train(compose(texts))


@pytest.fixture(scope="module")
def page(run):
    counts = []
    found = visualize_run(run, parse_look([]), told=lambda done, total: counts.append((done, total)))
    return found, counts


def test_every_choice_is_drawn(run, page):
    found, counts = page
    assert tuple(SECTIONS) == tuple(PICTURES)
    assert [picture.name for picture in found.pictures] == list(PICTURES)
    assert not found.details
    assert counts == [(done, len(PICTURES)) for done in range(len(PICTURES) + 1)]
    folder = run.path / FOLDER
    names = sorted(path.name for path in (folder / "plots").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg"))
    html = (folder / "index.html").read_text()
    assert html.count("<img src=") == len(PICTURES)
    assert "<i>red" not in html
    assert [path.name for path in (run.path / "plots").iterdir()] == ["visualize"]


def test_the_page_answers_in_numbers(page):
    said = "\n".join(page[0].answers)
    assert "Column specialisation (C13; paper, section 6.1 and Figure 3): colour makes up " in said
    assert "permutation test over kernels, p = " in said
    assert "Top-1 error of these 18 images: " in said
    assert "The gradient's norm before training, in conv1 against the last layer fc8: sigmoid " in said


def test_an_image_in_both_splits_is_its_own_neighbour(run):
    subject = Subject(run, parse_look(["image=validation:12"]))
    assert subject.class_names[subject.example.label] == "green"
    picture = SECTIONS["neighbours"](subject).picture
    images = [axes.images[0].get_array() for axes in picture.figure.axes if axes.images]
    np.testing.assert_array_equal(images[0], images[1])


def test_histograms_begin_before_the_training_and_end_with_it(run):
    caption = SECTIONS["histograms"](Subject(run, parse_look([]))).picture.caption
    assert "on 36 training images without augmentation and dropout" in caption
    assert "at steps 0, 3, 6: before" in caption


def test_all_gradients_of_the_histograms_are_of_one_precision(run):
    subject = Subject(run, parse_look([]))
    subject.model = build(run.config.model, dtype="mixed_bfloat16")  # as a run in bfloat16 ends
    subject.model.set_weights(run.model().get_weights())
    found = [
        (step, {layer.compute_dtype for layer in model.layers}, model.get_weights()[0])
        for step, model in _states(subject)
    ]
    assert [(step, dtypes) for step, dtypes, _ in found] == [(step, {"float32"}) for step in (0, 3, 6)]
    np.testing.assert_array_equal(found[-1][2], run.model().get_weights()[0])


def test_the_network_sees_what_evaluation_makes(run, tmp_path):
    path = tmp_path / "some.png"
    stored = load_run(run.path).load_source().split("validation").store.paths[3]
    path.write_bytes(stored.read_bytes())
    of_split = Subject(run, parse_look(["image=validation:3"])).example
    of_file = Subject(run, parse_look([f"image={path}"])).example
    np.testing.assert_array_equal(of_split.pixels, tf.io.decode_png(path.read_bytes()))
    np.testing.assert_array_equal(of_file.pixels, of_split.pixels)
    np.testing.assert_allclose(of_file.inputs, of_split.inputs, atol=1e-6)
    assert (of_split.title, of_split.label) == ("validation:3", 0)
    assert (of_file.title, of_file.label) == ("some.png", None)


def test_of_a_stream_only_the_wanted_images_are_kept(run, monkeypatch):
    batches = []

    def read(_, __, places, ___):
        for start in range(0, len(places), 2):
            images = np.repeat(places[start : start + 2], 12).reshape(-1, 2, 2, 3).astype(np.float32)
            batches.append(weakref.ref(images))
            assert sum(batch() is not None for batch in batches) <= 2
            yield images, np.zeros(len(images), np.int32)
            del images

    monkeypatch.setattr(Subject, "_batches", read)
    subject = Subject(run, parse_look([]))
    subject.source = SimpleNamespace(split=lambda _: SimpleNamespace(ids=None))  # as a TFRecord set is read
    found = subject.examples("train", np.array([11, 3, 8]))
    assert [(example.title, int(example.inputs[0, 0, 0])) for example in found] == [
        ("train:11", 11),
        ("train:3", 3),
        ("train:8", 8),
    ]


def test_a_network_of_one_layer_with_weights_has_no_features(run):
    subject = Subject(run, parse_look(["examples=6"]))
    images = keras.Input((32, 32, 3))
    subject.model = keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images)))
    for what in ("neighbours", "map"):
        with pytest.raises(NotApplicableError, match="its only layer with weights reads the pixels"):
            SECTIONS[what](subject)


def test_a_call_takes_the_place_of_the_one_before(run, tmp_path):
    for what in ("saturation", "columns"):
        visualize_run(run, parse_look([f"what={what}"]), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "plots").iterdir()) == [
        "columns.png",
        "columns.svg",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_stays_a_link(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there")
    visualize_run(run, parse_look(["what=columns"]), tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "there" / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "there"]


def test_a_layer_and_a_unit(run, tmp_path):
    texts = [
        "what=activations,patches,deconvolution,saliency",
        "layer=conv3",
        "unit=2",
        "target=blue",
        "examples=9",
    ]
    found = visualize_run(run, parse_look(texts), tmp_path / "out")
    captions = {picture.name: picture.caption for picture in found.pictures}
    assert "every unit of conv3" in captions["activations"]
    assert "excite unit 2 of conv3 most" in captions["patches"]
    assert "of 9 images of the validation split. A unit sees 27x27 pixels" in captions["patches"]
    assert "excite unit 2 of conv3 most" in captions["deconvolution"]
    assert shlex.split(found.commands[0][1]) == ["alexnet", "visualize", str(run.path), *texts]


@pytest.mark.slow  # all the other pictures again
def test_what_does_not_apply_is_left_out(run, tmp_path):
    found = visualize_run(run, parse_look(["layer=fc6", "examples=6"]), tmp_path / "out")
    (table,) = found.details
    assert ("gradcam", "fc6 has no maps; name a convolution") in table.rows
    assert "gradcam" not in {picture.name for picture in found.pictures}
    assert len(found.pictures) + len(table.rows) == len(PICTURES)


def test_what_does_not_apply_is_refused_when_asked_for(run, tmp_path):
    with pytest.raises(ConfigError, match=r"what=gradcam: .* has no such picture: fc6 has no maps"):
        visualize_run(run, parse_look(["what=kernels,gradcam", "layer=fc6"]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer=conv9", r"layer=conv9: expected one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8$"),
        ("unit=8", r"unit=8: expected 0 to 7, the units of conv5$"),
        ("image=validation:18", r"image=validation:18: expected validation:0 to validation:17"),
        ("image=test:0", r"image=test:0: expected one of the splits train, validation of folder"),
        ("split=test", r"split=test: expected one of train, validation"),
        ("target=cat", r"target=cat: expected a class, one of <i>red, blue, green$"),
    ],
)
def test_options_that_do_not_fit_the_run(run, tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        visualize_run(run, parse_look(["what=kernels", text]), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_image(run, tmp_path):
    (tmp_path / "some.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"image=.*some\.png: cannot be read as an image: "):
        visualize_run(run, parse_look(["what=saliency", f"image={tmp_path / 'some.png'}"]))


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    (tmp_path / "index.html").write_text("my page")
    with pytest.raises(
        WrongPathError, match=r"holds other things\. Expected a new folder, or one of alexnet visualize"
    ):
        visualize_run(run, parse_look(["what=kernels"]), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_without_its_data_a_run_still_shows_its_kernels(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    config = (run.path / "config.yaml").read_text().replace("/photos", "/moved")
    (tmp_path / "run" / "config.yaml").write_text(config)
    moved = load_run(tmp_path / "run")
    found = visualize_run(moved, parse_look([]))
    assert [picture.name for picture in found.pictures] == ["kernels", "columns"]
    assert "it needs the run's data: data.dir=" in dict(found.details[0].rows)["mistakes"]
    with pytest.raises(ConfigError, match=r"what=mistakes: .* it needs the run's data"):
        visualize_run(moved, parse_look(["what=mistakes"]))


def test_a_damaged_checkpoint_costs_one_picture(run, tmp_path, monkeypatch):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    broken = load_run(tmp_path / "run")
    path = broken.checkpoints()[0]
    path.write_bytes(path.read_bytes()[:1000])
    few = {name: PICTURES[name] for name in ("columns", "histograms", "saturation")}
    monkeypatch.setattr("alexnet_tf.visualize.gallery.PICTURES", few)
    found = visualize_run(broken, parse_look(["examples=6"]))
    assert [picture.name for picture in found.pictures] == ["columns", "saturation"]
    ((name, reason),) = found.details[0].rows
    assert (name, reason.partition(" (")[0]) == ("histograms", f"{path}: damaged")
    assert f"{path}: damaged" in (broken.path / FOLDER / "index.html").read_text()
    with pytest.raises(RunError, match=rf"^{path}: damaged"):
        visualize_run(broken, parse_look(["what=columns,histograms"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_leaves_nothing_to_look_at(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("plots"))
    (tmp_path / "run" / "model.keras").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"model\.keras: cannot be loaded"):
        visualize_run(load_run(tmp_path / "run"), parse_look([]))


def test_what_is_no_finished_network(tmp_path):
    folder = RunFolder.create(tmp_path / "svm", to_yaml(compose(["model=sift_bow_svm", "data=cifar10"])), [])
    folder.write_status(State.finished)
    with pytest.raises(ConfigError, match="model=sift_bow_svm is no network but an SVM on features"):
        visualize_run(load_run(folder.path), parse_look([]))
    folder = RunFolder.create(tmp_path / "new", to_yaml(compose(["model=digits_quick"])), [])
    with pytest.raises(RunError, match=r"has no model\.keras: the run is pending"):
        visualize_run(load_run(folder.path), parse_look([]))


@pytest.mark.slow
def test_the_command(alexnet, run, tmp_path):
    result = alexnet("visualize", str(run.path), "what=columns,kernels", "--out", "page")
    assert result.returncode == 0, result.stderr
    assert "Column specialisation (C13" in result.stdout
    assert result.stdout.splitlines()[-1] == "page/index.html"
    assert not result.stderr
    assert (tmp_path / "page" / "plots" / "kernels.svg").is_file()
