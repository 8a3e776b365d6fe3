"""What the types cannot say: combinations that can never run. Found before TensorFlow is imported."""

import importlib.util
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet_tf.config.schema import (
    Activation,
    AdamConfig,
    Application,
    ApplicationConfig,
    AugmentConfig,
    BiasInit,
    ClassicalConfig,
    ComparisonConfig,
    Config,
    CosineConfig,
    DataConfig,
    HogConfig,
    Metric,
    ModelConfig,
    Norm,
    OptimizerConfig,
    PCASource,
    PhaseConfig,
    PlateauConfig,
    PoolKind,
    ResidualConfig,
    SGDConfig,
    SiftBowConfig,
    StageConfig,
    StagedModelConfig,
    StageKind,
    StepsConfig,
    StrategyConfig,
    StudyConfig,
    TableConfig,
)

REST, HEAD = "rest", "head"
"""The variables that no group, or no multiplier, names; the last layer with weights."""
STAGE_PARTS = ("activation", "norm", "map_norm", "pool")
APPLICATION_SIZE = 32
"""The smallest input of VGG-16 and ResNet-50, which halve it five times."""
STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker")
METHODS = ("bilinear", "bicubic", "area", "nearest", "lanczos3")
SPLITS = ("probe", "train", "validation")
VIEWS = (1, 5, 10)
"""How many crops of an image evaluation can average over: the centre, the corners too, their mirror images too."""
CROPS = ("random_crop", "random_resized_crop", "pad_crop", "center_crop")
"""The operations that views can be cut in."""
AUGMENT_OPS = tuple(name for name in AugmentConfig.__dataclass_fields__ if name not in ("device", "order"))
FIXED_OPS = ("resize", "center_crop", "subtract_mean", "scale")
"""The operations that do the same in training and evaluation."""


class ConfigError(ValueError):
    """Wrong use: one line that names the key, what was expected, what came, and the choices there are."""

    exit_status = 2


def check(config: Config) -> None:
    """Raise `ConfigError` for the first value or combination that cannot run."""
    _check_ranges(config)
    _check_data(config.data)
    _check_optimizer(config.optimizer)
    _check_schedule(config)
    check_model(config.model)
    _check_freezing(config)
    _check_multipliers(config)
    _check_augment(config)
    _check_size(config)
    _check_phases(config)
    _check_training(config)
    _check_study(config)


def checkpoint_interval(text: str) -> tuple[float, str] | None:
    """`(N, "epoch" | "step" | "minute")` of `training.checkpoint_every`, or None for `never`."""
    if text == "never":
        return None
    match = re.fullmatch(r"\s*(?:(\d+)\s*(epoch|step)s?|(\d+(?:\.\d+)?)\s*min(?:ute)?s?)\s*", text)
    every = float(match[1] or match[3]) if match else 0
    if not match or not every:
        raise ConfigError(
            f"training.checkpoint_every={text}: expected `N epochs`, `N steps`, `N minutes` (as 0.5 too) or `never`"
        )
    return every, match[2] or "minute"


def one_of(key: str, value: object, choices: Sequence[object]) -> None:
    """Raise `ConfigError` unless `value` is among `choices`."""
    if value not in choices:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(map(str, choices))}")


def _at_least(key: str, value: float | None, lowest: float, *, above: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value):
        raise ConfigError(f"{key}={value}: expected a finite number")
    if value <= lowest if above else value < lowest:
        raise ConfigError(f"{key}={value}: expected {'more than' if above else 'at least'} {lowest:g}")


def _within(key: str, value: float | None, low: float, high: float, *, closed: bool = False) -> None:
    if value is None:
        return
    if not (low <= value <= high if closed else low <= value < high):
        raise ConfigError(
            f"{key}={value}: expected a number from {low:g} to {'' if closed else 'below '}{high:g}"
        )


def _ordered(key: str, section: Any, low: str, high: str) -> None:
    """Two keys of a section that bound a range."""
    lower, upper = getattr(section, low), getattr(section, high)
    if not lower <= upper:
        raise ConfigError(f"{key}.{low}={lower}: expected at most {key}.{high}={upper}")


