"""Weights of others as a run folder, and a run's weights as a state dict of PyTorch's.

What can be checked without TensorFlow is checked by `plan_import` and `check_target`; TensorFlow is imported after that.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf import runs
from alexnet_tf.config import Config, ConfigError, compose, override_key, to_yaml
from alexnet_tf.config.schema import StagedModelConfig
from alexnet_tf.runs import RunError, RunFolder, State, WrongPathError

if TYPE_CHECKING:
    from alexnet_tf.data import Statistics

RECIPES = {
    ".pth": "owt",
    ".pt": "owt",
    ".safetensors": "owt",
    ".caffemodel": "caffe",
    ".npy": "caffe",
    ".npz": "caffe",
}
"""The preprocessing (`augment=`) that weights were trained with, by the end of their file's name."""
STATE_DICTS = tuple(suffix for suffix, recipe in RECIPES.items() if recipe == "owt")
"""What can be written."""
MEANS = (".npy", ".binaryproto")
CAFFE_MEAN = "[122.68,116.67,104.01]"
"""RGB, of Caffe's `ilsvrc_2012_mean.npy`."""
IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """An import whose request has been checked.

    Attributes:
        file: The weights.
        out: The run folder to make.
        config: The run's config; the number of classes is still the file's to say.
        mean: A mean image in Caffe's form, or None.
        class_names: In the order of the last layer's outputs, or None to find them.
        data_is_named: Whether the user chose the data, which then must be there and have these classes.
        allow_pickle: Whether an `.npy` dictionary may run code.
        overrides: What was typed.
    """

    file: Path
    out: Path
    config: Config
    mean: Path | None
    class_names: list[str] | None
    data_is_named: bool
    allow_pickle: bool
    overrides: tuple[str, ...]

    @property
    def last_stage(self) -> str:
        """The stage that yields the logits."""
        assert isinstance(self.config.model, StagedModelConfig)  # see _compose
        *_, last = self.config.model.stages
        return last


def plan_import(
    file: Path,
    out: Path,
    model: str,
    overrides: Sequence[str] = (),
    *,
    mean: Path | None = None,
    class_names: Path | None = None,
    allow_pickle: bool = False,
) -> ImportPlan:
    """Check a request to import weights, and compose the run's config, before anything heavy is loaded.

    The config is that of `model` with the preprocessing of the weights' source: torchvision's means and deviations for
    state dicts, Caffe's mean and crop for the others; and `data=imagenet2012`.

    Args:
        file: Weights whose name ends in one of `RECIPES`.
        out: The folder to make.
        model: A network of `conf/model/`.
        overrides: Of `model.*`, `data` and `augment`, in Hydra's syntax.
        mean: Caffe's mean image, BGR: `.npy` `[3, height, width]` or `.binaryproto`. None: the mean colour of its own.
        class_names: A file with a name for each class: a line each, a JSON list, or Keras's
            `imagenet_class_index.json`, of which the WordNet ids are taken.
        allow_pickle: Whether an `.npy` dictionary may be unpickled, which runs any code that its maker put into it.

    Raises:
        ConfigError: If the request cannot be carried out; the message is one line.
        WrongPathError: If a file is not there, or `out` is.
    """
    _check_file(file, RECIPES)
    if mean is not None:
        _check_file(mean, MEANS, "--mean ")
    names = None if class_names is None else _read_class_names(class_names)
    _check_new(out, "the name of a new folder")
    config = _compose(model, RECIPES[file.suffix.lower()], overrides, has_mean=mean is not None)
    return ImportPlan(
        file=file,
        out=out,
        config=config,
        mean=mean,
        class_names=names,
        data_is_named=not {"data", "data.name", "data.dir"}.isdisjoint(_keys(overrides)),
        allow_pickle=allow_pickle,
        overrides=(f"model={model}", *overrides),
    )


def import_weights(plan: ImportPlan) -> RunFolder:
    """Make a run folder out of a file of weights, as if the run had been trained here.

    It has a config, `dataset.json`, `model.keras`, `environment.json`, a finished `status.json` that names the file and
    its SHA-256, and with a mean image `statistics.npz`, whose covariance is not known (NaN). It appears when all of it is
    there.

    Raises:
        ConfigError: If the weights do not fit the network, or the class names the weights.
        WeightsError: If a file is damaged.
        DataError: If the data that the user chose is not there.
        RunError: If the folder cannot be written.
    """
    from alexnet_tf.model import build, weights

    content = weights.read_weights(plan.file, allow_pickle=plan.allow_pickle)
    config = _complete(plan, weights.class_count(content, plan.last_stage))
    network = build(config.model, seed=config.seed)
    weights.assign(network, content)
    statistics = None if plan.mean is None else _mean_statistics(plan.mean)
    _check_preprocessing(config, statistics)
    dataset = _dataset(plan, config)
    try:
        with runs.temporary_folder(plan.out.parent) as path:
            folder = RunFolder.create(path, to_yaml(config), plan.overrides)
            runs.write_json(path / runs.DATASET, dataset)
            runs.write_json(
                path / runs.ENVIRONMENT, {"start": runs.now(), **runs.software(), "end": runs.now()}
            )
            if statistics is not None:
                statistics.save(path / runs.STATISTICS)
            network.save(path / runs.MODEL)
            folder.write_status(State.finished, step=0, steps=0, **_origin(plan.file))
            path.rename(plan.out)
    except OSError as error:
        raise RunError(f"{plan.out}: cannot be written ({error.strerror or error})") from error
    return RunFolder(plan.out)


