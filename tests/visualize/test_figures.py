"""The explanatory figures say what the code does: shapes, gradients, masks, operations, measured errors."""

import dataclasses
import functools
import itertools
import math
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from alexnet_tf import data, runs
from alexnet_tf.config import ConfigError, compose, to_yaml
from alexnet_tf.config.look import FIGURES as NAMES
from alexnet_tf.model import ACTIVATIONS, ColumnConv2D, Pool2D, mask_scope
from alexnet_tf.pages import Picture
from alexnet_tf.runs import Job, RunError, RunFolder, State, SweepFolder, Table, WrongPathError
from alexnet_tf.visualize import FIGURES, Subjects, draw_figures
from alexnet_tf.visualize.figures_architecture import architecture, blocks_of, build_for_figure
from alexnet_tf.visualize.figures_augmentation import augmentation, augmentation_steps, without_statistics
from alexnet_tf.visualize.figures_layers import activation_curves, activations, dropout, dropout_masks
from alexnet_tf.visualize.figures_results import (
    HUMAN,
    augmentation_effect,
    compare_augmentations,
    convergence,
    ilsvrc,
)


def config(*overrides):
    return compose(["data=imagenet2012", "model=alexnet", "seed=1", *overrides])


def texts(picture):
    """What is written in a figure, without what is hidden."""
    found = picture.figure.findobj(lambda item: isinstance(item, Text) and item.get_visible())
    return [item for item in found if item.get_text().strip()]


def words(picture):
    return [item.get_text() for item in texts(picture)]


def assert_readable(picture, smallest=5.5):
    """No text lies on another one, and none is too small for print."""
    canvas = FigureCanvasAgg(picture.figure)
    canvas.draw()
    placed = [(item, item.get_window_extent(canvas.get_renderer())) for item in texts(picture)]
    for (one, here), (other, there) in itertools.combinations(placed, 2):
        shared = here.intersection(here, there)
        overlap = shared is not None and shared.width > 1 and shared.height > 1
        assert not overlap, f"{one.get_text()!r} and {other.get_text()!r}"
    assert min(item.get_fontsize() for item, _ in placed) >= smallest


def test_the_control_would_notice():
    figure = Figure()
    figure.text(0.5, 0.5, "one text")
    figure.text(0.51, 0.51, "on another")
    with pytest.raises(AssertionError, match="'one text' and 'on another'"):
        assert_readable(Picture("twice", figure, "", ""))


# -------------------------------------------------------------------------------------------- architecture


@pytest.fixture(scope="module")
def network():
    return build_for_figure(config())


@pytest.fixture(scope="module")
def drawn():
    return architecture(config())


def test_the_blocks_are_the_layers_of_the_built_network(network):
    blocks = {block.name: block for block in blocks_of(network)}
    for layer in network.layers:
        if isinstance(layer, ColumnConv2D | Pool2D | keras.layers.Dense):
            assert blocks.pop(layer.name).shape == layer.output.shape[1:]
    (image,) = blocks.values()
    assert image.shape == (224, 224, 3)


def test_the_architecture_has_the_papers_shapes_and_parameters(drawn):
    said = words(drawn)
    chain = (
        "224×224×3 55×55×96 27×27×96 27×27×256 13×13×256 13×13×384 13×13×384 13×13×256 6×6×256 4096 4096 1000"
    )
    assert [word for word in said if word in chain.split()] == chain.split()  # in the order of the layers
    assert {
        "34,944",
        "307,456",
        "885,120",
        "663,936",
        "442,624",
        "37,752,832",
        "16,781,312",
        "4,097,000",
    } <= {*said}
    assert "alexnet: 60,965,224 parameters" in said
    assert said.count("LRN") == 2
    assert said.count("dropout 0.5") == 2
    assert_readable(drawn)


def test_both_columns_are_drawn_with_their_share_of_the_maps(drawn):
    said = words(drawn)
    assert {"column 1", "column 2"} <= {*said}
    assert [said.count(share) for share in ("48", "128", "192")] == [4, 8, 4]  # conv1 and its pool, ...


