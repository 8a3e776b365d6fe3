"""Made-up photographs, for benches of machines without any. Imports no TensorFlow."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (375, 500)
"""Rows and columns, the commonest of ILSVRC-2012's."""
QUALITY = 92
"""With it the files have 128 kB on average; those of ILSVRC-2012 have 108 (138 GB for 1.28 million)."""
DIFFERENT, CLASSES = 128, 4


def write_photographs(folder: Path, count: int, different: int = DIFFERENT) -> None:
    """Write class folders of JPEGs with as much in them as photographs have: noise whose power falls with frequency.

    Args:
        folder: Where `train/<class>/<number>.jpg` go.
        count: How many.
        different: After so many the same come again, as other names of the same files.
    """
    generator = np.random.default_rng(0)
    first: list[Path] = []
    for number in range(count):
        path = folder / "train" / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < different:
            Image.fromarray(_photograph(generator)).save(path, quality=QUALITY)
            first.append(path)
        else:
            os.link(first[number % different], path)


def _photograph(generator: np.random.Generator) -> np.ndarray:
    """One of spectrum 1/f, which is that of natural images (Field, 1987), its channels alike for the most part."""
    rows, columns = SIZE
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = 1.0
    noise = generator.normal(size=(rows, columns, 4))
    spectrum = np.fft.rfft2(noise, axes=(0, 1)) / frequency[:, :, None]
    maps = np.fft.irfft2(spectrum, s=(rows, columns), axes=(0, 1))
    maps /= maps.std(axis=(0, 1))
    image = 128 + 50 * (maps[:, :, :1] + 0.3 * maps[:, :, 1:])
    return np.clip(image, 0, 255).astype(np.uint8)
