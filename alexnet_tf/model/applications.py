"""Networks of `keras.applications`, untrained, as baselines of what came after AlexNet."""

from typing import Any

import keras

from alexnet_tf.config.schema import Application, ApplicationConfig
from alexnet_tf.model.initializers import part_seed

APPLICATIONS = {
    Application.vgg16: keras.applications.VGG16,  # Simonyan and Zisserman (2014), configuration D
    Application.resnet50: keras.applications.ResNet50,  # He et al. (2015), with biases in its convolutions
}


def apply_application(
    images: keras.KerasTensor, config: ApplicationConfig, dtype: str, seed: int
) -> keras.KerasTensor:
    """The logits of a network whose layers, their names and initializers are those of `keras.applications`.

    Its functions take neither a dtype nor a seed. So the network is made by them once, and each layer again from its
    config, with both.

    Args:
        images: `[N, input_size, input_size, input_channels]`.
        config: Checked, with its number of classes.
        dtype: The policy of every layer but the last, which computes in the dtype of the images.
        seed: Seed of the initial weights.
    """
    model = APPLICATIONS[config.application](
        weights=None,
        input_tensor=keras.Input(images.shape[1:]),
        classes=config.num_classes,
        classifier_activation=None,
    )
    last = model.layers[-1]

    def renew(layer: keras.layers.Layer) -> keras.layers.Layer:
        stored = {**layer.get_config(), "dtype": images.dtype if layer is last else dtype}
        return type(layer).from_config(_seeded(stored, seed))

    return keras.models.clone_model(model, input_tensors=[images], clone_function=renew).outputs[0]


def _seeded(stored: dict[str, Any], seed: int) -> dict[str, Any]:
    """A layer's config, each of whose random initializers has a seed by the layer's name and its own."""
    for key, value in stored.items():
        if key.endswith("_initializer") and "seed" in value["config"]:
            part = key.removesuffix("_initializer")
            value["config"]["seed"] = part_seed(seed, stored["name"], part)
    return stored
