import hydra
import pytest

from alexnet_tf.config import (
    HYDRA_VERSION,
    ConfigError,
    check_replicas,
    checkpoint_interval,
    compose,
    compose_model,
    explain,
    from_dict,
    is_compose_error,
    to_dict,
)

TABLE = "data=imagenette model=alexnet augment=code2012 optimizer=code2012 schedule=code2012"

# Overrides, and what the one line must hold: the key, and what was expected or the choices there are.
WRONG = [
    ("seed=3000000000", ["seed=3000000000", "expected an integer from 0 to 2147483647"]),
    ("model.activaton=relu", ["model.activaton", "no such key", "num_classes", "did you mean activation?"]),
    ("+model.droput=1", ["droput", "no such key", "input_size", "activation"]),
    ("++model.stages.conv1.unts=3", ["unts", "no such key", "kernel", "did you mean units?"]),
    ("+colour=red", ["colour", "no such key", "data", "run_dir"]),
    ("modle=alexnet", ["modle", "did you mean model?", "optimizer", "schedule"]),
    ("model.stages.conv9.units=3", ["model.stages.conv9", "Is there a 'conv9'"]),
    ("~model.stages.conv9", ["model.stages.conv9", "does not exist"]),
    ("training.probe.evry=5", ["training.probe.evry", "did you mean every?", "stop_below"]),
    ("optimizer=adam optimizer.momentum=0.5", ["optimizer.momentum", "no such key", "optimizer="]),
    ("schedule.epochs=[3]", ["schedule.epochs", "no such key", "schedule="]),
    ("model=vgg16 model.activation=tanh", ["model.activation", "no such key", "model=", "application"]),
    ("model=vgg16 model.stages.conv1.units=3", ["model.stages.conv1.units", "no such key", "application"]),
    ("model.application=vgg16", ["model.application", "no such key", "model=", "stages"]),
    ("model=vgg16 training.deterministic=true training.jit_compile=true", ["training.deterministic", "max pooling"]),
    # types
    ("optimizer.lr=fast", ["optimizer.lr=fast", "float"]),
    ("training.epochs=2.5", ["training.epochs=2.5", "int"]),
    ("training.batch_size=", ["training.batch_size=", "int"]),
    ("training.deterministic=maybe", ["training.deterministic=maybe", "bool"]),
    ("training.probe=3", ["training.probe=3", "every, examples, stop_below"]),
    ("model.init.std=3", ["model.init.std: no such key", "model.init is a value", "normal, glorot_uniform"]),
    ("optimizer.lr.rest=3", ["optimizer.lr.rest: no such key", "optimizer.lr is a value", "float"]),
    ("optimizer.groups={conv1:{match:conv1}}", ["optimizer.groups.conv1", "new entry", "YAML"]),
    ("model.lrn={sise:3}", ["model.lrn.sise: no such key", "did you mean size?"]),
    ("model.lrn=no_thanks", ["model.lrn=no_thanks", "size, k, alpha"]),
    ("model.stages.conv1=3", ["model.stages.conv1=3", "kind, units"]),
    ("study.name=mine", ["null", "YAML"]),
    ("model.input_size=${no.such}", ["model.input_size", "no.such"]),
    # choices
    ("model=alexnt", ["model=alexnt", "cifar_quick", "did you mean alexnet?"]),
    ("data=cifar", ["data=cifar", "cifar10, cifar100", "did you mean cifar10?"]),
    ("optimizer=sdg", ["optimizer=sdg", "adam, caffe, code2012, owt, paper, sgd"]),
    ("schedule=plateu", ["schedule=plateu", "did you mean plateau?"]),
    ("strategy=tpu", ["strategy=tpu", "auto, mirrored, multi_worker, one_device"]),
    ("augment=non", ["augment=non", "center, cifar"]),
    ("experiment=relu_vs_tahn", ["experiment=relu_vs_tahn", "did you mean relu_vs_tanh"]),
    ("model=vgg16 model.application=vgg19", ["model.application=vgg19", "vgg16, resnet50"]),
    ("model=null", ["null is no choice", "data, model, augment"]),
    ("training=3", ["int is no choice", "data, model, augment"]),
    ("model.activation=rleu", ["model.activation=rleu", "relu, tanh, sigmoid, leaky_relu, elu, gelu"]),
    ("model.dropout_scaling=never", ["model.dropout_scaling=never", "train, test"]),
    ("model.bias_init=zero", ["model.bias_init=zero", "constant, fan_in_uniform"]),
    ("model.stages.conv1.init=xavier", ["model.stages.conv1.init=xavier", "normal, glorot_uniform"]),
    ("model.init=xavier", ["model.init=xavier", "normal, glorot_uniform"]),
    ("training.precision=float8", ["training.precision=float8", "float32, bfloat16, float16, float64"]),
    ("strategy.name=tpu", ["strategy=tpu", "auto, one_device, mirrored"]),
    ("augment.order=[resiz]", ["augment.order=resiz", "resize, center_crop, random_crop"]),
    ("augment.pca.scale=root", ["augment.pca.scale=root", "eigenvalue, deviation"]),
    ("augment.pca.source=imagenet", ["augment.pca.source=imagenet", "training, published"]),
    ("augment.resize.method=best", ["augment.resize.method=best", "bilinear, bicubic"]),
    ("model.stages.conv1.order=[activation,pooling]", ["model.stages.conv1.order=pooling", "activation, norm, map_norm, pool"]),
    # ranges
    ("seed=-1", ["seed=-1", "expected an integer from 0 to 2147483647"]),
    ("optimizer.lr=0", ["optimizer.lr=0", "more than 0"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "finite"]),
    ("optimizer.momentum=1", ["optimizer.momentum=1", "0 to below 1"]),
    ("training.batch_size=0", ["training.batch_size=0", "at least 1"]),
    ("training.steps=0", ["training.steps=0", "at least 1"]),
    ("training.keep_checkpoints=0", ["training.keep_checkpoints=0", "at least 1"]),
    ("training.early_stopping.patience=0", ["training.early_stopping.patience=0", "at least 1"]),
    ("data.validation_fraction=1", ["data.validation_fraction=1", "0 to below 1"]),
    ("model.num_classes=1", ["model.num_classes=1", "at least 2"]),
    ("model.stages.fc6.dropout=1", ["model.stages.fc6.dropout=1", "0 to below 1"]),
    ("model.stages.conv1.stride=0", ["model.stages.conv1.stride=0", "at least 1"]),
    ("model.stages.conv1.padding=full", ["model.stages.conv1.padding=full", "same, valid"]),
    ("model.stages.conv2.units=63", ["model.stages.conv2.units=63", "columns (2)"]),
    ("training.checkpoint_every=often", ["training.checkpoint_every=often", "`N epochs`, `N steps`, `N minutes` (as 0.5 too) or `never`"]),
    ("training.checkpoint_every='0 steps'", ["training.checkpoint_every=0 steps", "`N epochs`"]),
    ("schedule=steps schedule.epochs=[30,10]", ["schedule.epochs=[30, 10]", "increasing"]),
    ("schedule=steps schedule.epochs=[0,3]", ["schedule.epochs=[0, 3]", "the first at least 1"]),
    ("schedule=steps schedule.epochs=[]", ["schedule.epochs=[]", "schedule.iterations"]),
    ("schedule=steps schedule.iterations=[9,3]", ["schedule.iterations=[9, 3]", "increasing"]),
    (f"{TABLE} schedule.phases.second.epoch=0", ["schedule.phases.second.epoch=0", "at least 1"]),
    (f"{TABLE} schedule.phases.second.epoch=51", ["schedule.phases.third.epoch=51", "that of the phase second"]),
    (f"{TABLE} optimizer=paper", ["phases.second.rates.conv1_weights", "a group", "rest, biases"]),
    (f"{TABLE} optimizer=adam", ["phases.second.rates.conv1_weights", "a group", "(adam): rest"]),
    (f"{TABLE} +schedule.phases.fifth.trainable.fc6=false", ["phases.fifth.trainable.fc6", "conv1_biases, biases"]),
    (f"{TABLE} schedule.phases.second.rates.rest=-1", ["phases.second.rates.rest=-1", "at least 0"]),
    (f"{TABLE} optimizer.groups.conv1_biases.lr=null", ["phases.fourth.rates.conv1_biases", "no rate of its own"]),
    (f"{TABLE} augment=center", ["phases.fourth.augment_off=pca", "random operation of augment.order"]),
    (f"{TABLE} schedule.phases.fourth.augment_off=[pac]", ["augment_off=pac", "random_crop, flip, pca"]),
    (f"{TABLE} schedule.phases.fourth.augment_off=[scale]", ["augment_off=scale", "random_crop, flip, pca"]),
    (f"{TABLE} schedule.phases.fourth.augment_off=[random_crop]", ["augment_off=random_crop", "model.input_size=224"]),
    ("optimizer.groups.biases.match='('", ["optimizer.groups.biases.match=(", "regular expression"]),
    ("optimizer.groups.biases.lr=-1", ["optimizer.groups.biases.lr=-1", "at least 0"]),
    ("training.intra_threads=-1", ["training.intra_threads=-1", "at least 0"]),
    ("training.inter_threads=-1", ["training.inter_threads=-1", "at least 0"]),
    ("training.probe.every=5 training.probe.stop_below=-3", ["training.probe.stop_below=-3", "from 0 to 1"]),
    ("training.early_stopping.min_delta=-1", ["training.early_stopping.min_delta=-1", "at least 0"]),
    ("data.shuffle_window=0", ["data.shuffle_window=0", "at least 1"]),
    ("data.max_pixels=0", ["data.max_pixels=0", "at least 1"]),
    ("data.max_pixels=many", ["data.max_pixels=many", "int"]),
    ("data.max_skipped=1.5", ["data.max_skipped=1.5", "from 0 to 1"]),
    ("data.max_skipped=nan", ["data.max_skipped=nan", "from 0 to 1"]),
    ("data.on_error=ignore", ["data.on_error=ignore", "fail, skip"]),
    ("data.memory_limit_mb=0", ["data.memory_limit_mb=0", "at least 1"]),
    ("data.channels=0", ["data.channels=0", "at least 1"]),
    ("data.image_size=0", ["data.image_size=0", "at least 1"]),
    ("optimizer=adam optimizer.beta_1=1", ["optimizer.beta_1=1", "0 to below 1"]),
    ("optimizer=adam optimizer.beta_2=-0.1", ["optimizer.beta_2=-0.1", "0 to below 1"]),
    ("optimizer=adam optimizer.epsilon=0", ["optimizer.epsilon=0", "more than 0"]),
    ("optimizer=adam optimizer.weight_decay=-1", ["optimizer.weight_decay=-1", "at least 0"]),
    ("schedule=steps schedule.divisor=0 schedule.epochs=[1]", ["schedule.divisor=0", "more than 1"]),
    ("schedule=plateau schedule.divisor=0", ["schedule.divisor=0", "more than 1"]),
    ("schedule=plateau schedule.divisor=1", ["schedule.divisor=1", "more than 1"]),
    ("schedule=plateau schedule.patience=0", ["schedule.patience=0", "at least 1"]),
    ("schedule=plateau schedule.min_delta=-1", ["schedule.min_delta=-1", "at least 0"]),
    ("schedule=plateau schedule.reductions=-1", ["schedule.reductions=-1", "at least 0"]),
    ("schedule=cosine schedule.final_fraction=2", ["schedule.final_fraction=2", "from 0 to 1"]),
    ("schedule.warmup_epochs=1000", ["schedule.warmup_epochs=1000", "at most training.epochs=10"]),
    ("model=resnet50 model.input_size=31", ["model.input_size=31", "at least 32"]),
    ("model.input_size=-4", ["model.input_size=-4", "at least 1"]),
    ("model.input_channels=0", ["model.input_channels=0", "at least 1"]),
    ("model.lrn.size=0", ["model.lrn.size=0", "at least 1"]),
    ("model.lrn.k=0", ["model.lrn.k=0", "more than 0"]),
    ("model.lrn.alpha=-1", ["model.lrn.alpha=-1", "at least 0"]),
    ("model.lrn.beta=-1", ["model.lrn.beta=-1", "at least 0"]),
    ("model.map_norm.size=0", ["model.map_norm.size=0", "at least 1"]),
    ("model.map_norm.k=0", ["model.map_norm.k=0", "more than 0"]),
    ("model.stages.conv5.adaptive_pool=0", ["model.stages.conv5.adaptive_pool=0", "at least 1"]),
    ("model.stages.conv1.weight_std=-1", ["model.stages.conv1.weight_std=-1", "at least 0"]),
    ("model.stages.conv1.pool.size=0", ["model.stages.conv1.pool.size=0", "at least 1"]),
    ("model.stages.conv1.pool.stride=0", ["model.stages.conv1.pool.stride=0", "at least 1"]),
    # operations
    ("augment.scale.divisor=0", ["augment.scale.divisor=0", "other than 0"]),
    ("augment.scale.channel_divisors=[0]", ["augment.scale.channel_divisors=[0", "other than 0"]),
    ("augment.scale.channel_divisors=[1,2]", ["augment.scale.channel_divisors=[1", "each of the 1 channels"]),
    ("augment.scale.channel_divisors=[]", ["augment.scale.channel_divisors=[]", "each of the 1 channels"]),
    ("augment.subtract_mean.values=[1,2,3]", ["augment.subtract_mean.values=[1", "each of the 1 channels"]),
    ("data=cifar10 model=cifar_quick augment.order=[resize,pca,scale,subtract_mean]", ["augment.order=", "scale"]),
    ("augment.resize.size=0", ["augment.resize.size=0", "at least 1"]),
    ("augment.center_crop.size=0", ["augment.center_crop.size=0", "at least 1"]),
    ("augment.random_crop.size=0", ["augment.random_crop.size=0", "at least 1"]),
    ("augment.pad_crop.size=0", ["augment.pad_crop.size=0", "at least 1"]),
    ("augment.pad_crop.padding=-1", ["augment.pad_crop.padding=-1", "at least 0"]),
    ("augment.flip.probability=7", ["augment.flip.probability=7", "from 0 to 1"]),
    ("augment.rotate.degrees=181", ["augment.rotate.degrees=181", "from 0 to 180"]),
    ("augment.pca.std=-1", ["augment.pca.std=-1", "at least 0"]),
    ("augment.pca.divisor=0", ["augment.pca.divisor=0", "more than 0"]),
    ("augment.brightness.max_delta=-1", ["augment.brightness.max_delta=-1", "at least 0"]),
    ("augment.contrast.lower=-1", ["augment.contrast.lower=-1", "at least 0"]),
    ("augment.saturation.lower=2", ["augment.saturation.lower=2", "at most augment.saturation.upper=1.2"]),
    ("augment.random_resized_crop.size=0", ["augment.random_resized_crop.size=0", "at least 1"]),
    ("augment.random_resized_crop.min_area=0", ["augment.random_resized_crop.min_area=0", "more than 0"]),
    ("augment.random_resized_crop.max_area=2", ["augment.random_resized_crop.max_area=2", "from 0 to 1"]),
    ("augment.random_resized_crop.max_area=0.01", ["augment.random_resized_crop.min_area=0.08", "max_area=0.01"]),
    ("augment.random_resized_crop.min_ratio=0", ["augment.random_resized_crop.min_ratio=0", "more than 0"]),
    ("augment.random_resized_crop.min_ratio=2", ["augment.random_resized_crop.min_ratio=2", "max_ratio=1.3"]),
    ("augment.random_resized_crop.eval_resize=1", ["augment.random_resized_crop.eval_resize=1", "at least"]),
    ("data=tfds", ["data.name", "value is needed"]),
    ("+model.stages.fc9={kind:dense}", ["model.stages.fc9", "YAML file"]),
    ("+optimizer.groups.late.lr=1", ["optimizer.groups.late", "YAML file"]),
    # combinations
    ("data=cifar10 model=alexnet model.input_size=227", ["227", "32-pixel", "data=cifar10"]),
    ("model=alexnet augment=mean_only", ["model.input_size=224", "8-pixel", "augment.resize"]),
    ("data=imagenette augment=plain model=alexnet", ["augment.order", "vary in size", "augment=paper"]),
    ("augment.order=[resize,pca]", ["augment.pca", "3 colour channels", "data=digits"]),
    ("augment.order=[resize,scale,scale]", ["augment.order", "at most once"]),
    (
        "strategy=mirrored strategy.logical_devices=4 training.batch_size=2",
        ["training.batch_size=2", "multiple of the 4 replicas"],
    ),
    ("strategy.logical_devices=4 training.batch_size=6", ["training.batch_size=6", "multiple of the 4 replicas"]),
    (
        "strategy=mirrored strategy.logical_devices=4 training.accumulate=3",
        ["training.batch_size=128", "multiple of the 4 replicas times training.accumulate=3"],
    ),
    ("training.accumulate=3", ["training.batch_size=128", "multiple of 1 replica times training.accumulate=3"]),
    (
        "model=alexnet_bn data=cifar10 augment=paper training.accumulate=2",
        ["training.accumulate=2", "expected 1", "model=alexnet_bn has BatchNorm"],
    ),
    (
        "model=resnet20 data=cifar10 training.accumulate=2",
        ["training.accumulate=2", "expected 1", "model=resnet20 has BatchNorm"],
    ),
    ("strategy.local_workers=2", ["strategy.local_workers=2", "expected strategy=multi_worker", "strategy=auto"]),
    (
        "strategy=multi_worker strategy.logical_devices=2",
        ["strategy.logical_devices=2", "expected null", "strategy.local_workers"],
    ),
    (
        "strategy=multi_worker strategy.local_workers=3",
        ["training.batch_size=128", "multiple of the 3 replicas"],
    ),
    ("strategy.timeout_seconds=0", ["strategy.timeout_seconds=0", "more than 0"]),
    ("data.stream_parts=0", ["data.stream_parts=0", "at least 1"]),
    ("training.eager=true training.jit_compile=true", ["training.eager", "training.jit_compile"]),
    ("training.deterministic=true training.jit_compile=true", ["training.deterministic", "max pooling"]),
    ("training.probe.stop_below=0.1", ["training.probe.stop_below", "training.probe.every=0"]),
    ("~model.stages.fc8", ["model.stages.fc7", "kind=dense, activation=linear"]),
    ("model.stages.fc7.kind=conv", ["model.stages.fc7.kind=conv", "cannot follow the dense stage fc6"]),
    ("model.stages.conv3.units=null", ["model.stages.conv3.units", "only the last stage (fc8)"]),
    ("model.stages.fc7.pool.kind=max", ["model.stages.fc7", "dense stage has no pool"]),
    ("model.stages.fc6.adaptive_pool=2", ["model.stages.fc6", "dense stage has no pool, no adaptive_pool"]),
    ("model.stages.fc6.map_norm=true", ["model.stages.fc6", "no map_norm"]),
    (
        "model.stages.conv1.map_norm=true model.stages.conv1.order=[activation,norm,pool]",
        ["model.stages.conv1.order", "expected map_norm"],
    ),
    (
        "model.bias_init=fan_in_uniform model.stages.conv1.bias=1",
        ["model.stages.conv1.bias=1", "expected 0", "model.bias_init=fan_in_uniform"],
    ),
    ("model.stages.conv1.order=[norm,pool]", ["model.stages.conv1.order", "expected activation"]),
    ("experiment=relu_vs_tanh study.comparisons.init_2012.arm=rleu", ["comparisons.init_2012.arm=rleu", "relu_2012"]),
    ("experiment=relu_vs_tanh study.seeds=[1,1]", ["study.seeds=[1, 1]", "different"]),
    # syntax
    ("training.batch_size==", ["training.batch_size==", "key=value"]),
    ("{a", ["{a", "override syntax"]),
    ("model=alexnet,cifar_quick", ["model=alexnet,cifar_quick", "-m"]),
    ("seed=0,1", ["seed=0,1", "one value", "add -m to sweep"]),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "parts"), WRONG, ids=[overrides for overrides, _ in WRONG])
