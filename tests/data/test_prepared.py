"""TFDS sets: a small one that is prepared here in each file format, and what is said about missing ones."""

import inspect
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_tf.config import compose
from alexnet_tf.config.schema import (
    AugmentConfig,
    CropConfig,
    DataConfig,
    FlipConfig,
    InMemory,
    OnError,
    PadCropConfig,
)
from alexnet_tf.data import (
    WHOLE,
    DamagedError,
    DataError,
    DataSource,
    Share,
    epoch_ids,
    epochs_at_once,
    eval_batches,
    load_source,
    probe_ids,
    train_batches,
)
from alexnet_tf.data.stores import ArrayStore, EncodedStore, RecordStore, StreamStore

CROP = AugmentConfig(order=["center_crop"], center_crop=CropConfig(size=8))
FORMATS = ["tfrecord", "array_record"]
EXAMPLES = {"train": 60, "test": 20}


def prepare(root: Path, file_format: str, *, fixed: bool, image: bool = True) -> None:
    """Prepare a set of one-coloured images; in `train` example n has colour n and label n % 3."""
    import tensorflow_datasets as tfds

    side = 8 if fixed else None

    with tfds.core.registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = root
            name = ("fixed" if fixed else "varying") if image else "no_images"

            def _info(self) -> tfds.core.DatasetInfo:
                features = {"label": tfds.features.ClassLabel(names=["x", "y", "z"])}
                features |= {"image": tfds.features.Image(shape=(side, side, 3))} if image else {}
                return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

            def _split_generators(self, _: object) -> dict:
                return {name: self._generate_examples(count) for name, count in EXAMPLES.items()}

            def _generate_examples(self, count: int):
                for number in range(count):
                    size = [8, 8, 3] if fixed else [8 + number % 3, 9, 3]
                    content = {"image": np.full(size, number, np.uint8)} if image else {}
                    yield number, {"label": number % 3, **content}

    Builder(data_dir=str(root), file_format=file_format).download_and_prepare()


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for file_format in FORMATS:
        folders[file_format] = tmp_path_factory.mktemp(file_format)
        for fixed in (True, False):
            prepare(folders[file_format], file_format, fixed=fixed)
    return folders


def config(root: Path, name: str = "varying", **options: object) -> DataConfig:
    return DataConfig(
        name=name, dir=str(root), **{"validation_fraction": 0.2, "shuffle_window": 40, **options}
    )


def colours(source: DataSource, split: str, ids: np.ndarray | None = None) -> list[int]:
    result = []
    for images, labels, weights in eval_batches(source, split, CROP, None, batch_size=7, ids=ids):
        found = images[:, 0, 0, 0].numpy().astype(int)
        assert ((found % 3 == labels) | (weights == 0)).numpy().all()
        result += [int(value) for value, weight in zip(found, weights, strict=True) if weight]
    return result


def epoch(source: DataSource, seed: int, number: int, first_step: int = 0) -> list[int]:
    batches = train_batches(source, CROP, None, seed=seed, epoch=number, batch_size=7, first_step=first_step)
    return [int(value) for images, _, _ in batches for value in images[:, 0, 0, 0].numpy()]


CASES = [
    ("tfrecord", "fixed", InMemory.auto, ArrayStore),
    ("array_record", "fixed", InMemory.auto, ArrayStore),
    ("tfrecord", "varying", InMemory.auto, EncodedStore),
    ("array_record", "varying", InMemory.always, EncodedStore),
    ("array_record", "varying", InMemory.never, RecordStore),
    ("array_record", "fixed", InMemory.never, RecordStore),
    ("tfrecord", "varying", InMemory.never, StreamStore),
    ("tfrecord", "fixed", InMemory.never, StreamStore),
]