def _check_ranges(config: Config) -> None:
    training = config.training
    if not 0 <= config.seed < 2**31:  # as far as the masks of dropout go
        raise ConfigError(f"seed={config.seed}: expected an integer from 0 to {2**31 - 1}")
    _at_least("training.batch_size", training.batch_size, 1)
    _at_least("training.eval_batch_size", training.eval_batch_size, 1)
    _at_least("training.epochs", training.epochs, 1)
    _at_least("training.steps", training.steps, 1)
    _at_least("training.probe.every", training.probe.every, 0)
    _at_least("training.probe.examples", training.probe.examples, 1)
    _within("training.probe.stop_below", training.probe.stop_below, 0, 1, closed=True)
    _at_least("training.evaluate_every", training.evaluate_every, 0)
    _at_least("training.keep_checkpoints", training.keep_checkpoints, 1)
    _at_least("training.early_stopping.patience", training.early_stopping.patience, 1)
    _at_least("training.early_stopping.min_delta", training.early_stopping.min_delta, 0)
    _at_least("training.overfit_batches", training.overfit_batches, 0)
    _at_least("training.intra_threads", training.intra_threads, 0)
    _at_least("training.inter_threads", training.inter_threads, 0)
    _at_least("training.accumulate", training.accumulate, 1)
    _at_least("strategy.logical_devices", config.strategy.logical_devices, 1)
    _at_least("strategy.local_workers", config.strategy.local_workers, 1)
    _at_least("strategy.timeout_seconds", config.strategy.timeout_seconds, 0, above=True)


def _check_data(data: DataConfig) -> None:
    if data.classes is not None and (not data.classes or len(set(data.classes)) < len(data.classes)):
        raise ConfigError(
            f"data.classes=[{', '.join(data.classes)}]: expected at least one name or slice, each once"
        )
    _at_least("data.train_examples", data.train_examples, 1)
    _at_least("data.image_size", data.image_size, 1)
    _at_least("data.channels", data.channels, 1)
    _within("data.max_skipped", data.max_skipped, 0, 1, closed=True)
    _at_least("data.max_pixels", data.max_pixels, 1)
    _at_least("data.memory_limit_mb", data.memory_limit_mb, 1)
    _at_least("data.shuffle_window", data.shuffle_window, 1)
    _at_least("data.stream_parts", data.stream_parts, 1)
    _within("data.validation_fraction", data.validation_fraction, 0, 1)


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    _at_least("optimizer.lr", optimizer.lr, 0, above=True)
    if isinstance(optimizer, SGDConfig):
        _within("optimizer.momentum", optimizer.momentum, 0, 1)
        _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)
        _check_groups(optimizer)
    if isinstance(optimizer, AdamConfig):
        _within("optimizer.beta_1", optimizer.beta_1, 0, 1)
        _within("optimizer.beta_2", optimizer.beta_2, 0, 1)
        _at_least("optimizer.epsilon", optimizer.epsilon, 0, above=True)
        _at_least("optimizer.weight_decay", optimizer.weight_decay, 0)


def _check_schedule(config: Config) -> None:
    schedule, training = config.schedule, config.training
    _at_least("schedule.warmup_epochs", schedule.warmup_epochs, 0)
    if training.steps is None and schedule.warmup_epochs > training.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={schedule.warmup_epochs:g}: expected at most "
            f"training.epochs={training.epochs}, or the full rate is never reached"
        )
    if isinstance(schedule, StepsConfig | PlateauConfig):
        _at_least("schedule.divisor", schedule.divisor, 1, above=True)
    if isinstance(schedule, PlateauConfig):
        _at_least("schedule.patience", schedule.patience, 1)
        _at_least("schedule.min_delta", schedule.min_delta, 0)
        _at_least("schedule.reductions", schedule.reductions, 0)
    if isinstance(schedule, StepsConfig):
        _check_steps(schedule)
    if isinstance(schedule, CosineConfig):
        _within("schedule.final_fraction", schedule.final_fraction, 0, 1, closed=True)