def check_target(folder: Path, out: Path) -> None:
    """Check a request to write a state dict before anything heavy is loaded.

    Raises:
        WrongPathError: If there is no run, or there is an `out` already or no folder for it.
        ConfigError: If `out` has another end than those of `STATE_DICTS`.
    """
    RunFolder.open(folder)
    if out.suffix.lower() not in STATE_DICTS:
        raise ConfigError(f"--out {out}: expected a file that ends in {', '.join(STATE_DICTS)}")
    _check_new(out, "the name of a new file")
    if not out.parent.is_dir():
        raise WrongPathError(f"--out {out}: there is no folder {out.parent}")


def write_state_dict(folder: Path, out: Path) -> int:
    """Write the weights of a finished run as PyTorch's state dict.

    Args:
        folder: The run. torchvision's names are used for `alexnet_owt`, else the layers' own (`conv1.weight`).
        out: The file, `.pth` or `.pt` (needs PyTorch) or `.safetensors`.

    Returns:
        The number of tensors.

    Raises:
        RunError: If there is no run, it has no model, or `out` exists or cannot be written.
        ConfigError: If a package is missing.
        WeightsError: If a layer has no counterpart in PyTorch.
    """
    check_target(folder, out)
    from alexnet_tf.inference import load_run
    from alexnet_tf.model import weights

    arrays = weights.state_dict(load_run(folder).model())
    write = weights.WRITERS[out.suffix.lower()]
    try:
        runs.write_atomic(out, lambda stream: write(arrays, stream))
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror or error})") from error
    return len(arrays)


# ------------------------------------------------------------------------------------- without TensorFlow


def _check_file(path: Path, suffixes: Sequence[str] | dict[str, Any], flag: str = "") -> None:
    if not path.is_file():
        found = "a folder. Expected a file" if path.is_dir() else "no such file"
        raise WrongPathError(f"{flag}{path}: {found}")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{flag}{path}: expected a file that ends in {', '.join(suffixes)}")


def _check_new(path: Path, expected: str) -> None:
    if os.path.lexists(path):
        raise WrongPathError(f"--out {path}: exists already. Expected {expected}.")


def _keys(overrides: Sequence[str]) -> list[str]:
    """What overrides change, such as `data` or `data.dir`."""
    return [override_key(text) for text in overrides]


def _compose(model: str, recipe: str, overrides: Sequence[str], *, has_mean: bool) -> Config:
    """The run's config, of which the preprocessing has the mean that it needs."""
    keys = _keys(overrides)
    for text, key in zip(overrides, keys, strict=True):
        if not key.startswith(("model.", "data.", "augment.")) and key not in ("data", "augment"):
            raise ConfigError(
                f"{text}: expected data=NAME, augment=NAME, or a key of model, data or augment; --model names "
                f"the network"
            )
    defaults = [
        f"{group}={name}"
        for group, name in (("data", "imagenet2012"), ("augment", recipe))
        if group not in keys
    ]
    if recipe == "caffe" and not has_mean and "augment" not in keys:
        defaults.append(f"augment.subtract_mean.values={CAFFE_MEAN}")
    config = compose([f"model={model}", *defaults, *overrides])
    if not isinstance(config.model, StagedModelConfig):
        raise ConfigError(
            f"--model {model}: expected a network of stages, such as alexnet_owt or alexnet_caffe"
        )
    mean = config.augment.subtract_mean if "subtract_mean" in config.augment.order else None
    needs_mean = mean is not None and mean.values is None
    if needs_mean and not has_mean:
        raise ConfigError(
            "augment.subtract_mean: the mean of the training images is not known; give --mean FILE, or "
            "augment.subtract_mean.values=[R,G,B] in units of 0-255"
        )
    if has_mean and not needs_mean:
        raise ConfigError(
            f"--mean: the preprocessing (augment.order={config.augment.order}) has no place for a mean image; "
            f"torchvision's weights, for example, go with one mean per channel"
        )
    return config


