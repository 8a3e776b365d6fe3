"""The benches: for each its usual config, its contenders and what follows from their times. Imports no TensorFlow."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from alexnet_tf.bench.contender import Contender
from alexnet_tf.bench.photographs import write_photographs
from alexnet_tf.bench.trials import Measurement, ratios
from alexnet_tf.config import Config, ConfigError, compose
from alexnet_tf.config.schema import (
    AugmentDevice,
    LRNConfig,
    LRNScope,
    Norm,
    Precision,
    SGDConfig,
    StagedModelConfig,
)
from alexnet_tf.processes import visible_gpus

OURS = "alexnet_tf"
WITHOUT_LRN, UPDATE, IN_BFLOAT16 = "... without LRN", "... the update alone", "... in bfloat16"
AS_SAVED = "... as a SavedModel has them"
BARE_STEPS, LONG_RUN = "... its steps alone", "... 20 epochs"
BY_AREA, FROM_SHARDS = "... resized by area", "... from prepared shards"
UNFINISHED = "... finished elsewhere"
COPYING, DECODING = "copying memory", "decoding alone"
FIRST_STEP = "first step after the import"
IMPORT, HELP = "import tensorflow", "alexnet --help"
CLASSES, CHANNELS = 1000, 3
LRN_MAPS = (55, 55, 96)
"""Those of conv1, which cost the most."""
MADE_UP, DECODED = 4096, 256
"""Photographs that are made up, and those that are decoded for the limit."""
EARLY, LATE = 5, 20
"""Epochs between which memory should not grow."""


@dataclass(frozen=True)
class Setting:
    """What contenders are made for.

    Attributes:
        config: Complete.
        threads: Of every contender.
        folder: An empty one, which is removed afterwards.
        overrides: What the config was composed from.
    """

    config: Config
    threads: int
    folder: Path
    overrides: Sequence[str]


@dataclass(frozen=True)
class Bench:
    """One bench.

    Attributes:
        title: What one repetition is.
        defaults: Overrides that hold where the user says nothing else.
        contenders: Who takes part.
        items: What `Subject.items` counts.
        notes: Sentences that follow from the measurements, by the contenders' names; ours is among them.
        reads_data: Whether images come from data, which say how many classes and channels there are.
    """

    title: str
    defaults: tuple[str, ...]
    contenders: Callable[[Setting], list[Contender]]
    items: str = "images"
    notes: Callable[[Mapping[str, Measurement]], list[str]] = lambda measured: []  # noqa: ARG005
    reads_data: bool = False


def compose_bench(bench: Bench, overrides: Sequence[str], folder: Path) -> Setting:
    """What a bench is run for; without data the network is for 1000 classes and three channels.

    Raises:
        ConfigError: As `compose`.
    """
    typed = {text.lstrip("+~").partition("=")[0] for text in overrides}
    kept = [text for text in bench.defaults if text.partition("=")[0] not in typed]
    config = compose([*kept, *overrides])
    if not bench.reads_data:
        network = replace(
            config.model,
            num_classes=config.model.num_classes or CLASSES,
            input_channels=config.model.input_channels or CHANNELS,
        )
        config = replace(config, model=network)
    threads = config.training.intra_threads or len(os.sched_getaffinity(0))
    return Setting(config, threads, folder, [*kept, *overrides])


# ---------------------------------------------------------------------------------------------- contenders


def _ours(what: str, name: str = OURS, role: str = "ours", limit: str = "", **arguments: Any) -> Contender:
    return Contender(name=name, make=f"alexnet_tf.bench.{what}", arguments=arguments, role=role, limit=limit)


def _peer(
    name: str, make: str, needs: tuple[str, ...] = (), why_not: str = "", **arguments: Any
) -> Contender:
    return Contender(
        name=name, make=f"alexnet_tf.bench.{make}", arguments=arguments, needs=needs, why_not=why_not
    )


def _torch(what: str, why_not: str, **arguments: Any) -> list[Contender]:
    """PyTorch, eager and compiled."""
    return [
        _peer(f"PyTorch, {kind}", f"torch_peer:{what}", ("torch",), why_not, compiled=compiled, **arguments)
        for kind, compiled in (("eager", False), ("compiled", True))
    ]


def _limit(name: str, what: str, needs: tuple[str, ...] = (), **arguments: Any) -> Contender:
    return Contender(
        name=name, make=f"alexnet_tf.bench.limits:{what}", arguments=arguments, role="limit", needs=needs
    )


def _products(precision: Precision, threads: int) -> Contender:
    return _limit(f"matrix products, {precision}", "matrix_products", dtype=str(precision), threads=threads)


def _step(setting: Setting) -> list[Contender]:
    config, threads = setting.config, setting.threads
    limits = [_products(config.training.precision, threads)]
    contenders = [_ours("ours:train_step", limit=limits[0].name, config=config)]
    if _lrn_of(config) is not None:
        plain = replace(config, model=replace(config.model, lrn=None))  # type: ignore[call-arg]
        contenders.append(_ours("ours:train_step", WITHOUT_LRN, "variant", config=plain))
    contenders.append(_ours("ours:update", UPDATE, "variant", config=config))
    if config.training.precision == Precision.float32:
        limits.append(_products(Precision.bfloat16, threads))
        low = replace(config, training=replace(config.training, precision=Precision.bfloat16))
        contenders.append(_ours("ours:train_step", IN_BFLOAT16, "variant", limits[1].name, config=low))
    return [*contenders, *_training_peers(setting), *limits]


def _training_peers(setting: Setting) -> list[Contender]:
    common: dict[str, Any] = {"config": setting.config, "why_not": _unlike_peers(setting.config)}
    by_keras = [
        _peer(f"Keras fit{', XLA' if xla else ''}", "keras_peer:fit", jit_compile=xla, **common)
        for xla in (False, True)
    ]
    return [*by_keras, *_torch("train_step", threads=setting.threads, **common)]


def _inference(setting: Setting) -> list[Contender]:
    config, threads = setting.config, setting.threads
    limit = _products(config.training.precision, threads)
    needs = ("tf2onnx", "onnxruntime")
    contenders = [_ours("ours:inference", limit=limit.name, config=config, saved=False)]
    if _lrn_of(config) is not None:
        contenders.append(_ours("ours:inference", AS_SAVED, "variant", config=config, saved=True))
    return [
        *contenders,
        *_torch("inference", _unlike_peers(config), config=config, threads=threads),
        _peer("ONNX Runtime", "onnx_peer:inference", needs, config=config, threads=threads),
        limit,
    ]


def _lrn(setting: Setting) -> list[Contender]:
    training, lrn = setting.config.training, _lrn_of(setting.config)
    if lrn is None:
        raise ConfigError(f"bench lrn: expected a network with LRN, came model={setting.config.model.name}")
    common: dict[str, Any] = {"shape": (training.batch_size, *LRN_MAPS), "config": lrn}
    dtype = str(training.precision)
    return [
        _ours("ours:lrn", limit=COPYING, dtype=dtype, **common),
        _peer("TensorFlow's op", "keras_peer:lrn", dtype=dtype, **common),
        _peer("PyTorch's layer", "torch_peer:lrn", ("torch",), threads=setting.threads, **common),
        _limit(COPYING, "memory_bandwidth", threads=setting.threads),
    ]


def _scaling(setting: Setting) -> list[Contender]:
    """The step on 1, 2, 4, ... devices, each with the same rows; without GPUs on parts of the CPU."""
    config, gpus = setting.config, len(visible_gpus())
    most = gpus or config.strategy.logical_devices or setting.threads
    contenders = []
    for devices in (1, *(2**power for power in range(1, 10) if 2**power <= most)):
        strategy = replace(config.strategy, name="mirrored" if devices > 1 else "one_device")
        strategy = replace(strategy, logical_devices=None if gpus or devices == 1 else devices)
        training = replace(config.training, batch_size=devices * config.training.batch_size)
        name, role = (OURS, "ours") if devices == 1 else (f"... on {devices} devices", "variant")
        each = replace(config, strategy=strategy, training=training)
        contenders.append(_ours("ours:train_step", name, role, config=each))
    return contenders


def _epoch(setting: Setting) -> list[Contender]:
    config, why_not = setting.config, _unlike_peers(setting.config)
    limit = _products(config.training.precision, setting.threads)
    return [
        _ours("epochs:epoch", limit=limit.name, config=config, folder=str(setting.folder / "run")),
        _ours("epochs:bare_steps", BARE_STEPS, "variant", limit.name, config=config),
        _peer("Keras fit", "keras_peer:epoch", (), why_not, config=config),
        *_torch("epoch", why_not, config=config, threads=setting.threads),
        limit,
    ]


def _data(setting: Setting) -> list[Contender]:
    config, threads = setting.config, setting.threads
    if config.data.name != "folder":
        raise ConfigError(f"bench data: expected data=folder, came data={config.data.name}")
    folder = config.data.dir
    if folder is None:
        folder = str(setting.folder / "photographs")
        write_photographs(Path(folder), MADE_UP)
        config = replace(config, data=replace(config.data, dir=folder))
    shards = str(setting.folder / "prepared")
    prepared = replace(config, data=compose(["data=prepared", f"data.dir={shards}"]).data)
    unfinished = replace(prepared, augment=replace(config.augment, device=AugmentDevice.accelerator))
    files = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    return [
        _ours("reading:originals", limit=DECODING, config=config),
        *_by_area(config),
        *(
            _ours("reading:prepared", name, "variant", config=each, originals_config=config, folder=shards)
            for name, each in ((FROM_SHARDS, prepared), (UNFINISHED, unfinished))
        ),
        _peer(
            "DataLoader with PIL",
            "pil_peer:loader",
            ("torch", "PIL"),
            files=files,
            config=config,
            processes=threads,
        ),
        _limit(DECODING, "jpeg_decoding", ("simplejpeg",), files=files[:DECODED], threads=threads),
    ]


def _by_area(config: Config) -> list[Contender]:
    """Originals resized by area means, which is quicker, where the config resizes them otherwise."""
    resize = config.augment.resize
    if resize is None or resize.method == "area":
        return []
    augment = replace(config.augment, resize=replace(resize, method="area"))
    return [
        _ours(
            "reading:originals", BY_AREA, "variant", limit=DECODING, config=replace(config, augment=augment)
        )
    ]


def _startup(setting: Setting) -> list[Contender]:
    return [
        _ours(
            "startup:first_step",
            overrides=list(setting.overrides),
            folder=str(setting.folder),
            name=FIRST_STEP,
        ),
        _ours("startup:command", IMPORT, "variant", arguments=["-c", "import tensorflow"]),
        _ours("startup:command", HELP, "variant", arguments=["-m", "alexnet_tf", "--help"]),
    ]


def _memory(setting: Setting) -> list[Contender]:
    small = compose(["data=digits", "model=digits_quick", "training.batch_size=32"])
    long_run = _ours(
        "epochs:long_run",
        LONG_RUN,
        "variant",
        config=small,
        epochs=(EARLY, LATE),
        folder=str(setting.folder / "run"),
    )
    return [_ours("ours:train_step", config=setting.config), long_run, *_training_peers(setting)]


def _lrn_of(config: Config) -> LRNConfig | None:
    """The network's LRN, where a stage has it."""
    network = config.model
    if not isinstance(network, StagedModelConfig):
        return None
    return network.lrn if any(stage.norm == Norm.lrn for stage in network.stages.values()) else None


