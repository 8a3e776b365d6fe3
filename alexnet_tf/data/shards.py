"""`data=prepared`: the shards that `alexnet prepare` has written, with their statistics."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from alexnet_tf.config.schema import DataConfig
from alexnet_tf.data.prepared import data_root, open_prepared, source_of
from alexnet_tf.data.splits import DataSource, ShippedStatistics
from alexnet_tf.data.stores import DataError

PLAN, WHOLE_SET, STATISTICS = "plan.json", "prepared.json", "statistics.npz"
TFDS_FILES = ("dataset_info.json", "features.json", "label.labels.txt")
"""What TFDS reads of a set besides the shards; the last has the class names, a line each."""
FORMAT = 2

Facts = dict[str, Any]
"""What is known of a file since it was written: `bytes` and `sha256`."""


def load_shards(config: DataConfig) -> DataSource:
    """Open the set in `data.dir`, else in `$ALEXNET_DATA_DIR`; its validation split is used where it has one.

    Raises:
        DataError: There is none, it is not finished, or it lacks a split.
    """
    folder = data_root(config)
    content = whole_set(folder)
    if config.validation_split is None and "validation" in content["pictures"]:
        config = replace(config, validation_split="validation")
    checksums = [shard["sha256"] for shard in content["shards"].values()]
    source = source_of(open_prepared(config, folder), checksums)
    count = sum(shard["records"] for shard in content["shards"].values() if shard["split"] == "train")
    statistics = ShippedStatistics(folder / STATISTICS, content["size"], count)
    return replace(source, shorter_side=content["size"], statistics=statistics)


def whole_set(folder: Path) -> dict[str, Any]:
    """Read what describes a prepared set.

    Raises:
        DataError: There is none, it is not finished, or its description is damaged.
    """
    try:
        content = json.loads((folder / WHOLE_SET).read_text())
    except FileNotFoundError:
        begun = (folder / PLAN).exists()
        found = "one that is not finished; go on with the command that began it" if begun else "none"
        raise DataError(
            f"{folder}: expected a set that `alexnet prepare` has written, found {found}"
        ) from None
    except NotADirectoryError as error:
        raise DataError(
            f"{folder}: expected a folder that `alexnet prepare` has written, found a file"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / WHOLE_SET} is damaged: {error}") from error
    known = isinstance(content, dict) and content.get("format") == FORMAT
    if not known or not {"shards", "files", "pictures", "size", "class_names"} <= set(content):
        raise DataError(f"{folder / WHOLE_SET}: expected a set of format {FORMAT}, which this version reads")
    return content


def facts_of(path: Path) -> Facts:
    """Read a file, a little at a time."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def file_problem(path: Path, expected: Facts) -> str | None:
    """Return why a file is not what was written, or None."""
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"expected {expected['bytes']} bytes, it has {size}"
        if facts_of(path)["sha256"] != expected["sha256"]:
            return "its checksum is another one than when it was written"
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None
