import functools
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from alexnet_tf.config import (
    ConfigError,
    checkpoint_interval,
    compose,
    compose_model,
    from_dict,
    from_run,
    to_dict,
    to_yaml,
)
from alexnet_tf.config.compose import SCHEMA_VERSION
from alexnet_tf.config.schema import (
    Activation,
    AdamConfig,
    ApplicationConfig,
    ConstantConfig,
    CosineConfig,
    Init,
    PlateauConfig,
    Precision,
    SGDConfig,
    StagedModelConfig,
    StepsConfig,
    TableConfig,
)

CONF = Path(__file__).parents[2] / "conf"
SUITABLE = {  # what a choice needs beside itself to make a run
    "data=imagenet2012": ["model=alexnet"],
    "data=tfds": ["data.name=beans"],
    "augment=cifar": ["data=cifar10", "model=cifar_quick"],
    "augment=mean_only": ["data=cifar10", "model=cifar_quick"],
    "augment=paper": ["data=imagenette", "model=alexnet"],
    "augment=code2012": ["data=imagenette", "model=alexnet"],
    "augment=caffe": ["data=imagenette", "model=alexnet_caffe"],
    "augment=owt": ["data=imagenette", "model=alexnet"],
    "experiment=finetune": ["init_from=runs/mine"],
    "schedule=code2012": ["optimizer=code2012", "data=imagenette", "model=alexnet", "augment=code2012"],
}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


CHOICES = [
    f"{group}={name}"
    for group in ("data", "model", "augment", "optimizer", "schedule", "strategy", "training", "experiment")
    for name in names(group)
]


def test_the_choices_were_found():
    assert {"data=cifar10", "model=alexnet", "experiment=relu_vs_tanh", "schedule=cosine"} <= set(CHOICES)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_comes_back_from_yaml(choice):
    config = compose([choice, *SUITABLE.get(choice, [])])
    group, _, name = choice.partition("=")
    if group == "model":
        assert config.model.name == name
    if group == "data" and name != "tfds":
        assert config.data.name == name
    text = to_yaml(config)
    assert from_dict(yaml.safe_load(text)) == config
    assert "${" not in text
    assert "???" not in text


def test_the_defaults_are_the_digits():
    config = compose()
    assert (config.data.name, config.data.channels, config.model.name) == ("digits", 1, "alexnet_small")
    assert isinstance(config.optimizer, SGDConfig)
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay) == (
        0.01,
        0.9,
        5e-4,
    )
    assert isinstance(config.schedule, ConstantConfig)
    assert (config.training.batch_size, config.seed, config.study) == (128, 0, None)
    assert "flip" not in config.augment.order  # a mirrored digit is none


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("optimizer=adam", AdamConfig),
        ("optimizer=sgd", SGDConfig),
        ("schedule=plateau", PlateauConfig),
        ("schedule=steps", StepsConfig),
        ("schedule=cosine", CosineConfig),
        ("schedule=paper", PlateauConfig),
        ("model=alexnet_owt", StagedModelConfig),
        ("model=vgg16", ApplicationConfig),
    ],
)
def test_members_with_fields_of_their_own_have_a_class_of_their_own(choice, kind):
    config = compose([choice])
    section = getattr(config, choice.partition("=")[0])
    assert type(section) is kind
    assert type(getattr(from_dict(to_dict(config)), choice.partition("=")[0])) is kind


