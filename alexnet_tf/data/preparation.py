"""Original pictures made small once: ArrayRecord shards of JPEGs or raw pixels, read by `data=prepared` and by TFDS.

Shards are independent of each other, so that any number of processes can divide them, and one that is there is never
made again. The folder is a data set of TFDS's too (`tfds.builder_from_directory`).

    plan.json            what is prepared and how; a second attempt must agree with it
    shards/*.json        for each shard: records, bytes, checksum, what was skipped
    *-train.array_record-00000-of-00625 ...
    statistics.npz       mean image and colour covariance of the training split
    prepared.json        all of the above in one file, written last: with it the set is whole
"""

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig, OnError
from alexnet_tf.data.geometry import crop_center, resize_shorter
from alexnet_tf.data.headers import stream_problem
from alexnet_tf.data.originals import Original, Originals, find_originals
from alexnet_tf.data.prepared import data_root
from alexnet_tf.data.shards import FORMAT, PLAN, STATISTICS, WHOLE_SET, whole_set
from alexnet_tf.data.statistics import Sums
from alexnet_tf.data.stores import DataError, decode, error_reason
from alexnet_tf.runs import replacing, write_atomic

SHARDS = "shards"

logger = logging.getLogger(__name__)


class PrepareError(Exception):
    """Pictures or shards are damaged; the message is one clear line."""

    exit_status = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How pictures are stored.

    Attributes:
        size: Pixels of the shorter side; the aspect ratio stays (section 2 of the paper: 256).
        quality: Of the JPEGs, 1 to 100; None: raw pixels, as BMP.
        records_per_shard: Pictures in a file.
    """

    size: int = 256
    quality: int | None = 95
    records_per_shard: int = 2048


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

    def done(self, shard: Shard) -> bool:
        """Whether a shard is there."""
        try:
            size = json.loads(self.record(shard).read_text())["bytes"]
            whole = (self.folder / shard.file).stat().st_size == size
            return whole and (shard.split != "train" or _sums(self, shard).stat().st_size > 0)
        except (
            FileNotFoundError,
            ValueError,
            LookupError,
            TypeError,
        ):  # or its record is damaged: make it again
            return False


def make_plan(config: DataConfig, folder: Path, recipe: Recipe) -> Plan:
    """Find the originals and divide them into shards; go on with a folder that was begun with the same plan.

    Raises:
        DataError: The originals are not there, or the folder holds something else.
    """
    originals = find_originals(config)
    empty = [name for name, listing in originals.splits.items() if not listing.count]
    if empty:
        raise DataError(
            f"data={config.name}: the {empty[0]} split has no pictures. Expected some in every split"
        )
    if config.name == "folder" and folder.resolve().is_relative_to(data_root(config).resolve()):
        raise DataError(f"--out {folder}: expected a folder outside data.dir, whose folders are classes")
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
    """Write the shards that are missing, and when none is, the set's statistics and index.

    Args:
        plan: Which.
        part: Only every `parts`-th shard, beginning with this one, so that machines can share the work.
        parts: Into how many parts the work is divided.
        workers: Threads that decode; 0: the processor's.
        told: Called with (pictures done, pictures in all) of this part as they come.

    Returns:
        Whether the set is whole now.

    Raises:
        PrepareError: A picture cannot be read and `data.on_error` is `fail`.
            Or something cannot be written; what is finished stays.
    """
    with _in_one_line(plan.folder):
        return _prepare(plan, part, parts, workers, told)


def _prepare(plan: Plan, part: int, parts: int, workers: int, told: Callable[[int, int], None]) -> bool:
    own = plan.shards[part::parts]
    total = sum(shard.end - shard.start for shard in own)
    (plan.folder / SHARDS).mkdir(parents=True, exist_ok=True)
    finished, convert = 0, _converter(plan.recipe, plan.config.max_pixels)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for shard in own:
            if not plan.done(shard):
                converted = functools.partial(_in_order, pool, convert)
                _write_shard(plan, shard, converted, functools.partial(_told_of, told, finished, total))
            finished += shard.end - shard.start
            told(finished, total)
    if not all(plan.done(shard) for shard in plan.shards):
        return False
    _finish(plan)
    return True


def _told_of(told: Callable[[int, int], None], before: int, total: int, count: int) -> None:
    told(before + count, total)


# ------------------------------------------------------------------------------------------------- planning


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


def _agree(made: Plan) -> None:
    """Enter the plan in the folder, or refuse a folder with another one."""
    path, content = made.folder / PLAN, made.content()
    if not path.exists():
        made.folder.mkdir(parents=True, exist_ok=True)
        others = [item.name for item in made.folder.iterdir() if not item.name.startswith(".")]
        if set(others) - {PLAN, SHARDS}:  # another process may enter its plan just now
            raise DataError(
                f"--out {made.folder}: expected a new folder or one that prepare has begun, it holds other files"
            )
        _write_once(path, content)
    try:
        before = dict(json.loads(path.read_text()))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); choose a new folder") from error
    differing = [key for key in content if before.get(key) != content[key]]
    if differing:
        key = differing[0]
        was, now = (str(values.get(key))[:60] for values in (before, content))
        raise DataError(
            f"--out {made.folder}: it was begun with {key} {was}, came {now}; choose a new folder"
        )


# ---------------------------------------------------------------------------------------------- one shard


@dataclass(frozen=True, eq=False)
class _Converted:
    """A picture as it is stored, or the reason why it cannot be."""

    original: Original
    data: bytes = b""
    square: np.ndarray | None = None
    problem: str | None = None


def _write_shard(
    plan: Plan,
    shard: Shard,
    converted: Callable[[Iterator[Original]], Iterator[_Converted]],
    told: Callable[[int], None],
) -> None:
    """Write a shard under a temporary name, rename it, and then enter it."""
    from array_record.python.array_record_module import ArrayRecordWriter

    target = plan.folder / shard.file
    for remains in plan.folder.glob(f".{shard.file}.*.tmp*"):  # of a process that was killed
        remains.unlink(missing_ok=True)
    skipped, records, sums = [], 0, Sums((plan.recipe.size, plan.recipe.size, 3))
    with replacing(target) as temporary:
        with closing(ArrayRecordWriter(str(temporary), "group_size:1")) as writer:
            pictures = plan.originals.splits[shard.split].read(shard.start, shard.end)
            for number, item in enumerate(converted(pictures), 1):
                if item.problem is not None:
                    if plan.config.on_error is OnError.fail:
                        raise PrepareError(
                            f"cannot read {item.original.name} of the {shard.split} split: {item.problem}. "
                            "Leave out what cannot be read with data.on_error=skip"
                        )
                    skipped.append([item.original.name, item.problem])
                else:
                    writer.write(_example(item))
                    records += 1
                    if shard.split == "train":
                        assert item.square is not None
                        sums.add(item.square[np.newaxis])
                told(number)
        content = {
            "split": shard.split,
            "records": records,
            "bytes": temporary.stat().st_size,
            "sha256": _checksum(temporary),
            "skipped": skipped,
        }
    if shard.split == "train":
        sums.save(_sums(plan, shard))
    _write_json(plan.record(shard), content)


def _in_order(
    pool: ThreadPoolExecutor, convert: Callable[[Original], _Converted], pictures: Iterable[Original]
) -> Iterator[_Converted]:
    """Convert in threads, a few at a time, and yield in the order of the pictures."""
    waiting: deque[Future[_Converted]] = deque()
    try:
        for picture in pictures:
            waiting.append(pool.submit(convert, picture))
            if len(waiting) > 4 * pool._max_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _converter(recipe: Recipe, max_pixels: int) -> Callable[[Original], _Converted]:
    """From a picture to its stored form, decoded and resized as `augment.resize` would."""
    quality = recipe.quality

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def convert(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = resize_shorter(decode(data, 3), recipe.size)
        image = tf.cast(tf.clip_by_value(tf.round(tf.cast(image, tf.float32)), 0, 255), tf.uint8)
        if quality is None:
            return image, crop_center(image, recipe.size)
        stored = tf.io.encode_jpeg(image, quality=quality)
        return stored, crop_center(decode(stored, 3), recipe.size)

    def run(original: Original) -> _Converted:
        problem = original.problem or stream_problem(io.BytesIO(original.data), max_pixels)
        if problem is not None:
            return _Converted(original, problem=problem)
        try:
            with tf.device("/CPU:0"):
                stored, square = convert(tf.constant(original.data))
        except tf.errors.OpError as error:
            return _Converted(original, problem=error_reason(error))
        data = bitmap(stored.numpy()) if quality is None else stored.numpy()
        return _Converted(original, data, square.numpy())

    return run


def bitmap(image: np.ndarray) -> bytes:
    """Write uint8 [height, width, 3] as a BMP of 24 bits: raw pixels that every reader of pictures knows."""
    height, width, _ = image.shape
    rows = np.zeros((height, -(-3 * width // 4) * 4), np.uint8)  # a row fills whole words
    rows[:, : 3 * width] = image[::-1, :, ::-1].reshape(height, -1)  # from below, blue first
    header = np.array([54 + rows.size, 0, 54, 40, width, height], "<u4").tobytes()
    header += np.array([1, 24], "<u2").tobytes() + np.array([0, rows.size, 0, 0, 0, 0], "<u4").tobytes()
    return b"BM" + header + rows.tobytes()


def _example(item: _Converted) -> bytes:
    """The record: a `tf.train.Example` with the features of TFDS's imagenet2012."""

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        "image": text(item.data),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[item.original.label])),
        "file_name": text(item.original.name.encode()),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )


