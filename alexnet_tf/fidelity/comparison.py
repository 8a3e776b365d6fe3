"""What a source says beside what we measure, line by line."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from alexnet_tf.config import Config, compose
from alexnet_tf.fidelity.sampled import Sampled
from alexnet_tf.fidelity.sources import Facts, Source, said_fields

TOLERANCE = 1e-4
"""Relative, of numbers that are computed in float32; sources differ from each other by a percent and more."""
ERRORS = 4
"""Standard errors that a sampled number may be off by: one in 16,000 is by chance. Seeds are fixed, so it stays so."""


@dataclass(frozen=True, slots=True)
class Line:
    """One number of a source beside ours."""

    what: str
    said: Any
    ours: Any
    """None: there is nothing of the kind."""
    where: str
    """The source."""

    @property
    def agrees(self) -> bool:
        """Whether ours is what is said, but for rounding and chance."""
        return agree(self.said, self.ours)


@dataclass(frozen=True, slots=True)
class Report:
    """All lines of one network."""

    name: str
    lines: list[Line]

    @property
    def agreeing(self) -> int:
        """How many lines agree."""
        return sum(line.agrees for line in self.lines)

    @property
    def ok(self) -> bool:
        """Whether all do."""
        return self.agreeing == len(self.lines)


def compose_checked(name: str, source: Source, overrides: Sequence[str] = ()) -> Config:
    """Our config of a network, with the recipe that answers to its source.

    Raises:
        ConfigError: The overrides are wrong.
    """
    base = f"experiment={source.experiment}" if source.experiment else "augment=center"
    config = compose([base, f"model={name}", *overrides])
    model = config.model
    classes, channels = model.num_classes or source.classes, model.input_channels or source.channels
    filled = dataclasses.replace(model, num_classes=classes, input_channels=channels)
    return dataclasses.replace(config, model=filled)


def check(name: str, source: Source, config: Config) -> Report:
    """Build a network and its recipe, measure them, and compare what the source says.

    Args:
        name: The network's.
        source: What is said of it.
        config: What is built, see `compose_checked`.

    Raises:
        ConfigError: The network cannot be built.
    """
    # Here, so that wrong names and overrides are answered before TensorFlow loads.
    import keras

    from alexnet_tf.fidelity.network import measure_network
    from alexnet_tf.fidelity.recipe import measure_recipe
    from alexnet_tf.model import build

    wanted = {name for facts in source.said.values() for name in said_fields(facts)}
    model = build(config.model)
    paths = [variable.path for variable in model.trainable_variables]
    ours = {**measure_network(model, wanted), **measure_recipe(config, paths, wanted)}
    del model
    keras.backend.clear_session()  # before the next network of 60 million parameters
    lines = [line for where, facts in source.said.items() for line in _lines(facts, ours, where)]
    order = [item.name for item in fields(Facts)]
    return Report(name, [line for _, line in sorted(lines, key=lambda pair: order.index(pair[0]))])


def agree(said: Any, ours: Any) -> bool:
    """Whether a measured value is the one that is said: the same structure, numbers within their tolerance."""
    if isinstance(said, list) and isinstance(ours, list):
        return len(said) == len(ours) and all(map(agree, said, ours))
    if isinstance(said, dict) and isinstance(ours, dict):
        return said.keys() == ours.keys() and all(agree(said[key], ours[key]) for key in said)
    if isinstance(said, float) and isinstance(ours, int | float):
        margin = ERRORS * ours.error if isinstance(ours, Sampled) else 0.0
        return math.isclose(said, ours, rel_tol=TOLERANCE, abs_tol=max(margin, 1e-12))
    return type(said) is type(ours) and said == ours


def _lines(facts: Facts, ours: dict[str, Any], where: str) -> list[tuple[str, Line]]:
    """The lines of one source, each with the name of its fact; a dict that has words for keys makes several."""
    what = {item.name: item.metadata["what"] for item in fields(Facts)}
    found = []
    for name, said in said_fields(facts).items():
        measured = ours[name]
        if isinstance(said, dict) and all(isinstance(key, str) for key in said):
            parts = measured or {}
            found += [
                (name, Line(f"{what[name]} {key}", value, parts.get(key), where))
                for key, value in said.items()
            ]
        else:
            found.append((name, Line(what[name], said, measured, where)))
    return found
