"""What `alexnet visualize` is asked for, typed and checked."""

import os
from pathlib import Path

import pytest

from alexnet_tf.config import ConfigError
from alexnet_tf.config.look import PICTURES, Look, parse_look


def test_nothing_asks_for_all():
    assert parse_look([]) == Look()
    for all_of_them in ("all", "[all]", "all,kernels", "[kernels,all]"):
        assert parse_look([f"what={all_of_them}"]).what is None


def test_every_option():
    texts = [
        "what=kernels,gradcam",
        "layer=conv5",
        "unit=7",
        "image=validation:3",
        "target=ship",
        "split=test",
    ]
    look = parse_look([*texts, "examples=50"])
    assert look.what == ("kernels", "gradcam")
    assert (look.layer, look.unit, look.target, look.split, look.examples) == ("conv5", 7, "ship", "test", 50)
    assert look.example() == ("validation", 3)


def test_an_image_may_be_a_file(tmp_path):
    path = tmp_path / "train:1.png"
    path.write_bytes(b"")
    look = parse_look([f"image={path}"])
    assert look.image == str(path)
    assert look.example() is None


def test_an_image_whose_name_is_no_text_is_one_line(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"^image=.*: expected a name in UTF-8, as it stands on the page$"):
        parse_look([f"image={path}"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["what=nonsense"], f"what=nonsense: expected one of all, {', '.join(PICTURES)}"),
        (["what=kernels,"], "what=: expected one of all, kernels"),
        (
            ["lyaer=conv1"],
            "lyaer: no such option. Expected one of: what, layer, unit, .* did you mean layer?",
        ),
        (["kernels"], "kernels: expected KEY=VALUE, such as what=kernels,gradcam"),
        (["layer="], "layer=: expected KEY=VALUE"),
        (["unit=one"], "unit=one: expected a whole number from 0"),
        (["unit=-1"], "unit=-1: expected a whole number from 0"),
        (["examples=1"], "examples=1: expected a whole number from 2"),
        (["unit=1", "unit=2"], "unit=2: expected once, came unit=1 too"),
        (["split=val"], "split=val: expected one of train, validation, test"),
        (
            ["image=nowhere.png"],
            "image=nowhere.png: expected an image file, or SPLIT:INDEX such as validation:3",
        ),
        (["image=probe:3"], "image=probe:3: expected an image file"),
    ],
)
def test_wrong_options_are_one_line(texts, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as caught:
        parse_look(texts)
    assert "\n" not in str(caught.value)
