"""Original pictures made small once: ArrayRecord shards of JPEGs or raw pixels, read by `data=prepared` and by TFDS.

Shards are independent of each other, so that any number of processes can divide them, and one that is there is never
made again. The folder is a data set of TFDS's too (`tfds.builder_from_directory`).

    plan.json            what is prepared and how; a second attempt must agree with it
    shards/*.json        for each shard: records, bytes, checksum, what was skipped
    shards/*.npz         for each shard: what the statistics need of it, until the set is whole
    shards/listing.npz   where the pictures are in ILSVRC's archives, so that other processes need not look again
    *-train.array_record-00000-of-00625 ...
    statistics.npz       mean image and colour covariance of the training split
    prepared.json        all of the above in one file, written last: with it the set is whole
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import tempfile
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alexnet_tf.config.schema import DataConfig, OnError
from alexnet_tf.data.conversion import Converted, Recipe, converter, read_square
from alexnet_tf.data.originals import Original, Originals, find_originals
from alexnet_tf.data.prepared import data_root
from alexnet_tf.data.shards import (
    FORMAT,
    PLAN,
    STATISTICS,
    TFDS_FILES,
    WHOLE_SET,
    Facts,
    facts_of,
    file_problem,
    whole_set,
)
from alexnet_tf.data.statistics import ARCHIVE_DAMAGES, Sums
from alexnet_tf.data.stores import DataError
from alexnet_tf.runs import locked, replacing, write_json

SHARDS, LISTING = "shards", "listing.npz"
PICTURES_AT_ONCE = 4
"""What a thread converts before it hands over the sums, which costs as much as an addition of two mean images."""
FINISH_SECONDS = 600.0

logger = logging.getLogger(__name__)


class PrepareError(Exception):
    """Pictures or shards are damaged; the message is one clear line."""

    exit_status = 1


@dataclass(frozen=True)
class Shard:
    """A file of records: the pictures of a split from `start` to `end`."""

    file: str
    split: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What goes into which file."""

    folder: Path
    originals: Originals
    recipe: Recipe
    config: DataConfig
    shards: list[Shard]

    def content(self) -> dict[str, Any]:
        """What a second attempt must agree with."""
        return {
            "format": FORMAT,
            "name": self.originals.name,
            "fingerprint": self.originals.fingerprint,
            "class_names": self.originals.class_names,
            **asdict(self.recipe),
            "pictures": {name: listing.count for name, listing in self.originals.splits.items()},
        }

    def record(self, shard: Shard) -> Path:
        """Where is written what became of a shard."""
        return self.folder / SHARDS / f"{shard.file}.json"

    def sums(self, shard: Shard) -> Path:
        """Where the sums of a shard's pictures are kept."""
        return self.folder / SHARDS / f"{shard.file}.npz"

    def entry(self, shard: Shard) -> dict[str, Any] | None:
        """What became of a shard; None if it is not there."""
        try:
            entry = dict(json.loads(self.record(shard).read_text()))
            there = (self.folder / shard.file).stat().st_size == entry["bytes"]
        except (FileNotFoundError, ValueError, LookupError, TypeError):  # or damaged: make it again
            return None
        return entry if there and {"split", "records", "sha256", "skipped"} < set(entry) else None


def make_plan(config: DataConfig, folder: Path, recipe: Recipe) -> Plan:
    """Find the originals and divide them into shards; go on with a folder that was begun with the same plan.

    Raises:
        DataError: The originals are not there, or the folder holds something else.
        PrepareError, WriteError: The folder cannot be written.
    """
    if config.name == "folder" and folder.resolve().is_relative_to(data_root(config).resolve()):
        raise DataError(f"--out {folder}: expected a folder outside data.dir, whose folders are classes")
    with _in_one_line(folder):
        _compare(
            folder, _begun(folder), {"format": FORMAT, **asdict(recipe)}
        )  # before minutes in the archives
    originals = find_originals(config, folder / SHARDS / LISTING)
    _check_originals(config, originals)
    made = Plan(folder, originals, recipe, config, list(_divide(originals, recipe)))
    with _in_one_line(folder):
        _agree(made)
    return made


