"""The table of the sources: complete, consistent with itself, typed when read."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from alexnet_tf.config import ConfigError
from alexnet_tf.fidelity import load_sources
from alexnet_tf.fidelity.sources import said_fields

ROOT = Path(__file__).parents[2]
FILE = ROOT / "alexnet_tf" / "fidelity" / "sources.yaml"
SOURCES = load_sources()


def facts(name):
    return {
        fact: value
        for said in SOURCES.networks[name].said.values()
        for fact, value in said_fields(said).items()
    }


def test_every_network_of_ours_has_a_source_or_a_reason_to_have_none():
    ours = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert ours == {*SOURCES.networks, *SOURCES.without_source}


def test_every_place_has_a_title():
    places = {where for source in SOURCES.networks.values() for where in source.said}
    assert all(any(place.startswith(title) for title in SOURCES.titles) for place in places)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_code2012", "alexnet_caffe", "caffenet"])
def test_the_layers_parameters_add_up(name):
    said = facts(name)
    assert sum(said["parameters_of"].values()) == said["parameters"] == 60_965_224


@pytest.mark.parametrize("name", ["alexnet", "alexnet_code2012", "alexnet_caffe", "caffenet", "alexnet_owt"])
def test_the_steps_are_those_of_the_rule_with_the_sources_constants(name):
    said = facts(name)
    rate, decay = said["rate"]["weights"], said["decay"]["weights"]
    w, v, steps = 100.0, 0.0, []
    for g in (1.0, -2.0, 0.5):
        v = said["momentum"] * v - decay * rate * w - rate * g
        w += v
        steps.append(v)
    np.testing.assert_allclose(said["update"], steps, rtol=0, atol=1e-9)


def test_the_colour_noise_is_a_tenth_of_deviations_or_of_eigenvalues():
    deviations = np.array([19.72, 37.09, 121.78])
    np.testing.assert_allclose(facts("alexnet_code2012")["colour_noise"], 0.1 * deviations)
    eigenvalues = (deviations / 255) ** 2  # of RGB in [0, 1]
    np.testing.assert_allclose(facts("alexnet")["colour_noise"], 0.1 * eigenvalues * 255, rtol=1e-5)


def test_drawn_weights_follow_their_formulas():
    fan_in = np.array([11 * 11 * 3, 5 * 5 * 96, 9 * 256, 9 * 384, 9 * 384, 9216, 4096, 4096])
    fan_out = np.array([121 * 96, 25 * 256, 9 * 384, 9 * 384, 9 * 256, 4096, 4096, 1000])
    glorot = list(facts("alexnet_bn")["weight_std"].values())
    np.testing.assert_allclose(glorot, np.sqrt(2 / (fan_in + fan_out)), rtol=1e-4)
    fan_in = np.array([11 * 11 * 3, 5 * 5 * 64, 9 * 192, 9 * 384, 9 * 256, 9216, 4096, 4096])
    torch = list(facts("alexnet_owt")["weight_std"].values())
    np.testing.assert_allclose(torch, 1 / np.sqrt(3 * fan_in), rtol=1e-5)


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [("filers", [1], "the sources of lenet5: Key 'filers'"), ("filters", ["six"], "Value 'six'")],
)
def test_what_is_no_fact_or_of_another_type_is_refused(tmp_path, fact, value, message):
    content = yaml.safe_load(FILE.read_text())
    content["networks"]["lenet5"]["said"]["LeCun 1998"][fact] = value
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=message):
        load_sources(tmp_path / "copy.yaml")
