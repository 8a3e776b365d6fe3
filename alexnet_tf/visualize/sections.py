"""What each picture takes from a run: the step from what is computed to what is drawn."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import runs
from alexnet_tf.config.schema import StagedModelConfig
from alexnet_tf.evaluation.picture import confusion_figure
from alexnet_tf.model import build
from alexnet_tf.pages import Picture, short
from alexnet_tf.training import checkpoint
from alexnet_tf.visualize import draw_images, draw_kernels, draw_measures
from alexnet_tf.visualize.activity import Peaks, loudest_units, nonlinearities, saturation
from alexnet_tf.visualize.answers import confident_mistakes, confusion
from alexnet_tf.visualize.attribution import grad_cam, saliency
from alexnet_tf.visualize.deconvolution import check_deconvolvable, project
from alexnet_tf.visualize.draw_images import Labelled
from alexnet_tf.visualize.features import nearest, plane_maps
from alexnet_tf.visualize.gradients import Snapshots, depth_norms, kernel_gradients
from alexnet_tf.visualize.kernels import colourfulness, kernel_images, specialisation
from alexnet_tf.visualize.network import (
    CONVOLUTIONS,
    Box,
    NotApplicableError,
    activated,
    chain,
    columns_of,
    convolutions,
    receptive_field,
    tap,
    weighted_layers,
)
from alexnet_tf.visualize.subject import PROBE, Example, Subject

MAPS = 8
"""Maps of a layer in the overview of activations."""
LAYERS = 12
"""Layers of a picture that has a row for each; of more, evenly spread ones."""
UNITS, PATCHES = 6, 8
BEYOND = 232
"""Light grey, for what a unit sees beyond the image."""
QUERIES, NEIGHBOURS = 5, 6
"""As in the paper's Figure 4."""
MISTAKES = 12
MAPPED = 1000
"""Points of t-SNE at most, which takes time with their square."""
SNAPSHOTS = 12


@dataclass(frozen=True)
class Section:
    """What one choice of `what` brings to the page."""

    picture: Picture
    answers: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------- weights


def _first_kernel(subject: Subject) -> tuple[keras.layers.Layer, np.ndarray]:
    first = weighted_layers(subject.model)[0]
    if not isinstance(first, CONVOLUTIONS):
        raise NotApplicableError(f"its first layer {first.name} is no convolution")
    kernel = np.asarray(first.kernel, np.float32)
    if kernel.shape[2] not in (1, 3):
        raise NotApplicableError(f"kernels of {kernel.shape[2]} channels are no pictures")
    return first, kernel


def _kernels(subject: Subject) -> Section:
    first, kernel = _first_kernel(subject)
    columns = columns_of(subject.model, first)
    colour = None
    if kernel.shape[2] == 3:
        colour = colourfulness(kernel).reshape(columns, -1).mean(axis=1)
    return Section(draw_kernels.kernels_picture(kernel_images(kernel), columns, first.name, colour))


def _columns(subject: Subject) -> Section:
    first, kernel = _first_kernel(subject)
    columns = columns_of(subject.model, first)
    if columns == 1:
        raise NotApplicableError(f"the kernels of {first.name} are in one column")
    if kernel.shape[2] == 1:
        raise NotApplicableError("the images have no colour")
    found = specialisation(kernel, columns, subject.run.config.seed)
    means = " and ".join(f"{100 * mean:.1f} %" for mean in found.means)
    answer = (
        f"Column specialisation (C13; paper, section 6.1 and Figure 3): colour makes up {means} of the energy of "
        f"{first.name}'s kernels in columns 1 to {columns}, a difference of {100 * found.difference:.1f} points "
        f"(permutation test over kernels, p = {found.p_value:.2g})."
    )
    return Section(draw_kernels.columns_picture(found, first.name), (answer,))


def _histograms(subject: Subject) -> Section:
    images, labels = subject.probe()
    names = [layer.name for layer in weighted_layers(subject.model)]
    shown = _spread(len(names), LAYERS)
    snapshots = Snapshots([names[index] for index in shown])
    for step, model in _states(subject):
        snapshots.add(step, *_weights_and_gradients(model, images, labels, shown))
    del model
    gc.collect()  # it is in cycles, and has as many weights as the one that is looked at
    if len(snapshots.steps) < 2:
        raise NotApplicableError("no earlier state of it is known")
    picture = draw_measures.histograms_picture(snapshots.histograms(), snapshots.steps, len(labels))
    return Section(picture)