@contextlib.contextmanager
def _in_one_line(folder: Path) -> Iterator[None]:
    """Turn what a disk, or too little memory, does into one line.

    Raises:
        PrepareError: With the reason.
    """
    try:
        yield
    except MemoryError as error:
        raise PrepareError(
            f"{folder}: out of memory ({error}); try a smaller --size, --records or --workers"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: ArrayRecord's
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise PrepareError(
            f"{folder}: cannot be written ({reason}); what is finished stays, the same command goes on"
        ) from error


def prepare(
    plan: Plan,
    *,
    part: int = 0,
    parts: int = 1,
    workers: int = 0,
    told: Callable[[int, int], None] = lambda *_: None,
) -> bool:
    """Write the shards that are missing, and when none is, what describes the set and is missing or damaged.

    Args:
        plan: Which.
        part: Only every `parts`-th shard, beginning with this one, so that machines can share the work.
        parts: Into how many parts the work is divided.
        workers: Threads that decode; 0: the processor's.
        told: Called with (pictures done, pictures in all) of this part as they come.

    Returns:
        Whether the set is whole now.

    Raises:
        PrepareError: A picture cannot be read and `data.on_error` is `fail`, or more than `data.max_skipped` cannot.
            Or something cannot be written; what is finished stays.
        WrongPathError: Another process does not come to an end with the set.
    """
    workers = workers or os.cpu_count() or 1
    with _in_one_line(plan.folder), ThreadPoolExecutor(workers) as pool:
        _write_shards(plan, plan.shards[part::parts], _in_threads(plan, pool, 2 * workers), told)
        if any(plan.entry(shard) is None for shard in plan.shards):
            return False
        with locked(plan.folder, "another process has been finishing it for minutes", FINISH_SECONDS):
            _finish(plan, pool)
    return True


# ------------------------------------------------------------------------------------------------- planning


def _check_originals(config: DataConfig, originals: Originals) -> None:
    empty = [name for name, listing in originals.splits.items() if not listing.count]
    if empty:
        raise DataError(
            f"data={config.name}: the {empty[0]} split has no pictures. Expected some in every split"
        )
    for name in originals.class_names:  # TFDS writes a line for each, and strips what it reads
        if name != name.strip() or any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in name):
            raise DataError(
                f"data={config.name}: expected class names without control characters, line breaks and blanks at "
                f"their ends, found {name!r}. Rename its folder"
            )


def _divide(originals: Originals, recipe: Recipe) -> Iterator[Shard]:
    size = recipe.records_per_shard
    for split, listing in originals.splits.items():
        count = -(-listing.count // size)
        for index in range(count):
            file = f"{_file_name(originals)}-{split}.array_record-{index:05d}-of-{count:05d}"
            yield Shard(file, split, index * size, min((index + 1) * size, listing.count))


def _file_name(originals: Originals) -> str:
    """The set's name as TFDS takes it in names of files: without the signs of versions and configs."""
    return re.sub(r"\W", "_", originals.name)


def _begun(folder: Path) -> dict[str, Any] | None:
    """What a folder was begun with; None if it is new."""
    with contextlib.suppress(DataError):
        return whole_set(folder)  # which has it too, if the plan should be damaged
    path = folder / PLAN
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); choose a new folder") from error
    found = {item.name for item in folder.iterdir()} if folder.exists() else set()
    if {name for name in found if not name.startswith(".")} - {PLAN, SHARDS}:  # one enters its plan just now
        raise DataError(
            f"--out {folder}: expected a new folder or one that prepare has begun, it holds other files"
        )
    return None


def _agree(made: Plan) -> None:
    """Enter the plan in the folder, or refuse a folder with another one."""
    content = made.content()
    if _begun(made.folder) is None:
        made.folder.mkdir(parents=True, exist_ok=True)
        _write_once(made.folder / PLAN, content)
    _compare(made.folder, _begun(made.folder), content)


def _compare(folder: Path, before: dict[str, Any] | None, content: dict[str, Any]) -> None:
    """Refuse a folder that was begun with something else."""
    for key, now in content.items():
        if before is not None and (was := before.get(key)) != now:
            raise DataError(
                f"--out {folder}: it was begun with {key} {str(was)[:60]}, came {str(now)[:60]}; choose a new folder"
            )