def _check_freezing(config: Config) -> None:
    """The order of layers is known here for networks of stages; of others `training.freezing` checks it."""
    unfreeze, until = config.schedule.unfreeze, config.model.freeze_until
    if unfreeze and until is None:
        raise ConfigError(f"schedule.unfreeze={unfreeze}: expected model.freeze_until with it, came null")
    for epoch in unfreeze:
        _at_least("schedule.unfreeze: epoch", epoch, 2)
    if until is None or not isinstance(config.model, StagedModelConfig):
        return
    stages = list(config.model.stages)[:-1]  # without the last one nothing is trained
    one_of("model.freeze_until", until, stages)
    for epoch, name in sorted(unfreeze.items()):
        stages = stages[: stages.index(until)] if until in stages else []
        one_of(f"schedule.unfreeze.{epoch}", name or "null", [*stages, "null"])
        until = name or ""


def _check_multipliers(config: Config) -> None:
    multipliers = config.optimizer.multipliers if isinstance(config.optimizer, SGDConfig) else {}
    for name, factor in multipliers.items():
        if isinstance(config.model, StagedModelConfig):
            one_of("optimizer.multipliers", name, [*config.model.stages, HEAD, REST])
        _at_least(f"optimizer.multipliers.{name}", factor, 0)


def _check_steps(schedule: StepsConfig) -> None:
    for part in ("epochs", "iterations"):
        places = getattr(schedule, part)
        if sorted(set(places)) != places or min(places, default=1) < 1:
            raise ConfigError(f"schedule.{part}={places}: expected increasing {part}, the first at least 1")
    if not schedule.epochs and not schedule.iterations:
        raise ConfigError(
            "schedule.epochs=[]: expected at least one epoch here, or one of schedule.iterations"
        )


def _check_phases(config: Config) -> None:
    """What the phases of a table name must be there, and what they leave out must not be needed."""
    if not isinstance(config.schedule, TableConfig):
        return
    first: dict[int, str] = {}
    for name, phase in config.schedule.phases.items():
        key = f"schedule.phases.{name}"
        _at_least(f"{key}.epoch", phase.epoch, 1)
        if phase.epoch in first:
            raise ConfigError(
                f"{key}.epoch={phase.epoch}: expected another epoch than that of the phase {first[phase.epoch]}"
            )
        first[phase.epoch] = name
        _check_phase_groups(key, phase, config.optimizer)
        for op in phase.augment_off:
            _check_switch(f"{key}.augment_off={op}", op, config)


def _check_phase_groups(key: str, phase: PhaseConfig, optimizer: OptimizerConfig) -> None:
    groups = optimizer.groups if isinstance(optimizer, SGDConfig) else {}
    known = ", ".join(("rest", *groups))
    for part in ("rates", "trainable"):
        for group in getattr(phase, part):
            if group != "rest" and group not in groups:
                raise ConfigError(
                    f"{key}.{part}.{group}: expected a group of this optimizer ({optimizer.name}): {known}"
                )
    for group, rate in phase.rates.items():
        _at_least(f"{key}.rates.{group}", rate, 0)
        if group != "rest" and groups[group].lr is None:
            raise ConfigError(
                f"{key}.rates.{group}: the group has no rate of its own; set optimizer.groups.{group}.lr"
            )
    if phase.trainable and not isinstance(optimizer, SGDConfig):
        raise ConfigError(f"{key}.trainable: expected an optimizer with groups (sgd), came {optimizer.name}")


def _check_switch(key: str, op: str, config: Config) -> None:
    """An operation can be left out in training if it is one that only training has, and the size stays."""
    augment = config.augment
    choices = [name for name in augment.order if name not in FIXED_OPS]
    if op not in choices:
        there = ", ".join(choices) or "none here"
        raise ConfigError(f"{key}: expected a random operation of augment.order: {there}")
    rest = replace(augment, order=[name for name in augment.order if name != op])
    if output_size(replace(config, augment=rest)) != config.model.input_size:
        raise ConfigError(
            f"{key}: without it the images do not have model.input_size={config.model.input_size} pixels"
        )


