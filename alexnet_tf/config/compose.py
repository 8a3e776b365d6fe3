"""Composition with Hydra, and the step from a composed config to a checked `Config`. Imports no TensorFlow."""

import dataclasses
import difflib
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_tf.config import schema
from alexnet_tf.config.checks import ConfigError, check, check_stages

CONFIG_MODULE = "alexnet_tf.conf"
HYDRA_VERSION = "1.3"


def register_schemas() -> None:
    """Make the dataclasses known to Hydra, so that every file and override is type-checked while composing."""
    store = ConfigStore.instance()
    for (group, name), node in schema.SCHEMAS.items():
        store.store(group=group, name=name, node=node, provider="alexnet_tf")


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> schema.Config:
    """Compose `conf/config.yaml` with overrides in Hydra's syntax and check the result.

    Args:
        overrides: Such as `["model=cifar_quick", "optimizer.lr=0.1"]`.
        config_dir: A folder with configs of your own, searched besides the package's.

    Raises:
        ConfigError: With one line that names the key, what was expected and what came.
    """
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    register_schemas()
    hydra = GlobalHydra.instance()
    outer, hydra.hydra = hydra.hydra, None  # inside a Hydra application its own context must come back
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION):
            composed = hydra_compose("config", overrides=[*extra, *overrides])
        return resolve(composed)
    except Exception as error:
        if not is_compose_error(error):
            raise
        raise ConfigError(explain(error)) from error
    finally:
        hydra.hydra = outer