def _write_once(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole, unless another process has been first."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as place:
        whole = Path(place) / path.name
        write_json(whole, content)
        with contextlib.suppress(FileExistsError):
            os.link(whole, path)


# ------------------------------------------------------------------------------------------------ the shards


Convert = Callable[[Iterator[Original]], Iterator[tuple[list[Converted], Sums]]]


def _write_shards(plan: Plan, own: list[Shard], convert: Convert, told: Callable[[int, int], None]) -> None:
    total, finished = sum(shard.end - shard.start for shard in own), 0
    (plan.folder / SHARDS).mkdir(parents=True, exist_ok=True)
    skipped = _Skipped(plan)
    for shard in own:
        if plan.entry(shard) is None:
            _write_shard(plan, shard, convert, skipped, functools.partial(_told_of, told, finished, total))
        finished += shard.end - shard.start
        told(finished, total)


def _told_of(told: Callable[[int, int], None], before: int, total: int, count: int) -> None:
    told(before + count, total)


class _Skipped:
    """How many pictures of each split are left out, as far as this process knows."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._counts = plan, Counter[str]()
        for shard in plan.shards:
            self._counts[shard.split] += len((plan.entry(shard) or {"skipped": []})["skipped"])

    def add(self, split: str, name: str, problem: str) -> None:
        """Leave out one more.

        Raises:
            PrepareError: If none may be, or no more.
        """
        if self._plan.config.on_error is OnError.fail:
            raise PrepareError(
                f"cannot read {name} of the {split} split: {problem}. "
                "Leave out what cannot be read with data.on_error=skip"
            )
        self._counts[split] += 1
        _check_skipped(self._plan, split, self._counts[split], f"such as {name}: {problem}")


def _check_skipped(plan: Plan, split: str, count: int, example: str) -> str:
    """Refuse to leave out more than `data.max_skipped` of a split, or all of it; return what is left out."""
    limit, total = plan.config.max_skipped, plan.originals.splits[split].count
    said = f"{count} of {total} pictures of the {split} split cannot be read, {example}"
    if count > limit * total or count == total:
        raise PrepareError(
            f"data.max_skipped={limit:g}: at least {said}. Repair or remove them and choose a new folder, or raise "
            "data.max_skipped"
        )
    return said


def _write_shard(
    plan: Plan, shard: Shard, convert: Convert, skipped: _Skipped, told: Callable[[int], None]
) -> None:
    """Write a shard under a temporary name, rename it, and then enter it."""
    from array_record.python.array_record_module import ArrayRecordWriter

    target = plan.folder / shard.file
    for remains in plan.folder.glob(f".{shard.file}.*.tmp*"):  # of a process that was killed
        remains.unlink(missing_ok=True)
    left_out, seen, sums = [], 0, plan.recipe.sums()
    with replacing(target) as temporary:
        with closing(ArrayRecordWriter(str(temporary), "group_size:1")) as writer:
            for some, their_sums in convert(plan.originals.splits[shard.split].read(shard.start, shard.end)):
                for item in some:
                    if item.problem is None:
                        writer.write(item.record)
                    else:
                        skipped.add(shard.split, item.name, item.problem)
                        left_out.append([item.name, item.problem])
                sums.merge(their_sums)
                seen += len(some)
                told(seen)
        facts = facts_of(temporary)
    if shard.split == "train":
        sums.save(plan.sums(shard))
    records = seen - len(left_out)
    write_json(plan.record(shard), {"split": shard.split, "records": records, **facts, "skipped": left_out})


def _in_threads(plan: Plan, pool: ThreadPoolExecutor, ahead: int) -> Convert:
    """Convert some pictures at once, `ahead` times before they are asked for, and yield in the order of the pictures."""
    convert = converter(plan.recipe, plan.config.max_pixels)

    def converted(pictures: Iterator[Original]) -> Iterator[tuple[list[Converted], Sums]]:
        waiting: deque[Future[tuple[list[Converted], Sums]]] = deque()
        try:
            while some := list(islice(pictures, PICTURES_AT_ONCE)):
                waiting.append(pool.submit(convert, some))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    return converted


# ----------------------------------------------------------------------------------------- the whole set


def _finish(plan: Plan, pool: ThreadPoolExecutor) -> None:
    """Write what describes the set, as far as it is not there; `prepared.json` comes last."""
    shards = {shard.file: plan.entry(shard) or {} for shard in plan.shards}
    index = {**plan.content(), "shards": shards}
    sound = _sound_files(plan.folder, index)
    if sound != {PLAN, STATISTICS, *TFDS_FILES}:
        _judge_skipped(plan, shards)
        if STATISTICS not in sound:
            _all_sums(plan, pool).statistics().save(plan.folder / STATISTICS)
        if PLAN not in sound:
            write_json(plan.folder / PLAN, plan.content())
        _describe(plan, shards)
        files = {name: facts_of(plan.folder / name) for name in (PLAN, STATISTICS, *TFDS_FILES)}
        write_json(plan.folder / WHOLE_SET, {**index, "files": files})
    for shard in plan.shards:  # a gigabyte in 625 of them, and all in the statistics now
        plan.sums(shard).unlink(missing_ok=True)
    for place in (plan.folder, plan.folder / SHARDS):
        for remains in place.glob(".*.tmp*"):  # of processes that were killed
            shutil.rmtree(remains) if remains.is_dir() else remains.unlink(missing_ok=True)


def _sound_files(folder: Path, index: dict[str, Any]) -> set[str]:
    """The files that an earlier attempt has written of the same shards, and that nothing has happened to."""
    try:
        files = whole_set(folder)
    except DataError:
        return set()
    known: dict[str, Facts] = files.pop("files")
    return {name for name in known if files == index and file_problem(folder / name, known[name]) is None}


def _judge_skipped(plan: Plan, shards: dict[str, Any]) -> None:
    """Say how many pictures are left out; refuse too many."""
    for split in plan.originals.splits:
        skipped = [item for shard in shards.values() if shard["split"] == split for item in shard["skipped"]]
        if skipped:
            name, reason = skipped[0]
            said = _check_skipped(plan, split, len(skipped), f"the first {name}: {reason}")
            logger.warning("Left out: %s; %s lists all", said, plan.folder / WHOLE_SET)


def _all_sums(plan: Plan, pool: ThreadPoolExecutor) -> Sums:
    """The sums of the training split's shards, added up in their order."""
    train = [shard for shard in plan.shards if shard.split == "train"]
    total = plan.recipe.sums()
    for sums in pool.map(functools.partial(_shard_sums, plan), train):
        total.merge(sums)
    return total


def _shard_sums(plan: Plan, shard: Shard) -> Sums:
    """The sums that were kept, or where they are gone those of the stored pictures, which are the same."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    with contextlib.suppress(*ARCHIVE_DAMAGES):
        return Sums.load(plan.sums(shard))
    total = plan.recipe.sums()
    with ArrayRecordDataSource([str(plan.folder / shard.file)]) as records:
        for start in range(0, len(records), PICTURES_AT_ONCE):
            sums = plan.recipe.sums()
            for record in records.__getitems__(range(start, min(start + PICTURES_AT_ONCE, len(records)))):
                sums.add(read_square(record, plan.recipe.size)[None])
            total.merge(sums)
    return total


def _describe(plan: Plan, shards: dict[str, Any]) -> None:
    """Write `TFDS_FILES`."""
    import tensorflow_datasets as tfds

    name = _file_name(plan.originals)
    version = plan.folder.name if tfds.core.Version.is_valid(plan.folder.name) else "1.0.0"
    template = tfds.core.ShardedFileTemplate(
        data_dir=plan.folder, dataset_name=name, filetype_suffix="array_record"
    )
    infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shards[shard.file]["records"] for shard in plan.shards if shard.split == split],
            num_bytes=sum(shards[shard.file]["bytes"] for shard in plan.shards if shard.split == split),
            filename_template=template.replace(split=split),
        )
        for split in plan.originals.splits
    ]
    features = {
        "image": tfds.features.Image(encoding_format="jpeg" if plan.recipe.quality else None),
        "label": tfds.features.ClassLabel(names=plan.originals.class_names),
        "file_name": tfds.features.Text(),
    }
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name=name, version=tfds.core.Version(version), data_dir=str(plan.folder), module_name=""
        ),
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict(infos))
    with tempfile.TemporaryDirectory(dir=plan.folder, prefix=".", suffix=".tmp") as place:
        info.write_to_directory(place)
        for file in TFDS_FILES:
            with replacing(plan.folder / file) as temporary:
                temporary.write_bytes((Path(place) / file).read_bytes())
