"""Weights of others as runs, against the same networks in PyTorch, and back as state dicts."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from caffe_bytes import blob, layer
from safetensors.numpy import load_file, save_file

from alexnet_tf.config import ConfigError, compose
from alexnet_tf.data import DataError
from alexnet_tf.evaluation import Settings, evaluate_runs
from alexnet_tf.export import export_run
from alexnet_tf.importing import (
    RECIPES,
    STATE_DICTS,
    import_weights,
    plan_import,
    write_state_dict,
)
from alexnet_tf.inference import Run, load_run
from alexnet_tf.model.weights import READERS, WRITERS, WeightsError
from alexnet_tf.runs import DATASET, RunError, WrongPathError, write_json
from alexnet_tf.studies import write_report
from alexnet_tf.training import train

OWT = {"conv1": 6, "conv2": 8, "conv3": 10, "conv4": 8, "conv5": 8, "fc6": 20, "fc7": 16}
CAFFE = {"conv1": 8, "conv2": 8, "conv3": 12, "conv4": 12, "conv5": 8, "fc6": 20, "fc7": 16}
TORCHVISION = ("features.0", "features.3", "features.6", "features.8", "features.10")
TORCHVISION += ("classifier.1", "classifier.4", "classifier.6")
NAMES = ["ant", "bee", "cat", "dog", "eel"]


def units(sizes: dict[str, int]) -> list[str]:
    return [f"model.stages.{stage}.units={count}" for stage, count in sizes.items()]


def random_arrays(sizes: dict[str, int], groups: dict[str, int], classes: int = 5) -> dict[str, np.ndarray]:
    """Weights and biases of the eight layers, `[out, in / groups, k, k]` and `[out, in]`, by our names of the layers."""
    rng = np.random.default_rng(classes)
    arrays, below = {}, 3
    for stage, out in {**sizes, "fc8": classes}.items():
        if stage.startswith("conv"):
            side = {"conv1": 11, "conv2": 5}.get(stage, 3)
            shape = [out, below // groups.get(stage, 1), side, side]
        else:
            shape = [out, below * 36 if stage == "fc6" else below]
        scale = np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"{stage}.weight"] = rng.normal(0, scale, shape).astype(np.float32)
        arrays[f"{stage}.bias"] = rng.normal(0, 0.1, [out]).astype(np.float32)
        below = out
    return arrays


def torchvision_names(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stages = dict(zip([*OWT, "fc8"], TORCHVISION, strict=True))
    return {f"{stages[name.split('.')[0]]}.{name.split('.')[1]}": array for name, array in arrays.items()}


def caffemodel(arrays: dict[str, np.ndarray]) -> bytes:
    stages = dict.fromkeys(name.split(".")[0] for name in arrays)
    kinds = {"c": "Convolution", "f": "InnerProduct"}
    parts = [(s, kinds[s[0]], arrays[f"{s}.weight"], arrays[f"{s}.bias"]) for s in stages]
    return b"".join(layer(*part) for part in parts)


@pytest.fixture(scope="module")
def names_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


@pytest.fixture(scope="module")
def owt(tmp_path_factory, names_file) -> tuple[Run, dict[str, np.ndarray], Path]:
    """A run of torchvision's network, the file's arrays, and the file."""
    folder = tmp_path_factory.mktemp("owt")
    arrays = random_arrays(OWT, {})
    save_file(torchvision_names(arrays), folder / "net.safetensors")
    plan = plan_import(
        folder / "net.safetensors", folder / "run", "alexnet_owt", units(OWT), class_names=names_file
    )
    return load_run(import_weights(plan).path), arrays, folder / "net.safetensors"


@pytest.fixture(scope="module")
def caffe(tmp_path_factory, names_file) -> Callable[..., Run]:
    """Import the same Caffe network from a file of any format."""
    folder = tmp_path_factory.mktemp("caffe")

    def make(name: str, content: bytes, mean: Path | None = None, *overrides: str) -> Run:
        file = folder / name
        file.write_bytes(content)
        plan = plan_import(
            file,
            folder / f"run_{name}_{mean and mean.name}",
            "alexnet_caffe",
            [*units(CAFFE), *overrides],
            class_names=names_file,
            mean=mean,
        )
        return load_run(import_weights(plan).path)

    return make


CAFFE_ARRAYS = random_arrays(CAFFE, {"conv2": 2, "conv4": 2, "conv5": 2})
PHOTOS = np.random.default_rng(1).integers(0, 256, [3, 256, 256, 3], np.uint8)
MEAN = np.random.default_rng(2).uniform(90, 130, [3, 256, 256]).astype(np.float32)


def in_torch(torch, arrays: dict[str, np.ndarray], images: np.ndarray, *, caffe: bool) -> np.ndarray:
    """Probabilities of preprocessed images `[N, 3, S, S]`, by the definitions of torchvision and of bvlc_alexnet."""
    functional = torch.nn.functional
    w = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x = torch.from_numpy(np.ascontiguousarray(images, np.float32))
    stride_padding = {"conv1": (4, 0 if caffe else 2), "conv2": (1, 2)}
    for stage in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        stride, padding = stride_padding.get(stage, (1, 1))
        groups = 2 if caffe and stage in ("conv2", "conv4", "conv5") else 1
        x = functional.conv2d(
            x, w[f"{stage}.weight"], w[f"{stage}.bias"], stride, padding, groups=groups
        ).relu()
        if caffe and stage in ("conv1", "conv2"):
            x = functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)  # alpha is divided by 5
        if stage in ("conv1", "conv2", "conv5"):
            x = functional.max_pool2d(x, 3, 2, ceil_mode=caffe)
    x = x.flatten(1)
    for stage in ("fc6", "fc7"):
        x = functional.linear(x, w[f"{stage}.weight"], w[f"{stage}.bias"]).relu()
    return functional.linear(x, w["fc8.weight"], w["fc8.bias"]).softmax(1).numpy()


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra torch is not installed")


# ------------------------------------------------------------------------------------- what an import gives


def test_torchvisions_network_predicts_as_in_torch(torch, owt):
    run, arrays, _ = owt
    unit = PHOTOS[:, 16:240, 16:240].astype(np.float64) / 255  # the centre 224 of 256
    images = ((unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2)
    expected = in_torch(torch, arrays, images, caffe=False)
    assert expected.std() > 0.05  # not all the same
    np.testing.assert_allclose(run.predict(PHOTOS), expected, atol=1e-5)


@pytest.mark.parametrize("suffix", [".npy", ".binaryproto"])
def test_caffes_network_predicts_as_in_torch_with_its_mean(torch, caffe, tmp_path, suffix):
    mean = tmp_path / f"mean{suffix}"
    if suffix == ".npy":
        np.save(mean, MEAN.astype(np.float64))
    else:
        mean.write_bytes(blob(MEAN, legacy=True))
    run = caffe("net.caffemodel", caffemodel(CAFFE_ARRAYS), mean)
    bgr = PHOTOS[..., ::-1].transpose(0, 3, 1, 2) - MEAN
    expected = in_torch(torch, CAFFE_ARRAYS, bgr[:, :, 14:241, 14:241], caffe=True)
    assert expected.std() > 0.05
    np.testing.assert_allclose(run.predict(PHOTOS), expected, atol=1e-5)
    statistics = run.statistics()
    np.testing.assert_array_equal(statistics.mean_image[5, 7], MEAN[::-1, 5, 7])
    np.testing.assert_allclose(statistics.mean_channel, MEAN.mean(axis=(1, 2))[::-1], rtol=1e-6)
    assert np.isnan(statistics.covariance).all()


def test_caffes_mean_colour_stands_in(torch, caffe):
    run = caffe("net.caffemodel", caffemodel(CAFFE_ARRAYS))
    bgr = PHOTOS[..., ::-1] - np.array([104.01, 116.67, 122.68])
    images = bgr.transpose(0, 3, 1, 2)[:, :, 14:241, 14:241]
    expected = in_torch(torch, CAFFE_ARRAYS, images, caffe=True)
    np.testing.assert_allclose(run.predict(PHOTOS), expected, atol=1e-5)
    assert run.statistics() is None


def test_an_npz_is_the_same_network(caffe, tmp_path):
    """In TensorFlow's axes, with fc6 in HWC order and conv1 still BGR, as the converter wrote them."""
    arrays = {}
    for name, array in CAFFE_ARRAYS.items():
        stage, part = name.split(".")
        if array.ndim == 4:
            array = np.moveaxis(array, [2, 3, 1, 0], [0, 1, 2, 3])
        elif stage == "fc6" and part == "weight":
            array = np.einsum("ochw->hwco", array.reshape(20, 8, 6, 6)).reshape(288, 20)
        elif part == "weight":
            array = array.T
        arrays[f"{stage}/{'weights' if part == 'weight' else 'biases'}"] = array
    np.savez(tmp_path / "net.npz", **arrays)
    ours = caffe("net.npz", (tmp_path / "net.npz").read_bytes()).model()
    theirs = caffe("twin.caffemodel", caffemodel(CAFFE_ARRAYS)).model()
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_folder_is_a_finished_run(owt):
    run, _, file = owt
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "dataset.json",
        "environment.json",
        "model.keras",
        "overrides.yaml",
        "status.json",
    ]
    status = run.status()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert status["state"] == "finished"
    assert status["reason"] == f"imported from {file} (sha256 {digest})"
    assert run.class_names == NAMES
    assert run.config.model.num_classes == 5
    assert run.config.augment.order == ["random_resized_crop", "flip", "subtract_mean", "scale"]
    assert run.overrides() == ["model=alexnet_owt", *units(OWT)]
    assert {"start", "end", "versions", "git_commit"} <= run.environment().keys()
    assert not list(run.path.parent.glob(".*"))