def _sums(plan: Plan, shard: Shard) -> Path:
    return plan.folder / SHARDS / f"{shard.file}.npz"


# ----------------------------------------------------------------------------------------- the whole set


def _finish(plan: Plan) -> None:
    """Write what describes the set; `prepared.json` comes last."""
    import tensorflow_datasets as tfds

    if (plan.folder / WHOLE_SET).exists():
        return
    shards = {shard.file: json.loads(plan.record(shard).read_text()) for shard in plan.shards}
    _check_skipped(plan, shards)
    train = [shard for shard in plan.shards if shard.split == "train"]
    sums = Sums((plan.recipe.size, plan.recipe.size, 3))
    for shard in train:
        sums.merge(Sums.load(_sums(plan, shard)))
    sums.statistics().save(plan.folder / STATISTICS)
    name = _file_name(plan.originals)
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
    tfds.folder_dataset.write_metadata(
        data_dir=plan.folder,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg" if plan.recipe.quality else None),
                "label": tfds.features.ClassLabel(names=plan.originals.class_names),
                "file_name": tfds.features.Text(),
            }
        ),
        split_infos=infos,
        filename_template=template,
        check_data=False,  # which reads TFRecord alone
        supervised_keys=("image", "label"),
    )
    _write_json(plan.folder / WHOLE_SET, {**plan.content(), "shards": shards})


