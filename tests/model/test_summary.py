import keras
import pytest

from alexnet_tf.model import LayerRow, build, layer_table, total


def test_a_row_for_each_layer(tiny_config):
    rows = {row.name: row for row in layer_table(build(tiny_config()))}
    assert list(rows)[:5] == ["conv1", "conv1_relu", "conv1_norm", "conv1_pool", "conv2"]
    # 9 x 9 pixels, 4 filters, 3 x 3 kernels over 2 channels; conv2 has 4 x 4 pixels and 2 of the 4 channels.
    assert rows["conv1"] == LayerRow(
        "conv1", "ColumnConv2D", (9, 9, 4), 3 * 3 * 2 * 4 + 4, 9 * 9 * 4 * 3 * 3 * 2
    )
    assert rows["conv2"] == LayerRow(
        "conv2", "ColumnConv2D", (4, 4, 4), 3 * 3 * 2 * 4 + 4, 4 * 4 * 4 * 3 * 3 * 2
    )
    assert rows["conv1_pool"] == LayerRow("conv1_pool", "Pool2D", (4, 4, 4), 0, 0)
    assert rows["fc3_dropout"] == LayerRow("fc3_dropout", "Dropout", (8,), 0, 0)
    assert rows["fc4"] == LayerRow("fc4", "Dense", (3,), 8 * 3 + 3, 8 * 3)


def test_totals(tiny_config):
    model = build(tiny_config())
    whole = total(layer_table(model))
    assert (whole.name, whole.output_shape) == ("total", (3,))
    assert whole.parameters == model.count_params() == 76 + 76 + 64 * 8 + 8 + 27
    assert whole.macs == 9 * 9 * 72 + 4 * 4 * 72 + 64 * 8 + 8 * 3


def test_the_papers_network_costs_724_million_multiplications(model_config):
    config = model_config("alexnet", {"num_classes": 1000})
    rows = layer_table(build(config))
    convolutions = {
        "conv1": 55 * 55 * 96 * 11 * 11 * 3,
        "conv2": 27 * 27 * 256 * 5 * 5 * 48,
        "conv3": 13 * 13 * 384 * 3 * 3 * 256,
        "conv4": 13 * 13 * 384 * 3 * 3 * 192,
        "conv5": 13 * 13 * 256 * 3 * 3 * 192,
    }
    dense = {"fc6": 6 * 6 * 256 * 4096, "fc7": 4096 * 4096, "fc8": 4096 * 1000}
    assert {row.name: row.macs for row in rows if row.macs} == {**convolutions, **dense}
    assert round(sum(convolutions.values()) / 1e6) == 666
    assert round(total(rows).macs / 1e6) == 724
    keras.utils.clear_session()


def test_an_empty_table():
    with pytest.raises(ValueError, match=r"Expected at least one layer\. Received: an empty list"):
        total([])