def _read_class_names(path: Path) -> list[str]:
    """The names in a file: lines, a JSON list, or JSON as Keras has it, `{"0": ["n01440764", "tench"], ...}`."""
    _check_file(path, (path.suffix.lower(),), "--class-names ")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
        if isinstance(content, dict):
            by_index = [content[str(index)] for index in range(len(content))]
            content = [entry[0] if isinstance(entry, list) else entry for entry in by_index]
    except (OSError, ValueError, KeyError, IndexError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(
            f"--class-names {path}: expected a name a line, or JSON: a list, or names by '0', '1', ... ({problem})"
        ) from error
    if not isinstance(content, list) or not all(isinstance(name, str) and name.strip() for name in content):
        raise ConfigError(f"--class-names {path}: expected a name for each class, all of them strings")
    return [name.strip() for name in content]


# ---------------------------------------------------------------------------------------- with TensorFlow


def _complete(plan: ImportPlan, classes: int) -> Config:
    """The config with what only the file and the paths know."""
    asked = plan.config.model.num_classes
    if asked not in (None, classes):
        raise ConfigError(f"model.num_classes={asked}: expected {classes}, as {plan.file} has")
    directory = plan.config.data.dir and str(Path(plan.config.data.dir).absolute())
    channels = plan.config.model.input_channels or plan.config.data.channels
    return replace(
        plan.config,
        data=replace(plan.config.data, dir=directory),
        model=replace(plan.config.model, num_classes=classes, input_channels=channels),
    )


def _mean_statistics(path: Path) -> "Statistics":
    """The statistics of a training set of which only the mean image is known; Caffe's is BGR `[3, height, width]`."""
    import numpy as np

    from alexnet_tf.data import Statistics
    from alexnet_tf.model import weights

    if path.suffix.lower() == ".binaryproto":
        image = weights.read_mean_blob(path)
    else:
        try:
            with path.open("rb") as stream:
                image = np.load(stream, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            problem = " ".join(str(error).split())
            raise weights.WeightsError(f"{path}: damaged, or no array ({problem})") from error
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "fu" or not np.isfinite(image).all():
        raise weights.WeightsError(f"{path}: expected an image of finite numbers")
    if image.ndim != 3 or len(image) != 3:
        raise ConfigError(f"--mean {path}: expected the shape [3, height, width], found {list(image.shape)}")
    rgb = np.ascontiguousarray(image[::-1].transpose(1, 2, 0), np.float32)
    unknown = np.full([3, 3], np.nan)
    return Statistics(
        mean_image=rgb,
        mean_channel=rgb.mean(axis=(0, 1), dtype=np.float64).astype(np.float32),
        covariance=unknown,
        eigenvalues=unknown[0].astype(np.float32),
        eigenvectors=unknown.astype(np.float32),
        count=0,
    )


def _check_preprocessing(config: Config, statistics: "Statistics | None") -> None:
    """Raise `ConfigError` if the preprocessing cannot take an image, as with a mean image of another size."""
    import numpy as np

    from alexnet_tf.data import preprocess_images

    side = config.data.image_size or 2 * config.model.input_size
    black = np.zeros([1, side, side, config.data.channels], np.uint8)
    try:
        preprocess_images(black, config.augment, statistics)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _dataset(plan: ImportPlan, config: Config) -> dict[str, Any]:
    """`dataset.json`: the data's own facts if it is there with these classes, else as much as is known.

    Raises:
        ConfigError: If the names of the classes are not known, too many or too few, or those of the chosen data differ.
        DataError: If the chosen data is not there.
    """
    from alexnet_tf.data import DataError, load_source

    try:
        source = load_source(config.data)
    except DataError:
        if plan.data_is_named:
            raise
        source = None
    classes = config.model.num_classes
    names = plan.class_names
    if names is None and classes == IMAGENET_CLASSES:
        names = _imagenet_classes()
    if names is None and source is not None:
        names = source.class_names
    if names is None or len(names) != classes:
        found = "none are known" if names is None else f"came {len(names)}"
        raise ConfigError(f"--class-names: expected a file with the {classes} names of {plan.file}, {found}")
    if source is not None and source.class_names == names:
        return source.describe()
    if plan.data_is_named:
        raise ConfigError(
            f"data={config.data.name}: expected the {classes} classes of {plan.file}, from {names[0]!r} to "
            f"{names[-1]!r}; found {len(source.class_names) if source else 0} others"
        )
    facts = {"name": config.data.name, "class_names": names, "channels": config.data.channels}
    return {**facts, "image_shape": None, "splits": {}, "fingerprint": None}


def _imagenet_classes() -> list[str]:
    """The WordNet ids of ILSVRC-2012 in their order, which is Caffe's and torchvision's too; TFDS brings them."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    return Path(imagenet_common.label_names_file()).read_text(encoding="utf-8").split()


def _origin(file: Path) -> dict[str, Any]:
    """What `status.json` says of the file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "reason": f"imported from {file} (sha256 {digest})",
        runs.IMPORTED: {"file": file.name, "sha256": digest},
    }
