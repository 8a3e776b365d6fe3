"""The first weights of a run, taken from another one."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from alexnet_tf import data
from alexnet_tf.config import Config, ConfigError, flatten, to_dict
from alexnet_tf.inference import Run
from alexnet_tf.model import end_of, head
from alexnet_tf.runs import RunFolder

LISTED = 4
WITHOUT_MEANING = {
    "name", "input_size", "input_channels", "num_classes", "freeze_until", "init", "bias_init", "sync_batch_norm",
    "units", "kernel", "dropout", "weight_std", "bias",
}  # fmt: skip
"""Keys of a model or stage that its weights mean the same under, or whose change shows in their shapes."""

logger = logging.getLogger(__name__)


def start_from(network: keras.Model, config: Config, class_names: Sequence[str]) -> None:
    """Give a network the weights of the finished run `init_from`: those of every layer that is there in the same shapes.

    The others, and the last layer where it is for other classes, keep their own initial weights, which a line says;
    another one says what else the weights were learnt under.

    Args:
        network: A network of `model.build`.
        config: The run that is to start.
        class_names: The classes that the network is to learn.

    Raises:
        ConfigError: If no layer fits, or one that does not fit is to stand still.
        RunError: If there is no run, or it has no final model.
    """
    named = f"init_from={config.init_from}"
    run = Run(RunFolder.open(str(config.init_from), "init_from").path)
    source = run.model()
    theirs = {variable.path: variable for variable in source.weights}
    layers = [layer for layer in network.layers if layer.weights]
    afresh = {layer.name: why for layer in layers if (why := _misfit(layer, theirs))}
    if source.output_shape != network.output_shape or run.class_names != list(class_names):
        ours, other = network.output_shape[-1], source.output_shape[-1]
        afresh[head(network).name] = f"{ours} classes instead of {other if other != ours else 'others'}"
    if len(afresh) == len(layers):
        raise ConfigError(
            f"{named}: expected weights of this model={network.name}, came those of {source.name}, of which no layer fits: "
            f"{_listed(list(afresh.values()))}"
        )
    _check_frozen(network, config, afresh)
    taken = [layer for layer in layers if layer.name not in afresh]
    for variable in (variable for layer in taken for variable in layer.weights):
        variable.assign(theirs[variable.path])
    left = [layer.name for layer in source.layers if layer.weights and not _has_layer(network, layer.name)]
    _tell_afresh(
        f"{named}: {len(taken)} of {len(layers)} layers with weights are taken from {source.name}",
        afresh,
        left,
    )
    if changes := _changes(run.config, config, {layer.name for layer in taken}):
        logger.warning("%s: its weights were learnt under other values: %s", named, _listed(changes))


def _misfit(layer: keras.layers.Layer, theirs: Mapping[str, keras.Variable]) -> str:
    """The first variable of a layer that is not there in the same shape, as text; empty: there is none."""
    for variable in layer.weights:
        found = theirs.get(variable.path)
        if found is None or found.shape != variable.shape:
            there = "nothing" if found is None else list(found.shape)
            return f"{variable.path} {list(variable.shape)} (there {there})"
    return ""


def _has_layer(network: keras.Model, name: str) -> bool:
    return any(layer.name == name for layer in network.layers)


def _check_frozen(network: keras.Model, config: Config, afresh: Mapping[str, str]) -> None:
    """Refuse to let a layer stand still on the random numbers that it starts with."""
    if (until := config.model.freeze_until) is None:
        return
    frozen = network.layers[: end_of(network, until, "model.freeze_until") + 1]
    if still := [afresh[layer.name] for layer in frozen if layer.name in afresh]:
        raise ConfigError(
            f"model.freeze_until={until}: expected layers that init_from={config.init_from} has weights for, or they would "
            f"stand still at random; not there or of another shape: {_listed(still)}"
        )


def _tell_afresh(taken: str, afresh: Mapping[str, str], left: Sequence[str]) -> None:
    """Say in one line which layers are not those of the other run, and nothing where all are."""
    said = []
    if afresh:
        said.append(f"afresh start {', '.join(afresh)}: {_listed(list(afresh.values()))}")
    if left:
        said.append(f"this network has no {', '.join(left)}")
    if said:
        logger.warning("%s; %s", taken, "; ".join(said))


def _changes(before: Config, now: Config, taken: set[str]) -> list[str]:
    """What gives weights another meaning: keys of the network, and of what the images are normalised by."""
    found = []
    for part, values in {
        "model": (before.model, now.model),
        "augment": (before.augment, now.augment),
    }.items():
        flat = [
            flatten(_normalising(to_dict(each)) if part == "augment" else to_dict(each)) for each in values
        ]
        for key in {**flat[0], **flat[1]}:
            words, (there, here) = key.split("."), (each.get(key) for each in flat)
            elsewhere = words[0] == "stages" and words[1] not in taken
            if there != here and not elsewhere and words[-1] not in WITHOUT_MEANING:
                found.append(f"{part}.{key}={there} (here {here})")
    return found


def _normalising(augment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: augment[name] for name in data.NORMALISING if name in augment["order"] and augment[name]}


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return f"{', '.join(texts[:LISTED])}{more}"
