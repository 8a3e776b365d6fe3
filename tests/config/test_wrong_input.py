import pytest

from alexnet_tf.config import ConfigError, check_replicas, checkpoint_interval, compose, compose_model

# Overrides, and what the one line must hold: the key, and what was expected or the choices there are.
WRONG = [
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
    # types
    ("optimizer.lr=fast", ["optimizer.lr=fast", "float"]),
    ("training.epochs=2.5", ["training.epochs=2.5", "int"]),
    ("training.batch_size=", ["training.batch_size=", "int"]),
    ("training.deterministic=maybe", ["training.deterministic=maybe", "bool"]),
    ("training.probe=3", ["training.probe=3", "every, examples, stop_below"]),
    ("model.lrn=no_thanks", ["model.lrn=no_thanks", "size, k, alpha"]),
    ("model.stages.conv1=3", ["model.stages.conv1=3", "kind, units"]),
    ("study.name=mine", ["null", "YAML"]),
    ("model.input_size=${no.such}", ["model.input_size", "no.such"]),
    # choices
    ("model=alexnt", ["model=alexnt", "cifar_quick", "did you mean alexnet?"]),
    ("data=cifar", ["data=cifar", "cifar10, cifar100", "did you mean cifar10?"]),
    ("optimizer=sdg", ["optimizer=sdg", "adam, paper, sgd"]),
    ("schedule=plateu", ["schedule=plateu", "did you mean plateau?"]),
    ("strategy=tpu", ["strategy=tpu", "auto, mirrored, one_device"]),
    ("augment=non", ["augment=non", "center, cifar"]),
    ("experiment=relu_vs_tahn", ["experiment=relu_vs_tahn", "did you mean relu_vs_tanh"]),
    ("model=null", ["null", "data, model, augment"]),
    ("model.activation=rleu", ["model.activation=rleu", "relu, tanh, sigmoid, leaky_relu, elu, gelu"]),
    ("model.init=xavier", ["model.init=xavier", "normal, glorot_uniform"]),
    ("training.precision=float8", ["training.precision=float8", "float32, bfloat16, float16, float64"]),
    ("strategy.name=tpu", ["strategy=tpu", "auto, one_device, mirrored"]),
    ("augment.order=[resiz]", ["augment.order=resiz", "resize, center_crop, random_crop"]),
    ("augment.pca.scale=root", ["augment.pca.scale=root", "eigenvalue, deviation"]),
    ("augment.resize.method=best", ["augment.resize.method=best", "bilinear, bicubic"]),
    ("model.stages.conv1.order=[activation,pooling]", ["model.stages.conv1.order=pooling", "activation, norm, pool"]),
    # ranges
    ("seed=-1", ["seed=-1", "at least 0"]),
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
    ("training.checkpoint_every=often", ["training.checkpoint_every=often", "`N epochs`, `N steps` or `never`"]),
    ("training.checkpoint_every='0 steps'", ["training.checkpoint_every=0 steps", "`N epochs`"]),
    ("schedule=steps schedule.epochs=[30,10]", ["schedule.epochs=[30, 10]", "increasing"]),
    ("optimizer.groups.biases.match='('", ["optimizer.groups.biases.match=(", "regular expression"]),
    ("optimizer.groups.biases.lr=-1", ["optimizer.groups.biases.lr=-1", "at least 0"]),
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
    ("training.eager=true training.jit_compile=true", ["training.eager", "training.jit_compile"]),
    ("training.deterministic=true training.jit_compile=true", ["training.deterministic", "max pooling"]),
    ("training.probe.stop_below=0.1", ["training.probe.stop_below", "training.probe.every=0"]),
    ("~model.stages.fc8", ["model.stages.fc7", "kind=dense, activation=linear"]),
    ("model.stages.fc7.kind=conv", ["model.stages.fc7.kind=conv", "cannot follow the dense stage fc6"]),
    ("model.stages.conv3.units=null", ["model.stages.conv3.units", "only the last stage (fc8)"]),
    ("model.stages.fc7.pool.kind=max", ["model.stages.fc7", "dense stage has no pool"]),
    ("model.stages.conv1.order=[norm,pool]", ["model.stages.conv1.order", "expected activation"]),
    ("experiment=relu_vs_tanh study.comparisons.init_2012.arm=rleu", ["comparisons.init_2012.arm=rleu", "relu_2012"]),
    ("experiment=relu_vs_tanh study.seeds=[1,1]", ["study.seeds=[1, 1]", "different"]),
    # syntax
    ("training.batch_size==", ["training.batch_size==", "key=value"]),
    ("{a", ["{a", "override syntax"]),
    ("model=alexnet,cifar_quick", ["model=alexnet,cifar_quick"]),
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
