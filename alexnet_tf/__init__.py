"""AlexNet experiments: the paper of 2012 as software to vary, measure and trust.

    >>> import alexnet_tf as at
    >>> config = at.compose(["data=digits", "training.epochs=5"])
    >>> config
    Config(data.name=digits, model.name=alexnet_small, model.activation=relu, augment.order=['resize', ...], ...)
    >>> model = at.build_model("alexnet_small", num_classes=10)
    >>> model.output_shape
    (None, 10)

`at.train(config)`, or of a list of overrides, leaves a run folder and returns its `Run`, as `at.load_run(folder)` does:
`run.metrics()`, `run.model()`, `run.predict(images)`. Errors of the user's are `at.ConfigError`, of runs `at.RunError`.

The public names are loaded when they are first used, so that importing the package does not import TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_tf.config import Config, ConfigError, compose
    from alexnet_tf.inference import Run, load_run
    from alexnet_tf.model import build_model
    from alexnet_tf.runs import RunError
    from alexnet_tf.training import train

_HOMES = {
    "Config": "config",
    "ConfigError": "config",
    "compose": "config",
    "Run": "inference",
    "load_run": "inference",
    "RunError": "runs",
    "build_model": "model",
    "train": "training",
}

__all__ = ["Config", "ConfigError", "Run", "RunError", "build_model", "compose", "load_run", "train"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # or a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(
                f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
            )
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
