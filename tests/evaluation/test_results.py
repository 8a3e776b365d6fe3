"""The tables of an evaluation, counted by hand, and its picture."""

import csv

import matplotlib.image
import numpy as np
import pytest

from alexnet_tf.evaluation import Evaluation, Scores, wilson
from alexnet_tf.evaluation.picture import confusion_png, shown_name

NAMES = ["ant, red", 'the "bee"', "蜜蜂", "$x"]
CONFUSION = np.array([[5, 2, 0, 1], [0, 3, 0, 0], [0, 0, 0, 0], [2, 2, 0, 0]])


@pytest.fixture
def evaluation(tmp_path):
    scores = Scores(0.5, 7 / 15, None, 15)
    return Evaluation("run", "now", "test", 10, 1, scores, CONFUSION, NAMES, tmp_path)


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def test_per_class_errors(evaluation, tmp_path):
    evaluation.write_tables(tmp_path)
    header, *lines = rows(tmp_path / "per_class.csv")
    assert header == [
        "index", "class", "examples", "top1_errors", "top1_error", "top1_low", "top1_high", "most_confused_with",
        "times",
    ]  # fmt: skip
    assert [line[:4] for line in lines] == [
        ["0", "ant, red", "8", "3"],
        ["1", 'the "bee"', "3", "0"],
        ["2", "蜜蜂", "0", "0"],
        ["3", "$x", "4", "4"],
    ]
    assert [line[7:] for line in lines] == [['the "bee"', "2"], ["", ""], ["", ""], ["ant, red", "2"]]
    assert lines[2][4:7] == ["", "", ""]  # of no examples there is no error
    assert tuple(map(float, lines[0][4:7])) == (3 / 8, *wilson(3, 8))
    assert tuple(map(float, lines[1][4:7])) == (0.0, *wilson(0, 3))


def test_confusion_table(evaluation, tmp_path):
    evaluation.write_tables(tmp_path)
    header, *lines = rows(tmp_path / "confusion.csv")
    assert header == ["true \\ predicted", *NAMES]
    assert [line[0] for line in lines] == NAMES
    np.testing.assert_array_equal([list(map(int, line[1:])) for line in lines], CONFUSION)


def pixels(tmp_path, confusion, names):
    path = tmp_path / "picture.png"
    path.write_bytes(confusion_png(np.array(confusion), names))
    return matplotlib.image.imread(path)[..., :3]


@pytest.mark.parametrize("classes", [2, 10, 30, 100, 1000])
def test_pictures_of_any_number_of_classes(tmp_path, classes):
    confusion = 50 * np.eye(classes, dtype=int)
    if classes > 2:
        confusion[classes // 2] = 0  # grey
    picture = pixels(tmp_path, confusion, [f"class {index}" for index in range(classes)])
    assert 500 < min(picture.shape[:2]) <= max(picture.shape[:2]) < 2800
    darkest = np.isclose(picture, np.array([8, 48, 107]) / 255, atol=0.01).all(axis=-1)
    assert darkest.sum() > 1000  # the diagonal
    grey = np.isclose(picture, 0xD9 / 255, atol=0.01).all(axis=-1).sum(axis=1).max()
    assert (grey > picture.shape[1] / 3) == (classes > 2)


def test_rows_are_coloured_by_their_own_fractions(tmp_path):
    """A class with few examples looks as one with many: only the counts in the cells differ."""
    few, many = (pixels(tmp_path, [[n, 0], [0, 3]], ["a", "b"]) for n in (3, 9))
    assert few.shape == many.shape
    assert 0 < (few != many).any(axis=-1).mean() < 0.005


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bee", "bee"),
        ("Ярослав, été", "Ярослав, été"),
        ("$x^2$", "$x^2$"),
        ("蜜蜂", "class 7"),
        ("two\nlines", "class 7"),
        (" ", "class 7"),
        ("a" * 22, "a" * 22),
        ("golden retriever, a dog 1", "golden retrie… a dog 1"),
    ],
)
def test_names_on_the_axes(name, shown):
    assert shown_name(name, 7) == shown


def test_names_that_are_no_formulas_are_drawn(tmp_path):
    names = ["$\\frac{", "$", "bee $5", "x_y^z", "蜜蜂"]
    assert pixels(tmp_path, np.eye(5, dtype=int), names).shape[2] == 3
