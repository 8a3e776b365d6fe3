"""Composition with Hydra, and the step from a composed config to a checked `Config`. Imports no TensorFlow."""

import dataclasses
import difflib
import functools
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from alexnet_tf.config.checks import ConfigError, check, check_model

CONFIG_MODULE = "alexnet_tf.conf"
HYDRA_VERSION = "1.3"
OWN_KEYS: dict[str, type[schema.ModelConfig]] = {
    "stages": schema.StagedModelConfig,
    "application": schema.ApplicationConfig,
    "blocks": schema.ResidualConfig,
    "orientations": schema.HogConfig,
    "words": schema.SiftBowConfig,
}
"""The key that only one kind of model has."""
SCHEMA_VERSION = 1
"""Of stored configs. Raise it when a key goes or changes its meaning, and say in `MIGRATIONS` how to go on from before."""
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By version, the function from a stored config to that of the next version."""
NO_NEW_ENTRY = "a new entry cannot be added on the command line; put it in a YAML file"


@functools.cache
def register_schemas() -> None:
    """Once in a process, make the dataclasses known to Hydra, so that every file and override is type-checked while composing."""
    store = ConfigStore.instance()
    for (group, name), node in schema.SCHEMAS.items():
        store.store(group=group, name=name, node=node, provider="alexnet_tf")


def compose(overrides: Sequence[str] = (), *, config_dir: str | None = None) -> schema.Config:
    """Compose `conf/config.yaml` with overrides in Hydra's syntax and check the result.

    Example:
        >>> import alexnet_tf as at
        >>> config = at.compose(["data=cifar10", "model=cifar_quick", "optimizer.lr=0.1"])
        >>> config.augment.order
        ['pad_crop', 'flip', 'subtract_mean', 'scale']
        >>> at.compose(["model=alexnt"])
        Traceback (most recent call last):
        ...
        alexnet_tf.config.checks.ConfigError: model=alexnt: no such choice. Expected one of: alexnet, ...

    Args:
        overrides: Such as `["model=cifar_quick", "optimizer.lr=0.1"]`.
        config_dir: A folder with configs of your own, searched besides the package's.

    Raises:
        ConfigError: With one line that names the key, what was expected and what came.
    """
    _require_list(overrides)
    extra = [_search_path(config_dir)] if config_dir else []
    register_schemas()
    outer = GlobalHydra.instance().hydra  # inside a Hydra application its own context must come back
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION):
            composed = hydra_compose("config", overrides=[*extra, *overrides])
        return resolve(composed)
    except Exception as error:
        if not is_compose_error(error):
            raise
        raise ConfigError(explain(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer  # another instance by now: leaving the context replaced it


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
    _require_list(overrides)
    model = compose(["augment=center", *overrides]).model
    merged = OmegaConf.merge(OmegaConf.structured(type(model)), to_dict(model))
    try:
        result = OmegaConf.to_object(OmegaConf.merge(merged, dict(changes or {})))
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(result, schema.ModelConfig)
    check_model(result)
    classes = 1000 if result.num_classes is None else result.num_classes
    channels = 3 if result.input_channels is None else result.input_channels
    return dataclasses.replace(result, num_classes=classes, input_channels=channels)


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
    if config.data.split_seed is None:
        config.data.split_seed = config.seed
    if config.study is not None:
        config.study = _at_scale(config.study)
    check(config)
    return config


def _at_scale(study: schema.StudyConfig) -> schema.StudyConfig:
    """The study with what it has of its own at its scale."""
    own = study.at.get(study.scale, schema.AtScaleConfig())
    return dataclasses.replace(
        study,
        common=[*study.common, *own.common],
        arms=own.arms or study.arms,
        seeds=own.seeds or study.seeds,
        tune=dataclasses.replace(study.tune, values=own.tune or study.tune.values),
        pretrain=dataclasses.replace(study.pretrain, overrides=own.pretrain or study.pretrain.overrides),
        at={},
    )


def to_yaml(config: schema.Config) -> str:
    """The whole config as YAML with the version of its schema, from which `from_dict` makes it again."""
    return yaml.safe_dump({"schema_version": SCHEMA_VERSION, **to_dict(config)}, sort_keys=False)


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain dicts, lists, strings and numbers."""
    return dataclasses.asdict(config, dict_factory=lambda items: {k: _plain(v) for k, v in items})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict of dotted keys; lists and empty dicts stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def override_key(text: str) -> str:
    """The key of an override, without Hydra's `+` and `~`."""
    return text.partition("=")[0].lstrip("+~")


def from_run(path: Path, content: Mapping[str, Any], overrides: Iterable[str] = ()) -> schema.Config:
    """The `Config` of a run, as `from_dict`.

    Args:
        path: Of the run's `config.yaml`, for errors.
        content: What the file holds.
        overrides: `key=value` pairs to apply on top.

    Raises:
        ConfigError: If the content does not fit this version's schema, in a line that names the file; or an override.
    """
    try:
        config = from_dict(content)
    except ConfigError as error:
        version = content.get("schema_version", 1)
        raise ConfigError(
            f"{path} (schema_version {version}; this alexnet_tf has {SCHEMA_VERSION}): {error}"
        ) from error
    return from_dict(content, overrides) if overrides else config


