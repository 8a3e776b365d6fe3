from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alexnet_tf.config.schema import StagedModelConfig

CONF = Path(__file__).parents[2] / "conf" / "model"


def read(name: str, changes: dict[str, Any]) -> StagedModelConfig:
    file = OmegaConf.load(CONF / f"{name}.yaml")
    assert file.pop("defaults") == [{"/schema/model@_here_": "staged"}, "_self_"]
    layers = [OmegaConf.structured(StagedModelConfig), file, OmegaConf.create(changes)]
    return OmegaConf.to_object(OmegaConf.merge(*layers))


@pytest.fixture(scope="session")
def model_config() -> Callable[..., StagedModelConfig]:
    """A config of `conf/model/` by name, for ten classes and three channels unless the changes say otherwise."""

    def make(name: str, changes: dict[str, Any] | None = None) -> StagedModelConfig:
        return read(name, {"num_classes": 10, "input_channels": 3, **(changes or {})})

    return make


TINY = {
    "name": "tiny",
    "input_size": 9,
    "num_classes": 3,
    "input_channels": 2,
    "lrn": {"alpha": 0.1, "scope": "column"},
    "stages": {
        "conv1": {"units": 4, "norm": "lrn", "pool": {"kind": "max", "rounding": "up"}},
        "conv2": {"units": 4, "columns": 2, "padding": "1", "norm": "lrn"},
        "fc3": {"kind": "dense", "units": 8, "dropout": 0.5},
        "fc4": {"kind": "dense", "activation": "linear"},
    },
}


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., StagedModelConfig]:
    """A network of a few hundred parameters with everything in it; changes are merged in."""

    def make(changes: dict[str, Any] | None = None) -> StagedModelConfig:
        layers = [
            OmegaConf.structured(StagedModelConfig),
            OmegaConf.create(TINY),
            OmegaConf.create(changes or {}),
        ]
        return OmegaConf.to_object(OmegaConf.merge(*layers))

    return make