def test_the_recipes_differ_where_their_sources_do():
    paper = compose(["data=imagenette", "model=alexnet", "augment=paper"]).augment
    code = compose(["data=imagenette", "model=alexnet", "augment=code2012"]).augment
    assert (paper.order, paper.resize, paper.flip) == (code.order, code.resize, code.flip)
    assert (paper.random_crop.last_offset, code.random_crop.last_offset) == (False, True)
    assert (paper.pca.scale, paper.pca.divisor) == ("eigenvalue", 1.0)
    assert (code.pca.scale, code.pca.std, code.pca.divisor, code.pca.source) == (
        "deviation",
        0.1,
        1.1,
        "training",
    )
    caffe = compose(["experiment=alexnet_ilsvrc2012_caffe"])
    assert (caffe.augment.resize.size, caffe.augment.resize.keep_aspect) == (256, False)
    assert (caffe.augment.random_crop.size, caffe.augment.random_crop.last_offset) == (227, True)
    assert caffe.schedule.iterations == [100_000, 200_000, 300_000, 400_000]
    assert (caffe.schedule.epochs, caffe.training.steps, caffe.training.batch_size) == ([], 450_000, 256)
    torchvision = compose(["experiment=alexnet_ilsvrc2012_owt"])
    assert (torchvision.training.batch_size, torchvision.training.epochs) == (256, 90)
    assert (torchvision.schedule.epochs, torchvision.schedule.divisor) == ([31, 61], 10)
    assert torchvision.optimizer.weight_decay == 1e-4
    owt = torchvision.augment
    crop = owt.random_resized_crop
    assert (crop.size, crop.min_area, crop.max_area, crop.min_ratio) == (224, 0.08, 1.0, 0.75)
    assert crop.max_ratio == 4 / 3
    assert owt.subtract_mean.values == pytest.approx(
        [255 * mean for mean in (0.485, 0.456, 0.406)], rel=1e-12
    )
    deviations = [255 * deviation for deviation in (0.229, 0.224, 0.225)]
    assert owt.scale.channel_divisors == pytest.approx(deviations, rel=1e-12)
    table = compose(
        ["schedule.phases.second.epoch=3", *SUITABLE["schedule=code2012"], "schedule=code2012"]
    ).schedule
    assert type(table) is TableConfig
    assert table.phases["second"].epoch == 3


def test_values_arrive_with_their_types():
    overrides = [
        "model=cifar_quick",
        "model.activation=tanh",
        "model.init=he_normal",
        "training.precision=bfloat16",
        "optimizer.lr=1",
        "seed=7",
        "optimizer.groups.biases.lr=0.02",
    ]
    config = compose(overrides)
    assert config.model.activation is Activation.tanh
    assert config.model.init is Init.he_normal
    assert config.training.precision is Precision.bfloat16
    assert config.optimizer.lr == 1.0
    assert isinstance(config.optimizer.lr, float)
    assert config.seed == 7
    assert config.optimizer.groups["biases"].lr == 0.02
    assert list(config.model.stages) == ["conv1", "conv2", "conv3", "fc10"]


def test_data_brings_its_augmentation_and_the_command_line_replaces_it():
    assert compose(["data=cifar10"]).augment.order == ["pad_crop", "flip", "subtract_mean", "scale"]
    assert compose(["data=cifar10", "augment=plain"]).augment.order == ["resize", "subtract_mean", "scale"]
    paper = compose(["data=imagenette", "model=alexnet"]).augment
    assert (paper.resize.size, paper.center_crop.size, paper.random_crop.size) == (256, 256, 224)


def test_sizes_follow_the_network():
    augment = compose(["data=imagenette", "model=alexnet", "model.input_size=227"]).augment
    assert augment.random_crop.size == 227
    assert augment.resize.size == 256


def test_null_switches_off():
    config = compose(
        ["data=imagenette", "model=alexnet", "augment.pca=null", "augment.flip=null", "model.lrn=null"]
    )
    assert config.augment.pca is None
    assert config.augment.flip is None
    assert config.model.lrn is None
    assert from_dict(to_dict(config)) == config
    assert compose(["model.stages.conv1.pool=null"]).model.stages["conv1"].pool is None


def test_a_stage_can_be_removed():
    assert list(compose(["~model.stages.conv3"]).model.stages) == [
        *("conv1", "conv2", "conv4", "conv5", "fc6", "fc7", "fc8")
    ]


def test_from_dict_takes_changes():
    config = compose(["schedule=cosine"])
    changed = from_dict(
        to_dict(config), ["training.epochs=20", "optimizer.lr=0.5", "schedule.final_fraction=0.1"]
    )
    assert changed.training.epochs == 20
    assert changed.optimizer.lr == 0.5
    assert changed.schedule.final_fraction == 0.1
    with pytest.raises(ConfigError, match=r"training\.epoch: no such key\. .*did you mean epochs"):
        from_dict(to_dict(config), ["training.epoch=20"])
    with pytest.raises(ConfigError, match=r"training\.epochs.*Expected int"):
        from_dict(to_dict(config), ["training.epochs=many"])
    with pytest.raises(ConfigError, match=r"optimizer\.name: expected one of sgd, adam, came lamb"):
        from_dict({**to_dict(config), "optimizer": {"name": "lamb"}})