def check_model(model: ModelConfig) -> None:
    """Raise `ConfigError` for the first value of a network that cannot be built."""
    _at_least("model.input_size", model.input_size, 1)
    _at_least("model.input_channels", model.input_channels, 1)
    _at_least("model.num_classes", model.num_classes, 2)
    if isinstance(model, ApplicationConfig):
        _at_least("model.input_size", model.input_size, APPLICATION_SIZE)
    elif isinstance(model, StagedModelConfig):
        _check_norms(model)
        check_stages(model)
    elif isinstance(model, ResidualConfig):
        _at_least("model.blocks", model.blocks, 1)
        if not model.filters or min(model.filters) < 1 or sorted(model.filters) != model.filters:
            raise ConfigError(
                f"model.filters={model.filters}: expected positive numbers, none below the one before"
            )
    elif isinstance(model, ClassicalConfig):
        _check_classical(model)
    else:
        raise ConfigError(
            f"model={model.name}: expected model.stages, model.application or the keys of another schema, came none. A "
            f"file of your own names another in its defaults ([alexnet, _self_]) or a schema "
            f"([/schema/model@_here_: staged, _self_])"
        )


def check_installed(model: ModelConfig) -> None:
    """Raise `ConfigError` if a model needs a package of an extra that is not there.

    Apart from `check`, because a config can be read and reported without what it would need to be trained.
    """
    if isinstance(model, HogConfig):
        require_package(f"model={model.name}", "skimage", "classical", "scikit-image")


