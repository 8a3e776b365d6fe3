"""Part of a set's classes: `data.classes`."""

import re
from collections.abc import Mapping, Sequence

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.stores import DataError, FileStore, Store, StreamStore

SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")
LISTED = 20


def chosen_names(config: DataConfig, names: Sequence[str]) -> list[str]:
    """Return the names that `data.classes` chooses among all, in its order.

    Raises:
        DataError: A name is not there or chosen twice, a slice is empty, or there are fewer than two.
    """
    if config.classes is None:
        return list(names)
    chosen = [name for item in config.classes for name in _of_item(config, item, names)]
    if twice := sorted({name for name in chosen if chosen.count(name) > 1}):
        raise DataError(f"{_key(config)}: expected each class once, came twice: {_some(twice)}")
    if len(chosen) < 2:
        raise DataError(f"{_key(config)}: expected at least 2 classes of {config.name}, came {len(chosen)}")
    return chosen


def choose_classes(
    config: DataConfig, names: Sequence[str], stores: Mapping[str, Store]
) -> tuple[list[str], dict[str, Store]]:
    """Return the names that `data.classes` chooses, and stores of their examples alone, labelled by the names' order.

    Raises:
        DataError: As `chosen_names`; or a store has no random access.
    """
    chosen = chosen_names(config, names)
    if config.classes is None:
        return chosen, dict(stores)
    labels = [list(names).index(name) for name in chosen]
    kept: dict[str, Store] = {}
    for split, store in stores.items():
        if isinstance(store, StreamStore):
            raise DataError(
                f"{_key(config)}: {config.name} is streamed, and of a stream no classes can be chosen. Expected a set "
                f"that memory holds (data.in_memory, data.memory_limit_mb), or one prepared as array_record"
            )
        assert not isinstance(store, FileStore)  # see `list_folder`
        kept[split] = store.choose(labels)
    return chosen, kept


def _of_item(config: DataConfig, item: str, names: Sequence[str]) -> Sequence[str]:
    if item in names:
        return [item]
    match = SLICE.fullmatch(item)
    if match is None or match[3] == "0":
        raise DataError(
            f"{_key(config)}: {item!r} is no class of {config.name}. Expected a slice such as ::2, or one of "
            f"{_some(names)}"
        )
    found = names[slice(*(int(part) if part else None for part in match.groups()))]
    if not found:
        raise DataError(f"{_key(config)}: {item!r} has none of the {len(names)} classes of {config.name}")
    return found


def _key(config: DataConfig) -> str:
    return f"data.classes=[{', '.join(config.classes or [])}]"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
