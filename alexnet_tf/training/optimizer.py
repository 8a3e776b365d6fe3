"""The paper's update as a Keras optimizer, with rates that belong to groups of variables."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf.config import HEAD, REST, ConfigError
from alexnet_tf.config.schema import AdamConfig, OptimizerConfig, SGDConfig
from alexnet_tf.model import is_in

LARGE = 2**20
"""Values of a variable from which on passes over memory cost more than XLA's compiling them to one."""


@keras.saving.register_keras_serializable(package="alexnet_tf")
class CoupledSGD(keras.optimizers.Optimizer):
    """SGD with momentum whose weight decay is coupled to the learning rate.

    For a variable w with gradient g of the batch's mean loss (paper, section 5)::

        v = momentum * v - weight_decay * lr * w - lr * g
        w = w + v

    so the decay passes through the momentum and scales with the rate. Keras's `SGD(weight_decay=...)` does not: it
    shrinks w by itself, beside the momentum.

    Example:
        >>> biases = {"match": "bias$", "learning_rate": 0.02, "weight_decay": 0.0, "trainable": True}
        >>> optimizer = CoupledSGD(0.01, momentum=0.9, weight_decay=5e-4, groups={"biases": biases})

    Args:
        learning_rate: Rate of the variables in no group.
        momentum: In [0, 1).
        weight_decay: Decay of the variables in no group.
        groups: Name -> `{"match", "learning_rate", "weight_decay", "trainable"}`; the first group whose regular
            expression `match` is found in a variable's path takes it. Rates and decays are absolute; None means the
            optimizer's own, now and when it changes. A group that is not trainable does not move, and its momentum is kept as it was;
            `set_trainable` counts for steps traced after it (in Keras's `fit` after `make_train_function(force=True)`).
            The variables of no group are those of the group `rest`.
        multipliers: Factors on the rates of layers, and so on what decays too, by the beginning of the layers' names (see
            `model.is_in`; the longest that fits counts), `head` for the layer of the last variable, `rest` for all others.
        name: Name of the optimizer.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        multipliers: Mapping[str, float] | None = None,
        name: str = "coupled_sgd",
        **kwargs: Any,
    ) -> None:
        # The base class must not know of the decay, or it would apply its own decoupled one.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self._keep_rate_exactly(learning_rate)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"Argument `momentum` is out of range. Expected 0 <= momentum < 1. Received: {momentum}"
            )
        if REST in (groups or {}):
            raise ValueError(
                f"Argument `groups` uses a reserved name. Expected any name but {REST!r}. Received: {REST!r}"
            )
        self.momentum = momentum
        self.decay = float(weight_decay)
        self.groups = {group: dict(values) for group, values in (groups or {}).items()}
        self.multipliers = dict(multipliers or {})
        self._rates: dict[str, Any] = {}
        self._decays: dict[str, Any] = {}
        self._gates: dict[str, Any] = {}
        self._frozen = {group for group, values in self.groups.items() if not values.get("trainable", True)}

    def _keep_rate_exactly(self, learning_rate: Any) -> None:
        """Hold the rate in float64: Keras's float32 is off by 2e-8 of 0.01, which shows in training in float64."""
        if isinstance(self._learning_rate, keras.Variable):  # else it is a schedule of Keras
            self._untrack_variable(self._learning_rate)
            self._learning_rate: Any = keras.Variable(
                learning_rate, dtype="float64", trainable=False, name="learning_rate"
            )

    def build(self, variables: list[Any]) -> None:
        """Create one momentum for each variable, and of each group rate, decay and a gate, which tells a file if it is frozen."""
        if self.built:
            return
        super().build(variables)
        for group in (REST, *self.groups):
            values = self.groups.get(group, {})
            rate, decay = values.get("learning_rate"), values.get("weight_decay")
            self._decays[group] = self._scalar(self.decay if decay is None else decay, f"{group}_decay")
            self._gates[group] = self._scalar(float(group not in self._frozen), f"{group}_gate")
            if rate is not None:
                self._rates[group] = self._scalar(rate, f"{group}_learning_rate")
        paths = [variable.path for variable in variables]
        self._group_of = [self.group_of(path) for path in paths]
        self._factors = [self.multiplier(path, paths[-1]) for path in paths]
        self._velocities = [
            self.add_variable_from_reference(reference_variable=variable, name="velocity")
            for variable in variables
        ]

    def _scalar(self, value: float, name: str) -> Any:
        def exactly(shape: Any, dtype: str) -> Any:  # Keras's Constant rounds to float32 on the way
            return tf.constant(value, dtype, shape)

        return self.add_variable((), initializer=exactly, dtype="float64", name=name)

    def group_of(self, path: str) -> str:
        """The name of the group that a variable's path belongs to."""
        return next((name for name, values in self.groups.items() if re.search(values["match"], path)), REST)

    def multiplier(self, path: str, last_path: str) -> float:
        """The factor on the rate of a variable, by its path and that of the network's last one."""
        layer, head = path.partition("/")[0], last_path.partition("/")[0]
        fitting = [name for name in self.multipliers if is_in(layer, name)]
        fitting += [HEAD] if layer == head and not fitting else []
        name = max(fitting, key=len, default=REST)
        return self.multipliers.get(name, self.multipliers.get(REST, 1.0))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Apply the update to one variable."""
        index = self._get_variable_index(variable)
        group, velocity, dtype = self._group_of[index], self._velocities[index], variable.dtype
        # Asked while tracing: a branch of the graph for each variable takes long to trace.
        if group in self._frozen:
            return
        full = tf.cast(self._rates.get(group, learning_rate), "float64")
        rate = tf.cast(full * self._factors[index], dtype)
        decay = tf.cast(self._decays[group], dtype)
        momentum = tf.constant(self.momentum, dtype)
        # Eagerly XLA would compile in each step.
        in_one_pass = math.prod(variable.shape) >= LARGE and not tf.executing_eagerly()
        update = _in_one_pass if in_one_pass else _operation_by_operation
        update(_value(variable), _value(velocity), tf.cast(gradient, dtype), rate, decay, momentum)

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Set the rates of the groups named, each of which has one of its own."""
        for group, rate in rates.items():
            if group == REST:
                self.learning_rate = rate
            else:
                self._rates[group].assign(rate)

    def set_trainable(self, group: str, trainable: bool) -> None:
        """Freeze or release a group, for graphs that are traced from now on."""
        self._gates[group].assign(float(trainable))
        (self._frozen.discard if trainable else self._frozen.add)(group)

    def load_own_variables(self, store: Any) -> None:
        """Load what Keras saved: values, and with them which groups are frozen."""
        super().load_own_variables(store)
        if self.built:  # else there is no gate yet, and the groups' own values count
            self._frozen = {group for group, gate in self._gates.items() if not gate.numpy()}

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this optimizer again."""
        config = super().get_config()
        config.pop("weight_decay", None)
        return {
            **config,
            "momentum": self.momentum,
            "weight_decay": self.decay,
            "groups": {
                group: {**values, "trainable": group not in self._frozen}
                for group, values in self.groups.items()
            },
            "multipliers": self.multipliers,
        }


def _operation_by_operation(
    w: tf.Variable, v: tf.Variable, g: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor, momentum: tf.Tensor
) -> None:
    """Update a variable and its momentum: two passes for the decay and one over all of them."""
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=w.handle, accum=v.handle, lr=rate, grad=g + decay * w, momentum=momentum
    )


def _in_one_pass(
    w: tf.Variable, v: tf.Variable, g: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor, momentum: tf.Tensor
) -> None:
    """The same in place by XLA, which rounds in another order."""

    @tf.function(autograph=False, jit_compile=True)
    def update() -> None:
        v.assign(momentum * v - rate * (g + decay * w))
        w.assign_add(v)

    update()


def _value(variable: Any) -> tf.Variable:
    """TensorFlow's variable, which Keras wraps."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def make_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """The optimizer that a config describes, not yet built."""
    if isinstance(config, SGDConfig):
        groups = {
            name: {
                "match": group.match,
                "learning_rate": group.lr,
                "weight_decay": group.weight_decay,
                "trainable": group.trainable,
            }
            for name, group in config.groups.items()
        }
        return CoupledSGD(
            config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            groups=groups,
            multipliers=config.multipliers,
        )
    if isinstance(config, AdamConfig):
        kind = keras.optimizers.AdamW if config.weight_decay else keras.optimizers.Adam
        decay = {"weight_decay": config.weight_decay} if config.weight_decay else {}
        return kind(config.lr, beta_1=config.beta_1, beta_2=config.beta_2, epsilon=config.epsilon, **decay)
    raise TypeError(f"Expected SGDConfig or AdamConfig. Received: {type(config).__name__}")


