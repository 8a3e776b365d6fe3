"""Preparing originals: what the shards hold, that they can be made in parts and again, and what damage is found."""

import io
import json
import os
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from ilsvrc import SYNSETS, TRAIN, VALIDATION, add, jpeg, picture, write_archives
from PIL import Image

from alexnet_tf import data
from alexnet_tf.config import compose
from alexnet_tf.data.conversion import bitmap
from alexnet_tf.data.stores import decode

GREY, PNG, CMYK = "n02119789_1.JPEG", "n02119789_2.JPEG", "n02119789_3.JPEG"
RECIPE = data.Recipe(size=64, quality=95, records_per_shard=5)


def config(name, folder, *overrides):
    if name == "imagenet2012":  # the miniature has 3 of the 1000 classes
        overrides = ("data.on_error=skip", *overrides)
    return compose([f"data={name}", f"data.dir='{folder}'", "model=alexnet", *overrides]).data


def augment(*names, **options):
    """The operations of these names, at 64 pixels."""
    sizes = ["augment.resize.size=64", "augment.center_crop.size=64", "model.input_size=56"]
    config = compose(["data=imagenet2012", "model=alexnet", *sizes]).augment
    return replace(config, order=list(names), **options)


def prepare(archives, out, recipe=RECIPE, **options):
    plan = data.make_plan(config("imagenet2012", archives), out, recipe)
    return data.prepare(plan, **options)


def tar_of(*names):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            add(archive, name, b"")
    return stream.getvalue()


def in_cmyk(image):
    stream = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(stream, "JPEG", quality=95)
    return stream.getvalue()