@pytest.mark.parametrize(("file_format", "name", "in_memory", "store"), CASES)
def test_every_way_of_access(
    roots: dict[str, Path], file_format: str, name: str, in_memory: InMemory, store: type
) -> None:
    source = load_source(config(roots[file_format], name, in_memory=in_memory))
    assert isinstance(source.splits["train"].store, store)
    assert source.class_names == ["x", "y", "z"]
    assert source.image_shape == ((8, 8, 3) if name == "fixed" else None)
    assert {key: split.num_examples for key, split in source.splits.items()} == {
        "train": 48,
        "validation": 12,
        "test": 20,
    }
    assert sorted(colours(source, "train") + colours(source, "validation")) == list(range(60))
    assert sorted(colours(source, "test")) == list(range(20))
    first = epoch(source, 0, 1)
    assert len(set(first)) == len(first) == 42
    assert set(first) < set(colours(source, "train"))
    assert epoch(source, 0, 1) == first
    assert epoch(source, 0, 1, first_step=2) == first[14:]
    assert epoch(source, 0, 2) != first
    assert epoch(source, 1, 1) != first


SHUFFLED = AugmentConfig(
    order=["pad_crop", "flip"], pad_crop=PadCropConfig(size=8, padding=2), flip=FlipConfig()
)


