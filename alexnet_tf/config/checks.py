"""What the types cannot say: combinations that can never run. Found before TensorFlow is imported."""

import math
import re
from collections.abc import Sequence

from alexnet_tf.config.schema import (
    Activation,
    AugmentConfig,
    Config,
    ModelConfig,
    Norm,
    PoolKind,
    SGDConfig,
    StageConfig,
    StageKind,
    StepsConfig,
)

STAGE_PARTS = ("activation", "norm", "pool")
STRATEGIES = ("auto", "one_device", "mirrored")
METHODS = ("bilinear", "bicubic", "area", "nearest", "lanczos3")
AUGMENT_OPS = tuple(name for name in AugmentConfig.__dataclass_fields__ if name != "order")


class ConfigError(ValueError):
    """Wrong use: one line that names the key, what was expected, what came, and the choices there are."""

    exit_status = 2


def check(config: Config) -> None:
    """Raise `ConfigError` for the first value or combination that cannot run."""
    _check_ranges(config)
    check_stages(config.model)
    _check_augment(config)
    _check_size(config)
    _check_training(config)
    _check_groups(config)
    _check_study(config)


def checkpoint_interval(text: str) -> tuple[int, str] | None:
    """`(N, "epoch" | "step")` of `training.checkpoint_every`, or None for `never`."""
    if text == "never":
        return None
    match = re.fullmatch(r"\s*(\d+)\s*(epoch|step)s?\s*", text)
    if not match or int(match[1]) < 1:
        raise ConfigError(f"training.checkpoint_every={text}: expected `N epochs`, `N steps` or `never`")
    return int(match[1]), match[2]


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise `ConfigError` unless `value` is among `choices`."""
    if value not in choices:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(choices)}")


def _at_least(key: str, value: float | None, lowest: float, *, above: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value):
        raise ConfigError(f"{key}={value}: expected a finite number")
    if value <= lowest if above else value < lowest:
        raise ConfigError(f"{key}={value}: expected {'more than' if above else 'at least'} {lowest:g}")


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ConfigError(f"{key}={value}: expected a number from {low:g} to below {high:g}")


def _check_ranges(config: Config) -> None:
    training = config.training
    _at_least("seed", config.seed, 0)
    _at_least("training.batch_size", training.batch_size, 1)
    _at_least("training.eval_batch_size", training.eval_batch_size, 1)
    _at_least("training.epochs", training.epochs, 1)
    _at_least("training.steps", training.steps, 1)
    _at_least("training.probe.every", training.probe.every, 0)
    _at_least("training.probe.examples", training.probe.examples, 1)
    _at_least("training.evaluate_every", training.evaluate_every, 0)
    _at_least("training.keep_checkpoints", training.keep_checkpoints, 1)
    _at_least("training.early_stopping.patience", training.early_stopping.patience, 1)
    _at_least("training.overfit_batches", training.overfit_batches, 0)
    _at_least("optimizer.lr", config.optimizer.lr, 0, above=True)
    _at_least("schedule.warmup_epochs", config.schedule.warmup_epochs, 0)
    _at_least("data.train_examples", config.data.train_examples, 1)
    _at_least("model.input_size", config.model.input_size, 1)
    _at_least("model.num_classes", config.model.num_classes, 2)
    _at_least("strategy.logical_devices", config.strategy.logical_devices, 1)
    _within("data.validation_fraction", config.data.validation_fraction, 0, 1)
    if isinstance(config.optimizer, SGDConfig):
        _within("optimizer.momentum", config.optimizer.momentum, 0, 1)
        _at_least("optimizer.weight_decay", config.optimizer.weight_decay, 0)


def check_stages(model: ModelConfig) -> None:
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
        _check_order(key, stage, stage.activation or model.activation)
    for name, stage in model.stages.items():
        if stage.units is None and name != last:
            raise ConfigError(
                f"model.stages.{name}.units: null is the number of classes, which only the last stage ({last}) has"
            )
    _check_last(f"model.stages.{last}", model.stages[last], model)


def _check_stage(key: str, stage: StageConfig) -> None:
    for part in ("units", "kernel", "stride", "columns"):
        _at_least(f"{key}.{part}", getattr(stage, part), 1)
    _within(f"{key}.dropout", stage.dropout, 0, 1)
    if not (stage.padding in ("same", "valid") or stage.padding.isdigit()):
        raise ConfigError(f"{key}.padding={stage.padding}: expected same, valid or a number of pixels")
    if stage.units is not None and stage.units % stage.columns:
        raise ConfigError(f"{key}.units={stage.units}: expected a multiple of its columns ({stage.columns})")


def _check_order(key: str, stage: StageConfig, activation: Activation) -> None:
    """Every part that is switched on must have its place, rather than be left out silently."""
    has = {
        "activation": activation != Activation.linear,
        "norm": stage.norm != Norm.none,
        "pool": stage.pool is not None and stage.pool.kind != PoolKind.none,
    }
    for part in stage.order:
        one_of(f"{key}.order", part, STAGE_PARTS)
    if len(set(stage.order)) < len(stage.order):
        raise ConfigError(f"{key}.order={stage.order}: expected each part at most once")
    for part, there in has.items():
        if there and part not in stage.order:
            raise ConfigError(f"{key}.order={stage.order}: expected {part} in it too, which the stage has")
    if stage.kind == StageKind.dense and (has["pool"] or has["norm"] or stage.columns != 1):
        raise ConfigError(f"{key}: a dense stage has no pool, no norm and one column")


def _check_last(key: str, stage: StageConfig, model: ModelConfig) -> None:
    """The last stage yields the logits; not so when the one that did was removed."""
    activation = stage.activation or model.activation
    units = {None, model.num_classes}
    if stage.kind != StageKind.dense or activation != Activation.linear or stage.units not in units:
        raise ConfigError(
            f"{key}: expected the last stage to yield the logits: kind=dense, activation=linear, units=null (the "
            f"number of classes), came kind={stage.kind}, activation={activation}, units={stage.units}"
        )


def _check_augment(config: Config) -> None:
    augment = config.augment
    for name in augment.order:
        one_of("augment.order", name, AUGMENT_OPS)
    if len(set(augment.order)) < len(augment.order):
        raise ConfigError(f"augment.order={augment.order}: expected each operation at most once")
    if augment.pca is not None:
        one_of("augment.pca.scale", augment.pca.scale, ("eigenvalue", "deviation"))
    if augment.resize is not None:
        one_of("augment.resize.method", augment.resize.method, METHODS)
    for name in ("pca", "saturation"):
        if name in augment.order and getattr(augment, name) is not None and config.data.channels != 3:
            raise ConfigError(
                f"augment.{name}: needs 3 colour channels, data={config.data.name} has {config.data.channels}"
            )


def output_size(config: Config) -> int | None:
    """The side in pixels of the square images that the augmentation yields, None where it is not fixed."""
    size = config.data.image_size
    for name in config.augment.order:
        op = getattr(config.augment, name)
        if op is None:
            continue
        if name == "resize":
            size = op.size if size is not None else None
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
    one_of("strategy", strategy.name, STRATEGIES)
    replicas = strategy.logical_devices if strategy.name == "mirrored" and strategy.logical_devices else 1
    check_replicas(training.batch_size, replicas)
    if training.eager and training.jit_compile:
        raise ConfigError("training.eager=true: excludes training.jit_compile=true; choose one")
    if training.deterministic and training.jit_compile and _has_max_pool(config.model):
        raise ConfigError(
            "training.deterministic=true: excludes training.jit_compile=true, as XLA has no deterministic gradient of "
            "max pooling; choose one"
        )
    if (
        isinstance(config.schedule, StepsConfig)
        and sorted(set(config.schedule.epochs)) != config.schedule.epochs
    ):
        raise ConfigError(f"schedule.epochs={config.schedule.epochs}: expected increasing epochs")
    if training.probe.stop_below is not None and not training.probe.every:
        raise ConfigError("training.probe.stop_below is set, but training.probe.every=0 measures nothing")


def _has_max_pool(model: ModelConfig) -> bool:
    return any(stage.pool is not None and stage.pool.kind == PoolKind.max for stage in model.stages.values())


def check_replicas(batch_size: int, replicas: int) -> None:
    """Raise `ConfigError` unless the global batch divides evenly over the replicas."""
    if batch_size < replicas or batch_size % replicas:
        raise ConfigError(f"training.batch_size={batch_size}: expected a multiple of the {replicas} replicas")


def _check_groups(config: Config) -> None:
    if not isinstance(config.optimizer, SGDConfig):
        return
    for name, group in config.optimizer.groups.items():
        key = f"optimizer.groups.{name}"
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
    one_of("study.metric", study.metric, ("time_to_error",))
    if not study.arms or not study.seeds:
        raise ConfigError("study: expected at least one arm in study.arms and one seed in study.seeds")
    for name in study.arms:
        if not re.fullmatch(r"[A-Za-z0-9]\w*", name):
            raise ConfigError(f"study.arms.{name}: expected a name of letters, digits and underscores")
    if len(set(study.seeds)) < len(study.seeds):
        raise ConfigError(f"study.seeds={study.seeds}: expected different seeds")
    for name, comparison in study.comparisons.items():
        one_of(f"study.comparisons.{name}.arm", comparison.arm, list(study.arms))
        one_of(f"study.comparisons.{name}.reference", comparison.reference, list(study.arms))
    for name in study.tune.values:
        one_of("study.tune.values", name, list(study.arms))
