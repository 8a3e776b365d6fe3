"""The other kind of training: a model that is fitted at once. Leaves what the loop leaves, as one epoch of one step."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import data, runs
from alexnet_tf.classical.classifier import Classifier, learn_vocabulary, make_features
from alexnet_tf.classical.svm import fit_svm
from alexnet_tf.config import Config, ConfigError
from alexnet_tf.config.schema import AugmentConfig, ClassicalConfig, Progress, SiftBowConfig
from alexnet_tf.evaluation import Scores, tally
from alexnet_tf.runs import RunFolder, State, Stopped, Table
from alexnet_tf.training.signals import StopSignal

FRAMING = ("resize", "center_crop", "random_crop", "random_resized_crop", "pad_crop")
"""Operations of `augment` that decide what is seen; the others change values, which the features normalise by themselves."""
PIXELS = 256 * 32 * 32
"""Of the images at once, so that memory holds their descriptors."""


def framing(augment: AugmentConfig) -> AugmentConfig:
    """The operations that only cut and resize, for pixels that keep their values of 0-255."""
    return replace(augment, order=[name for name in augment.order if name in FRAMING])


@dataclass
class Fit:
    """A run that is a vocabulary, features, and an SVM on them."""

    run: RunFolder
    config: Config
    source: data.DataSource
    callbacks: keras.callbacks.CallbackList
    seconds: float = 0.0
    """Of the fit, with its features."""
    best_error: float | None = None
    done: bool = False

    def __post_init__(self) -> None:
        assert isinstance(self.config.model, ClassicalConfig)  # see trainer
        self.model = self.config.model
        self.metrics = Table(self.run.path / runs.METRICS, runs.METRICS_COLUMNS, [])
        self.timing = Table(self.run.path / runs.TIMING, runs.TIMING_COLUMNS, [])
        self.stop_signal = StopSignal()

    def restore(self, *, changed: bool) -> None:
        """Begin anew: a fit that was interrupted leaves nothing to go on from."""

    def train(self) -> None:
        """Fit, measure, and write what was found.

        Raises:
            Stopped: If a signal came; the next attempt begins anew.
            ConfigError: If the vocabulary has more words than the training images have descriptors.
        """
        self._write_status(State.running, since=runs.now(), since_step=0, pid=os.getpid())
        with self.stop_signal:
            self.callbacks.on_train_begin()
            try:
                self.callbacks.on_epoch_begin(0)
                logs = self._fit()
                self.metrics.save()
                self.timing.save()
                self.callbacks.on_epoch_end(0, logs)
            finally:
                self.callbacks.on_train_end()
        runs.write_json(self.run.path / runs.ENVIRONMENT, {**self.run.environment(), "end": runs.now()})
        self._write_status(State.finished, reason="fitted")

    def _fit(self) -> dict[str, float | None]:
        """The story: words, features, planes, errors; returns the errors as an epoch's logs."""
        started = time.perf_counter()
        vocabulary = self._vocabulary()
        features, labels = self._train_features(vocabulary)
        classes = self.model.num_classes
        assert classes is not None  # trainer completes the config
        self._say(f"linear SVM: {classes} classes, {features.shape[1]} features of {len(features)} images")
        svm = fit_svm(
            features,
            labels,
            classes,
            c=self.model.c,
            iterations=self.model.iterations,
            seed=self.config.seed,
            between=self._heed_signal,
        )
        classifier = Classifier(self.model, vocabulary, svm)
        self.seconds = time.perf_counter() - started
        classifier.save(self.run.path / runs.CLASSIFIER)
        self.done = True
        train = self._record("train", [(svm.scores(features), labels)], self.seconds)
        logs = {"top1_error": train.top1_error, "top5_error": train.top5_error}
        if self.config.training.probe.every:
            probe = data.probe_ids(self.source, self.config.training.probe.examples, self.config.seed)
            self._record("probe", self._scored(classifier, "train", probe))
        if "validation" in self.source.splits:
            scores = self._record("validation", self._scored(classifier, "validation"))
            self.best_error = scores.top1_error
            logs |= {"val_top1_error": scores.top1_error, "val_top5_error": scores.top5_error}
        return logs

    def _vocabulary(self) -> np.ndarray | None:
        """The visual words, of a seeded choice of training images; None where the features are a formula alone."""
        if not isinstance(self.model, SiftBowConfig):
            return None
        ids = data.probe_ids(self.source, self.model.vocabulary_images, self.config.seed)
        try:
            return learn_vocabulary(
                self.model, (images for images, _ in self._images("train", ids)), self.config.seed
            )
        except ValueError as error:
            raise ConfigError(f"model.words: {error}; use fewer, or more model.vocabulary_images") from error

    def _train_features(self, vocabulary: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The features float32 `[N, F]` and the labels int32 `[N]` of all training images."""
        of = make_features(self.model, vocabulary)
        self._say(f"features of {self.source.split('train').num_examples} training images")
        pairs = [(of(images), labels) for images, labels in self._images("train")]
        features, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
        return features, labels

    def _images(self, split: str, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of images `[n, S, S, C]`, values 0-255, and labels `[n]`; a signal ends them."""
        augment = framing(self.config.augment)
        batch_size = max(1, PIXELS // self.model.input_size**2)
        for images, labels, weights in data.eval_batches(
            self.source, split, augment, None, batch_size=batch_size, ids=ids
        ):
            self._heed_signal()
            there = weights.numpy() > 0
            yield images.numpy()[there], labels.numpy()[there]

    def _scored(
        self, classifier: Classifier, split: str, ids: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((classifier.scores(images), labels) for images, labels in self._images(split, ids))

    def _record(
        self, split: str, batches: Iterable[tuple[np.ndarray, np.ndarray]], seconds: float | None = None
    ) -> Scores:
        """Measure batches of scores and labels, and add a row to metrics.csv and one to timing.csv.

        There is no learning rate, and no loss that a network's could be compared with.
        """
        started = time.perf_counter()
        totals = np.zeros(4)
        for scores, labels in batches:
            with tf.device("/CPU:0"):
                totals += tally(tf.constant(scores), tf.constant(labels), tf.ones(len(labels))).numpy()
        found = Scores.of(totals, self.model.num_classes or 0)
        place = {"epoch": 1, "step": 1, "split": split}
        self.metrics.append(**place, **{**vars(found), "loss": None}, lr=None)
        rate = found.examples / (seconds or time.perf_counter() - started)
        self.timing.append(**place, seconds=round(self.seconds, 6), images_per_second=round(rate, 2))
        error = f"{100 * found.top1_error:.1f} %"
        self._say(f"{split} error {error} | {found.examples} images | {rate:,.0f} images/s")
        return found

    def _heed_signal(self) -> None:
        """Stop if a signal came; there is nothing to save."""
        if received := self.stop_signal.received:
            self._write_status(State.stopped, reason=f"{received.name} during the fit")
            raise Stopped(self.run, 0)

    def _say(self, line: str) -> None:
        if self.config.training.progress != Progress.none:
            print(line, flush=True)

    def _write_status(self, state: State, **values: object) -> None:
        step = int(self.done)
        self.run.write_status(state, step=step, steps=1, epoch=step, best_error=self.best_error, **values)