def test_a_name_stands_above_its_shape(drawn):
    place = {item.get_text(): item.get_position() for item in texts(drawn)}
    for name, shape in {
        "conv1": "55×55×96",
        "conv2": "27×27×256",
        "fc8": "1000",
        "image": "224×224×3",
    }.items():
        assert place[name][0] == place[shape][0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet_code2012", ["map norm", "column 2", "6×6×256"]),
        ("alexnet_owt", ["55×55×64", "27×27×192", "mean 6×6", "alexnet_owt: 61,100,840 parameters"]),
        ("vgg_small", ["conv1_1", "32×32×24", "ReLU"]),
    ],
)
def test_other_networks_are_drawn_from_their_own_layers(name, expected):
    picture = architecture(config(f"model={name}"))
    assert {*expected} <= {*words(picture)}
    assert ("column 1" in words(picture)) == (name == "alexnet_code2012")
    assert_readable(picture)


def test_a_network_without_convolutions_is_drawn_too():
    stages = [f"~model.stages.conv{index}" for index in range(1, 6)]
    small = ["model.input_size=16", "model.stages.fc6.units=12", "model.stages.fc7.units=9"]
    said = words(architecture(config(*stages, *small, "augment=center")))
    assert {"16×16×3", "12", "9", "1000"} <= {*said}
    assert "column 1" not in said


def test_what_follows_a_pool_stands_with_the_pool():
    tiny = ["model=alexnet_code2012", *(f"model.stages.fc{i}.units=8" for i in (6, 7))]
    blocks = {block.name: block.then for block in blocks_of(build_for_figure(config(*tiny)))}
    assert blocks["conv1"] == ("LRN",)  # the 2012 code's order: norm, pool, activation
    assert blocks["conv1_pool"] == ("ReLU",)
    assert blocks["conv2"] == ("ReLU", "LRN", "map norm")


# ------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_is_that_of_numerical_differentiation(name):
    curve = activation_curves(801)[name]
    function = ACTIVATIONS[name] or tf.identity
    step = 1e-5
    high, low = (function(tf.constant(curve.x + sign * step)).numpy() for sign in (1, -1))
    smooth = np.abs(curve.x) > step  # at 0 some have a kink
    np.testing.assert_allclose(curve.gradient[smooth], ((high - low) / (2 * step))[smooth], atol=1e-8)
    np.testing.assert_array_equal(curve.y, function(tf.constant(curve.x)).numpy())


def test_the_drawn_curves_are_the_computed_ones():
    picture, curves = activations(), activation_curves()
    axes = [ax for ax in picture.figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in axes] == [name.replace("_", " ") for name in ACTIVATIONS]
    for ax, curve in zip(axes, curves.values(), strict=True):
        output, gradient = (line.get_ydata() for line in ax.lines[:2])
        np.testing.assert_array_equal(output, curve.y)
        drawn = np.isfinite(gradient)
        assert drawn.sum() >= len(drawn) - 1  # a jump is a gap and not a line
        np.testing.assert_array_equal(gradient[drawn], curve.gradient[drawn])
    assert_readable(picture)


def test_masks_are_those_of_the_networks_layer_and_as_many_as_its_rate_says():
    small = config("model.stages.fc6={kind: dense, units: 300, dropout: 0.3}", "model.stages.fc7.units=8")
    layer = build_for_figure(small).get_layer("fc6_dropout")
    masks = dropout_masks(layer, seed=1, rows=10, units=40, steps=60)
    for step in (0, 7):
        with mask_scope(1, step, global_rows=10):
            expected = layer(tf.ones([10, 300]), training=True).numpy()
        np.testing.assert_array_equal(masks.image[step], expected[0, :40])
    np.testing.assert_allclose(np.unique(masks.batch), [0, 1 / 0.7], rtol=1e-6)
    kept = np.count_nonzero(masks.image) / masks.image.size
    assert abs(kept - 0.7) < 4 * math.sqrt(0.7 * 0.3 / masks.image.size)
    assert len(np.unique(masks.batch, axis=0)) == 10  # every image has its own
    np.testing.assert_allclose(masks.mean[-1], masks.image.mean(axis=0), rtol=1e-5)