def check_groups(optimizer: keras.optimizers.Optimizer, paths: Sequence[str]) -> None:
    """Raise `ConfigError` for a group or a multiplier that takes none of the variables: it would do nothing."""
    if not isinstance(optimizer, CoupledSGD):
        return
    taken = {optimizer.group_of(path) for path in paths}
    for name, values in optimizer.groups.items():
        if name not in taken:
            raise ConfigError(
                f"optimizer.groups.{name}.match={values['match']}: expected to find a variable of this network that no "
                f"group before it takes, among {paths[0]} to {paths[-1]}"
            )
    layers = list(dict.fromkeys(path.partition("/")[0] for path in paths))
    for name in optimizer.multipliers:
        if name not in (HEAD, REST) and not any(is_in(layer, name) for layer in layers):
            parts = dict.fromkeys(layer.partition("_")[0] for layer in layers)
            raise ConfigError(
                f"optimizer.multipliers.{name}: no such layer. Expected one of {', '.join([*parts, HEAD, REST])}"
            )


def group_rates(config: OptimizerConfig) -> dict[str, float]:
    """The full rate of each group that has one of its own, and of the rest."""
    groups = config.groups if isinstance(config, SGDConfig) else {}
    return {REST: config.lr, **{name: group.lr for name, group in groups.items() if group.lr is not None}}


def frozen_groups(config: OptimizerConfig) -> set[str]:
    """The groups that are not trainable from the start."""
    groups = config.groups if isinstance(config, SGDConfig) else {}
    return {name for name, group in groups.items() if not group.trainable}


def set_frozen_groups(optimizer: keras.optimizers.Optimizer, frozen: Collection[str]) -> None:
    """Freeze these groups and release all others, before a step is traced; optimizers without groups freeze none."""
    inner = _inner(optimizer)
    if isinstance(inner, CoupledSGD):
        for group in (REST, *inner.groups):
            inner.set_trainable(group, group not in frozen)


def set_group_rates(optimizer: keras.optimizers.Optimizer, rates: Mapping[str, float]) -> None:
    """Set the rates of groups of any optimizer."""
    inner = _inner(optimizer)
    if isinstance(inner, CoupledSGD):
        inner.set_rates(rates)
    elif REST in rates:
        inner.learning_rate = rates[REST]


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return (
        optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer
    )