def test_a_config_of_another_version_is_explained():
    content = to_dict(compose())
    content["model"]["stages"]["conv1"]["dilation"] = 2
    with pytest.raises(ConfigError, match=r"model\.stages\.conv1\.dilation: no such key") as caught:
        from_dict(content)
    assert "\n" not in str(caught.value)


def test_a_stored_network_is_told_by_the_key_that_only_it_has():
    assert type(from_dict(to_dict(compose(["model=resnet50"]))).model) is ApplicationConfig
    content = to_dict(compose(["model=alexnet_code2012"]))
    assert type(from_dict(content).model) is StagedModelConfig
    for newer in ("map_norm", "bias_init", "dropout_scaling"):  # a run of before there were these
        del content["model"][newer]
    for stage in content["model"]["stages"].values():
        for newer in ("map_norm", "adaptive_pool", "init"):
            del stage[newer]
        stage["order"] = [part for part in stage["order"] if part != "map_norm"]
    old = from_dict(content).model
    assert (old.stages["conv2"].map_norm, old.stages["conv2"].init, old.dropout_scaling) == (
        False,
        None,
        "train",
    )
    with pytest.raises(
        ConfigError, match=r"^model: expected one of the keys stages, application, .*, came name$"
    ):
        from_dict({**content, "model": {"name": "mine"}})


def test_compose_model_needs_no_data():
    model = compose_model(["model=alexnet", "model.activation=gelu"], {"stages": {"conv1": {"units": 64}}})
    assert (model.num_classes, model.input_channels, model.stages["conv1"].units) == (1000, 3, 64)
    assert model.stages["conv1"].kernel == 11
    assert compose_model(["model=alexnet"], {"lrn": None}).lrn is None
    with pytest.raises(ConfigError, match="conv1"):
        compose_model(["model=alexnet"], {"stages": {"conv1": {"unit": 64}}})


# ----------------------------------------------------------------------------------- a folder of the user's


@pytest.fixture
def folder(tmp_path):
    def write(name: str, text: str) -> str:
        path = tmp_path / "my 'own', (conf)" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path.parents[len(Path(name).parents) - 1])

    return write


