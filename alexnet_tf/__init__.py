"""AlexNet experiments: the paper of 2012 as software to vary, measure and trust.

The public names are loaded when they are first used, so that importing the package does not import TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_tf.config import Config, ConfigError, compose
    from alexnet_tf.inference import Run, load_run
    from alexnet_tf.model import build_model
    from alexnet_tf.training import train

_HOMES = {
    "Config": "config",
    "ConfigError": "config",
    "compose": "config",
    "Run": "inference",
    "load_run": "inference",
    "build_model": "model",
    "train": "training",
}

__all__ = ["Config", "ConfigError", "Run", "build_model", "compose", "load_run", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