@pytest.mark.parametrize(
    ("file_format", "name", "in_memory", "parts"),
    [
        ("tfrecord", "fixed", InMemory.auto, 1),
        pytest.param("tfrecord", "fixed", InMemory.never, 1, marks=pytest.mark.slow),
        pytest.param("tfrecord", "fixed", InMemory.never, 4, marks=pytest.mark.slow),
        ("array_record", "fixed", InMemory.never, 1),
    ],
)
def test_shares_are_the_rows_of_the_whole(
    roots: dict[str, Path], file_format: str, name: str, in_memory: InMemory, parts: int
) -> None:
    source = load_source(config(roots[file_format], name, in_memory=in_memory, stream_parts=parts))

    def rows(share: Share, first_step: int = 0) -> list[list[np.ndarray]]:
        batches = train_batches(
            source, SHUFFLED, None, seed=0, epoch=1, batch_size=20, first_step=first_step, share=share
        )
        return [[column.numpy() for column in batch] for batch in batches]

    whole = rows(WHOLE)
    ids = np.concatenate([batch[2] for batch in whole])
    assert len(ids) == len(set(ids)) == 40  # of 48
    for workers in (2, 4):
        shares = [rows(Share(index, workers)) for index in range(workers)]
        assert all(len(batch[2]) == 20 // workers for share in shares for batch in share)
        for step, batch in enumerate(whole):
            for column, values in enumerate(batch):
                together = np.concatenate([share[step][column] for share in shares])
                np.testing.assert_array_equal(together, values)
    later = rows(Share(1, 2), first_step=1)
    assert len(later) == 1
    np.testing.assert_array_equal(later[0][2], whole[1][2][10:])


@pytest.mark.parametrize("in_memory", [InMemory.auto, pytest.param(InMemory.never, marks=pytest.mark.slow)])
def test_shares_of_an_evaluation_have_each_example_once(roots: dict[str, Path], in_memory: InMemory) -> None:
    source = load_source(config(roots["tfrecord"], "fixed", in_memory=in_memory))
    expected = colours(source, "validation")
    for workers, size in ((1, 8), (2, 8), (4, 8), (2, 12), (4, 4), (2, 24)):  # of 12
        found = []
        for index in range(workers):
            batches = eval_batches(
                source, "validation", CROP, None, batch_size=size, share=Share(index, workers)
            )
            assert len(batches) == len(list(batches)) == -(-12 // size)
            for images, _, weights in batches:
                assert len(images) == size // workers
                found += [int(image[0, 0, 0]) for image in images[weights > 0]]
        assert sorted(found) == sorted(expected)


def test_each_worker_reads_parts_of_its_own(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_source(config(roots["tfrecord"], "fixed", in_memory=InMemory.never, stream_parts=4))
    store, read = source.splits["train"].store, []
    opened = store._open
    monkeypatch.setattr(store, "_open", lambda *place: read.append(place[:2]) or opened(*place))
    train_batches(source, CROP, None, seed=0, epoch=1, batch_size=20, share=Share(1, 2))
    assert epochs_at_once(source) == 1
    with pytest.raises(ValueError, match=r"is streamed: expected one epoch at a time. Received 2"):
        train_batches(source, CROP, None, seed=0, epoch=1, epochs=2, batch_size=20)
    assert read == [(36, 48), (48, 60)]  # the second half of the 48 that follow the validation's 12
    with pytest.raises(DataError, match=r"data.stream_parts=4: expected a divisor of training.batch_size=18"):
        train_batches(source, CROP, None, seed=0, epoch=1, batch_size=18)
    with pytest.raises(DataError, match=r"a multiple of the workers \(3\), or 1"):
        train_batches(source, CROP, None, seed=0, epoch=1, batch_size=24, share=Share(0, 3))


def test_access_does_not_change_the_order(roots: dict[str, Path]) -> None:
    orders = {}
    for in_memory in (InMemory.always, InMemory.never):
        source = load_source(config(roots["array_record"], in_memory=in_memory))
        orders[in_memory] = epoch(source, 3, 1)
    assert orders[InMemory.always] == orders[InMemory.never]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", ["fixed", "varying"])
def test_damaged_records_are_one_line(
    roots: dict[str, Path], tmp_path: Path, file_format: str, name: str
) -> None:
    shutil.copytree(roots[file_format] / name, tmp_path / name)
    (file,) = (tmp_path / name).rglob(f"{name}-train.{file_format}-*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)
    source = load_source(config(tmp_path, name))
    with pytest.raises(
        DamagedError, match=rf"^cannot read the split train of {name}: \S.*--verify"
    ) as caught:
        colours(source, "train")
    assert "\n" not in str(caught.value)


def test_images_of_a_prepared_set_cannot_be_skipped(roots: dict[str, Path]) -> None:
    with pytest.raises(
        DataError, match=r"^data.on_error=skip: expected fail with data=fixed; only data=folder"
    ):
        load_source(config(roots["tfrecord"], "fixed", on_error=OnError.skip))


def test_the_memory_limit_decides(roots: dict[str, Path]) -> None:
    source = load_source(config(roots["array_record"], "fixed", memory_limit_mb=0))
    assert isinstance(source.splits["train"].store, RecordStore)


def test_streams_carve_and_probe_by_position(roots: dict[str, Path]) -> None:
    source = load_source(config(roots["tfrecord"], in_memory=InMemory.never, train_examples=30))
    train = colours(source, "train")
    assert len(train) == 30
    assert not set(train) & set(colours(source, "validation"))
    assert colours(source, "train", probe_ids(source, 9, seed=1)) == train[:9]
    np.testing.assert_array_equal(epoch_ids(source, 0, 0), np.arange(30))
    with pytest.raises(DataError, match=r"only its first examples can be chosen"):
        colours(source, "train", np.array([4, 5]))
    (images, _, ids), *_ = train_batches(source, CROP, None, seed=0, epoch=1, batch_size=7)
    assert images.shape == [7, 8, 8, 3]
    assert len(set(ids.numpy())) == 7


def test_named_and_sliced_splits(roots: dict[str, Path]) -> None:
    source = load_source(config(roots["tfrecord"], validation_split="test", test_split=None))
    assert {key: split.num_examples for key, split in source.splits.items()} == {
        "train": 60,
        "validation": 20,
    }
    sliced = load_source(config(roots["tfrecord"], train_split="train[:50%]", validation_split="train[50%:]"))
    assert sorted(colours(sliced, "train") + colours(sliced, "validation")) == list(range(60))
    with pytest.raises(
        DataError, match=r"data.validation_split=dev is not a split of varying. Expected one of train, test"
    ):
        load_source(config(roots["tfrecord"], validation_split="dev"))
    with pytest.raises(DataError, match=r"streamed takes whole splits"):
        load_source(config(roots["tfrecord"], train_split="train[:50%]", in_memory=InMemory.never))


def test_channels_are_converted(roots: dict[str, Path]) -> None:
    for name in ("fixed", "varying"):
        source = load_source(config(roots["tfrecord"], name, channels=1))
        ((images, _, _),) = eval_batches(source, "test", CROP, None, batch_size=20)
        assert images.shape == [20, 8, 8, 1]
        np.testing.assert_array_equal(np.sort(images[:, 3, 3, 0]), np.arange(20))


def test_the_newest_version_and_the_named_one(roots: dict[str, Path], tmp_path: Path) -> None:
    name, root = "fixed", roots["tfrecord"]
    (tmp_path / name).mkdir()
    for version in ("1.0.0", "1.0.10", "1.0.9"):
        (tmp_path / name / version).symlink_to(root / name / "1.0.0")
    assert load_source(config(tmp_path, f"{name}:1.0.0")).splits["test"].num_examples == 20
    for size in ("small", "large"):
        (tmp_path / "sized" / size).mkdir(parents=True)
        (tmp_path / "sized" / size / "1.0.0").symlink_to(root / name / "1.0.0")
    assert load_source(config(tmp_path, "sized/small")).splits["test"].num_examples == 20
    with pytest.raises(DataError, match=r"several configs.*Expected one of sized/large, sized/small"):
        load_source(config(tmp_path, "sized"))


def test_a_size_that_is_not_the_stored_one(roots: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"data.image_size=28, but the images of fixed are \(8, 8\)"):
        load_source(config(roots["tfrecord"], "fixed", image_size=28))


def test_a_set_without_images(tmp_path: Path) -> None:
    prepare(tmp_path, "tfrecord", fixed=True, image=False)
    with pytest.raises(DataError, match=r"no_images is no image classification set.*found label"):
        load_source(config(tmp_path, "no_images"))


@pytest.mark.parametrize("from_environment", [True, False])
def test_missing_data_fail_at_once_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    wanted = config(tmp_path, "cifar100")
    if from_environment:
        monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path))
        wanted = replace(wanted, dir=None)
    start = time.monotonic()
    with pytest.raises(DataError, match=rf"cifar100 is not prepared in {tmp_path}") as caught:
        load_source(wanted)
    assert time.monotonic() - start < 5
    call = (
        f"tfds.builder('cifar100', data_dir='{tmp_path}', file_format='array_record').download_and_prepare()"
    )
    assert f'python -c "import tensorflow_datasets as tfds; {call}"' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_imagenet_names_the_archives_and_the_command(tmp_path: Path) -> None:
    archives, place = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar", tmp_path / "downloads" / "manual"
    with pytest.raises(DataError, match=rf"{archives} in {place}, found neither, then run: ") as caught:
        load_source(config(tmp_path, "imagenet2012"))
    command = f"alexnet prepare data=imagenet2012 data.dir={tmp_path} --out PREPARED"
    assert f"{command}, and train with data=prepared data.dir=PREPARED" in str(caught.value)
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(DataError, match=rf"found {tmp_path}/ILSVRC2012_img_val.tar, then run: "):
        load_source(config(tmp_path, "imagenet2012"))


def test_an_unknown_name_gets_near_matches(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.name=cifar11 is neither.*Near matches: cifar10"):
        load_source(config(tmp_path, "cifar11"))
    with pytest.raises(DataError, match=r"Near matches: .*digits"):
        load_source(config(tmp_path, "digit"))


def real_cifar10() -> bool:
    return (Path(os.environ.get("ALEXNET_DATA_DIR", "/nonexistent")) / "cifar10").is_dir()


@pytest.mark.skipif(not real_cifar10(), reason="needs cifar10 in ALEXNET_DATA_DIR")
def test_real_cifar10() -> None:
    source = load_source(DataConfig(name="cifar10", image_size=32))
    assert {key: split.num_examples for key, split in source.splits.items()} == {
        "train": 45000,
        "validation": 5000,
        "test": 10000,
    }
    labels = source.splits["test"].store.arrays[1].numpy()
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 1000))
    assert source.class_names[0] == "airplane"


def test_several_labels_for_an_image_are_out_of_scope(tmp_path):
    with pytest.raises(
        DataError, match=r"data.name=voc/2007: its images have several labels each, which is out of scope"
    ):
        load_source(DataConfig(name="voc/2007", dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "splits"),
    [("oxford_flowers102", ("train", "validation", "test")), ("caltech101", ("train", None, "test"))],
)
def test_the_presets_of_photographs_name_splits_and_classes_that_tfds_has(name, splits, tmp_path):
    import tensorflow_datasets as tfds

    config = compose([f"data={name}", "model=alexnet"]).data
    assert (config.train_split, config.validation_split, config.test_split) == splits
    builder = tfds.builder(name, data_dir=tmp_path)
    assert builder.info.features["label"].num_classes == 102
    assert builder.info.supervised_keys == ("image", "label")
    made = Path(inspect.getsourcefile(type(builder))).read_text()
    assert all(split is None or f'"{split}"' in made or split.upper() in made for split in splits)