def _unlike_peers(config: Config) -> str:
    """Why peers cannot train this; empty: they can."""
    network = config.model
    if not isinstance(network, StagedModelConfig):
        return f"model={network.name} is not made of stages"
    if not isinstance(config.optimizer, SGDConfig):
        return f"optimizer={config.optimizer.name}: peers have SGD"
    if any(stage.map_norm for stage in network.stages.values()):
        return "no peer has the norm within maps"
    if (lrn := _lrn_of(config)) is not None and lrn.scope == LRNScope.column:
        return "no peer's LRN ends at a column"
    return ""


# --------------------------------------------------------------------------------------------------- notes


def _share(measured: Mapping[str, Measurement], part: str) -> float:
    """The seconds of one as a fraction of ours, the median over rounds."""
    return median(ratios(measured[part], measured[OURS]))


def _step_notes(measured: Mapping[str, Measurement]) -> list[str]:
    notes = []
    if WITHOUT_LRN in measured:
        notes.append(
            f"LRN's share of the step, with against without: {1 - _share(measured, WITHOUT_LRN):.1%}"
        )
    if UPDATE in measured:
        notes.append(f"the update's share of the step: {_share(measured, UPDATE):.1%}")
    if IN_BFLOAT16 in measured:
        notes.append(f"bfloat16 is {1 / _share(measured, IN_BFLOAT16):.2f} times as fast as float32")
    return notes