def test_a_user_adds_files_to_the_groups(folder):
    own = folder("model/mine.yaml", "defaults: [cifar_quick, _self_]\nname: mine\nactivation: elu\n")
    config = compose(["model=mine"], config_dir=own)
    assert (config.model.name, config.model.activation) == ("mine", "elu")
    assert list(config.model.stages) == ["conv1", "conv2", "conv3", "fc10"]
    with pytest.raises(ConfigError, match="model=mine: no such choice"):
        compose(["model=mine"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: mine\ninput_size: 32\nstages: {fc: {kind: dense, activation: linear}}\n",
            r"model/mine\.yaml: model\.stages: no such key\. The file names no schema.*/schema/model@_here_: staged, _self_",
        ),
        (
            "name: mine\ninput_size: 32\n",
            r"^model=mine: expected model\.stages, model\.application or the keys of another schema, came none",
        ),
    ],
)
def test_a_users_network_that_names_no_schema(folder, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose(["model=mine"], config_dir=folder("model/mine.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_users_network_of_its_own_stages(folder):
    text = "defaults: [/schema/model@_here_: staged, _self_]\nname: mine\ninput_size: 8\nstages: {fc: {kind: dense, activation: linear}}\n"
    assert list(compose(["model=mine"], config_dir=folder("model/mine.yaml", text)).model.stages) == ["fc"]


WRONG_FILES = [
    (
        "model/mine.yaml",
        "activaton: tanh",
        r"model/mine\.yaml: model\.activaton: no such key.*mean activation",
    ),
    ("model/mine.yaml", "input_size: big", r"model/mine\.yaml: model\.input_size.*'big'.*Expected int"),
    (
        "model/mine.yaml",
        "activation: rleu",
        r"model/mine\.yaml: model\.activation.*'rleu'.*relu, tanh, sigmoid",
    ),
    (
        "model/mine.yaml",
        "stages: {conv1: {unts: 3}}",
        r"model/mine\.yaml: model\.stages\.conv1\.unts.*mean units",
    ),
    ("model/mine.yaml", "input_size: [3", r"mine\.yaml.*line 2"),
    (
        "optimizer/mine.yaml",
        "defaults: [/schema/optimizer@_here_: sgd]\nmomentun: 0.5",
        r"optimizer/mine\.yaml: optimizer\.momentun.*mean momentum",
    ),
    (
        "optimizer/mine.yaml",
        "defaults: [/schema/optimizer@_here_: sgd]\ngroups: {rest: {match: kernel$}}",
        r"^optimizer\.groups\.rest: expected another name",
    ),
    (
        "schedule/mine.yaml",
        "defaults: [/schema/schedule@_here_: cosine]\nepochs: [3]",
        r"schedule/mine\.yaml: schedule\.epochs: no such key.*final_fraction",
    ),
    (
        "experiment/mine.yaml",
        "# @package _global_\ntraining: {epoch: 3}",
        r"experiment/mine\.yaml: training\.epoch: no such key.*mean epochs",
    ),
    (
        "experiment/mine.yaml",
        "# @package _global_\ndefaults: [override /model: alexnt]",
        r"model=alexnt: no such choice.*mean alexnet",
    ),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG_FILES)
def test_a_mistake_in_a_users_file_names_file_and_key(folder, name, text, message):
    base = "defaults: [cifar_quick, _self_]\nname: mine\n" if name.startswith("model") else ""
    if base and text.endswith("[3"):
        base = "name: mine\n"
    own = folder(name, f"{base}{text}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        compose([f"{name.partition('/')[0]}=mine"], config_dir=own)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_not_ignored(tmp_path):
    with pytest.raises(ConfigError, match=r"config_dir=.*nowhere: no such folder"):
        compose(config_dir=str(tmp_path / "nowhere"))


def test_a_users_file_adds_stages_and_groups(folder):
    text = """# @package _global_
model: {stages: {fc8: {units: 8, activation: null}, fc9: {kind: dense, activation: linear}}}
optimizer: {groups: {late: {match: ^fc, lr: 0.5}}}
"""
    config = compose(["experiment=mine"], config_dir=folder("experiment/mine.yaml", text))
    assert list(config.model.stages)[-2:] == ["fc8", "fc9"]
    assert config.optimizer.groups["late"].lr == 0.5
    again = from_dict(yaml.safe_load(to_yaml(config)))
    assert again == config
    assert list(again.model.stages) == list(config.model.stages)


# -------------------------------------------------------------------------------------- Hydra and TensorFlow


@pytest.mark.parametrize("overrides", [["seed=3"], ["sede=3"]])
def test_compose_leaves_hydra_as_it_was(overrides):
    def run() -> None:
        try:
            assert compose(overrides).seed == 3
        except ConfigError:
            assert overrides == ["sede=3"]

    assert not GlobalHydra.instance().is_initialized()
    run()
    assert not GlobalHydra.instance().is_initialized()
    with initialize_config_module("alexnet_tf.conf", version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        assert outer is not None
        run()
        assert GlobalHydra.instance().hydra is outer
    assert not GlobalHydra.instance().is_initialized()


APP = """
import sys
import hydra
from hydra.core.hydra_config import HydraConfig
from alexnet_tf.config import ConfigError, compose, register_schemas, resolve

@hydra.main(config_path="pkg://alexnet_tf.conf", config_name="config", version_base="1.3")
def main(composed):
    assert resolve(composed).seed == 5
    assert compose(["seed=6", "model=cifar_quick"]).seed == 6
    try:
        compose(["model=alexnt"])
    except ConfigError as error:
        assert "did you mean alexnet?" in str(error)
    assert list(HydraConfig.get().overrides.task) == ["seed=5"]
    heavy = {"tensorflow", "keras", "tensorflow_datasets", "pandas", "matplotlib"} & set(sys.modules)
    print("done", sorted(heavy))

register_schemas()
main()
"""


def test_compose_works_inside_a_hydra_application_and_imports_nothing_heavy(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-W", "error", str(tmp_path / "app.py"), "seed=5"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "HYDRA_FULL_ERROR": "1"}, capture_output=True, text=True
    )
    assert done.stdout == "done []\n", done.stderr


@pytest.mark.parametrize("overrides", [None, 3, [3], ["seed=1", None]])
def test_overrides_that_are_no_list_of_strings(overrides):
    with pytest.raises(ConfigError, match="strings such as 'model=alexnet'"):
        compose(overrides)


# ------------------------------------------------------------------------------------------- stored configs


@functools.cache
def default():
    return compose()


def stored(**changes):
    return {**yaml.safe_load(to_yaml(default())), **changes}


def test_a_stored_config_says_its_schema_and_one_without_is_of_the_first():
    content = stored()
    assert content["schema_version"] == SCHEMA_VERSION
    assert from_run(Path("run/config.yaml"), content) == default()
    del content["schema_version"]
    assert from_run(Path("run/config.yaml"), content, ["seed=3"]).seed == 3


def test_an_older_schema_is_migrated_step_by_step(monkeypatch):
    renamed = lambda content: {"seed": content.pop("random_seed"), **content}  # noqa: E731
    doubled = lambda content: {**content, "seed": 2 * content["seed"]}  # noqa: E731
    module = importlib.import_module("alexnet_tf.config.compose")  # its name is the function's in the package
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    monkeypatch.setattr(module, "MIGRATIONS", {SCHEMA_VERSION: renamed, SCHEMA_VERSION + 1: doubled})
    content = stored(schema_version=SCHEMA_VERSION, random_seed=21)
    del content["seed"]
    assert from_run(Path("config.yaml"), content).seed == 42
    assert content["random_seed"] == 21  # the caller's is left alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, r"schema_version=99: expected 1 to \d+; a newer alexnet_tf has written it$"),
        ({"schema_version": "x"}, r"schema_version=x: expected 1 to"),
        ({"droput": 0.5}, r"droput: no such key"),
        ({"training": {"epoch": 3}}, r"epoch: no such key"),
        ({"training": {"epochs": "many"}}, r"epochs.*many"),
        ({"optimizer": 3}, r"optimizer: expected a section of keys, came 3$"),
        ({"model": None}, r"model: expected a section of keys, came None$"),
    ],
)
def test_a_stored_config_that_does_not_fit_is_one_line_with_its_file_and_version(changes, message):
    with pytest.raises(ConfigError, match=rf"^run/config\.yaml \(schema_version .*\): .*{message}") as caught:
        from_run(Path("run/config.yaml"), stored(**changes))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_an_override_does_not_blame_the_file():
    with pytest.raises(ConfigError, match=r"^training\.epochs=many: expected|^training\.epochs: "):
        from_run(Path("run/config.yaml"), stored(), ["training.epochs=many"])


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1 epoch", (1, "epoch")),
        ("3 epochs", (3, "epoch")),
        ("200 steps", (200, "step")),
        ("5 minutes", (5, "minute")),
        ("1 minute", (1, "minute")),
        ("5 min", (5, "minute")),
        ("0.5minutes", (0.5, "minute")),
        ("never", None),
    ],
)
def test_checkpoint_intervals(text, interval):
    assert checkpoint_interval(text) == interval


@pytest.mark.parametrize(
    "text", ["0 steps", "0 minutes", "0.0 min", "1.5 steps", "5", "5 hours", "-1 min", "minutes"]
)
def test_wrong_checkpoint_intervals(text):
    message = f"training.checkpoint_every={text}: expected `N epochs`, `N steps`, `N minutes` (as 0.5 too) or `never`"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        checkpoint_interval(text)


def test_the_seed_of_the_splits_may_be_the_runs():
    assert compose(["seed=3"]).data.split_seed == 0
    assert compose(["seed=3", "data.split_seed=null"]).data.split_seed == 3


@pytest.mark.parametrize("data", ["oxford_flowers102", "caltech101", "folder"])
def test_fine_tuning_composes_for_sets_of_photographs(data):
    config = compose(["experiment=finetune", f"data={data}", "model=alexnet", "init_from=runs/mine"])
    assert (config.data.name, config.init_from) == (data, "runs/mine")
    assert config.optimizer.multipliers == {"rest": 0.1, "head": 1.0}
