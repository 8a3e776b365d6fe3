"""What the sources say: `sources.yaml`, typed when read. Imports no TensorFlow and none of our configs."""

from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_tf.config import ConfigError


@dataclass(kw_only=True, slots=True)
class Facts:
    """Everything that a source can say of a network or a recipe; None where it says nothing.

    Lists follow the stages of their kind from the input on. Dicts with names for keys make a line of the report for each
    entry. Sizes are in pixels, colours in units of 0-255, rates and decays absolute; `weights` and `biases` are those of
    all stages. A norm's alpha is the factor on the sum of squares over its window, whatever the source divides it by.
    `dropout_into` are the layers that see what dropout leaves; the ratio of its means is that of training and test.
    `crop_offsets` are the places of the crop along one axis. `sources.yaml` says what `update` and `colour_noise` are.
    """

    # the network
    input_size: int | None = field(default=None, metadata={"what": "input"})
    parameters: int | None = field(default=None, metadata={"what": "parameters"})
    parameters_of: dict[str, int] | None = field(default=None, metadata={"what": "parameters,"})
    mega_macs: int | None = field(default=None, metadata={"what": "million mult-adds"})
    conv_mega_macs: int | None = field(default=None, metadata={"what": "in convolutions"})
    maps: list[int] | None = field(default=None, metadata={"what": "map sizes"})
    filters: list[int] | None = field(default=None, metadata={"what": "filters"})
    kernels: list[int] | None = field(default=None, metadata={"what": "kernels"})
    strides: list[int] | None = field(default=None, metadata={"what": "strides"})
    columns: list[int] | None = field(default=None, metadata={"what": "columns"})
    dense: list[int] | None = field(default=None, metadata={"what": "dense units"})
    order_after: dict[str, list[str]] | None = field(default=None, metadata={"what": "after"})
    pool_windows: list[str] | None = field(default=None, metadata={"what": "pool size/stride"})
    pool_rounding: list[str] | None = field(default=None, metadata={"what": "pool sizes rounded"})
    adaptive_pool: int | None = field(default=None, metadata={"what": "adaptive pool, 9 to"})
    lrn_size: list[int] | None = field(default=None, metadata={"what": "LRN n"})
    lrn_k: list[float] | None = field(default=None, metadata={"what": "LRN k"})
    lrn_alpha: list[float] | None = field(default=None, metadata={"what": "LRN alpha on sum"})
    lrn_beta: list[float] | None = field(default=None, metadata={"what": "LRN beta"})
    lrn_across: list[bool] | None = field(default=None, metadata={"what": "LRN across columns"})
    map_norm_size: list[int] | None = field(default=None, metadata={"what": "map norm window"})
    map_norm_k: list[float] | None = field(default=None, metadata={"what": "map norm k"})
    map_norm_alpha: list[float] | None = field(default=None, metadata={"what": "map norm alpha on sum"})
    map_norm_beta: list[float] | None = field(default=None, metadata={"what": "map norm beta"})
    dropout_into: list[str] | None = field(default=None, metadata={"what": "dropout ahead of"})
    dropout_rate: list[float] | None = field(default=None, metadata={"what": "dropout rate"})
    dropout_balance: list[float] | None = field(default=None, metadata={"what": "dropout mean ratio"})
    dropout_at_test: list[float] | None = field(default=None, metadata={"what": "dropout at test"})
    weight_std: dict[str, float] | None = field(default=None, metadata={"what": "initial std,"})
    biases: list[float] | None = field(default=None, metadata={"what": "initial biases"})
    # the recipe
    batch: int | None = field(default=None, metadata={"what": "batch"})
    epochs: int | None = field(default=None, metadata={"what": "epochs"})
    iterations: int | None = field(default=None, metadata={"what": "iterations"})
    rate: dict[str, float] | None = field(default=None, metadata={"what": "rate,"})
    decay: dict[str, float] | None = field(default=None, metadata={"what": "decay,"})
    momentum: float | None = field(default=None, metadata={"what": "momentum"})
    update: list[float] | None = field(default=None, metadata={"what": "update, 3 steps"})
    rate_by_epoch: dict[str, dict[int, float]] | None = field(
        default=None, metadata={"what": "rate by epoch,"}
    )
    rate_by_iteration: dict[str, dict[int, float]] | None = field(
        default=None, metadata={"what": "rate by iteration,"}
    )
    rate_by_plateau: list[float] | None = field(default=None, metadata={"what": "rate by plateau"})
    frozen_at_end: list[str] | None = field(default=None, metadata={"what": "frozen at the end"})
    left_out: dict[int, list[str]] | None = field(default=None, metadata={"what": "left out from epoch"})
    shorter_side: int | None = field(default=None, metadata={"what": "shorter side"})
    center_crop: int | None = field(default=None, metadata={"what": "centre crop"})
    crop: int | None = field(default=None, metadata={"what": "training crop"})
    crop_offsets: int | None = field(default=None, metadata={"what": "crop offsets"})
    crop_area: list[float] | None = field(default=None, metadata={"what": "crop area range"})
    crop_aspect: list[float] | None = field(default=None, metadata={"what": "crop aspect range"})
    mirrored: float | None = field(default=None, metadata={"what": "share mirrored"})
    colour_noise: list[float] | None = field(default=None, metadata={"what": "colour noise, std"})
    training_divisor: float | None = field(default=None, metadata={"what": "divisor in training"})
    mean: str | None = field(default=None, metadata={"what": "mean subtracted"})
    channel_mean: list[float] | None = field(default=None, metadata={"what": "mean of RGB, 0-1"})
    channel_std: list[float] | None = field(default=None, metadata={"what": "std of RGB, 0-1"})


@dataclass(kw_only=True, slots=True)
class Source:
    """All that is said of one network."""

    said: dict[str, Facts] = field(default_factory=dict)
    """Where -> what is said there."""
    experiment: str | None = None
    """The recipe of `conf/experiment/` that answers to what is said of training; None: nothing is."""
    classes: int = 1000
    channels: int = 3


@dataclass(kw_only=True, slots=True)
class Sources:
    """The whole table."""

    titles: dict[str, str]
    """What a `where` begins with -> what that is."""
    networks: dict[str, Source]
    without_source: dict[str, str]
    """Networks of ours that no source speaks of -> why."""

    def of(self, name: str) -> Source:
        """The source of one network.

        Raises:
            ConfigError: There is none.
        """
        if name in self.without_source:
            raise ConfigError(f"model={name}: no source to compare with, {self.without_source[name]}")
        if name not in self.networks:
            choices = ", ".join(self.networks)
            raise ConfigError(f"model={name}: no source says anything of it. Expected one of: {choices}")
        return self.networks[name]


def load_sources(path: Path | None = None) -> Sources:
    """Read the table of the sources.

    Args:
        path: A file in the form of `sources.yaml`; None: the package's own.

    Raises:
        ConfigError: A fact is unknown, or a value not of its type.
    """
    file = path or resources.files("alexnet_tf.fidelity") / "sources.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    networks = {name: _typed(name, entry) for name, entry in content.pop("networks").items()}
    return Sources(networks=networks, **content)


def said_fields(facts: Facts) -> dict[str, Any]:
    """The facts that are said, by name, in the order of the fields."""
    values = {item.name: getattr(facts, item.name) for item in fields(Facts)}
    return {name: value for name, value in values.items() if value is not None}


def _typed(name: str, entry: Any) -> Source:
    try:
        source = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Source), entry))
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"the sources of {name}: {str(error).splitlines()[0]}") from error
    assert isinstance(source, Source)
    return source
