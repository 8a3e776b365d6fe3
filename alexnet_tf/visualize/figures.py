"""The explanatory figures that teachers want, each drawn from the code and from runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet_tf.config import Config, ConfigError
from alexnet_tf.config.look import check_figures
from alexnet_tf.config.schema import StagedModelConfig
from alexnet_tf.pages import Picture
from alexnet_tf.visualize.figures_architecture import architecture
from alexnet_tf.visualize.figures_augmentation import augmentation
from alexnet_tf.visualize.figures_layers import activations, dropout, has_dropout
from alexnet_tf.visualize.figures_results import augmentation_effect, convergence, ilsvrc


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """What figures are drawn of.

    Attributes:
        config: The network, the augmentation and the seed.
        photograph: For `augmentation`; None: one that scikit-learn brings.
        runs: For `convergence`.
        sweeps: For `augmentation_effect`.
    """

    config: Config
    photograph: Path | None = None
    runs: Sequence[Path] = ()
    sweeps: Sequence[Path] = ()


@dataclass(frozen=True)
class _Figure:
    draw: Callable[[Subjects], Picture]
    lacks: Callable[[Subjects], str] = lambda _: ""
    """What it cannot be drawn without and was not given, as one types it; empty: nothing."""


FIGURES: dict[str, _Figure] = {
    "architecture": _Figure(
        lambda given: architecture(given.config),
        lambda given: (
            "" if isinstance(given.config.model, StagedModelConfig) else "model=NAME of a network of stages"
        ),
    ),
    "activations": _Figure(lambda _: activations()),
    "dropout": _Figure(
        lambda given: dropout(given.config),
        lambda given: "" if has_dropout(given.config) else "model=NAME of a network of stages with dropout",
    ),
    "augmentation": _Figure(lambda given: augmentation(given.config, given.photograph)),
    "augmentation_effect": _Figure(
        lambda given: augmentation_effect(given.sweeps), lambda given: "" if given.sweeps else "--sweep SWEEP"
    ),
    "convergence": _Figure(
        lambda given: convergence(given.runs), lambda given: "" if given.runs else "--run RUN"
    ),
    "ilsvrc": _Figure(lambda _: ilsvrc()),
}
"""What draws each of `config.look.FIGURES`."""


def draw_figures(names: Sequence[str], subjects: Subjects) -> tuple[list[Picture], dict[str, str]]:
    """Draw figures; nothing is written.

    Args:
        names: Of `FIGURES`; none: all for which enough is given.
        subjects: What they are drawn of.

    Returns:
        The pictures, and of those that were left out what is missing.

    Raises:
        ConfigError: A name is unknown, something that it needs is not given or does not fit.
        RunError: A run or sweep has nothing to draw, or is damaged.
    """
    check_figures(names)
    chosen = list(dict.fromkeys(names or FIGURES))
    missing = {name: option for name in chosen if (option := FIGURES[name].lacks(subjects))}
    if names and missing:
        name, option = next(iter(missing.items()))
        raise ConfigError(f"figures {name}: expected {option}")
    return [FIGURES[name].draw(subjects) for name in chosen if name not in missing], missing
