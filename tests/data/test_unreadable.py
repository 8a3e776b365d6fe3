"""Every kind of picture that people have: what is decoded, to which colours, and what is refused with which reason."""

import io
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.config.schema import DataConfig, OnError
from alexnet_tf.data import DataError, DataSource, explain_error, load_source

Image = pytest.importorskip("PIL.Image")
Write = Callable[..., None]

HEIGHT, WIDTH = 40, 60
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([Y * 6, X * 4, (X + Y) * 2], axis=-1).astype(np.uint8)
CMYK = np.stack([Y * 6, X * 4, (X + Y) * 2, X], axis=-1).astype(np.uint8)
DEEP = (Y * 1600 + X * 17).astype(np.uint16)


def saved(image: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def palette(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE).save(stream, kind)
    return stream.getvalue()


def in_cmyk() -> bytes:
    stream = io.BytesIO()
    Image.frombytes("CMYK", (WIDTH, HEIGHT), CMYK.tobytes()).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def animated(kind: str) -> bytes:
    later = [Image.fromarray(np.roll(RGB, 10 * n, axis=0)) for n in (1, 2)]
    return saved(RGB, kind, save_all=True, append_images=later)


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    (length,) = struct.unpack(">H", data[at + 2 : at + 4])
    return data[:at] + data[at + 2 + length :]


def ycck(data: bytes) -> bytes:
    """The same values, said to be YCCK by the last byte of Adobe's marker."""
    at = data.index(b"\xff\xee")
    return data[: at + 15] + b"\x02" + data[at + 16 :]


PHOTO, IN_CMYK = saved(RGB, "JPEG", quality=95), in_cmyk()

DECODED = {
    "grey.jpg": saved(Y.astype(np.uint8) * 6, "JPEG", quality=95),
    "grey.png": saved(Y.astype(np.uint8) * 6, "PNG"),
    "deep_rgb.png": tf.io.encode_png(RGB.astype(np.uint16) * 257).numpy(),
    "cmyk.jpg": IN_CMYK,
    "ycck.jpg": ycck(IN_CMYK),
    "animated.gif": animated("GIF"),
    "animated.png": animated("PNG"),
    "palette.png": palette("PNG"),
    "grey.bmp": saved(Y.astype(np.uint8) * 6, "BMP"),
    "a_png.jpg": saved(RGB, "PNG"),
    "a_photo.png": PHOTO,
    "a_gif.webp": saved(RGB, "GIF"),
    "progressive.jpg": saved(RGB, "JPEG", progressive=True),
}


def large(data: bytes, at: int, form: str, *size: int) -> bytes:
    """A header that says that the image is as large."""
    return data[:at] + struct.pack(form, *size) + data[at + struct.calcsize(form) :]


BOMBS = {
    "bomb.png": large(saved(RGB, "PNG"), 16, ">2I", 60000, 50000),
    "bomb.jpg": large(PHOTO, PHOTO.index(b"\xff\xc0") + 5, ">2H", 60000, 50000),
    "bomb.bmp": large(saved(RGB, "BMP"), 18, "<2i", 60000, -50000),
    "screen.gif": large(saved(RGB, "GIF"), 6, "<2H", 60000, 50000),
    "frame.gif": large(saved(RGB, "GIF"), saved(RGB, "GIF").index(b"\x2c\0\0\0\0") + 5, "<2H", 60000, 50000),
    "lossy.webp": large(saved(RGB, "WEBP"), 26, "<2H", 16000, 16000),
    "lossless.webp": large(saved(RGB, "WEBP", lossless=True), 21, "<I", 15999 | 15999 << 14),
    "extended.webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (59999).to_bytes(3, "little") * 2,
}
HEADERS = {
    "empty.jpg": (b"", "the file is empty"),
    "text.png": (b"<html>404</html>", "its first bytes are not those of a JPEG, PNG, GIF, BMP or WebP image"),
    "header.jpg": (PHOTO[:100], "the file ends within its header"),
    "header.png": (saved(RGB, "PNG")[:20], "the file ends within its header"),
    "cmyk.jpg": (without_adobe(IN_CMYK), "a CMYK JPEG without Adobe's marker"),
    "palette.bmp": (palette("BMP"), "a BMP with a palette"),
    "animated.webp": (animated("WEBP"), "a WebP with animation"),
    "alpha.webp": (saved(np.dstack([RGB, X * 4]).astype(np.uint8), "WEBP"), "a WebP with alpha"),
    **{
        name: (data, r"its \d{9,} pixels are more than data.max_pixels=89478485")
        for name, data in BOMBS.items()
    },
}
TRUNCATED = {
    "half.jpg": PHOTO[: len(PHOTO) // 2 + 200],
    "last_bytes.jpg": PHOTO[:-2],
    "half.png": saved(RGB, "PNG")[:80],
    "half.gif": animated("GIF")[:1500],
    "half.bmp": saved(RGB, "BMP")[:4000],
    "half.webp": saved(RGB, "WEBP")[:150],
}


@pytest.fixture
def load(tmp_path: Path, write_images: Write) -> Callable[..., DataSource]:
    """A folder of ten images of two classes and, among those of the second, others."""

    def make(others: dict[str, bytes], **options: object) -> DataSource:
        write_images(tmp_path / "data", {"a": 5, "b": 5})
        for name, content in others.items():
            (tmp_path / "data" / "b" / name).write_bytes(content)
        return load_source(
            DataConfig(name="folder", dir=str(tmp_path / "data"), validation_fraction=0, **options)
        )

    return make


def images(source: DataSource) -> dict[str, np.ndarray]:
    split = source.splits["train"]
    examples = split.store.examples(tf.data.Dataset.from_tensor_slices(split.ids))
    return {split.store.paths[index].name: image.numpy() for image, _, index in examples}


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_what_is_decoded_has_the_colours_that_pillow_sees(
    load: Callable[..., DataSource], channels: int, mode: str
) -> None:
    found = images(load(DECODED, channels=channels))
    for name, data in DECODED.items():
        assert (found[name].dtype, found[name].shape) == (np.uint8, (HEIGHT, WIDTH, channels)), name
        expected = pillow(data, mode).reshape(found[name].shape)
        jpeg = data.startswith(b"\xff\xd8")  # two inverse cosine transforms differ by a few
        np.testing.assert_allclose(
            found[name].astype(int), expected, rtol=0, atol=5 if jpeg else channels == 1, err_msg=name
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_8_are_taken(load: Callable[..., DataSource], channels: int) -> None:
    """Pillow itself clips them."""
    found = images(load({"deep.png": saved(DEEP, "PNG")}, channels=channels))["deep.png"]
    np.testing.assert_array_equal(found, np.repeat((DEEP >> 8)[..., np.newaxis], channels, axis=-1))


@pytest.mark.parametrize("name", HEADERS)
def test_a_bad_header_fails_before_anything_is_decoded(
    load: Callable[..., DataSource], tmp_path: Path, name: str
) -> None:
    content, reason = HEADERS[name]
    with pytest.raises(DataError) as caught:
        load({name: content})
    assert re.fullmatch(
        f"Cannot read the image {tmp_path}/data/b/{name}: {reason}.*Repair or remove it, or set data.on_error=skip.",
        str(caught.value),
    )
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("name", TRUNCATED)
def test_what_is_truncated_fails_by_name_when_it_is_read(
    load: Callable[..., DataSource], tmp_path: Path, name: str
) -> None:
    source = load({name: TRUNCATED[name]})
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        images(source)
    explained = str(explain_error(caught.value, source))
    assert explained.startswith(f"Cannot read the image {tmp_path}/data/b/{name}: ")
    assert "\n" not in explained


def test_skip_lists_each_with_its_reason(
    load: Callable[..., DataSource], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {**{name: content for name, (content, _) in HEADERS.items()}, **TRUNCATED}
    with caplog.at_level(logging.WARNING):
        source = load(bad, on_error=OnError.skip, max_skipped=0.8)
    assert f"Left out {len(bad)} of {10 + len(bad)} images" in caplog.text
    assert sorted(images(source)) == sorted(f"{n}.png" for n in range(5))  # of either class
    described = source.describe()
    assert described["splits"] == {"train": 10}
    assert described["skipped"] == len(bad)
    assert described["skipped_images"].keys() == {f"{tmp_path}/data/b/{name}" for name in bad}
    for name, (_, reason) in HEADERS.items():
        assert re.match(reason, described["skipped_images"][f"{tmp_path}/data/b/{name}"]), name
    for name in bad:
        (tmp_path / "data" / "b" / name).unlink()
    clean = load_source(DataConfig(name="folder", dir=str(tmp_path / "data"), validation_fraction=0))
    assert (clean.fingerprint, clean.describe()["skipped"]) == (source.fingerprint, 0)


def test_more_than_the_limit_is_an_error(load: Callable[..., DataSource], tmp_path: Path) -> None:
    bad = {f"x{n}.jpg": b"" for n in range(5)}
    with pytest.raises(DataError) as caught:
        load(bad, on_error=OnError.skip)
    shown = ", ".join(f"{tmp_path}/data/b/x{n}.jpg (the file is empty)" for n in range(3))
    assert str(caught.value) == (
        f"data.max_skipped=0.01: 5 of 15 images (33.3%) cannot be read: {shown} and 2 more. Repair or remove them, or "
        f"raise data.max_skipped."
    )


def test_the_limit_itself_is_within(load: Callable[..., DataSource]) -> None:
    source = load({f"x{n}.jpg": b"" for n in range(2)}, on_error=OnError.skip, max_skipped=2 / 12)
    assert source.splits["train"].num_examples == 10


def test_pixels_up_to_the_limit_are_read(load: Callable[..., DataSource], tmp_path: Path) -> None:
    source = load({"it.jpg": PHOTO}, max_pixels=HEIGHT * WIDTH)
    assert images(source)["it.jpg"].shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(DataError, match=r"it.jpg: its 2400 pixels are more than data.max_pixels=2399\."):
        load_source(DataConfig(name="folder", dir=str(tmp_path / "data"), max_pixels=HEIGHT * WIDTH - 1))


def test_a_gif_counts_with_all_its_frames(load: Callable[..., DataSource]) -> None:
    with pytest.raises(DataError, match=r"its 7200 pixels are more than data.max_pixels=4799\."):
        load({"animated.gif": animated("GIF")}, max_pixels=2 * HEIGHT * WIDTH - 1)