def _scaling_notes(measured: Mapping[str, Measurement]) -> list[str]:
    notes, one = [], measured[OURS]
    for name, each in measured.items():
        if each is not one:
            times = each.items / one.items
            rate = times / _share(measured, name)
            notes.append(
                f"{name.removeprefix('... ')}: {rate:.2f} times the images, {rate / times:.0%} of the ideal"
            )
    return notes


def _epoch_notes(measured: Mapping[str, Measurement]) -> list[str]:
    if BARE_STEPS not in measured:
        return []
    return [f"a run reaches {_share(measured, BARE_STEPS):.1%} of the rate of its steps alone"]


def _data_notes(measured: Mapping[str, Measurement]) -> list[str]:
    if FROM_SHARDS not in measured:
        return []
    return [f"prepared shards are read {1 / _share(measured, FROM_SHARDS):.2f} times as fast as originals"]


def _memory_notes(measured: Mapping[str, Measurement]) -> list[str]:
    by_hand = measured[OURS].facts["bytes_by_hand"]
    notes = [f"weights, gradients, momentum and activations by hand: {by_hand / 2**20:,.0f} MiB"]
    for name, each in measured.items():
        if each.contender.role != "variant":
            times = each.peak_bytes / by_hand
            notes.append(f"{name}: {each.peak_bytes / 2**20:,.0f} MiB at most, {times:.2f} times that")
    if LONG_RUN in measured:
        facts = measured[LONG_RUN].facts
        growth = facts[f"resident_bytes_after_{LATE}"] / facts[f"resident_bytes_after_{EARLY}"] - 1
        notes.append(
            f"resident memory of a small run after epoch {LATE} against epoch {EARLY}: {growth:+.1%}"
        )
    return notes