def compose_model(
    overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> schema.ModelConfig:
    """A network's config by itself, for 1000 classes and three channels unless it says otherwise.

    Args:
        overrides: Such as `["model=alexnet", "model.input_size=227"]`.
        changes: A nested mapping to put on top, such as `{"lrn": None, "stages": {"conv1": {"units": 64}}}`.

    Raises:
        ConfigError: As `compose`.
    """
    model = compose(["augment=center", *overrides]).model
    merged = OmegaConf.merge(OmegaConf.structured(schema.ModelConfig), to_dict(model))
    try:
        result = OmegaConf.to_object(OmegaConf.merge(merged, dict(changes or {})))
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(result, schema.ModelConfig)
    check_stages(result)
    return dataclasses.replace(
        result, num_classes=result.num_classes or 1000, input_channels=result.input_channels or 3
    )


def resolve(composed: DictConfig) -> schema.Config:
    """Turn a composed config into dataclasses, resolve its interpolations and check what types cannot.

    Raises:
        ConfigError: With one line that names the key, what was expected and what came.
    """
    try:
        config = OmegaConf.to_object(composed)
    except (OmegaConfBaseException, TypeError, AttributeError) as error:
        raise ConfigError(explain(error)) from error
    if not isinstance(config, schema.Config):
        raise ConfigError(f"expected a config of type Config, came {type(config).__name__}")
    check(config)
    return config


def to_yaml(config: schema.Config) -> str:
    """The whole config as YAML, from which `from_dict` makes it again."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts, lists, strings and numbers."""
    return dataclasses.asdict(config, dict_factory=lambda items: {k: _plain(v) for k, v in items})


def from_dict(content: Mapping[str, Any], overrides: Iterable[str] = ()) -> schema.Config:
    """A `Config` from a stored one, such as a run's `config.yaml`.

    Args:
        content: What `to_dict` gave.
        overrides: `key=value` pairs to apply on top; groups cannot be exchanged.

    Raises:
        ConfigError: If the content does not fit this version's schema.
    """
    base = OmegaConf.structured(schema.Config)
    try:
        for group in ("optimizer", "schedule"):
            name = content.get(group, {}).get("name")
            nodes = {n: node for (g, n), node in schema.SCHEMAS.items() if g == f"schema/{group}"}
            if name not in nodes:
                raise ConfigError(f"{group}.name: expected one of {', '.join(nodes)}, came {name}")
            base[group] = OmegaConf.structured(nodes[name])
        merged = OmegaConf.merge(base, dict(content), OmegaConf.from_dotlist(list(overrides)))
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(merged, DictConfig)
    return resolve(merged)


def is_compose_error(error: BaseException) -> bool:
    """Whether an error is what Hydra and OmegaConf raise for wrong input, rather than a bug."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    # OmegaConf fails with these two where a section that is null is given a key.
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return isinstance(error, AssertionError | AttributeError) and "omegaconf" in last[0].filename


def explain(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf: where, what was expected, what came, the choices there are."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    message = str(cause)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not in Hydra's override syntax, key=value ({_first_line(message)})"
    if "Invalid type assigned" in message or isinstance(error, AssertionError | AttributeError):
        where = re.search(r"Error merging override (\S+)", str(error))
        return f"{where[1] if where else _first_line(message)}: cannot be added on the command line; put it in a YAML file"
    place = re.search(r"In '([^']+)'", str(error))
    where = f"{place[1]}.yaml: " if place else ""
    if available := re.search(
        r"Could not find '?([\w/.]+?)/?([^/'\s]+)'?\s+Available options in '(\w[^']*)':(.*)", message, re.S
    ):
        options = available[4].partition("Config search path")[0].split()
        return f"{available[3]}={available[2]}: no such choice. {_choices(available[2], options)}"
    if override := re.search(r"Error merging override (\S+)", str(error)):
        key, _, value = override[1].lstrip("+").partition("=")
        return f"{key}={value}: {_expected(key) or _first_line(message)}"
    if missing := re.search(r"Could not override '([^']+)'", str(error)):
        if "No match in the defaults list" in str(error):
            groups = [field.name for field in dataclasses.fields(schema.Config)] + ["experiment"]
            return f"{missing[1]}: no such group or key. {_choices(missing[1], groups)}"
        return f"{missing[1]}: no such key. {_siblings(missing[1])}"
    key = getattr(cause, "full_key", None) or ""
    if unknown := re.search(r"Key '([^']+)' (?:not in|is not in struct)", message):
        full = key or unknown[1]
        return f"{where}{full}: no such key. {_siblings(full)}"
    if slot := re.search(r"'(\w+)' object has no attribute '(\w+)'", message):  # added with `+`
        slot, fields = slot[2], _names(getattr(schema, slot[1], None))
        return f"{where}{slot}: no such key. {_choices(slot, fields)}"
    if "issing mandatory value" in message:
        return f"{where}{key or _first_line(message).split(':')[-1].strip()}: a value is needed; set it on the command line or in a file"
    expected = f". {_expected(key)}" if _expected(key) else ""
    return f"{where}{key + ': ' if key and key not in message else ''}{_first_line(message)}{expected}"


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0].rstrip(".")


def _choices(given: str, options: Sequence[str]) -> str:
    close = difflib.get_close_matches(given.split(".")[-1], options, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"Expected one of: {', '.join(options)}{hint}"


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def _type_at(key: str) -> Any:
    """The type that the schema gives to a dotted key, or None where it leaves that open."""
    kind: Any = schema.Config
    for part in key.split("."):
        kind = (
            get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else get_args(kind)[1:] or None
        )
        kind = kind[0] if isinstance(kind, tuple) else kind  # the value type of `dict[str, X]`
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]  # X of `X | None`
        if kind is None:
            return None
    return kind


def _siblings(key: str) -> str:
    parent, _, name = key.rpartition(".")
    kind = _type_at(parent) if parent else schema.Config
    names = _names(kind)
    section, _, entry = parent.rpartition(".")
    if section and get_args(_type_at(section))[1:] == (kind,):
        return f"Is there a {entry!r} in {section}? Its keys are {', '.join(names)}"
    if parent in ("optimizer", "schedule"):
        members = [node for (group, _), node in schema.SCHEMAS.items() if group == f"schema/{parent}"]
        names = sorted({name for node in members for name in _names(node)})
    if name in names:
        return "It takes no new entries that way: add one with +key.entry=..., remove one with ~key.entry"
    return _choices(name, names) if names else f"Add a new one with +{key}=..., or in a YAML file"


def _expected(key: str) -> str:
    kind = _type_at(key) if key else None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"Expected one of: {', '.join(member.value for member in kind)}"
    return f"Expected {getattr(kind, '__name__', kind)}" if kind is not None else ""