def files_of(folder):
    """Every file of a set, hidden ones too, by its name in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.array_record*"))}


@pytest.fixture(scope="module")
def others():
    image = picture(np.random.default_rng(5))
    return {
        GREY: tf.io.encode_jpeg(image[..., :1]).numpy(),
        PNG: tf.io.encode_png(image).numpy(),
        CMYK: in_cmyk(image),
    }


@pytest.fixture(scope="module")
def archives(tmp_path_factory, others):
    folder = tmp_path_factory.mktemp("archives")
    write_archives(folder, others=others)
    return folder


@pytest.fixture(scope="module")
def prepared(archives, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "set"
    counts = []
    assert prepare(archives, out, told=lambda done, total: counts.append((done, total)))
    assert counts[-1] == (26, 26)
    return out


def test_it_is_a_set_of_tfds(prepared):
    builder = tfds.builder_from_directory(str(prepared))
    assert builder.info.splits["train"].num_examples == 18
    assert builder.info.splits["train"].shard_lengths == [5, 5, 5, 3]
    assert builder.info.features["label"].num_classes == 1000
    examples = list(builder.as_data_source(split="train"))
    assert {min(example["image"].shape[:2]) for example in examples} == {64}
    names = [example["file_name"].decode() for example in examples]
    assert names == [f"{synset}_{number}.JPEG" for synset in SYNSETS for number in range(6)]
    classes = builder.info.features["label"].names
    assert [classes[example["label"]] for example in examples] == [name.partition("_")[0] for name in names]


def test_validation_pictures_have_the_label_of_their_number(prepared):
    builder = tfds.builder_from_directory(str(prepared))
    truth = (tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")).read_text().split()
    names = builder.info.features["label"].names
    examples = list(builder.as_data_source(split="validation"))
    assert len(examples) == 8
    for example in examples:
        number = int(example["file_name"].decode()[-13:-5])
        assert names[example["label"]] == truth[number - 1]


def resized(content):
    """What `augment.resize` makes of a picture, rounded: uint8."""
    original = decode(tf.constant(content), 3)
    height, width = original.shape[:2]
    shape = [round(side * 64 / min(height, width)) for side in (height, width)]
    return tf.cast(tf.round(tf.image.resize(original, shape, antialias=True)), tf.uint8)


def test_pictures_are_jpegs_of_the_resized_originals(prepared, others):
    as_stored = {"image": tfds.decode.SkipDecoding()}
    builder = tfds.builder_from_directory(str(prepared))
    records = builder.as_data_source(split="train", decoders=as_stored)
    stored = {example["file_name"].decode(): example["image"] for example in records}
    for name, content in others.items():
        assert stored[name] == tf.io.encode_jpeg(resized(content), quality=95).numpy()


def test_raw_pixels_are_exact(archives, others, tmp_path):
    prepare(archives, tmp_path / "raw", replace(RECIPE, quality=None))
    source = data.load_source(config("prepared", tmp_path / "raw"))
    images = list(data.ordered_images(source, "train", augment()))
    np.testing.assert_array_equal(images[8], resized(others[PNG]))  # the third picture of the second class


def test_a_bitmap_holds_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode(tf.constant(bitmap(image)), 3), image)


def test_training_reads_it_in_any_order(prepared):
    source = data.load_source(config("prepared", prepared, "data.in_memory=never"))
    assert {name: split.num_examples for name, split in source.splits.items()} == {
        "train": 18,
        "validation": 8,
    }
    assert type(source.split("train").store).__name__ == "RecordStore"
    ops = augment("resize", "center_crop")
    ((images, labels, ids),) = data.train_batches(source, ops, None, seed=3, epoch=1, batch_size=18)
    assert images.shape == (18, 64, 64, 3)
    np.testing.assert_array_equal(ids, data.epoch_ids(source, 3, 1))
    classes = [source.class_names[label] for label in labels.numpy()]
    assert classes == [SYNSETS[index // 6] for index in ids.numpy()]


def test_pictures_of_the_right_size_are_left_as_they_are(prepared):
    source = data.load_source(config("prepared", prepared))
    ops = augment("resize", "center_crop", "subtract_mean", "random_crop", "flip", "pca")
    statistics = data.compute_statistics(source, ops)
    options = {"seed": 3, "epoch": 1, "batch_size": 18}
    ((expected, *_),) = data.train_batches(replace(source, shorter_side=None), ops, statistics, **options)
    ((images, *_),) = data.train_batches(source, ops, statistics, **options)
    np.testing.assert_array_equal(images, expected)
    (((bytes_, corners, flips, colours), *_),) = data.train_batches(
        source, ops, statistics, **options, unfinished=True
    )
    assert (bytes_.dtype, bytes_.shape[1:]) == (tf.uint8, images.shape[1:])
    finished = data.finisher(source, ops, statistics)(bytes_, corners, flips, colours)
    np.testing.assert_array_equal(finished, expected)
    validation = [
        next(iter(data.eval_batches(each, "validation", ops, statistics, batch_size=8)))[0]
        for each in (source, replace(source, shorter_side=None))
    ]
    np.testing.assert_array_equal(*validation)


def test_the_statistics_that_come_with_it_are_those_of_its_pictures(prepared, tmp_path):
    source = data.load_source(config("prepared", prepared))
    ops = augment("resize", "center_crop", "subtract_mean", "random_crop", "flip", "pca")
    shipped = data.compute_statistics(source, ops, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    measured = data.compute_statistics(replace(source, statistics=None), ops, tmp_path / "cache")
    for name, value in vars(measured).items():
        np.testing.assert_allclose(getattr(shipped, name), value, rtol=1e-5, atol=1e-4, err_msg=name)
    carved = data.load_source(config("prepared", prepared, "data.train_examples=9"))
    assert data.compute_statistics(carved, ops, tmp_path / "cache").count == 9
    ops.center_crop.size = 60
    assert data.compute_statistics(source, ops, tmp_path / "cache").mean_image.shape == (60, 60, 3)


def test_parts_make_the_same_files(prepared, archives, tmp_path):
    out = tmp_path / "parts"
    assert not prepare(archives, out, part=1, parts=2)
    with pytest.raises(
        data.DataError, match="one that is not finished; go on with the command that began it"
    ):
        data.load_source(config("prepared", out))
    assert prepare(archives, out, part=0, parts=2, workers=1)
    assert contents(out) == contents(prepared)
    assert (out / "statistics.npz").read_bytes() == (prepared / "statistics.npz").read_bytes()


def test_a_damaged_picture_is_named_and_what_is_done_stays(tmp_path, others, caplog):
    folder, out = photos(tmp_path / "photos"), tmp_path / "out"
    (folder / "bees" / "1.jpg").rename(folder / "bees" / "{1}.jpg").write_bytes(others[PNG][:200])
    recipe = replace(RECIPE, records_per_shard=2)
    with pytest.raises(
        data.PrepareError,
        match=r"cannot read bees/\{1\}.jpg of the train split: Invalid PNG data, size 200. Leave out .*data.on_error=skip",
    ):
        data.prepare(data.make_plan(config("folder", folder), out, recipe))
    assert not list(out.glob(".*"))  # nothing half-written
    finished = {name: (out / name).stat().st_mtime_ns for name in contents(out)}
    assert len(finished) == 2
    skipping = config("folder", folder, "data.on_error=skip", "data.max_skipped=0.2")
    assert data.prepare(data.make_plan(skipping, out, recipe))
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert "Left out: 1 of 6 pictures of the train split" in caplog.text
    assert (
        data.load_source(config("prepared", out, "data.validation_fraction=0")).split("train").num_examples
        == 5
    )
    shards = json.loads((out / "prepared.json").read_text())["shards"].values()
    assert [name for shard in shards for name, _ in shard["skipped"]] == ["bees/{1}.jpg"]


def test_too_many_damaged_pictures_end_the_work_at_once(tmp_path):
    write_archives(
        tmp_path / "archives", others=dict.fromkeys(("n01440764_1.JPEG", "n02119789_4.JPEG"), b"none")
    )
    skipping = config("imagenet2012", tmp_path / "archives", "data.max_skipped=0.06")
    plan = data.make_plan(skipping, tmp_path / "out", RECIPE)
    with pytest.raises(
        data.PrepareError,
        match=r"data.max_skipped=0.06: at least 2 of 18 pictures of the train split cannot be read, such as n02119789_4",
    ):
        data.prepare(plan)
    assert len(contents(tmp_path / "out")) == 2  # of four: the one with the second was not finished
    with pytest.raises(data.PrepareError, match="at least 2 of 18"):  # what is on the disk counts too
        data.prepare(plan, part=2, parts=6)
    plan.config.max_skipped = 0.2
    assert data.prepare(plan)


def test_damage_is_found(archives, prepared, tmp_path):
    out, whole = tmp_path / "out", files_of(prepared)
    prepare(archives, out)
    assert data.verify_prepared(out) == 26
    targets = [*sorted(out.glob("*train*0000[12]-of*")), out / "statistics.npz", out / "dataset_info.json"]
    for target in targets:
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(content)
    with pytest.raises(data.PrepareError, match=r"statistics.npz: its checksum is another one") as caught:
        data.verify_prepared(out)
    assert all(target.name in str(caught.value) for target in targets)
    for target in targets:
        target.unlink()
    with pytest.raises(data.PrepareError, match=r"statistics.npz: it is missing"):
        data.verify_prepared(out)
    prepare(archives, out)
    assert files_of(out) == whole


@pytest.mark.parametrize("lost", ["statistics.npz", "label.labels.txt", "plan.json", "prepared.json"])
def test_what_describes_the_set_is_restored_from_the_shards(archives, prepared, tmp_path, lost):
    whole, out = files_of(prepared), tmp_path / "out"
    shutil.copytree(prepared, out)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.array_record*")}
    for damage in (lambda: (out / lost).write_bytes(whole[lost][:-3]), lambda: (out / lost).unlink()):
        damage()
        assert prepare(archives, out)
        assert files_of(out) == whole
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_sums_go_when_the_set_is_whole_and_come_again_from_the_shards(archives, prepared, tmp_path):
    out = tmp_path / "out"
    for part in (1, 2):
        assert not prepare(archives, out, part=part, parts=3)
    kept = sorted((out / "shards").glob("*-of-*.npz"))
    assert len(kept) == 2
    kept[0].unlink()
    kept[1].write_bytes(kept[1].read_bytes()[:-100])
    assert prepare(archives, out)
    assert files_of(out) == files_of(prepared)
    assert [path.name for path in (out / "shards").glob("*.npz")] == ["listing.npz"]


def test_archives_are_looked_through_once(tmp_path):
    write_archives(tmp_path, per_class=2, validation=2)
    settings, train = config("imagenet2012", tmp_path), tmp_path / TRAIN
    data.make_plan(settings, tmp_path / "out", RECIPE)
    before = train.stat()
    with train.open("r+b") as file:  # the name of the first archive in it, which nothing else needs
        file.write(b"x")
    with pytest.raises(data.DataError, match="cannot read it"):
        data.make_plan(settings, tmp_path / "out", RECIPE)
    os.utime(train, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert data.prepare(data.make_plan(settings, tmp_path / "out", RECIPE))
    assert data.verify_prepared(tmp_path / "out") == 8
    (tmp_path / "out" / "shards" / "listing.npz").write_bytes(b"PK damaged")
    with pytest.raises(data.DataError, match="cannot read it"):
        data.make_plan(settings, tmp_path / "out", RECIPE)


def test_processes_that_begin_together_look_once(archives, tmp_path, caplog):
    caplog.set_level("INFO")
    settings, barrier = config("imagenet2012", archives), threading.Barrier(4)

    def begin(_):
        barrier.wait()
        return data.make_plan(settings, tmp_path / "out", RECIPE).originals.splits["train"].count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(begin, range(4))) == [18] * 4
    assert sum(record.message.startswith("Looking through") for record in caplog.records) == 1


def test_incomplete_archives_are_refused_or_said(archives, tmp_path, caplog):
    refusing = config("imagenet2012", archives, "data.on_error=fail")
    with pytest.raises(data.DataError) as caught:
        data.make_plan(refusing, tmp_path / "out", RECIPE)
    assert "997 of the 1000 classes have no pictures, the first is n01443537; " in str(caught.value)
    assert "expected 50000 pictures, found 8. Prepare what there is with data.on_error=skip" in str(
        caught.value
    )
    data.make_plan(config("imagenet2012", archives), tmp_path / "out", RECIPE)
    assert [record.message.split(": ")[0] for record in caplog.records] == ["Incomplete"] * 2
    photos(tmp_path / "folders" / "train")
    with pytest.raises(
        data.DataError, match=r"1000 WordNet ids in .*ants is none of them; data=folder takes any"
    ):
        data.make_plan(config("imagenet2012", tmp_path / "folders"), tmp_path / "other", RECIPE)


def test_a_picture_that_is_there_twice_is_refused(archives, tmp_path):
    (tmp_path / TRAIN).write_bytes((archives / TRAIN).read_bytes())
    name = "ILSVRC2012_val_00000007.JPEG"
    (tmp_path / VALIDATION).write_bytes(tar_of(name, f"folder/{name}"))
    with pytest.raises(data.DataError, match=f"expected every picture once, found {name} twice"):
        data.make_plan(config("imagenet2012", tmp_path), tmp_path / "out", RECIPE)


def test_a_long_thin_picture_is_not_made_longer(tmp_path):
    folder = photos(tmp_path / "photos")
    (folder / "ants" / "thin.png").write_bytes(tf.io.encode_png(np.zeros([1, 60_000, 1], np.uint8)).numpy())
    message = r"ants/thin.png of the train split: 60000x1 pixels are 245760000 when the shorter side is 64, more than data.max"
    with pytest.raises(data.PrepareError, match=message):
        data.prepare(data.make_plan(config("folder", folder), tmp_path / "out", RECIPE))


@pytest.mark.parametrize("name", ["two\nlines", "end ", "bell\a", "\u2028"])
def test_class_names_that_no_list_can_hold_are_refused(tmp_path, name):
    folder = photos(tmp_path / "photos")
    (folder / "ants").rename(folder / name)
    with pytest.raises(data.DataError, match="expected class names without control characters") as caught:
        data.make_plan(config("folder", folder), tmp_path / "out", RECIPE)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "cannot read it: unexpected end of data"),
        (lambda raw: raw[: -tarfile.RECORDSIZE], "cannot read it: unexpected end of data"),
        (lambda _: b"", "cannot read it: empty file"),
        (lambda raw: raw.replace(b"n02119789.tar", b"n02119780.tar"), "it is cut off or damaged at byte"),
        (lambda _: tar_of("n99999999.tar"), r"of the 1000 classes \(n01440764.tar\), found n99999999.tar"),
    ],
)
def test_a_wrong_archive_is_refused(archives, tmp_path, damage, message):
    for path in archives.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(damage(content) if path.name == TRAIN else content)
    with pytest.raises(data.DataError, match=message):
        data.make_plan(config("imagenet2012", tmp_path), tmp_path / "out", RECIPE)
    assert not (tmp_path / "out").exists()


def test_another_plan_is_refused(prepared, archives, tmp_path):
    with pytest.raises(data.DataError, match="it was begun with size 64, came 32; choose a new folder"):
        prepare(archives, prepared, replace(RECIPE, size=32))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(data.DataError, match="expected a new folder"):
        prepare(archives, tmp_path)


def photos(folder, generator=None):
    generator = generator or np.random.default_rng(0)
    for name in ("ants", "bees"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            (folder / name / f"{number}.jpg").write_bytes(jpeg(generator))
    return folder


def test_processes_that_begin_together_agree(archives, tmp_path):
    settings = config("imagenet2012", archives)
    barrier = threading.Barrier(8)

    def begin(number):
        barrier.wait()
        recipe = RECIPE if number % 4 else replace(RECIPE, size=32)
        try:
            return data.make_plan(settings, tmp_path / "out", recipe).recipe.size
        except data.DataError as error:
            return "was begun with size" in str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(begin, range(8)))
    sizes = {answer for answer in answers if answer is not True}
    assert sizes in ({64}, {32})  # one plan won, and the others were told of it
    assert answers.count(True) == (2 if sizes == {64} else 6)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "out").rglob("*")) == [
        "out/plan.json",
        "out/shards",
        "out/shards/listing.npz",
    ]


def test_what_a_killed_process_left_is_taken_away(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".plan.json.4711.tmp").write_text("{")
    settings = config("folder", photos(tmp_path / "photos"))
    plan = data.make_plan(settings, out, RECIPE)
    half = out / f".{plan.shards[0].file}.4711.tmp"
    half.write_bytes(b"half")
    plan.record(plan.shards[0]).parent.mkdir()
    plan.record(plan.shards[0]).write_text("")
    assert data.prepare(plan)
    assert not half.exists()
    assert data.verify_prepared(out) == 6


def test_originals_that_cannot_be_opened_are_damaged_ones(tmp_path):
    folder = photos(tmp_path / "photos")
    (folder / "ants" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "bees" / "z.jpg").mkdir()
    with pytest.raises(
        data.PrepareError, match=r"cannot read ants/gone.jpg of the train split: No such file or directory"
    ):
        data.prepare(data.make_plan(config("folder", folder), tmp_path / "out", RECIPE))
    skipping = config("folder", folder, "data.on_error=skip", "data.max_skipped=0.5")
    assert data.prepare(data.make_plan(skipping, tmp_path / "out", RECIPE))
    assert data.verify_prepared(tmp_path / "out") == 6


def test_what_cannot_be_written_is_one_line(tmp_path):
    settings = config("folder", photos(tmp_path / "photos"))
    (tmp_path / "file").write_text("")
    with pytest.raises(
        data.PrepareError, match=rf"^{tmp_path}/file/out: cannot be written \(Not a directory\)"
    ):
        data.make_plan(settings, tmp_path / "file" / "out", RECIPE)
    with pytest.raises(data.DataError, match=r"expected a folder outside data.dir"):
        data.make_plan(settings, tmp_path / "photos" / "out", RECIPE)


def test_a_split_without_pictures_is_refused(tmp_path):
    photos(tmp_path / "photos" / "train")
    for name in ("ants", "bees"):
        (tmp_path / "photos" / "val" / name).mkdir(parents=True)
    with pytest.raises(data.DataError, match="the validation split has no pictures"):
        data.make_plan(config("folder", tmp_path / "photos"), tmp_path / "out", RECIPE)


def test_grey_training_measures_its_own_statistics(prepared, tmp_path):
    source = data.load_source(
        config("prepared", prepared, "data.channels=1", "augment.order=[resize,center_crop,random_crop]")
    )
    ops = augment("resize", "center_crop", "subtract_mean")
    assert data.compute_statistics(source, ops, tmp_path).mean_image.shape == (64, 64, 1)


def test_what_is_no_set_of_originals_is_refused(tmp_path):
    with pytest.raises(data.DataError, match="data=digits: expected a set of original pictures"):
        data.make_plan(compose(["data=digits"]).data, tmp_path / "out", RECIPE)


def test_class_folders_are_prepared_too(tmp_path):
    plan = data.make_plan(config("folder", photos(tmp_path / "photos")), tmp_path / "out", RECIPE)
    assert data.prepare(plan)
    source = data.load_source(config("prepared", tmp_path / "out"))
    assert source.class_names == ["ants", "bees"]
    assert sum(split.num_examples for split in source.splits.values()) == 6


def test_what_tfds_has_prepared_is_prepared_too(prepared, tmp_path):
    versioned = tmp_path / "imagenet2012" / "5.1.0"
    versioned.parent.mkdir()
    versioned.symlink_to(prepared)
    smaller = replace(RECIPE, size=32, records_per_shard=10)
    assert data.prepare(data.make_plan(config("imagenet2012", tmp_path), tmp_path / "out", smaller))
    source = data.load_source(config("prepared", tmp_path / "out"))
    assert source.split("validation").num_examples == 8


def test_the_command(alexnet, alexnet_here, tmp_path, archives):
    out = str(tmp_path / "out")
    wrong = {
        ("data=imagenet2012", "model=alexnet"): "model=alexnet: expected data=NAME or data.KEY=VALUE",
        ("data.dir=x",): "prepare: expected data=NAME, such as data=imagenet2012 or data=folder",
        ("data=imagenet2012", "--shard=3/3"): "--shard 3/3: expected I/N with I from 0 to N-1, such as 0/8",
        ("--records=5", "--verify"): "prepare --verify: expected nothing more than --out DIR",
        ("data=folder", "data.in_memory=never"): "data.in_memory=never: has no effect on what is prepared",
        ("data=folder", "--raw", "--quality=90"): "--quality 90: expected without --raw",
    }
    for arguments, message in wrong.items():
        result = alexnet_here("prepare", *arguments, "--out", out)
        assert (result.returncode, result.stderr.strip()[: len(message) + 9]) == (2, f"alexnet: {message}")
    assert not (tmp_path / "out").exists()
    command = [
        "prepare",
        "data=imagenet2012",
        f"data.dir={archives}",
        "data.on_error=skip",
        "--out",
        out,
        "--size=64",
        "--records=5",
    ]
    result = alexnet(*command)
    assert result.returncode == 0, result.stderr
    assert f"train with data=prepared data.dir={out}" in result.stdout.replace("\n", "")
    verified = alexnet_here("prepare", "--verify", "--out", out)
    assert "26 pictures, every one as it was written" in verified.stdout, verified.stderr