def _check_skipped(plan: Plan, shards: dict[str, Any]) -> None:
    """Say how many pictures are left out; refuse more than `data.max_skipped` of a split's."""
    limit = plan.config.max_skipped
    for split, listing in plan.originals.splits.items():
        skipped = [item for shard in shards.values() if shard["split"] == split for item in shard["skipped"]]
        if not skipped:
            continue
        name, reason = skipped[0]
        said = f"{len(skipped)} of {listing.count} pictures of the {split} split cannot be read, the first {name}: {reason}"
        if len(skipped) > limit * listing.count or len(skipped) == listing.count:
            raise PrepareError(
                f"data.max_skipped={limit:g}: {said}. Repair or remove them and choose a new folder, or raise data.max_skipped"
            )
        logger.warning("Left out: %s; %s lists all", said, plan.folder / WHOLE_SET)


def verify_prepared(folder: Path, told: Callable[[int, int], None] = lambda *_: None) -> int:
    """Read a prepared set again: checksums, numbers of records, and every picture.

    Returns:
        The number of pictures.

    Raises:
        DataError: The folder holds no whole set.
        PrepareError: Files are damaged; the message names them.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    content = whole_set(folder)
    total = sum(shard["records"] for shard in content["shards"].values())
    classes, seen, problems = len(content["class_names"]), 0, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, shard in content["shards"].items():
            problem = _file_problem(folder / file, shard)
            if problem is None and shard["records"]:
                records = ArrayRecordDataSource([str(folder / file)])
                raw = records.__getitems__(list(range(len(records))))
                problem = next(filter(None, pool.map(lambda item: _record_problem(item, classes), raw)), None)
            if problem:
                problems.append(f"{file}: {problem}")
            seen += shard["records"]
            told(seen, total)
    if problems:
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise PrepareError(
            f"{folder}: {problems[0]}{more}. Delete it and {WHOLE_SET}, and prepare again what is missing"
        )
    return total


def _file_problem(path: Path, expected: dict[str, Any]) -> str | None:
    if not path.exists():
        return "it is missing"
    if path.stat().st_size != expected["bytes"]:
        return f"expected {expected['bytes']} bytes, it has {path.stat().st_size}"
    return (
        None
        if _checksum(path) == expected["sha256"]
        else "its checksum is another one than when it was written"
    )


def _record_problem(record: bytes, classes: int) -> str | None:
    features = tf.train.Example.FromString(record).features.feature
    name = features["file_name"].bytes_list.value[0].decode()
    if not 0 <= features["label"].int64_list.value[0] < classes:
        return f"{name} has no label below {classes}"
    try:
        with tf.device("/CPU:0"):
            decode(tf.constant(features["image"].bytes_list.value[0]), 3)
    except (tf.errors.OpError, ValueError) as error:
        return f"{name}: {error_reason(error)}"
    return None


# --------------------------------------------------------------------------------------------------- files


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomic(path, lambda stream: stream.write(json.dumps(content, indent=1).encode()))


def _write_once(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole, unless another process has been first."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as place:
        whole = Path(place) / path.name
        _write_json(whole, content)
        with contextlib.suppress(FileExistsError):
            os.link(whole, path)
