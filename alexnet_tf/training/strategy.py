"""Devices, threads, seeds and determinism of the process, and the distribution strategy."""

import os

import keras
import tensorflow as tf

from alexnet_tf.config import ConfigError, check_replicas
from alexnet_tf.config.schema import Config, StrategyConfig, TrainingConfig
from alexnet_tf.processes import keep_freed_memory
from alexnet_tf.training.workers import join_cluster


def configure_process(config: Config) -> None:
    """Set what TensorFlow fixes for the whole process: threads, memory, logical devices, determinism, seeds.

    Raises:
        ConfigError: If TensorFlow has started already with other threads or devices, which only a new process can
            change.
    """
    training = config.training
    keep_freed_memory()
    try:
        if training.intra_threads:
            tf.config.threading.set_intra_op_parallelism_threads(training.intra_threads)
        if training.inter_threads:
            tf.config.threading.set_inter_op_parallelism_threads(training.inter_threads)
        if config.strategy.logical_devices:
            _split_cpu(config.strategy.logical_devices)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "training.intra_threads, training.inter_threads, strategy.logical_devices: TensorFlow has started already; "
            f"set them before its first use, or use a new process ({error})"
        ) from error
    keras.utils.set_random_seed(config.seed)  # what is not a stateless function of `seed` already
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


def _split_cpu(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    present = tf.config.get_logical_device_configuration(cpu)
    if present is None or len(present) < count:  # some of those that are there will do
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def make_strategy(config: StrategyConfig, training: TrainingConfig) -> tf.distribute.Strategy:
    """The strategy that a config describes; to be made before anything is asked of TensorFlow.

    `auto` is `mirrored` over the GPUs where there are several, else over the logical CPUs if they were asked for, else
    one device.

    Args:
        config: The strategy's section of the config.
        training: Has the global batch, which the replicas divide evenly.

    Raises:
        ConfigError: If they do not, or `multi_worker` finds no workers.
    """
    strategy = join_cluster(config.timeout_seconds) if config.name == "multi_worker" else _local(config)
    check_replicas(training.batch_size, strategy.num_replicas_in_sync, training.accumulate)
    return strategy


def _local(config: StrategyConfig) -> tf.distribute.Strategy:
    """The strategy over devices of this process."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    devices = gpus or cpus
    if config.logical_devices and not gpus:
        devices = cpus[: config.logical_devices]
    mirrored = config.name == "mirrored" or (config.name == "auto" and len(devices) > 1)
    if not mirrored:
        return tf.distribute.OneDeviceStrategy(devices[0])
    # NCCL reduces between GPUs only; between parts of a CPU TensorFlow would warn and fall back on this one.
    reduce = None if gpus and os.name == "posix" else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduce)