def test_the_picture_of_dropout_shows_its_masks_and_counts_them():
    small = config(*(f"model.stages.fc{i}.units=64" for i in (6, 7)))
    picture = dropout(small)
    masks = dropout_masks(build_for_figure(small).get_layer("fc6_dropout"), seed=1)
    meshes = picture.figure.findobj(QuadMesh)
    for mesh, shown in zip(meshes, (masks.batch, masks.image[:12]), strict=True):
        np.testing.assert_array_equal(mesh.get_array(), shown > 0)
    count = np.count_nonzero(masks.batch)
    assert any(f"{count} of 400 kept" in word for word in words(picture))
    assert "kept: the input times 2" in words(picture)
    assert "inference: 1" in words(picture)
    assert_readable(picture)


# ------------------------------------------------------------------------------------------- augmentation


def photograph(height=90, width=140):
    """A smooth picture, so that a resized crop can be found in it again."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns * 1.7, rows * 2.5, 255 - columns - rows], axis=-1).astype(np.uint8)


SMALL = [
    "model=alexnet_small",
    "augment.resize.size=48",
    "augment.center_crop.size=40",
    "augment.random_crop.size=32",
]


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL,
        ["model=alexnet_small", "augment=owt"],
        ["augment=code2012", *SMALL],
        ["model=alexnet_small", "augment.order=[resize,pad_crop,rotate,flip,contrast,pca,scale]"],
    ],
    ids=["paper", "owt", "code2012", "others"],
)
def test_the_last_step_is_what_training_gets(overrides):
    settings, _ = without_statistics(config(*overrides).augment)
    steps = augmentation_steps(photograph(), settings, 5)
    chain = data.make_preprocessing(settings, None, training=True)
    expected = tf.constant(photograph())
    if chain.per_example:
        expected = chain.per_example(expected, tf.constant([5, 0], tf.int64))
    expected = chain.per_batch(tf.cast(expected, tf.float32)[tf.newaxis])[0]
    assert [step.name for step in steps] == ["photograph", *settings.order]
    np.testing.assert_allclose(steps[-1].image, expected, rtol=1e-5, atol=1e-4)


def test_frames_are_around_what_is_cut_out():
    settings, _ = without_statistics(config(*SMALL).augment)
    steps = augmentation_steps(photograph(), settings, 3)
    for before, after in itertools.pairwise(steps):
        assert (after.cut is not None) == after.name.endswith("crop")
        if after.cut is not None:
            left, top, right, bottom = map(round, after.cut)
            np.testing.assert_array_equal(before.image[top:bottom, left:right], after.image)
    assert steps[4].cut != (0, 0, 32, 32)


def test_the_frame_of_a_resized_crop_holds_the_colours_of_the_crop():
    settings, _ = without_statistics(config("model=alexnet_small", "augment=owt").augment)
    image, cropped = augmentation_steps(photograph(), settings, 2)[:2]
    left, top, right, bottom = map(round, cropped.cut)
    part = image.image[top:bottom, left:right]
    for channel in range(3):
        assert cropped.image[..., channel].min() == pytest.approx(part[..., channel].min(), abs=4)
        assert cropped.image[..., channel].max() == pytest.approx(part[..., channel].max(), abs=4)


def test_statistics_that_no_data_gives_are_replaced_and_named():
    settings, replaced = without_statistics(config().augment)
    assert settings.subtract_mean.values == [123.675, 116.28, 103.53]
    assert settings.pca.source == "published"
    assert len(replaced) == 2
    own, kept = without_statistics(config("augment=owt").augment)
    assert kept == []
    assert own == config("augment=owt").augment


def test_the_picture_of_augmentation_shows_every_step_and_frame(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(tf.io.encode_png(photograph()).numpy())
    picture = augmentation(config(*SMALL), path)
    settings, _ = without_statistics(config(*SMALL).augment)
    steps = augmentation_steps(photograph(), settings, 1)
    shown = [item.get_array() for item in picture.figure.findobj(AxesImage)]
    for image, step in zip(shown, steps, strict=False):
        np.testing.assert_array_equal(image, step.shown)
    assert len(shown) == len(steps) + 8
    frames = [item for item in picture.figure.findobj(Rectangle) if not item.get_fill()]
    assert len(frames) == 2
    said = words(picture)
    assert "3  subtract_mean" in said
    assert any(word.startswith("40×40×3\n−") for word in said)  # as it is after the mean was subtracted
    assert "mean colour" in picture.caption
    assert_readable(picture)


def test_without_a_photograph_there_is_one(monkeypatch):
    monkeypatch.setattr("alexnet_tf.visualize.figures_augmentation.DRAWS", 4)
    picture = augmentation(config(), None)
    assert any(word.startswith("427×640×3") for word in words(picture))
    assert_readable(picture)


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\xff\xd8\xff\xe0 broken"])
def test_an_unreadable_photograph_is_one_line(tmp_path, content):
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^--image .*photo\.jpg: ") as error:
        augmentation(config(*SMALL), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * (100_000).to_bytes(4),
            "its 10000000000 pixels are more than",
        ),
        (
            b"BM" + struct.pack("<IIIIiiHHI", 100, 0, 58, 40, 4, 4, 1, 8, 0) + 20 * b"\0" + b"\xff\0\0\0",
            "a BMP with a palette",
        ),
        (b"RIFF\0\0\0\0WEBPVP8X" + 22 * b"\x10", "a WebP with alpha"),
    ],
    ids=["bomb", "palette", "webp"],
)
def test_a_photograph_that_would_not_decode_rightly_is_refused_by_its_header(tmp_path, content, reason):
    (tmp_path / "photo").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^--image .*photo: cannot be read as an image: {reason}"):
        augmentation(config(*SMALL), tmp_path / "photo")


def test_a_photograph_that_an_operation_cannot_cut_is_one_line(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(tf.io.encode_png(photograph()).numpy())
    with pytest.raises(ConfigError, match=r"^augmentation: .*random_crop") as error:
        augmentation(config("augment.order=[random_crop]"), path)
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------ results

ORDERS = {
    "[subtract_mean,scale]": (30.0, 50.0),
    "[pad_crop,subtract_mean,scale]": (36.0, 48.0),
    "[pad_crop,flip,pca,subtract_mean,scale]": (41.0, 46.0),
}


def finished_run(path, settings, training, validation, split="probe"):
    """A run that ends with these errors in per cent."""
    RunFolder.create(path, to_yaml(settings), [])
    table = Table(path / runs.METRICS, runs.METRICS_COLUMNS)
    rest = {"loss": 1.0, "top5_error": None, "lr": 0.1, "examples": 10}
    for epoch, more in ((1, 20), (2, 0)):
        for name, error in ((split, training), ("validation", validation)):
            table.append(epoch=epoch, step=10 * epoch, split=name, top1_error=(error + more) / 100, **rest)
    table.save()
    RunFolder(path).write_status(State.finished, step=20)


@functools.cache
def trained_with(order, others):
    return compose(["data=cifar10", "model=cifar_quick", "augment=cifar", f"augment.order={order}", *others])


def make_sweep(path, orders=ORDERS, split="probe", others=(), seeds=(0, 1)):
    sweep = SweepFolder(path)
    for arm, (order, errors) in enumerate(orders.items()):
        for seed in seeds:
            settings = dataclasses.replace(trained_with(order, tuple(others)), seed=seed)
            job = Job(name=f"arm{arm}-{seed}", arm=str(arm), seed=seed)
            sweep.jobs.append(job)
            finished_run(path / job.name, settings, errors[0] + seed, errors[1] + 3 * seed, split)
    sweep.save()
    return path


def test_augmentations_are_compared_one_by_one(tmp_path):
    arms, split = compare_augmentations([make_sweep(tmp_path)])
    assert split == "probe"
    assert [arm.label for arm in arms] == ["none of them", "pad_crop", "pad_crop + flip + pca"]
    assert arms[0].training == pytest.approx({0: 30, 1: 31})
    assert arms[2].validation == pytest.approx({0: 46, 1: 49})
    assert [arm.change.value for arm in arms] == pytest.approx([0, -2, -4])


def test_sweeps_are_joined_and_settings_tell_arms_apart(tmp_path):
    order = "[pad_crop,flip,pca,subtract_mean,scale]"
    one = make_sweep(tmp_path / "one")
    other = make_sweep(tmp_path / "two", {order: (44.0, 45.0)}, others=["augment.pca.scale=deviation"])
    again = make_sweep(tmp_path / "three", {order: (99.0, 99.0)})  # the first found counts
    arms, _ = compare_augmentations([one, other, again])
    labels = [arm.label for arm in arms]
    assert labels[2:] == [
        "pad_crop + flip + pca (scale=eigenvalue)",
        "pad_crop + flip + pca (scale=deviation)",
    ]
    assert arms[2].validation == pytest.approx({0: 46, 1: 49})
    assert arms[3].validation == pytest.approx({0: 45, 1: 48})


def test_another_order_of_the_same_operations_is_another_arm(tmp_path):
    orders = {"[pad_crop,subtract_mean,scale]": (1.0, 2.0), "[subtract_mean,pad_crop,scale]": (3.0, 4.0)}
    arms, _ = compare_augmentations([make_sweep(tmp_path, orders)])
    assert [arm.label for arm in arms] == [order[1:-1].replace(",", ", ") for order in orders]


def test_the_picture_of_the_effect_says_the_numbers(tmp_path):
    picture = augmentation_effect([make_sweep(tmp_path, seeds=(0, 1, 2))])
    said = words(picture)
    assert {"none of them", "pad_crop", "+22.0", "+14.0", "+7.0"} <= {*said}  # gaps
    assert {"−2.0\n[−2.0, −2.0]", "−4.0\n[−4.0, −4.0]"} <= {*said}
    (ax,) = picture.figure.axes
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots[:2], [[30, 31, 32], [50, 53, 56]])
    assert_readable(picture)


def test_without_a_probe_the_training_error_is_that_of_the_last_epoch(tmp_path):
    sweep = make_sweep(tmp_path, split="train")
    arms, split = compare_augmentations([sweep])
    assert split == "train"
    assert arms[1].training == pytest.approx({0: 36, 1: 37})
    assert "augmented training images" in words(augmentation_effect([sweep]))


def test_runs_that_differ_elsewhere_are_refused(tmp_path):
    one = make_sweep(tmp_path / "one")
    other = make_sweep(tmp_path / "two", others=["model.activation=tanh"])
    with pytest.raises(RunError, match=r"differ in augment alone, .* differ in model\.activation$"):
        compare_augmentations([one, other])


def test_one_augmentation_is_not_enough(tmp_path):
    sweep = make_sweep(tmp_path, dict([*ORDERS.items()][:1]))
    with pytest.raises(RunError, match=r"two augmentations or more, .* has 1: 2 finished runs"):
        compare_augmentations([sweep])


def test_convergence_draws_the_runs_metrics(tmp_path):
    for name, errors in {"one": (30.0, 40.0), "two": (20.0, 25.0)}.items():
        finished_run(tmp_path / name, config("training.epochs=2"), *errors, split="train")
    picture = convergence([tmp_path / "one", tmp_path / "two"])
    assert picture.name == "convergence"
    _, below = picture.figure.axes
    np.testing.assert_allclose(
        [line.get_ydata() for line in below.lines], [[0.5, 0.3], [0.6, 0.4], [0.4, 0.2], [0.45, 0.25]]
    )
    assert {"one", "two"} <= {*words(picture)}


def test_the_history_of_ilsvrc():
    picture = ilsvrc()
    (ax,) = picture.figure.axes
    assert [bar.get_height() for bar in ax.patches] == [28.2, 25.8, 16.4, 11.7, 6.7, 3.6, 3.0, 2.3]
    winners = [label.get_text().splitlines() for label in ax.get_xticklabels()]
    assert [int(year) for year, *_ in winners] == list(range(2010, 2018))
    assert winners[2][1:] == ["SuperVision", "AlexNet"]
    assert HUMAN == 5.1
    assert "one human: 5.1 %" in words(picture)
    assert_readable(picture)


# ---------------------------------------------------------------------------------------------- all of them


def test_all_that_can_be_drawn_is_drawn_and_the_rest_is_named():
    pictures, missing = draw_figures([], Subjects(config=config("model=cifar_quick", "augment=owt")))
    assert [picture.name for picture in pictures] == [
        "architecture_cifar_quick",
        "activations",
        "augmentation",
        "ilsvrc",
    ]
    assert missing == {
        "dropout": "model=NAME of a network of stages with dropout",
        "augmentation_effect": "--sweep SWEEP",
        "convergence": "--run RUN",
    }
    for picture in pictures:
        assert picture.alt
        assert picture.caption.endswith(".")


def test_what_is_asked_for_by_name_must_be_given():
    with pytest.raises(ConfigError, match=r"^figures convergence: expected --run RUN$"):
        draw_figures(["ilsvrc", "convergence"], Subjects(config=config()))
    with pytest.raises(
        ConfigError, match=r"^figures architecture: expected model=NAME of a network of stages$"
    ):
        draw_figures(["architecture"], Subjects(config=config("model=resnet20", "augment=center")))


def test_an_unknown_figure_is_one_line_with_the_choices():
    with pytest.raises(ConfigError, match=f"^figures ilsrvc: no such figure. .*: {', '.join(FIGURES)}$"):
        draw_figures(["ilsrvc"], Subjects(config=config()))
    assert tuple(FIGURES) == NAMES


def test_what_is_no_run_or_sweep(tmp_path):
    with pytest.raises(WrongPathError):
        draw_figures(["convergence"], Subjects(config=config(), runs=[tmp_path]))
    with pytest.raises(WrongPathError):
        draw_figures(["augmentation_effect"], Subjects(config=config(), sweeps=[tmp_path]))


@pytest.mark.slow
def test_the_command_writes_png_and_svg(alexnet, tmp_path):
    done = alexnet("figures", "ilsvrc", "activations", "ilsvrc")
    assert done.returncode == 0, done.stderr
    names = ["activations.png", "activations.svg", "ilsvrc.png", "ilsvrc.svg"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == names
    assert (tmp_path / "figures/ilsvrc.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "<svg" in (tmp_path / "figures/ilsvrc.svg").read_text()
    assert done.stdout.splitlines()[0].split() == ["figures/ilsvrc.svg", "figures/ilsvrc.png"]


@pytest.mark.slow
def test_what_fails_leaves_no_file(alexnet, tmp_path):
    done = alexnet("figures", "ilsvrc", "augmentation", "--image", "nowhere.jpg")
    assert done.returncode == 2
    assert (
        done.stderr == "alexnet: --image nowhere.jpg: cannot be read as an image: No such file or directory\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_effect_is_drawn_from_a_real_sweep(alexnet, tmp_path):
    orders = "augment.order=[resize,subtract_mean,scale],[resize,flip,subtract_mean,scale]"
    small = ["model=digits_quick", "training.epochs=1", "training.progress=none", "data.train_examples=200"]
    trained = alexnet("train", "-m", orders, "seed=0,1", "run_dir=sweep", *small)
    assert trained.returncode == 0, trained.stderr
    done = alexnet("figures", "augmentation_effect", "--sweep", "sweep")
    assert done.returncode == 0, done.stderr
    arms, split = compare_augmentations([tmp_path / "sweep"])
    assert [arm.label for arm in arms] == ["none of them", "flip"]
    assert split == "train"
    table = RunFolder(next(tmp_path.glob("sweep/*-flip-*seed1*"))).metrics()
    expected = 100 * table[table["split"] == "validation"]["top1_error"].iloc[-1]
    assert arms[1].validation[1] == pytest.approx(expected)


def test_pictures_say_in_print_what_they_show(tmp_path):
    picture = dataclasses.replace(ilsvrc(), name="print")
    picture.save(tmp_path)
    width = int.from_bytes((tmp_path / "print.png").read_bytes()[16:20], "big")
    assert width / 300 == pytest.approx(7.2, abs=0.3)  # inches at 300 dots each
