"""Configuration: the schema of every group, composition with Hydra, and the checks that need no TensorFlow."""

from alexnet_tf.config.checks import (
    HEAD,
    REST,
    ConfigError,
    check_installed,
    check_replicas,
    check_table_file,
    checkpoint_interval,
    require_package,
    view_crop,
)
from alexnet_tf.config.compose import (
    CONFIG_MODULE,
    HYDRA_VERSION,
    compose,
    compose_model,
    explain,
    flatten,
    from_dict,
    from_run,
    is_compose_error,
    override_key,
    register_schemas,
    resolve,
    to_dict,
    to_yaml,
)
from alexnet_tf.config.formats import check_export
from alexnet_tf.config.schema import Config

__all__ = [
    "CONFIG_MODULE",
    "HEAD",
    "HYDRA_VERSION",
    "REST",
    "Config",
    "ConfigError",
    "check_export",
    "check_installed",
    "check_replicas",
    "check_table_file",
    "checkpoint_interval",
    "compose",
    "compose_model",
    "explain",
    "flatten",
    "from_dict",
    "from_run",
    "is_compose_error",
    "override_key",
    "register_schemas",
    "require_package",
    "resolve",
    "to_dict",
    "to_yaml",
    "view_crop",
]
