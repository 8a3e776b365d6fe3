"""Reading images with PIL in the worker processes of a PyTorch DataLoader, as its ImageNet example does."""

import time
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.reading import WARM_BATCHES
from alexnet_tf.config.schema import Config
from alexnet_tf.data.augment import PUBLISHED_EIGENVALUES, PUBLISHED_EIGENVECTORS


class Photographs(torch.utils.data.Dataset[Any]):
    """Decode, shorter side to `frame`, random crop, mirror, mean, PCA colour: float32 [3, size, size] and a label."""

    def __init__(self, files: list[str], frame: int, size: int, mean: list[float], std: float) -> None:
        self.files, self.frame, self.size, self.mean = files, frame, size, np.array(mean, np.float32)
        self.components = (PUBLISHED_EIGENVECTORS * PUBLISHED_EIGENVALUES / 255 * std).astype(np.float32)

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One example, drawn anew each time."""
        image = Image.open(self.files[index]).convert("RGB")
        scale = self.frame / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
        left, top = (int(torch.randint(side - self.size + 1, ())) for side in image.size)
        image = image.crop((left, top, left + self.size, top + self.size))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        colour = self.components @ torch.randn(3).numpy() - self.mean
        return torch.from_numpy(np.asarray(image, np.float32) + colour).permute(2, 0, 1), 0


def loader(files: list[str], config: Config, processes: int) -> Subject:
    """Batches of images, read by so many processes."""
    torch.set_num_threads(1)
    augment, batch_size = config.augment, config.training.batch_size
    mean = (augment.subtract_mean.values if augment.subtract_mean else None) or [0.0]
    std = augment.pca.std if augment.pca else 0.0
    size = config.model.input_size
    frame = augment.resize.size if augment.resize else size
    photographs = Photographs(files, frame, size, mean, std)
    batches = torch.utils.data.DataLoader(
        photographs, batch_size, shuffle=True, num_workers=processes, drop_last=True
    )

    def run(repetitions: int) -> float:
        reading = iter(batches)
        for _ in range(WARM_BATCHES):
            next(reading)
        started = time.perf_counter()
        for _ in range(repetitions):
            try:
                next(reading)
            except StopIteration:
                reading = iter(batches)
                next(reading)
        return time.perf_counter() - started

    facts = {"torch": torch.__version__, "pillow": PIL.__version__, "processes": processes}
    return Subject(run, work=batch_size, items=batch_size, facts=facts)