def test_one_line_names_the_key_and_what_was_expected(overrides, parts):
    with pytest.raises(ConfigError) as caught:
        compose(overrides.split(" ") if "'" not in overrides else [overrides])
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == [], message
    assert caught.value.exit_status == 2


def test_checkpoint_intervals():
    assert checkpoint_interval("1 epoch") == (1, "epoch")
    assert checkpoint_interval("3 epochs") == (3, "epoch")
    assert checkpoint_interval(" 500 steps ") == (500, "step")
    assert checkpoint_interval("never") is None
    for wrong in ("", "3", "epoch", "-1 epochs", "1.5 epochs", "0 epochs", "always"):
        with pytest.raises(ConfigError, match=r"training\.checkpoint_every"):
            checkpoint_interval(wrong)


def test_replicas_divide_the_batch():
    check_replicas(8, 4)
    check_replicas(1, 1)
    for batch, replicas in ((2, 4), (6, 4)):
        with pytest.raises(
            ConfigError, match=f"training.batch_size={batch}: expected a multiple of the {replicas}"
        ):
            check_replicas(batch, replicas)


def test_networks_alone_are_checked_too():
    with pytest.raises(ConfigError, match=r"model\.stages\.conv5_: .*logits|model\.stages\.conv5: .*logits"):
        compose_model(["model=alexnet", "~model.stages.fc6", "~model.stages.fc7", "~model.stages.fc8"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "model.num_classes=0: expected at least 2"),
        ({"num_classes": 1}, "model.num_classes=1: expected at least 2"),
        ({"input_channels": 0}, "model.input_channels=0: expected at least 1"),
        ({"input_size": -4}, "model.input_size=-4: expected at least 1"),
        ({"lrn": {"size": 0}}, "model.lrn.size=0: expected at least 1"),
        ({"stages": {"conv1": {"pool": {"size": 0}}}}, "model.stages.conv1.pool.size=0: expected at least 1"),
    ],
)
def test_changes_to_a_network_are_checked(changes, message):
    with pytest.raises(ConfigError) as caught:
        compose_model(["model=alexnet"], changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("take", [compose, compose_model, lambda text: from_dict(to_dict(compose()), text)])
def test_a_string_is_no_list_of_overrides(take):
    with pytest.raises(ConfigError, match=r"^overrides='model=alexnet': expected a list of strings"):
        take("model=alexnet")


def test_only_groups_can_be_frozen(tmp_path):
    text = """defaults: [/schema/schedule@_here_: table]
phases: {second: {epoch: 2, rates: {rest: 0.1}, trainable: {rest: false}}}
"""
    (tmp_path / "schedule").mkdir()
    (tmp_path / "schedule" / "mine.yaml").write_text(text)
    compose(["schedule=mine"], config_dir=str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"phases\.second\.trainable: expected an optimizer with groups.*adam"
    ):
        compose(["schedule=mine", "optimizer=adam"], config_dir=str(tmp_path))


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule.warmup_epochs=10"],
        ["schedule.warmup_epochs=1000", "training.steps=5"],
        ["strategy=one_device", "strategy.logical_devices=4", "training.batch_size=6"],
        ["augment.scale.channel_divisors=[2]", "augment.subtract_mean.values=[100]"],
        ["augment.order=[resize]", "augment.subtract_mean.values=[1,2,3]"],  # an operation that does not run
        ["augment.order=[resize,pca,subtract_mean]", "augment.pca=null"],
        [*TABLE.split(), "augment.pca=null"],  # nothing to switch off
        [*TABLE.split(), "schedule.phases.second.epoch=1", "~schedule.phases.sixth"],
        ["schedule=steps", "schedule.epochs=[]", "schedule.iterations=[1]"],
        ["augment.flip.probability=1", "augment.rotate.degrees=180", "training.intra_threads=0"],
    ],
)
def test_the_limits_themselves_are_allowed(overrides):
    compose(overrides)


def test_hydra_options_that_exclude_each_other(monkeypatch):
    monkeypatch.setattr("sys.argv", ["alexnet train", "-m", "seed=0,1", "--cfg", "job"])
    application = hydra.main(config_path=None, version_base=HYDRA_VERSION)(lambda config: None)  # noqa: ARG005
    with pytest.raises(ValueError, match="Only one of --run") as caught:
        application()
    assert is_compose_error(caught.value)
    assert explain(caught.value).startswith("Only one of --run, --multirun, --cfg")
    assert not is_compose_error(ValueError("something else"))
