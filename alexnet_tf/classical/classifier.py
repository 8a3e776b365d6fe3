"""Features and their SVM together, from uint8-valued images to scores, and as a file."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_tf.classical.hog import hog_features
from alexnet_tf.classical.sift import bags_of_words, make_vocabulary, sift_descriptors
from alexnet_tf.classical.svm import LinearSVM
from alexnet_tf.config.schema import ClassicalConfig, HogConfig, SiftBowConfig
from alexnet_tf.runs import write_atomic

Features = Callable[[np.ndarray], np.ndarray]
"""From images `[N, S, S, C]`, values 0-255, to float32 `[N, F]`."""


@dataclass(frozen=True)
class Classifier:
    """A fitted model: `vocabulary` float32 `[words, 128]` where its features need one, and the SVM on them."""

    config: ClassicalConfig
    vocabulary: np.ndarray | None
    svm: LinearSVM

    def scores(self, images: np.ndarray) -> np.ndarray:
        """The SVM's scores, float32 `[N, classes]`, of images `[N, S, S, C]` with values 0-255."""
        return self.svm.scores(make_features(self.config, self.vocabulary)(images))

    def save(self, path: Path) -> None:
        """Write the arrays as an `.npz`, atomically."""
        arrays: dict[str, Any] = {"coefficients": self.svm.coefficients, "intercepts": self.svm.intercepts}
        if self.vocabulary is not None:
            arrays["vocabulary"] = self.vocabulary
        write_atomic(path, lambda stream: np.savez(stream, **arrays))

    @classmethod
    def load(cls, path: Path, config: ClassicalConfig) -> "Classifier":
        """What `save` wrote, with the config of its run."""
        with np.load(path, allow_pickle=False) as stored:
            vocabulary = stored.get("vocabulary")
            return cls(config, vocabulary, LinearSVM(stored["coefficients"], stored["intercepts"]))


def learn_vocabulary(config: SiftBowConfig, batches: Iterable[np.ndarray], seed: int) -> np.ndarray:
    """The visual words, from training images.

    Args:
        config: The features.
        batches: Images `[N, S, S, C]`, values 0-255, in several arrays.
        seed: Of k-means.

    Raises:
        ValueError: The images have fewer descriptors than there are words.
    """
    found = [sift_descriptors(images, config.cell, config.step) for images in batches]
    return make_vocabulary(np.concatenate(found), config.words, seed)


def make_features(config: ClassicalConfig, vocabulary: np.ndarray | None) -> Features:
    """The function from images to features."""
    if isinstance(config, HogConfig):
        return lambda images: hog_features(images, config)
    assert isinstance(config, SiftBowConfig)
    assert vocabulary is not None
    return lambda images: bags_of_words(sift_descriptors(images, config.cell, config.step), vocabulary)