def test_it_cannot_be_resumed_or_reported(owt):
    run, _, _ = owt
    with pytest.raises(RunError, match="was imported, not trained: there are no metrics"):
        write_report([run.path])
    with pytest.raises(ConfigError, match=f"was imported, not trained. Expected init_from={run.path}"):
        train(replace(run.config, resume=str(run.path)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of six images of two classes."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 256, [260, 300, 3], np.uint8)
        path = root / "train" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return root


def test_evaluation_on_a_folder_of_images(photos, tmp_path, caplog):
    save_file(torchvision_names(random_arrays(OWT, {}, classes=2)), tmp_path / "net.safetensors")
    overrides = [
        "data=folder",
        f"data.dir={photos}",
        "data.validation_fraction=0.0",
        *units(OWT),
    ]
    plan = plan_import(tmp_path / "net.safetensors", tmp_path / "run", "alexnet_owt", overrides)
    run = load_run(import_weights(plan).path)
    assert run.class_names == ["class0", "class1"]  # the data's own, as there are as many
    (found,) = evaluate_runs([run], Settings(split="train"))
    assert found.scores.examples == 6
    write_json(run.path / DATASET, {**run.dataset(), "fingerprint": None})  # as if the data had come later
    load_run(run.path).load_source()
    assert not [record for record in caplog.records if record.name.startswith("alexnet_tf")]

    for where in (["data=folder", "data.dir=nowhere"], ["data.dir=nowhere"]):
        plan = plan_import(
            tmp_path / "net.safetensors", tmp_path / "other", "alexnet_owt", [*where, *units(OWT)]
        )
        with pytest.raises(DataError, match="nowhere"):
            import_weights(plan)
        assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_it_is_exported_and_fine_tuned(owt, photos, tmp_path):
    run, arrays, _ = owt
    assert export_run(run, out=tmp_path / "saved").comparison.top1_agreement == 1
    choices = f"data=folder data.dir={photos} data.validation_fraction=0.0 model=alexnet_owt augment=owt"
    # A rate too small to move a float32.
    recipe = "optimizer.lr=1e-30 training.batch_size=2 training.steps=1 training.progress=none"
    where = [f"init_from={run.path}", f"run_dir={tmp_path / 'tuned'}"]
    tuned = train(compose([*choices.split(), *units(OWT), *recipe.split(), *where]))
    for stage in OWT:
        np.testing.assert_array_equal(
            tuned.model().get_layer(stage).bias.numpy(), arrays[f"{stage}.bias"], err_msg=stage
        )
    np.testing.assert_array_equal(
        tuned.model().get_layer("conv2").kernel.numpy()[4, 0], arrays["conv2.weight"][:, :, 4, 0].T
    )
    assert tuned.model().output_shape == (None, 2)  # starts afresh: there were five


def test_a_thousand_classes_are_imagenets(tmp_path):
    save_file(torchvision_names(random_arrays(OWT, {}, classes=1000)), tmp_path / "net.safetensors")
    run = load_run(
        import_weights(
            plan_import(tmp_path / "net.safetensors", tmp_path / "run", "alexnet_owt", units(OWT))
        ).path
    )
    names = run.class_names
    # tench, toilet tissue; the order of Caffe's synset_words.txt and of torchvision is that of the ids
    assert (names[0], names[999], len(names), names) == ("n01440764", "n15075141", 1000, sorted(names))


# ------------------------------------------------------------------------------------------------ and back


def test_the_round_trip_keeps_every_bit(owt, tmp_path):
    run, _, file = owt
    assert write_state_dict(run.path, tmp_path / "back.safetensors") == 16
    before, after = load_file(file), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert (array.shape, array.dtype, array.tobytes()) == (
            after[name].shape,
            after[name].dtype,
            after[name].tobytes(),
        )


def test_the_round_trip_through_pth(torch, owt, tmp_path, names_file):
    _, arrays, _ = owt
    theirs = {name: torch.from_numpy(array) for name, array in torchvision_names(arrays).items()}
    torch.save(theirs, tmp_path / "net.pth")
    plan = plan_import(
        tmp_path / "net.pth", tmp_path / "run", "alexnet_owt", units(OWT), class_names=names_file
    )
    write_state_dict(import_weights(plan).path, tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(theirs)
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())


def test_another_network_goes_through_a_state_dict(caffe, tmp_path, names_file):
    run = caffe("third.caffemodel", caffemodel(CAFFE_ARRAYS))
    write_state_dict(run.path, tmp_path / "net.safetensors")
    written = load_file(tmp_path / "net.safetensors")
    assert written.keys() == CAFFE_ARRAYS.keys()
    np.testing.assert_array_equal(written["conv1.weight"], CAFFE_ARRAYS["conv1.weight"][:, ::-1])  # RGB now
    np.testing.assert_array_equal(written["fc6.weight"], CAFFE_ARRAYS["fc6.weight"])
    plan = plan_import(
        tmp_path / "net.safetensors",
        tmp_path / "run",
        "alexnet_caffe",
        [*units(CAFFE), "augment=caffe", "augment.subtract_mean.values=[122.68,116.67,104.01]"],
        class_names=names_file,
    )
    again = load_run(import_weights(plan).path)
    np.testing.assert_array_equal(again.predict(PHOTOS), run.predict(PHOTOS))


@pytest.mark.slow
def test_full_size(torch, tmp_path):
    """61,100,840 parameters there and back, and the same probabilities in between."""
    sizes = {"conv1": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256, "fc6": 4096, "fc7": 4096}
    arrays = random_arrays(sizes, {}, classes=1000)
    assert sum(array.size for array in arrays.values()) == 61_100_840
    save_file(torchvision_names(arrays), tmp_path / "net.safetensors")
    run = load_run(
        import_weights(plan_import(tmp_path / "net.safetensors", tmp_path / "run", "alexnet_owt")).path
    )
    unit = PHOTOS[:, 16:240, 16:240].astype(np.float64) / 255
    images = ((unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run.predict(PHOTOS), in_torch(torch, arrays, images, caffe=False), atol=1e-5)
    write_state_dict(run.path, tmp_path / "back.safetensors")
    before, after = load_file(tmp_path / "net.safetensors"), load_file(tmp_path / "back.safetensors")
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


# ----------------------------------------------------------------------------------------------- wrong use


def test_the_tables_agree():
    assert RECIPES.keys() == READERS.keys()
    assert set(STATE_DICTS) == WRITERS.keys()


WRONG = [
    ({"file": "nothing.pth"}, WrongPathError, "nothing.pth: no such file"),
    ({"file": "net.h5"}, ConfigError, "net.h5: expected a file that ends in .pth, .pt, .safetensors"),
    ({"out": "there"}, WrongPathError, "--out .*there: exists already. Expected the name of a new folder."),
    ({"model": "alexnt"}, ConfigError, "model=alexnt: no such choice"),
    (
        {"overrides": ["optimizer.lr=1"]},
        ConfigError,
        "optimizer.lr=1: expected data=NAME, augment=NAME, or a key of",
    ),
    ({"overrides": ["model=zfnet"]}, ConfigError, "model=zfnet: expected .* --model names the network"),
    ({"overrides": ["model.stages.conv9.units=3"]}, ConfigError, "model.stages.conv9"),
    ({"overrides": ["augment=paper"]}, ConfigError, "augment.subtract_mean: the mean .* give --mean FILE"),
    ({"mean": "mean.npy"}, ConfigError, "--mean: the preprocessing .* has no place for a mean image"),
    ({"mean": "net.h5"}, ConfigError, "--mean .*net.h5: expected a file that ends in .npy, .binaryproto"),
    ({"class_names": "nothing.txt"}, WrongPathError, "--class-names .*nothing.txt: no such file"),
    ({"class_names": "bad.json"}, ConfigError, "--class-names .*bad.json: expected a name a line, or JSON"),
    (
        {"class_names": "numbers.json"},
        ConfigError,
        "--class-names .*numbers.json: expected a name for each class",
    ),
]


@pytest.mark.parametrize(("change", "kind", "message"), WRONG, ids=[case[2][:30] for case in WRONG])
def test_wrong_use_is_one_line(tmp_path, change, kind, message):
    for name, text in {"net.safetensors": "", "net.h5": "", "mean.npy": "", "bad.json": '{"1": "a"}'}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "numbers.json").write_text("[1, 2]")
    (tmp_path / "there").mkdir()
    request = {
        "file": "net.safetensors",
        "out": "run",
        "model": "alexnet_owt",
        "overrides": units(OWT),
        **change,
    }
    paths = {key: tmp_path / value for key, value in request.items() if key not in ("model", "overrides")}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kind, match=message) as caught:
        plan_import(**{**request, **paths})
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.fixture
def attempt(tmp_path, names_file):
    """Import changed arrays, and see that nothing is left."""

    def make(
        kind: type[Exception], message: str, arrays: dict[str, np.ndarray], *overrides: str, **options
    ) -> None:
        save_file(arrays, tmp_path / "net.safetensors")
        options = {"class_names": names_file, **options}
        before = sorted(tmp_path.iterdir())
        plan = plan_import(
            tmp_path / "net.safetensors",
            tmp_path / "a" / "run",
            "alexnet_owt",
            [*units(OWT), *overrides],
            **options,
        )
        with pytest.raises(kind, match=message) as caught:
            import_weights(plan)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_status == (1 if kind is WeightsError else 2)
        assert sorted(tmp_path.iterdir()) == before

    return make


def test_what_does_not_fit_leaves_nothing(attempt):
    arrays = torchvision_names(random_arrays(OWT, {}))
    attempt(
        ConfigError,
        r"expected classifier.6.bias, the biases of the last stage",
        {"features.0.bias": arrays["features.0.bias"]},
    )
    attempt(
        ConfigError,
        r"missing features.3.bias; unexpected nothing",
        {n: a for n, a in arrays.items() if n != "features.3.bias"},
    )
    attempt(
        ConfigError,
        r"missing nothing; unexpected features.7.weight",
        {**arrays, "features.7.weight": np.ones(3, np.float32)},
    )
    wrong = np.zeros([8, 6, 3, 3], np.float32)
    attempt(
        ConfigError,
        r"features.3.weight: expected the shape \[8, 6, 5, 5\], found \[8, 6, 3, 3\]",
        {**arrays, "features.3.weight": wrong},
    )
    attempt(
        WeightsError,
        "features.0.bias: expected finite numbers",
        {**arrays, "features.0.bias": np.full(6, np.nan, np.float32)},
    )
    attempt(
        ConfigError,
        r"model.num_classes=7: expected 5, as .*net.safetensors has",
        arrays,
        "model.num_classes=7",
    )
    attempt(
        ConfigError,
        r"--class-names: expected a file with the 5 names of .*, none are known",
        arrays,
        class_names=None,
    )


def test_other_class_names_leave_nothing(attempt, tmp_path):
    arrays = torchvision_names(random_arrays(OWT, {}))
    (tmp_path / "four.json").write_text(json.dumps(NAMES[:4]))
    attempt(ConfigError, "the 5 names of .*, came 4", arrays, class_names=tmp_path / "four.json")
    attempt(ConfigError, "data=digits: expected the 5 classes", arrays, "data=digits", "data.channels=3")


def test_keras_class_index(tmp_path):
    index = {str(number): [f"n{number}", name] for number, name in enumerate(NAMES)}
    (tmp_path / "index.json").write_text(json.dumps(dict(reversed(index.items()))))
    (tmp_path / "net.pth").write_bytes(b"")
    plan = plan_import(
        tmp_path / "net.pth", tmp_path / "run", "alexnet_owt", class_names=tmp_path / "index.json"
    )
    assert plan.class_names == ["n0", "n1", "n2", "n3", "n4"]


@pytest.mark.parametrize("shape", [[3, 227, 227], [256, 256, 3], [3]])
def test_a_mean_of_another_shape(tmp_path, names_file, shape):
    np.save(tmp_path / "mean.npy", np.ones(shape))
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(CAFFE_ARRAYS))
    plan = plan_import(
        tmp_path / "net.caffemodel",
        tmp_path / "run",
        "alexnet_caffe",
        units(CAFFE),
        class_names=names_file,
        mean=tmp_path / "mean.npy",
    )
    with pytest.raises(ConfigError, match=r"expected the shape \[3, height, width\]|shape \(227, 227, 3\)"):
        import_weights(plan)
    assert not (tmp_path / "run").exists()


def test_wrong_targets(owt, tmp_path):
    run, _, _ = owt
    (tmp_path / "there.pth").write_text("mine")
    with pytest.raises(
        WrongPathError, match=r"--out .*there.pth: exists already. Expected the name of a new file"
    ):
        write_state_dict(run.path, tmp_path / "there.pth")
    with pytest.raises(ConfigError, match=r"net.onnx: expected a file that ends in .pth, .pt, .safetensors"):
        write_state_dict(run.path, tmp_path / "net.onnx")
    with pytest.raises(WrongPathError, match="there is no folder"):
        write_state_dict(run.path, tmp_path / "no" / "net.pth")
    assert (tmp_path / "there.pth").read_text() == "mine"


# --------------------------------------------------------------------------------------------- the command


def test_the_command(alexnet, owt, tmp_path):
    back = alexnet("import-weights", str(owt[0].path), "--to", "torch", "--out", "back.safetensors")
    assert (back.returncode, back.stderr) == (0, "")
    assert "16 tensors" in back.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["back.safetensors"]
