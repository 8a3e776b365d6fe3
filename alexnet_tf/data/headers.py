"""What an image file says of itself in its first bytes, read before any of it is decoded.

A few kilobytes can decode to gigabytes, and some files TensorFlow decodes to other colours than they hold. Both show in
the header.
"""

import struct
from pathlib import Path
from typing import BinaryIO

STANDALONE = {0x01, *range(0xD0, 0xD8)}
"""JPEG's markers that nothing belongs to: TEM and RST (ITU-T T.81, table B.1)."""
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
ADOBE = 0xEE
BGR_MASKS = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)


class HeaderError(ValueError):
    """The file is no image that can be decoded rightly; the message is the reason."""


def header_problem(path: Path, max_pixels: int) -> str | None:
    """Return why a file must not be decoded as an image, or None.

    Its name does not count. A GIF counts with all its frames, which the decoder holds at once. A JPEG in CMYK is
    refused without Adobe's marker, as only that says that its values are inverted; a BMP with a palette of
    colours, because TensorFlow takes its indices for grey; a WebP with alpha or animation, because TensorFlow makes
    no RGB of it.

    Args:
        path: A JPEG, PNG, GIF, BMP or WebP file.
        max_pixels: The largest width times height.
    """
    try:
        with path.open("rb") as file:
            return stream_problem(file, max_pixels)
    except OSError as error:
        return error.strerror or str(error)


def stream_problem(file: BinaryIO, max_pixels: int) -> str | None:
    """As `header_problem`, of a file that is open."""
    try:
        pixels = _pixels(file)
    except HeaderError as error:
        return str(error)
    except (struct.error, IndexError):
        return "the file ends within its header"
    return None if pixels <= max_pixels else f"its {pixels} pixels are more than data.max_pixels={max_pixels}"


def _pixels(file: BinaryIO) -> int:
    head = file.read(34)
    if not head:
        raise HeaderError("the file is empty")
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg_pixels(file)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack(">2I", head[16:24])
        return int(width * height)
    if head.startswith(b"GIF8"):
        return _gif_pixels(file)
    if head.startswith(b"BM"):
        return _bmp_pixels(file, head)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_pixels(head)
    raise HeaderError("its first bytes are not those of a JPEG, PNG, GIF, BMP or WebP image")


def _jpeg_pixels(file: BinaryIO) -> int:
    """Width times height of the frame; the segments before the first scan are walked over as libjpeg does."""
    file.seek(2)
    pixels, components, adobe = 0, 0, False
    while True:
        while file.read(1)[0] != 0xFF:  # what lies between segments is skipped
            pass
        while (marker := file.read(1)[0]) == 0xFF:  # and so is padding
            pass
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            break
        if marker == 0 or marker in STANDALONE:
            continue
        (length,) = struct.unpack(">H", file.read(2))
        start = file.tell()
        if marker in START_OF_FRAME:
            _, height, width, components = struct.unpack(">BHHB", file.read(6))
            pixels = height * width
        adobe |= marker == ADOBE and file.read(5) == b"Adobe"
        file.seek(start + length - 2)
    if components == 4 and not adobe:
        raise HeaderError(
            "a CMYK JPEG without Adobe's marker, which does not say if its colours are inverted"
        )
    return pixels


def _gif_pixels(file: BinaryIO) -> int:
    """The canvas (as large as the screen and the largest frame) or all frames together, whichever is more."""
    file.seek(6)
    width, height, flags = struct.unpack("<HHB", file.read(5))
    file.seek(2 + _palette_bytes(flags), 1)
    total = 0
    while (kind := file.read(1)) in (b"\x21", b"\x2c"):
        if kind == b"\x21":  # an extension, and its label
            file.seek(1, 1)
        else:
            _, _, frame_width, frame_height, flags = struct.unpack("<4HB", file.read(9))
            width, height = max(width, frame_width), max(height, frame_height)
            total += frame_width * frame_height
            file.seek(_palette_bytes(flags) + 1, 1)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], 1)
    return max(width * height, total)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _bmp_pixels(file: BinaryIO, head: bytes) -> int:
    start, header, width, height, _, bits, compression = struct.unpack("<IIiiHHI", head[10:34])
    if header < 40:
        raise HeaderError("a BMP of OS/2, which cannot be decoded")
    file.seek(54)
    if compression not in (0, 3) or (compression == 3 and file.read(12) != BGR_MASKS):
        raise HeaderError("a compressed BMP, which cannot be decoded")
    if bits == 8:
        file.seek(14 + header)
        palette = file.read(start - 14 - header)
        if any(palette[4 * i : 4 * i + 3] != bytes([i] * 3) for i in range(len(palette) // 4)):
            raise HeaderError("a BMP with a palette, which cannot be decoded")
    return abs(width * height)


def _webp_pixels(head: bytes) -> int:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return int((width & 0x3FFF) * (height & 0x3FFF))
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", head[21:25])
        width, height, alpha, animation = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1, 0
    elif kind == b"VP8X":
        alpha, animation = head[20] & 0x10, head[20] & 0x02
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        raise HeaderError("a WebP without an image")
    if alpha or animation:
        raise HeaderError(
            f"a WebP with {'animation' if animation else 'alpha'}, which cannot be decoded as RGB"
        )
    return width * height