def require_package(choice: str, module: str, extra: str, package: str | None = None) -> None:
    """Raise `ConfigError` for a choice whose package (by default called as its module) is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{choice}: needs the package {package or module}; install alexnet_tf[{extra}]")


def check_table_file(key: str, file: Path, endings: Iterable[str]) -> None:
    """Raise `ConfigError` for a name that ends otherwise, or in `.parquet` where its package is missing."""
    if file.suffix not in endings:
        raise ConfigError(f"{key} {file}: expected a name that ends in {' or '.join(endings)}")
    if file.suffix == ".parquet":
        require_package(f"{key} {file}", "pyarrow", "sweep")


def _check_classical(model: ClassicalConfig) -> None:
    _at_least("model.c", model.c, 0, above=True)
    _at_least("model.iterations", model.iterations, 1)
    if isinstance(model, HogConfig):
        for part in ("orientations", "cell", "block"):
            _at_least(f"model.{part}", getattr(model, part), 1)
        _check_room("model.cell", model.cell, model.cell * model.block, model.input_size)
    if isinstance(model, SiftBowConfig):
        _at_least("model.words", model.words, 2)
        for part in ("vocabulary_images", "cell", "step"):
            _at_least(f"model.{part}", getattr(model, part), 1)
        _check_room("model.cell", model.cell, 4 * model.cell, model.input_size)


def _check_room(key: str, value: int, needed: int, size: int) -> None:
    if needed > size:
        raise ConfigError(f"{key}={value}: needs {needed} pixels, more than model.input_size={size}")


def _check_norms(model: StagedModelConfig) -> None:
    for key, norm in (("model.lrn", model.lrn), ("model.map_norm", model.map_norm)):
        if norm is not None:
            _at_least(f"{key}.size", norm.size, 1)
            _at_least(f"{key}.k", norm.k, 0, above=True)
            _at_least(f"{key}.alpha", norm.alpha, 0)
            _at_least(f"{key}.beta", norm.beta, 0)


def check_stages(model: StagedModelConfig) -> None:
    """Raise `ConfigError` for the first stage that contradicts itself or those before it."""
    if not model.stages:
        raise ConfigError(f"model.stages: {model.name} has none; expected at least one")
    *_, last = model.stages
    dense_before = None
    for name, stage in model.stages.items():
        key = f"model.stages.{name}"
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(f"{key}: expected a name of letters, digits and underscores")
        if stage.kind == StageKind.conv and dense_before:
            raise ConfigError(f"{key}.kind=conv: a convolution cannot follow the dense stage {dense_before}")
        dense_before = name if stage.kind == StageKind.dense else None
        _check_stage(key, stage)
        if stage.bias and model.bias_init != BiasInit.constant:
            raise ConfigError(
                f"{key}.bias={stage.bias:g}: expected 0, as model.bias_init={model.bias_init} draws the biases"
            )
        _check_order(key, stage, stage.activation or model.activation)
    for name, stage in model.stages.items():
        if stage.units is None and name != last:
            raise ConfigError(
                f"model.stages.{name}.units: null is the number of classes, which only the last stage ({last}) has"
            )
    _check_last(f"model.stages.{last}", model.stages[last], model)


def _check_stage(key: str, stage: StageConfig) -> None:
    for part in ("units", "kernel", "stride", "columns", "adaptive_pool"):
        _at_least(f"{key}.{part}", getattr(stage, part), 1)
    _within(f"{key}.dropout", stage.dropout, 0, 1)
    _at_least(f"{key}.weight_std", stage.weight_std, 0)
    if stage.pool is not None:
        _at_least(f"{key}.pool.size", stage.pool.size, 1)
        _at_least(f"{key}.pool.stride", stage.pool.stride, 1)
    if not (stage.padding in ("same", "valid") or stage.padding.isdigit()):
        raise ConfigError(f"{key}.padding={stage.padding}: expected same, valid or a number of pixels")
    if stage.units is not None and stage.units % stage.columns:
        raise ConfigError(f"{key}.units={stage.units}: expected a multiple of its columns ({stage.columns})")


def _check_order(key: str, stage: StageConfig, activation: Activation) -> None:
    """Every part that is switched on must have its place, rather than be left out silently."""
    has = {
        "activation": activation != Activation.linear,
        "norm": stage.norm != Norm.none,
        "map_norm": stage.map_norm,
        "pool": stage.pool is not None and stage.pool.kind != PoolKind.none,
    }
    for part in stage.order:
        one_of(f"{key}.order", part, STAGE_PARTS)
    if len(set(stage.order)) < len(stage.order):
        raise ConfigError(f"{key}.order={stage.order}: expected each part at most once")
    for part, there in has.items():
        if there and part not in stage.order:
            raise ConfigError(f"{key}.order={stage.order}: expected {part} in it too, which the stage has")
    for_maps = has["pool"] or has["norm"] or has["map_norm"] or stage.adaptive_pool or stage.columns != 1
    if stage.kind == StageKind.dense and for_maps:
        raise ConfigError(
            f"{key}: a dense stage has no pool, no adaptive_pool, no norm, no map_norm and one column"
        )


def _check_last(key: str, stage: StageConfig, model: StagedModelConfig) -> None:
    """The last stage yields the logits; not so when the one that did was removed."""
    activation = stage.activation or model.activation
    units = {None, model.num_classes}
    if stage.kind != StageKind.dense or activation != Activation.linear or stage.units not in units:
        raise ConfigError(
            f"{key}: expected the last stage to yield the logits: kind=dense, activation=linear, units=null (the "
            f"number of classes), came kind={stage.kind}, activation={activation}, units={stage.units}"
        )


def check_augment_order(augment: AugmentConfig) -> None:
    """Raise `ConfigError` unless `augment.order` names operations that can follow on one another."""
    for name in augment.order:
        one_of("augment.order", name, AUGMENT_OPS)
    if len(set(augment.order)) < len(augment.order):
        raise ConfigError(f"augment.order={augment.order}: expected each operation at most once")
    active = _active(augment)
    users = [place for place, name in enumerate(active) if _takes_statistics(augment, name)]
    if users and "scale" in active[users[0] : users[-1]]:
        raise ConfigError(
            f"augment.order={augment.order}: expected scale not to stand between pca and subtract_mean, whose "
            f"statistics have one unit"
        )
    before_pca = active[: active.index("pca")] if "pca" in active else []
    if "scale" in before_pca and not _takes_statistics(augment, "pca"):
        raise ConfigError(
            f"augment.order={augment.order}: expected scale after pca, as augment.pca.source=published has units of 0-255"
        )


def view_crop(augment: AugmentConfig, views: int) -> str | None:
    """The operation of `augment.order` that cuts several views: the last random crop, else the central one.

    A `center_crop` before a random crop keeps its centre: the views are cut out of that, as in the paper.

    Returns:
        None for one view, which needs no crop.

    Raises:
        ConfigError: If no operation crops, or there is no such number of views.
    """
    one_of("views", views, VIEWS)
    if views == 1:
        return None
    found = [name for name in _active(augment) if name in CROPS]
    if not found:
        raise ConfigError(
            f"views={views}: expected an operation that crops in augment.order, one of {', '.join(CROPS)}. "
            f"Received [{', '.join(augment.order)}]"
        )
    return ([name for name in found if name != "center_crop"] or found)[-1]


def _active(augment: AugmentConfig) -> list[str]:
    return [name for name in augment.order if getattr(augment, name) is not None]


def _takes_statistics(augment: AugmentConfig, name: str) -> bool:
    """Whether an operation uses the mean or the covariance of the training split."""
    mean, pca = augment.subtract_mean, augment.pca
    if name == "pca":
        return pca is not None and pca.source == PCASource.training
    return name == "subtract_mean" and mean is not None and mean.values is None


def _check_augment(config: Config) -> None:
    augment = config.augment
    check_augment_order(augment)
    _check_geometry(augment)
    _check_colour(augment)
    _check_channels(config)


def _check_geometry(augment: AugmentConfig) -> None:
    """What operations that move pixels are given."""
    for name in ("resize", "center_crop", "random_crop", "random_resized_crop", "pad_crop"):
        if (op := getattr(augment, name)) is not None:
            _at_least(f"augment.{name}.size", op.size, 1)
    if augment.resize is not None:
        one_of("augment.resize.method", augment.resize.method, METHODS)
    if augment.pad_crop is not None:
        _at_least("augment.pad_crop.padding", augment.pad_crop.padding, 0)
    if augment.flip is not None:
        _within("augment.flip.probability", augment.flip.probability, 0, 1, closed=True)
    if augment.rotate is not None:
        _within("augment.rotate.degrees", augment.rotate.degrees, 0, 180, closed=True)
    if (crop := augment.random_resized_crop) is not None:
        key = "augment.random_resized_crop"
        for part in ("min_area", "min_ratio", "max_ratio"):
            _at_least(f"{key}.{part}", getattr(crop, part), 0, above=True)
        _within(f"{key}.max_area", crop.max_area, 0, 1, closed=True)
        _ordered(key, crop, "min_area", "max_area")
        _ordered(key, crop, "min_ratio", "max_ratio")
        _at_least(f"{key}.eval_resize", crop.eval_resize, crop.size)


def _check_colour(augment: AugmentConfig) -> None:
    """What operations that change values are given."""
    if augment.pca is not None:
        _at_least("augment.pca.std", augment.pca.std, 0)
        _at_least("augment.pca.divisor", augment.pca.divisor, 0, above=True)
    if augment.brightness is not None:
        _at_least("augment.brightness.max_delta", augment.brightness.max_delta, 0)
    for name in ("contrast", "saturation"):
        if (op := getattr(augment, name)) is not None:
            _at_least(f"augment.{name}.lower", op.lower, 0)
            _at_least(f"augment.{name}.upper", op.upper, 0)
            _ordered(f"augment.{name}", op, "lower", "upper")
    if augment.scale is not None:
        divisors = augment.scale.channel_divisors
        _not_zero("augment.scale.divisor", [augment.scale.divisor], augment.scale.divisor)
        _not_zero("augment.scale.channel_divisors", divisors or [], divisors)


def _not_zero(key: str, numbers: Sequence[float], value: Any) -> None:
    if not all(math.isfinite(number) and number for number in numbers):
        raise ConfigError(f"{key}={value}: expected finite numbers other than 0")


def _check_channels(config: Config) -> None:
    """Operations for colour images only, and those with a number for each channel."""
    augment, data = config.augment, config.data
    active = _active(augment)
    for name in ("pca", "saturation"):
        if name in active and data.channels != 3:
            raise ConfigError(
                f"augment.{name}: needs 3 colour channels, data={data.name} has {data.channels}"
            )
    for name, part in (("subtract_mean", "values"), ("scale", "channel_divisors")):
        numbers = getattr(getattr(augment, name), part) if name in active else None
        if numbers is not None and len(numbers) != data.channels:
            raise ConfigError(
                f"augment.{name}.{part}={numbers}: expected one number for each of the {data.channels} channels of "
                f"data={data.name}"
            )


def output_size(config: Config) -> int | None:
    """The side in pixels of the square images that the augmentation yields, None where it is not fixed."""
    size = config.data.image_size
    for name in config.augment.order:
        op = getattr(config.augment, name)
        if op is None:
            continue
        if name == "resize":
            size = op.size if size is not None or not op.keep_aspect else None
        elif name in ("center_crop", "random_crop", "random_resized_crop", "pad_crop"):
            room = None if size is None else size + (2 * op.padding if name == "pad_crop" else 0)
            if room is not None and op.size > room and name != "random_resized_crop":
                raise ConfigError(
                    f"augment.{name}.size={op.size}: larger than the {size}-pixel images of data={config.data.name}; "
                    f"put a resize before it (augment.resize, augment.order) or choose a smaller model.input_size"
                )
            size = op.size
    return size


def _check_size(config: Config) -> None:
    size, expected = output_size(config), config.model.input_size
    if size is None:
        raise ConfigError(
            f"augment.order={config.augment.order}: the images of data={config.data.name} vary in size and are never "
            f"cropped; expected a crop to model.input_size={expected}, as in augment=paper or augment=center"
        )
    if size != expected:
        raise ConfigError(
            f"model.input_size={expected}: model={config.model.name} expects {expected}-pixel images, but "
            f"data={config.data.name} with this augment gives {size}-pixel ones; add augment.resize or change the size"
        )


def _check_training(config: Config) -> None:
    training, strategy = config.training, config.strategy
    checkpoint_interval(training.checkpoint_every)
    _check_strategy(strategy)
    logical = 1 if strategy.name == "one_device" else strategy.logical_devices
    check_replicas(training.batch_size, strategy.local_workers or logical or 1, training.accumulate)
    if training.accumulate > 1 and _has_batch_norm(config.model):
        raise ConfigError(
            f"training.accumulate={training.accumulate}: expected 1, as model={config.model.name} has BatchNorm, whose "
            f"statistics over a part of the batch would not be those of the batch"
        )
    if training.eager and training.jit_compile:
        raise ConfigError("training.eager=true: excludes training.jit_compile=true; choose one")
    if training.deterministic and training.jit_compile and _has_max_pool(config.model):
        raise ConfigError(
            "training.deterministic=true: excludes training.jit_compile=true, as XLA has no deterministic gradient of "
            "max pooling; choose one"
        )
    if isinstance(config.model, ClassicalConfig):
        _check_fit(config)
    if training.probe.stop_below is not None and not training.probe.every:
        raise ConfigError("training.probe.stop_below is set, but training.probe.every=0 measures nothing")


def _check_fit(config: Config) -> None:
    """What would ask for something else than a fit from scratch."""
    name, wrong = config.model.name, "is fitted at once, on all its training images"
    for key, value in (("init_from", config.init_from), ("model.freeze_until", config.model.freeze_until)):
        if value:
            raise ConfigError(f"{key}={value}: expected a network, but model={name} {wrong}")
    if config.training.overfit_batches:
        count = config.training.overfit_batches
        raise ConfigError(f"training.overfit_batches={count}: expected a network, but model={name} {wrong}")


def _has_max_pool(model: ModelConfig) -> bool:
    if not isinstance(model, StagedModelConfig):
        # VGG-16 after each block, ResNet-50 after its first convolution
        return isinstance(model, ApplicationConfig)
    return any(stage.pool is not None and stage.pool.kind == PoolKind.max for stage in model.stages.values())


def _has_batch_norm(model: ModelConfig) -> bool:
    if isinstance(model, ApplicationConfig):
        return model.application == Application.resnet50
    if isinstance(model, ResidualConfig):
        return True
    return isinstance(model, StagedModelConfig) and any(
        stage.norm == Norm.batch for stage in model.stages.values()
    )


def _check_strategy(strategy: StrategyConfig) -> None:
    one_of("strategy", strategy.name, STRATEGIES)
    several = strategy.name == "multi_worker"
    if strategy.local_workers is not None and not several:
        raise ConfigError(
            f"strategy.local_workers={strategy.local_workers}: expected strategy=multi_worker with it, came "
            f"strategy={strategy.name}"
        )
    if strategy.logical_devices is not None and several:
        raise ConfigError(
            f"strategy.logical_devices={strategy.logical_devices}: expected null with strategy=multi_worker, where a "
            f"worker without GPUs is one replica; strategy.local_workers makes several"
        )


def check_replicas(batch_size: int, replicas: int, accumulate: int = 1) -> None:
    """Raise `ConfigError` unless the global batch divides evenly over the replicas, and their rows into parts."""
    if batch_size % (replicas * accumulate):
        of_replicas = f"the {replicas} replicas" if replicas > 1 else "1 replica"
        times = f" times training.accumulate={accumulate}" if accumulate > 1 else ""
        raise ConfigError(f"training.batch_size={batch_size}: expected a multiple of {of_replicas}{times}")


def _check_groups(optimizer: SGDConfig) -> None:
    for name, group in optimizer.groups.items():
        key = f"optimizer.groups.{name}"
        if name == "rest":
            raise ConfigError(
                f"{key}: expected another name, as rest is the group of the variables in no other"
            )
        try:
            re.compile(group.match)
        except re.error as error:
            raise ConfigError(
                f"{key}.match={group.match}: expected a regular expression ({error})"
            ) from error
        _at_least(f"{key}.lr", group.lr, 0)
        _at_least(f"{key}.weight_decay", group.weight_decay, 0)


def _check_study(config: Config) -> None:
    study = config.study
    if study is None:
        return
    if not study.arms or not study.seeds:
        raise ConfigError("study: expected at least one arm in study.arms and one seed in study.seeds")
    for name in study.arms:
        if not re.fullmatch(r"[A-Za-z0-9]\w*", name):
            raise ConfigError(f"study.arms.{name}: expected a name of letters, digits and underscores")
    if len(set(study.seeds)) < len(study.seeds):
        raise ConfigError(f"study.seeds={study.seeds}: expected different seeds")
    one_of("study.split", study.split, SPLITS)
    _within("study.threshold", study.threshold, 0, 1, closed=True)
    for name, comparison in study.comparisons.items():
        _check_comparison(f"study.comparisons.{name}", comparison, study)
    for name in study.tune.values:
        one_of("study.tune.values", name, list(study.arms))
    for name in study.pretrain.arms:
        one_of("study.pretrain.arms", name, list(study.arms))


def _check_comparison(key: str, comparison: ComparisonConfig, study: StudyConfig) -> None:
    arms = list(study.arms)
    one_of(f"{key}.arm", comparison.arm, arms)
    one_of(f"{key}.reference", comparison.reference, arms)
    if comparison.split is not None:
        one_of(f"{key}.split", comparison.split, SPLITS)
    if comparison.direction not in (-1, 0, 1):
        raise ConfigError(f"{key}.direction={comparison.direction}: expected -1, 0 or 1")
    _within(f"{key}.threshold", comparison.threshold, 0, 1, closed=True)
    _at_least(f"{key}.margin", comparison.margin, 0, above=True)
    _check_evaluated(key, comparison, study)


def _check_evaluated(key: str, comparison: ComparisonConfig, study: StudyConfig) -> None:
    """What is evaluated after the training is an error, over views of images."""
    for part in ("views", "reference_views"):
        one_of(f"{key}.{part}", getattr(comparison, part), (0, *VIEWS))
    _at_least(f"{key}.average", comparison.average, 1)
    metric = comparison.metric or study.metric
    evaluated = comparison.views or comparison.reference_views or comparison.average > 1
    if evaluated and (metric != Metric.error or (comparison.split or study.split) == "probe"):
        raise ConfigError(
            f"{key}: expected metric=error and a split of the data with views or average, came metric={metric}, "
            f"split={comparison.split or study.split}"
        )
    if comparison.average > 1 and not comparison.views:
        raise ConfigError(f"{key}.views=0: expected 1, 5 or 10 with average={comparison.average}")
