"""Reading a prepared set again: checksums, numbers of records, and every picture."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from alexnet_tf.data.conversion import read_record
from alexnet_tf.data.preparation import PrepareError
from alexnet_tf.data.shards import file_problem, whole_set
from alexnet_tf.data.stores import decode, error_reason

RECORDS_AT_ONCE = 64
NAMED = 10


def verify_prepared(folder: Path, told: Callable[[int, int], None] = lambda *_: None) -> int:
    """Read every file that `prepared.json` names and every picture; a few are in memory at a time.

    Args:
        folder: The set.
        told: Called with (pictures done, pictures in all).

    Returns:
        The number of pictures.

    Raises:
        DataError: The folder holds no whole set.
        PrepareError: Files are damaged; the message names them.
    """
    content = whole_set(folder)
    checked = {file: file_problem(folder / file, facts) for file, facts in content["files"].items()}
    total, seen = sum(shard["records"] for shard in content["shards"].values()), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, shard in content["shards"].items():
            checked[file] = file_problem(folder / file, shard)
            if checked[file] is None:
                classes = len(content["class_names"])
                checked[file] = _records_problem(pool, folder / file, shard["records"], classes)
            seen += shard["records"]
            told(seen, total)
    problems = {file: problem for file, problem in checked.items() if problem is not None}
    if problems:
        file, problem = next(iter(problems.items()))
        more = f", and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise PrepareError(
            f"{folder}: {file}: {problem}. Delete {', '.join(list(problems)[:NAMED])}{more}, and prepare again: that makes "
            "nothing but what is missing"
        )
    return total


def _records_problem(pool: ThreadPoolExecutor, path: Path, expected: int, classes: int) -> str | None:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    if not expected:
        return None
    with ArrayRecordDataSource([str(path)]) as records:
        if len(records) != expected:
            return f"expected {expected} records, it has {len(records)}"
        for start in range(0, expected, RECORDS_AT_ONCE):
            some = records.__getitems__(range(start, min(start + RECORDS_AT_ONCE, expected)))
            for problem in pool.map(lambda record: _record_problem(record, classes), some):
                if problem is not None:
                    return problem
    return None


def _record_problem(record: bytes, classes: int) -> str | None:
    name, label, data = read_record(record)
    if not 0 <= label < classes:
        return f"{name} has no label below {classes}"
    try:
        with tf.device("/CPU:0"):
            decode(tf.constant(data), 3)
    except (tf.errors.OpError, ValueError) as error:
        return f"{name}: {error_reason(error)}"
    return None
