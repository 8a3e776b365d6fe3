"""Drawings that stand on images: users' names are no formulas and fit, rows may be of unequal length."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from alexnet_tf.visualize.draw_images import (
    Labelled,
    gradcam_picture,
    layer_picture,
    mistakes_picture,
    neighbours_picture,
    said,
    saliency_picture,
    wrapped,
)
from alexnet_tf.visualize.draw_measures import map_picture
from alexnet_tf.visualize.features import PlaneMaps

PIXELS = np.full((8, 8, 3), 128, np.uint8)
MAP = np.linspace(0, 1, 64).reshape(8, 8)
FORMULA = r"$\foo_{$"  # which matplotlib cannot read


def words(picture):
    assert picture.svg  # lays it out, and reads what it takes for formulas
    return [item.get_text() for item in picture.figure.findobj(Text) if item.get_text()]


DRAWINGS = {
    "layer": lambda name: layer_picture(PIXELS, "conv1", np.stack([MAP] * 4, axis=-1), 1, name),
    "gradcam": lambda name: gradcam_picture(PIXELS, MAP[None], [wrapped(name)], name, "conv1"),
    "saliency": lambda name: saliency_picture(PIXELS, [(name, MAP)], name),
    "mistakes": lambda name: mistakes_picture([Labelled(PIXELS, said(name, 0.5, name))], "2 images"),
    "map": lambda name: map_picture(
        PlaneMaps(MAP[:, :2], np.ones(2) / 2, MAP[:, 2:4], 2.0), np.arange(8) % 2, [name, "x"], "fc7", "8"
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_name_is_no_formula(name):
    assert any(FORMULA in word for word in words(DRAWINGS[name](FORMULA)))


@pytest.mark.parametrize("name", ["layer", "gradcam"])
def test_an_image_with_a_long_name_is_drawn_with_the_beginning_of_it(name):
    picture = DRAWINGS[name]("holiday-" * 25 + ".jpg")
    assert max(len(line) for word in words(picture) for line in word.splitlines()) <= 60
    assert any(word.startswith("holiday-") and word.endswith("…") for word in words(picture))
    assert "holiday-" * 25 in picture.caption


def test_a_name_of_two_lines_stands_above_the_row_below():
    rows = [[Labelled(PIXELS, wrapped("black swan of the south"))] * 7] * 2
    picture = neighbours_picture(rows, "fc7", "images", "training images")
    canvas = FigureCanvasAgg(picture.figure)
    canvas.draw()
    above, below = picture.figure.axes[0], picture.figure.axes[8]
    assert above.xaxis.label.get_window_extent().y0 > below.get_window_extent().y1


def test_a_query_may_have_fewer_neighbours_than_another():
    item = Labelled(PIXELS, "ant")
    picture = neighbours_picture([[item] * 3, [item] * 4], "fc7", "images", "4 training images")
    assert sum(bool(axes.images) for axes in picture.figure.axes) == 7
    assert "the 3 nearest of 4 training images" in picture.caption
