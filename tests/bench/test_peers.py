"""Peers do the same arithmetic as ours: same maps, same weights, same logits."""

import keras
import numpy as np
import pytest

from alexnet_tf import model
from alexnet_tf.bench import ours
from alexnet_tf.bench.keras_peer import stock_network
from alexnet_tf.config import compose_model
from alexnet_tf.model.weights.layouts import hwc_rows_to_chw, hwio_to_oihw

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet_owt", "zfnet_small", "lenet5")]
NETWORKS = ("alexnet", "alexnet_caffe", "alexnet_bn", "cifar_quick", *SLOW)


def shuffled(config, seed=0):
    """Ours, with random biases too."""
    network, generator = model.build(config), np.random.default_rng(seed)
    for variable in network.trainable_variables:
        deviation = 0.1 if len(variable.shape) == 1 else (2 / np.prod(variable.shape[:-1])) ** 0.5
        variable.assign(generator.normal(0, deviation, variable.shape))
    return network


def narrow(name: str):
    """The network with a sixteenth of its kernels and ten classes."""
    whole = compose_model([f"model={name}"])
    stages = {key: {"units": max(2, stage.units // 16)} for key, stage in whole.stages.items() if stage.units}
    return compose_model([f"model={name}"], {"num_classes": 10, "stages": stages})


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request):
    config = narrow(request.param)
    network = shuffled(config)
    images = 20 * np.random.default_rng(1).normal(size=(2, config.input_size, config.input_size, 3))
    images = images.astype(np.float32)
    return config, network, images, network(images).numpy()


def test_keras(pair):
    config, network, images, logits = pair
    theirs = stock_network(config)
    theirs.set_weights(network.get_weights())
    np.testing.assert_allclose(theirs(images).numpy(), logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())
    assert model.total(model.layer_table(theirs)).macs == model.total(model.layer_table(network)).macs


def test_torch(pair):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from alexnet_tf.bench import torch_peer

    config, network, images, logits = pair
    theirs = torch_peer.network(config)
    layers = [layer for layer in theirs if list(layer.parameters(recurse=False))]
    maps = next(layer.input.shape[1:] for layer in network.layers if isinstance(layer, keras.layers.Flatten))
    for mine, layer in zip([layer for layer in network.layers if layer.weights], layers, strict=True):
        copy(mine, layer, maps)
        maps = None if isinstance(mine, keras.layers.Dense) else maps
    with torch.no_grad():
        found = theirs.train(False)(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max())


def copy(mine, layer, maps):
    """Give a layer of PyTorch's our weights; the first dense one reads `maps` as (C, H, W)."""
    import torch

    values = mine.get_weights()
    names = ("weight", "bias", "running_mean", "running_var")[: len(values)]
    if isinstance(mine, keras.layers.BatchNormalization):
        layer.eps = mine.epsilon
    elif isinstance(mine, keras.layers.Dense):
        kernel = values[0] if maps is None else hwc_rows_to_chw(values[0], maps)
        values[0] = kernel.T
    else:
        values[0] = hwio_to_oihw(values[0])
    with torch.no_grad():
        for name, value in zip(names, values, strict=True):
            getattr(layer, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))


def test_arithmetic_by_hand():
    """conv1 of the paper's network: 55 x 55 x 96 outputs of 11 x 11 x 3 products each."""
    network = model.build(compose_model(["model=alexnet"]))
    first = 55 * 55 * 96 * 11 * 11 * 3
    assert ours.training_flops(network) == 2 * (3 * 724_406_816 - first)
    assert ours.inference_flops(network) == 2 * 724_406_816


def test_memory_by_hand():
    network = model.build(compose_model(["model=digits_quick"], {"num_classes": 10, "input_channels": 1}))
    outputs = sum(int(np.prod(layer.output.shape[1:])) for layer in network.layers[1:])
    parameters = network.count_params()
    size = network.input_shape[1]
    assert ours.bytes_by_hand(network, 8) == 3 * 4 * parameters + 8 * 4 * (size * size + outputs)