def _weights_and_gradients(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor, shown: list[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The kernels of some of the layers with weights, and their gradients."""
    gradients, layers = kernel_gradients(model, images, labels), weighted_layers(model)
    kernels = [np.asarray(layers[index].kernel, np.float32) for index in shown]
    return kernels, [gradients[index] for index in shown]


def _spread(total: int, most: int) -> list[int]:
    """The first, the last and others between, evenly: at most so many numbers below `total`."""
    return [int(index) for index in np.unique(np.linspace(0, total - 1, min(total, most)).astype(int))]


def _states(subject: Subject) -> Iterator[tuple[int, keras.Model]]:
    """Yield the steps of a run that are known and its network then: as it started, its checkpoints, its end.

    It is one network in float32, whatever the training computed in: gradients of 16 bits beside others would differ by
    what they round to zero.

    Raises:
        RunError: A checkpoint is damaged.
    """
    config, last = subject.run.config, int(subject.run.status().get("step", 0))
    model = build(config.model, seed=config.seed)
    if config.init_from is None and runs.IMPORTED not in subject.run.status():
        yield 0, model  # it is as the training found it: its weights follow from the seed
    paths = subject.run.checkpoints()
    for path in (paths[index] for index in _spread(len(paths), SNAPSHOTS)):
        if (step := _restore(model, path)) != last:
            yield step, model
    model.set_weights(subject.model.get_weights())
    yield last, model


def _restore(model: keras.Model, path: Path) -> int:
    """Give a network the weights of a checkpoint, and return the step; what else is in the file is not kept."""
    state = checkpoint.load(path)
    own = {name: array for name, array in state.arrays.items() if name.startswith("model/")}
    checkpoint.restore({"model": model.variables}, checkpoint.Checkpoint(own, {}), path)
    return int(state.state["counters"]["step"])


def _gradients(subject: Subject) -> Section:
    config = subject.run.config
    if not isinstance(config.model, StagedModelConfig):
        raise NotApplicableError(f"the nonlinearity of {config.model.name} is no option")
    images, labels = subject.probe()
    names, norms = depth_norms(config.model, images, labels, seed=config.seed)
    ratios = "; ".join(
        f"{activation} {values[0]:.2g} against {values[-1]:.2g}" for activation, values in norms.items()
    )
    answer = (
        f"The gradient's norm before training, in {names[0]} against the last layer {names[-1]}: {ratios}."
    )
    return Section(draw_measures.gradients_picture(names, norms, len(labels)), (answer,))


# ------------------------------------------------------------------------------------------- units


def _title(example: Example, names: list[str]) -> str:
    return example.title if example.label is None else f"{example.title} ({names[example.label]})"


def _run_layers(subject: Subject, layers: list[keras.layers.Layer], image: np.ndarray) -> list[np.ndarray]:
    """The outputs of layers for one image."""
    inside = tap(subject.model, [layer.output for layer in layers])
    return [tf.cast(each, tf.float32)[0].numpy() for each in inside(image[None])]


def _activations(subject: Subject) -> Section:
    example = subject.example
    title = _title(example, subject.class_names)
    if subject.look.layer is not None:
        (values,) = _run_layers(subject, [subject.answering], example.inputs)
        columns = columns_of(subject.model, subject.layer)
        return Section(draw_images.layer_picture(example.pixels, subject.layer.name, values, columns, title))
    layers = convolutions(subject.model)
    if not layers:
        raise NotApplicableError("the network has no convolution; name a layer")
    some = [layers[index] for index in _spread(len(layers), LAYERS)]
    outputs = _run_layers(subject, [activated(subject.model, layer) for layer in some], example.inputs)
    rows = [
        (layer.name, values, loudest_units(values, MAPS)) for layer, values in zip(some, outputs, strict=True)
    ]
    return Section(draw_images.overview_picture(example.pixels, rows, title))


def _peaks(subject: Subject) -> Peaks:
    inside = tap(subject.model, [subject.answering.output])
    return Peaks.of(
        tf.cast(inside(images)[0], tf.float32).numpy() for images, _ in subject.inputs(subject.split)
    )


def _units(subject: Subject, peaks: Peaks, count: int) -> list[int]:
    """The unit that was asked for, or those that answer most; none that is silent."""
    looked = f"{len(peaks.values)} images of the {subject.split} split"
    if subject.look.unit is None:
        if units := peaks.strongest_units(count):
            return units
        raise NotApplicableError(f"no unit of {subject.layer.name} answers to any of {looked}")
    if not len(peaks.strongest_images(subject.look.unit, 1)):
        raise NotApplicableError(
            f"unit {subject.look.unit} of {subject.layer.name} answers to none of {looked}"
        )
    return [subject.look.unit]


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image that a unit answers to: where in its map, and what of the image it sees there."""

    example: Example
    place: tuple[int, int]
    box: Box

    def cut(self, image: np.ndarray, beyond: float) -> np.ndarray:
        """What the unit sees of an image, with a value for what lies beyond its border."""
        box, (height, width) = self.box, image.shape[:2]
        inside = image[max(0, box.top) : box.bottom, max(0, box.left) : box.right]
        down = (max(0, -box.top), max(0, box.bottom - height))
        across = (max(0, -box.left), max(0, box.right - width))
        return np.pad(inside, [down, across, (0, 0)], constant_values=beyond)


def _seen(subject: Subject, peaks: Peaks, unit: int, count: int) -> list[_Seen]:
    """The images that a unit answers to most."""
    rows = peaks.strongest_images(unit, count)
    examples = subject.examples(subject.split, subject.places(subject.split)[rows])
    found = []
    for row, example in zip(rows, examples, strict=True):
        down, across = (int(value) for value in peaks.places[row, unit])
        box = receptive_field(subject.model, subject.answering, down, across)
        found.append(_Seen(example, (down, across), box))
    return found


def _patches(subject: Subject) -> Section:
    peaks = _peaks(subject)
    units = _units(subject, peaks, UNITS)
    seen = [_seen(subject, peaks, unit, PATCHES) for unit in units]
    patches = [[each.cut(each.example.pixels, BEYOND) for each in row] for row in seen]
    height, width = patches[0][0].shape[:2]
    examples = f"{len(peaks.values):,} images of the {subject.split} split"
    return Section(
        draw_images.patches_picture(
            list(zip(units, patches, strict=True)),
            subject.layer.name,
            f"{height}x{width} pixels",
            examples,
        )
    )


def _deconvolution(subject: Subject) -> Section:
    layers = chain(subject.model, subject.answering)
    check_deconvolvable(layers)
    peaks = _peaks(subject)
    (unit,) = _units(subject, peaks, 1)
    seen = _seen(subject, peaks, unit, UNITS)
    has_maps = len(subject.answering.output.shape) == 4
    projections = [
        each.cut(project(layers, each.example.inputs, unit, each.place if has_maps else None), 0)
        for each in seen
    ]
    patches = [each.cut(each.example.pixels, BEYOND) for each in seen]
    return Section(draw_images.deconvolution_picture(patches, projections, subject.layer.name, unit))


def _saturation(subject: Subject) -> Section:
    if not nonlinearities(subject.model):
        raise NotApplicableError("the network has no nonlinearity in a layer of its own")
    most = min(PROBE, subject.look.examples)
    found = saturation(subject.model, (images for images, _ in subject.inputs(subject.split, most)))
    worst = max(found, key=lambda each: each.dead)
    answer = (
        f"Dead units are most frequent in {worst.layer}: {100 * worst.dead:.1f} %."
        if worst.dead
        else "No unit is dead."
    )
    images = len(subject.places(subject.split, most))
    return Section(draw_measures.saturation_picture(found, images), (answer,))


# ---------------------------------------------------------------------------------------- evidence


def _gradcam(subject: Subject) -> Section:
    if subject.look.layer is not None and not isinstance(subject.layer, CONVOLUTIONS):
        raise NotApplicableError(f"{subject.layer.name} has no maps; name a convolution")
    example, targets = subject.example, subject.targets
    maps = grad_cam(subject.model, subject.answering, example.inputs, targets)
    probabilities = np.exp(subject.log_probabilities(example))
    names = [
        f"{draw_images.wrapped(subject.class_names[index], 16)}\n{100 * probabilities[index]:.1f} %"
        for index in targets
    ]
    title = _title(example, subject.class_names)
    return Section(draw_images.gradcam_picture(example.pixels, maps, names, title, subject.layer.name))


def _saliency(subject: Subject) -> Section:
    example, target = subject.example, subject.targets[0]
    inside = tap(subject.model, [subject.answering.output, subject.model.outputs[0]])
    maps = [
        (
            f"the class\n{short(subject.class_names[target], 18)}",
            saliency(lambda images: inside(images)[1][0, target], example.inputs),
        )
    ]
    (values,) = _run_layers(subject, [subject.answering], example.inputs)
    unit = loudest_units(values, 1)[0] if subject.look.unit is None else subject.look.unit
    maps.append(
        (
            f"unit {unit}\nof {subject.layer.name}",
            saliency(lambda images: tf.reduce_max(inside(images)[0][..., unit]), example.inputs),
        )
    )
    return Section(draw_images.saliency_picture(example.pixels, maps, _title(example, subject.class_names)))


# ---------------------------------------------------------------------------------------- examples


def _neighbours(subject: Subject) -> Section:
    base = subject.answers("train")
    queries = [subject.example]
    places = subject.places(subject.split)
    spread = places[np.linspace(0, len(places) - 1, QUERIES + 1).astype(int)]
    spread = np.array([place for place in spread if f"{subject.split}:{place}" != subject.example.title])
    if len(spread):
        queries += subject.examples(subject.split, np.unique(spread)[: QUERIES - 1])
    inside = tap(subject.model, [subject.feature_layer.output])
    features = tf.cast(inside(np.stack([each.inputs for each in queries]))[0], tf.float32)
    found, _ = nearest(features.numpy(), base.features, NEIGHBOURS + 1)
    rows = []
    for query, neighbours in zip(queries, found, strict=True):
        others = [row for row in neighbours if f"train:{base.places[row]}" != query.title][:NEIGHBOURS]
        examples = subject.examples("train", base.places[others])
        rows.append(
            [_named(query, subject, None), *(_named(each, subject, query.label) for each in examples)]
        )
    name = f"{len(base.labels):,} training images"
    picture = draw_images.neighbours_picture(rows, subject.feature_name, f"images of {subject.split}", name)
    return Section(picture)


def _named(example: Example, subject: Subject, wanted: int | None) -> Labelled:
    """An image with its class, framed by whether that is the wanted one."""
    if example.label is None:
        return Labelled(example.pixels, draw_images.wrapped(example.title))
    name = draw_images.wrapped(subject.class_names[example.label])
    return Labelled(example.pixels, name, None if wanted is None else example.label == wanted)


def _map(subject: Subject) -> Section:
    answers = subject.answers(subject.split)
    if len(answers.labels) < 4 or answers.features.shape[1] < 2:
        raise NotApplicableError("it takes at least 4 examples and 2 features")
    if not np.ptp(answers.features, axis=0).any():
        raise NotApplicableError(f"the features of {subject.feature_name} are the same for all images")
    rows = np.unique(np.linspace(0, len(answers.labels) - 1, MAPPED).astype(int))
    maps = plane_maps(answers.features[rows], subject.run.config.seed)
    examples = f"{len(rows):,} images of the {subject.split} split"
    return Section(
        draw_measures.map_picture(
            maps, answers.labels[rows], subject.class_names, subject.feature_name, examples
        )
    )


def _mistakes(subject: Subject) -> Section:
    answers = subject.answers(subject.split)
    rows = confident_mistakes(answers.log_probabilities, answers.labels, MISTAKES)
    looked = f"{len(answers.labels):,} images of the {subject.split} split"
    if not len(rows):
        raise NotApplicableError(f"there is no mistake among {looked}")
    items = [
        Labelled(
            example.pixels,
            draw_images.said(
                subject.class_names[int(row.argmax())], float(np.exp(row.max())), subject.class_names[label]
            ),
        )
        for example, row, label in zip(
            subject.examples(subject.split, answers.places[rows]),
            answers.log_probabilities[rows],
            answers.labels[rows],
            strict=True,
        )
    ]
    return Section(draw_images.mistakes_picture(items, looked))


def _confusion(subject: Subject) -> Section:
    answers = subject.answers(subject.split)
    counts = confusion(answers.log_probabilities, answers.labels)
    wrong = 1 - np.trace(counts) / counts.sum()
    text = (
        f"True classes in rows, answers in columns, of {len(answers.labels):,} images of the {subject.split} split: "
        f"{100 * wrong:.1f} % are wrong. alexnet evaluate measures the whole split."
    )
    picture = Picture("confusion", confusion_figure(counts, subject.class_names), text, text)
    return Section(picture, (f"Top-1 error of these {len(answers.labels):,} images: {100 * wrong:.1f} %.",))


SECTIONS: dict[str, Callable[[Subject], Section]] = {
    "kernels": _kernels,
    "columns": _columns,
    "activations": _activations,
    "patches": _patches,
    "deconvolution": _deconvolution,
    "gradcam": _gradcam,
    "saliency": _saliency,
    "neighbours": _neighbours,
    "map": _map,
    "mistakes": _mistakes,
    "confusion": _confusion,
    "saturation": _saturation,
    "histograms": _histograms,
    "gradients": _gradients,
}
"""What draws each of `config.look.PICTURES`."""
