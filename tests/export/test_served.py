"""The signatures on encoded pictures of every kind, from a run of colour photographs; no export."""

import io
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import alexnet_tf
from alexnet_tf.data.headers import header_problem
from alexnet_tf.export import ServedModel
from alexnet_tf.inference import Run, class_labels
from alexnet_tf.runs import write_json

PIXELS = np.random.default_rng(0).integers(0, 256, [24, 30, 3], np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("served")
    for number in range(8):
        path = root / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number:]).save(path)
    overrides = ["model=cifar_quick", "model.input_size=16", "model.init=he_normal", "data=folder"]
    overrides += ["augment=center", "training.batch_size=2", "training.steps=1", "training.progress=none"]
    config = alexnet_tf.compose([*overrides, f"data.dir={root / 'photos'}", f"run_dir={root / 'run'}"])
    return alexnet_tf.train(config)


@pytest.fixture(scope="module")
def served(run: Run) -> ServedModel:
    return ServedModel(run, run.model())


def encode(mode: str, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS).convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "shown"),
    [
        ("RGB", "PNG", "RGB"),
        ("RGBA", "PNG", "RGB"),
        ("LA", "PNG", "L"),
        ("P", "PNG", "P"),
        ("1", "PNG", "1"),
        ("RGB", "WEBP", "RGB"),
        ("P", "GIF", "P"),
        ("RGB", "BMP", "RGB"),
        ("RGBA", "BMP", "RGB"),
        ("L", "BMP", "L"),
    ],
)
def test_every_kind_of_picture_is_the_one_that_was_encoded(run, served, mode, kind, shown):
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = np.asarray(Image.fromarray(PIXELS).convert(shown).convert("RGB"))
    answer = served.functions["serve_bytes"](tf.constant([encode(mode, kind, **options)]))
    np.testing.assert_allclose(answer["probabilities"], run.predict(expected[None]), atol=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_what_another_decoder_makes_of_it(run, served, mode):
    data = encode(mode, "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    answer = served.functions["serve_bytes"](tf.constant([data]))
    np.testing.assert_allclose(answer["probabilities"], run.predict(expected[None]), atol=5e-3)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def bmp_of_masks() -> bytes:
    """32 bits a pixel, red and blue the other way round than TensorFlow takes them."""
    data = patched(encode("RGBA", "BMP"), 30, struct.pack("<I", 3))
    return data[:54] + struct.pack("<3I", 0xFF, 0xFF00, 0xFF0000) + data[54:]


BROKEN = {
    "text": (b"hello", "Unknown image file format"),
    "nothing": (b"", "Input is empty"),
    "half a PNG": (encode("RGB", "PNG")[:400], "Invalid PNG data"),
    "half a JPEG": (encode("RGB", "JPEG")[:500], "Invalid JPEG data"),
    "half a GIF": (encode("P", "GIF")[:500], "Invalid GIF data"),
    "half a WebP": (encode("RGB", "WEBP")[:200], "Failed to decode WebP"),
    "a WebP with alpha": (encode("RGBA", "WEBP"), "a WebP with alpha or animation cannot be decoded"),
    "a lossless WebP with alpha": (
        encode("RGBA", "WEBP", lossless=True),
        "a WebP with alpha or animation cannot",
    ),
    "a BMP with a palette": (
        encode("P", "BMP"),
        "a BMP with a palette, compressed or of OS/2 cannot be decoded",
    ),
    "a BMP that says it is compressed": (
        patched(encode("L", "BMP"), 30, b"\1"),
        "a BMP with a palette, compressed",
    ),
    "a BMP with bit masks": (bmp_of_masks(), "a BMP with a palette, compressed"),
    "a CMYK JPEG of nobody": (
        encode("CMYK", "JPEG").replace(b"Adobe", b"Nobdy"),
        "without the marker of Adobe",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_picture_fails_its_request_with_the_reason_and_no_other(served, name):
    good, (bad, reason) = encode("RGB", "PNG"), BROKEN[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        served.functions["serve_bytes"](tf.constant([good, bad]))
    assert np.isfinite(served.functions["serve_bytes"](tf.constant([good]))["probabilities"]).all()


def jpeg_of(width: int, height: int) -> bytes:
    data = encode("RGB", "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">2H", height, width))


BOMBS = {
    "PNG": (patched(encode("RGB", "PNG"), 16, struct.pack(">2I", 30_000, 20_000)), "30000x20000"),
    "JPEG": (jpeg_of(60_000, 50_000), "60000x50000"),
    "GIF": (patched(encode("P", "GIF"), 6, struct.pack("<2H", 60_000, 50_000)), "60000x50000"),
    "BMP": (patched(encode("RGB", "BMP"), 18, struct.pack("<2i", 30_000, -20_000)), "30000x20000"),
    "WebP": (patched(encode("RGB", "WEBP"), 26, struct.pack("<2H", 16_000, 15_000)), "16000x15000"),
    "lossless WebP": (
        patched(encode("RGB", "WEBP", lossless=True), 21, struct.pack("<I", 14_999 << 14 | 15_999)),
        "16000x15000",
    ),
    "extended WebP": (
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + bytes.fromhex("7f3e00973a00") + bytes(30),
        "16000x15000",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_says_it_has_too_many_pixels_is_not_decoded(served, name, tmp_path):
    bomb, size = BOMBS[name]
    reason = f"a picture of {size} pixels, expected at most 89478485 in all"
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        served.functions["serve_bytes"](tf.constant([bomb]))
    (tmp_path / "bomb").write_bytes(bomb)
    assert "pixels are more than" in str(
        header_problem(tmp_path / "bomb", 89_478_485)
    )  # `predict` says so too


def test_pictures_of_several_sizes_in_one_request(run, served):
    small = Image.fromarray(PIXELS).resize((17, 40))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    answer = served.functions["serve_bytes"](tf.constant([encode("RGB", "PNG"), stream.getvalue()]))
    expected = np.concatenate([run.predict(PIXELS[None]), run.predict(np.asarray(small)[None])])
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("serving_default", [0, 1, 1, 3], tf.uint8),
        ("serve_float", [0, 0, 0, 3], tf.float32),
        ("serve_bytes", [0], tf.string),
        ("embed", [0, 40, 30, 3], tf.uint8),
    ],
)
def test_an_empty_batch_gives_empty_answers(served, name, shape, dtype):
    answer = served.functions[name](tf.zeros(shape, dtype) if dtype != tf.string else tf.constant([], dtype))
    assert all(len(value) == 0 for value in answer.values())
    if name != "embed":
        assert answer["probabilities"].shape == answer["top_labels"].shape == (0, 2)


def test_a_label_is_one_line(run, tmp_path):
    """Files of labels have one on each line."""
    shutil.copytree(run.path, tmp_path / "run")
    facts = {**run.dataset(), "class_names": ["a\nb", "c\u2028d"]}
    write_json(tmp_path / "run" / "dataset.json", facts)
    assert class_labels(alexnet_tf.load_run(tmp_path / "run"), 3) == ["a b", "c d", "class 2"]


def test_the_cards_words_for_a_picture_are_in_the_answer(run, served):
    answer = served.functions["serving_default"](PIXELS[None])
    assert set(answer) == {
        "probabilities", "classes", "labels", "top_probabilities", "top_classes", "top_labels"
    }  # fmt: skip
    assert answer["labels"].numpy()[0].decode() == run.class_names[int(answer["classes"][0])]
    assert (np.diff(answer["top_probabilities"].numpy()[0]) <= 0).all()