def from_dict(content: Mapping[str, Any], overrides: Iterable[str] = ()) -> schema.Config:
    """A `Config` from a stored one.

    Args:
        content: What `to_dict` or, read as YAML, `to_yaml` gave, in this version's schema or an older one's.
        overrides: `key=value` pairs to apply on top; groups cannot be exchanged.

    Raises:
        ConfigError: If the content does not fit this version's schema.
    """
    _require_list(overrides)
    content = _migrate(content)
    base = OmegaConf.structured(schema.Config)
    try:
        base.model = OmegaConf.structured(_model_schema(content.get("model", {})))
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


def _migrate(content: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config in this version's schema; without a version it is of the first."""
    migrated = dict(content)
    version = migrated.pop("schema_version", 1)
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ConfigError(
            f"schema_version={version}: expected 1 to {SCHEMA_VERSION}; a newer alexnet_tf has written it"
        )
    for step in range(version, SCHEMA_VERSION):
        migrated = MIGRATIONS[step](migrated)
    for section in ("model", "optimizer", "schedule"):
        if not isinstance(migrated.get(section), Mapping):
            raise ConfigError(f"{section}: expected a section of keys, came {migrated.get(section)}")
    return migrated


def _model_schema(content: Mapping[str, Any]) -> type[schema.ModelConfig]:
    """The class of a stored network, told by the key that only it has."""
    for key, kind in OWN_KEYS.items():
        if key in content:
            return kind
    raise ConfigError(
        f"model: expected one of the keys {', '.join(OWN_KEYS)}, came {', '.join(content) or 'none'}"
    )


def is_compose_error(error: BaseException) -> bool:
    """Whether an error is what Hydra and OmegaConf raise for wrong input, rather than a bug."""
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        return True
    # OmegaConf fails with the first two where a section that is null is given a key, Hydra with the last for `model=null`
    # and for options that exclude each other.
    last = traceback.extract_tb(error.__traceback__)[-1:]
    if isinstance(error, AssertionError | AttributeError):
        return "omegaconf" in last[0].filename
    return isinstance(error, ValueError) and str(error).startswith(
        ("Config group override", "Only one of --run")
    )


def explain(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf: where, what was expected, what came, the choices there are."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    message = str(cause)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not in Hydra's override syntax, key=value ({_first_line(message)})"
    if isinstance(error, yaml.YAMLError):
        return f"a config file is no YAML: {' '.join(message.split())}"
    if message.startswith("Config group override"):
        groups = [name for name in _names(schema.Config) if _names(_type_at(name)) and name != "study"]
        came = message.rpartition(" ")[2].replace("NoneType", "null")
        return (
            f"{came} is no choice: expected the name of a member for each of the groups {', '.join(groups)}"
        )
    if ambiguous := re.search(r"Ambiguous value for argument '(.*)'", message):
        return (
            f"{ambiguous[1]}: expected one value; add -m to sweep over several, or write a list as key=[a,b] and a text "
            f"in quotes"
        )
    place = re.search(r"In '([^']+)'", message)
    where = f"{place[1]}.yaml: " if place else ""
    key = next(iter(re.findall(r"^\s*full_key: (\S+)", message, re.M)), "")
    if override := re.search(r"Error merging override (\S+)", str(error)):
        key, _, value = override[1].lstrip("+").partition("=")
        if "dict is not a subclass" in message:  # a limit of OmegaConf in dicts of dataclasses
            return f"{key}: {NO_NEW_ENTRY}"
        parent = key.rpartition(".")[0]
        if _type_at(key) is None and isinstance(_type_at(parent), type) and not _names(_type_at(parent)):
            return f"{key}: no such key, as {parent} is a value. {_expected(parent)}"
        return f"{key}={value}: {_expected(key) or _first_line(message)}"
    choice = _explain_choice(str(error))
    return choice or where + (_explain_key(f"{error}\n{cause}", key) or _explain_value(message, key))


def _explain_choice(message: str) -> str | None:
    """A group's member that does not exist."""
    if available := re.search(
        r"Could not find '?([\w/.]+?)/?([^/'\s]+)'?\s+Available options in '(\w[^']*)':(.*)", message, re.S
    ):
        options = available[4].partition("Config search path")[0].split()
        return f"{available[3]}={available[2]}: no such choice. {_choices(available[2], options)}"
    if missing := re.search(r"Could not override '([^']+)'.\s+No match in the defaults list", message):
        return f"{missing[1]}: no such group or key. {_choices(missing[1], [*_names(schema.Config), 'experiment'])}"
    return None


def _explain_key(message: str, key: str) -> str | None:
    """A key that does not exist, or that a null section cannot take."""
    owner = getattr(schema, next(iter(re.findall(r"object_type=(\w+)", message)), ""), None)
    if missing := re.search(r"Could not override '([^']+)'", message):
        name = (
            key if key.startswith(f"{missing[1]}.") else missing[1]
        )  # of a section that was given whole, its entry
        if name == key and "object_type=dict" in message:
            return f"{name}: {_no_new_entry(name)}"
        return f"{name}: no such key. {_siblings(name, owner)}"
    if unknown := re.search(r"Key '([^']+)' (?:not in|is not in struct)", message):
        return f"{key or unknown[1]}: no such key. {_siblings(key or unknown[1], owner)}"
    if slot := re.search(r"'(\w+Config|Config)' object has no attribute '(\w+)'", message):  # added with `+`
        fields = _names(getattr(schema, slot[1], None))
        return f"{slot[2]}: no such key of {slot[1]}. {_choices(slot[2], fields)}"
    if "NoneType" in message:
        section = f"{key}: the section" if key else "A key was set in a section that"
        return (
            f"{section} is null and takes no keys on the command line; write the whole section in a YAML file"
        )
    return None


def _no_new_entry(name: str) -> str:
    """Why an entry of a dict cannot be given so."""
    parent = name.rpartition(".")[0]
    *_, kind = get_args(_type_at(parent)) or (None,)
    plain = kind is not None and not _names(kind)
    return f"expected a + before a new entry, '+{parent}={{KEY: VALUE}}'" if plain else NO_NEW_ENTRY


def _explain_value(message: str, key: str) -> str:
    """A value that is missing or of another type."""
    if "issing mandatory value" in message:
        name = key or _first_line(message).split(":")[-1].strip()
        return f"{name}: a value is needed; set it on the command line or in a file"
    expected = f". {_expected(key)}" if _expected(key) and "expected one of" not in message else ""
    return f"{key + ': ' if key and key not in message.partition('full_key')[0] else ''}{_first_line(message)}{expected}"


def _require_list(overrides: Iterable[str]) -> None:
    """Refuse what is no list of strings; one string would be read letter by letter."""
    if isinstance(overrides, str) or not isinstance(overrides, Iterable):
        raise ConfigError(f"overrides={overrides!r}: expected a list of strings such as 'model=alexnet'")
    if wrong := [item for item in overrides if not isinstance(item, str)]:
        raise ConfigError(f"overrides: expected strings such as 'model=alexnet', came {wrong[0]!r}")


def _search_path(config_dir: str) -> str:
    """The override that makes Hydra search a folder of the user's besides the package's."""
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise ConfigError(f"config_dir={config_dir}: no such folder")
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _first_line(message: str) -> str:
    lines = [line for line in message.strip().splitlines() if not line.endswith("while composing config:")]
    return lines[0].rstrip(".") if lines else message.strip()


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
        kind = _field_type(kind, part) if dataclasses.is_dataclass(kind) else get_args(kind)[1:] or None
        kind = kind[0] if isinstance(kind, tuple) else kind  # the value type of `dict[str, X]`
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]  # X of `X | None`
        if kind is None:
            return None
    return kind


def _field_type(kind: Any, name: str) -> Any:
    """The type of a dataclass's field, or of the field that a member of its group has beside it."""
    members = [node for node in schema.SCHEMAS.values() if issubclass(node, kind)]
    return next((hints[name] for hints in map(get_type_hints, [kind, *members]) if name in hints), None)


def _siblings(key: str, owner: Any = None) -> str:
    """What a dotted key could have been called; `owner` is the dataclass that does not have it."""
    parent, _, name = key.rpartition(".")
    kind = _type_at(parent) if parent else schema.Config
    section, _, entry = parent.rpartition(".")
    if owner is None and section and get_args(_type_at(section))[1:] == (kind,):
        return f"Is there a {entry!r} in {section}? Its keys are {', '.join(_names(kind))}"
    choices = {name: node for (group, name), node in schema.SCHEMAS.items() if group == f"schema/{parent}"}
    members = list(choices.values())
    if members and name in {field for node in members for field in _names(node)}:
        if owner is kind:  # the base of them all: a file that says of no member that it is of its kind
            return (
                f"The file names no schema: give it defaults of another file, or one of "
                f"{', '.join(f'[/schema/{parent}@_here_: {choice}, _self_]' for choice in choices)}"
            )
        return (
            f"Only other choices of {parent}= have it. {_choices('', _names(owner)) if owner else ''}".strip()
        )
    names = _names(owner) or _names(kind) or sorted({field for node in members for field in _names(node)})
    if name in names:
        return "It takes no new entries that way: add one with +key.entry=..., remove one with ~key.entry"
    return _choices(name, names) if names else f"Add a new one with +{key}=..., or in a YAML file"


def _expected(key: str) -> str:
    kind = _type_at(key) if key else None
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"Expected one of: {', '.join(member.value for member in kind)}"
    if names := _names(kind):
        return f"Expected a section, set key by key as {key}.KEY=... for {', '.join(names)}"
    return f"Expected {getattr(kind, '__name__', kind)}" if kind is not None else ""