PAPER = ("model=alexnet", "augment=center", "optimizer=paper")
BENCHES: dict[str, Bench] = {
    "step": Bench(
        "One training step of {model}, batch {batch}, {precision}",
        (*PAPER, "training.batch_size=128"),
        _step,
        notes=_step_notes,
    ),
    "inference": Bench(
        "Logits of {batch} images by {model}, {precision}", (*PAPER, "training.batch_size=64"), _inference
    ),
    "lrn": Bench(
        "LRN of {batch} x 55 x 55 x 96 maps, forward and backward, {precision}",
        (*PAPER, "training.batch_size=64"),
        _lrn,
        items="layers",
    ),
    "data": Bench(
        "One batch of {batch} photographs: decoded, shorter side 256, crop, mirror, colour",
        (
            "data=folder",
            "model=alexnet",
            "augment=paper",
            "augment.pca.source=published",
            "augment.subtract_mean.values=[123.7,116.3,103.5]",
            "training.batch_size=128",
        ),
        _data,
        notes=_data_notes,
        reads_data=True,
    ),
    "epoch": Bench(
        "One epoch of {model}, batch {batch}, {precision}, input included",
        ("data=cifar10", "model=cifar_quick", "optimizer=paper", "training.batch_size=128"),
        _epoch,
        notes=_epoch_notes,
        reads_data=True,
    ),
    "startup": Bench(
        "Until the command works",
        ("data=digits", "model=cifar_quick", "augment.resize.size=32", "training.batch_size=128"),
        _startup,
        items="times",
    ),
    "scaling": Bench(
        "One training step of {model}, batch {batch} on each device, {precision}",
        (*PAPER, "training.batch_size=32"),
        _scaling,
        notes=_scaling_notes,
    ),
    "memory": Bench(
        "Memory in training steps of {model}, batch {batch}, {precision}",
        (*PAPER, "training.batch_size=128"),
        _memory,
        notes=_memory_notes,
    ),
}
"""Every bench by the name that `alexnet bench` takes."""
