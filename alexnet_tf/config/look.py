"""What `alexnet visualize` and `alexnet figures` are asked for, typed and checked. Imports no TensorFlow."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from alexnet_tf.config.checks import ConfigError, one_of

PICTURES = {
    "kernels": "the first layer's kernels, per column (paper, Figure 3)",
    "columns": "the colourfulness of each column's kernels, with a permutation test (paper, section 6.1)",
    "activations": "what the layers answer to the image",
    "patches": "the patches that excite units of a layer most",
    "deconvolution": "what in those patches excites a unit, through the max-pool switches (Zeiler and Fergus, 2013)",
    "gradcam": "the places that speak for a class (Selvaraju et al., 2016)",
    "saliency": "the pixels that a class and a unit are most sensitive to (Simonyan et al., 2013)",
    "neighbours": "the training images with the nearest features before the last layer (paper, Figure 4)",
    "map": "these features in a plane, by PCA and t-SNE",
    "mistakes": "the most confident wrong answers",
    "confusion": "the confusion matrix",
    "saturation": "units that never answer, and the share of flat activations, by layer",
    "histograms": "weights and their gradients over the training",
    "gradients": "the gradient's norm by depth with sigmoid, tanh and ReLU, before training",
}
"""The choices of `what`, in the order of the page."""
FIGURES = (
    "architecture",
    "activations",
    "dropout",
    "augmentation",
    "augmentation_effect",
    "convergence",
    "ilsvrc",
)
"""The figures that `alexnet figures` draws."""
FIGURE_OF = {"--run": "convergence", "--sweep": "augmentation_effect", "--image": "augmentation"}
"""Options of `alexnet figures`, and the figure that each is for."""
SPLITS = ("train", "validation", "test")
EXAMPLE = re.compile(rf"({'|'.join(SPLITS)}):(\d+)")


@dataclass(frozen=True, kw_only=True)
class Look:
    """The options of `alexnet visualize`.

    Attributes:
        what: Names of `PICTURES`; None: all that the run allows.
        layer: A layer with weights; None: the last convolution.
        unit: A kernel or unit of the layer, from 0; None: those that answer most.
        image: An image file, or `SPLIT:INDEX`, from 0; None: the first of the split.
        target: The class, by name, for Grad-CAM and saliency; None: those that the network finds most probable.
        split: The split that examples are taken from; None: validation, where there is none train.
        examples: Examples of a split that are looked at, spread evenly over it.
    """

    what: tuple[str, ...] | None = None
    layer: str | None = None
    unit: int | None = None
    image: str | None = None
    target: str | None = None
    split: str | None = None
    examples: int = 1000

    def example(self) -> tuple[str, int] | None:
        """Split and index of the image, if it is an example of the data."""
        found = EXAMPLE.fullmatch(self.image or "")
        return (found[1], int(found[2])) if found else None


def check_figures(names: Sequence[str], given: Mapping[str, object] | None = None) -> None:
    """Find what cannot be drawn, and what would be given for nothing.

    Args:
        names: Of the figures; none: all.
        given: The values of `FIGURE_OF`; empty ones are not given.

    Raises:
        ConfigError: A name is none of `FIGURES`, or none of the figures takes an option.
    """
    if unknown := [name for name in names if name not in FIGURES]:
        raise ConfigError(f"figures {unknown[0]}: no such figure. Expected one of: {', '.join(FIGURES)}")
    for option, value in (given or {}).items():
        if value and names and FIGURE_OF[option] not in names:
            raise ConfigError(f"{option}: expected with figures {FIGURE_OF[option]}, came {', '.join(names)}")


def parse_look(texts: Sequence[str]) -> Look:
    """Read `KEY=VALUE` texts, such as `what=kernels,gradcam` and `unit=7`.

    Raises:
        ConfigError: For an unknown key or picture, a value of the wrong type, or an image that is no file.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise ConfigError(f"{text}: expected KEY=VALUE, such as what=kernels,gradcam. {_keys(key)}")
        if key not in _names():
            raise ConfigError(f"{key}: no such option. {_keys(key)}")
        if key in values:
            raise ConfigError(f"{key}={value}: expected once, came {key}={values[key]} too")
        values[key] = value
    look = Look(
        what=_pictures(values["what"]) if "what" in values else None,
        layer=values.get("layer"),
        unit=_whole("unit", values["unit"], 0) if "unit" in values else None,
        image=values.get("image"),
        target=values.get("target"),
        split=values.get("split"),
        examples=_whole("examples", values["examples"], 2) if "examples" in values else Look.examples,
    )
    if look.split is not None:
        one_of("split", look.split, SPLITS)
    if look.image is not None and look.example() is None and not Path(look.image).is_file():
        raise ConfigError(
            f"image={look.image}: expected an image file, or SPLIT:INDEX such as validation:3, with a split of "
            f"{', '.join(SPLITS)}"
        )
    if not _is_utf8(look.image or ""):
        raise ConfigError(f"image={look.image}: expected a name in UTF-8, as it stands on the page")
    return look


def _is_utf8(name: str) -> bool:
    """Whether a file's name has no bytes that Python has to escape."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _names() -> list[str]:
    return [field.name for field in fields(Look)]


def _keys(key: str) -> str:
    close = difflib.get_close_matches(key, _names(), 1)
    return f"Expected one of: {', '.join(_names())}" + (f"; did you mean {close[0]}?" if close else "")


def _pictures(value: str) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(value.removeprefix("[").removesuffix("]").split(",")))
    for name in names:
        one_of("what", name, ["all", *PICTURES])
    return None if "all" in names else names


def _whole(key: str, value: str, lowest: int) -> int:
    if not value.isdecimal() or int(value) < lowest:
        raise ConfigError(f"{key}={value}: expected a whole number from {lowest}")
    return int(value)
