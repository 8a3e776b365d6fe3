"""The first weights of a run, taken from another one."""

import logging
from collections.abc import Sequence

import keras

from alexnet_tf.config import ConfigError
from alexnet_tf.inference import Run
from alexnet_tf.runs import RunFolder

LISTED = 4

logger = logging.getLogger(__name__)


def start_from(network: keras.Model, path: str, class_names: Sequence[str]) -> None:
    """Give a network the weights of a finished run, variable by variable of the same path.

    The last layer keeps its own initial weights where it is for other classes, which a line says.

    Args:
        network: A network of `model.build`.
        path: The run's folder.
        class_names: The classes that the network is to learn.

    Raises:
        ConfigError: If variables are missing there or have another shape.
        RunError: If there is no run, or it has no final model.
    """
    run = Run(RunFolder.open(path, "init_from").path)
    source = run.model()
    theirs = {variable.path: variable for variable in source.weights}
    last = network.layers[-1].name
    last_differs = source.output_shape != network.output_shape or run.class_names != list(class_names)
    taken = [
        variable
        for variable in network.weights
        if not (last_differs and variable.path.startswith(f"{last}/"))
    ]
    problems = [
        f"{variable.path} {list(variable.shape)} (there {found or 'nothing'})"
        for variable in taken
        if (found := _shape(theirs.get(variable.path))) != list(variable.shape)
    ]
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise ConfigError(
            f"init_from={path}: expected the weights of this model={network.name}; not there or of another shape: "
            f"{', '.join(problems[:LISTED])}{more}"
        )
    for variable in taken:
        variable.assign(theirs[variable.path])
    if last_differs:
        logger.warning(
            "init_from=%s: %s starts afresh, with %d classes instead of %s",
            path,
            last,
            network.output_shape[-1],
            source.output_shape[-1] if source.output_shape != network.output_shape else "others",
        )


def _shape(variable: keras.Variable | None) -> list[int] | None:
    return None if variable is None else list(variable.shape)
