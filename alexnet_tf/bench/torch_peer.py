"""The same network and update in PyTorch, channels last, eager or through `torch.compile`."""

from collections.abc import Callable
from typing import Any, cast

import torch

from alexnet_tf.bench.contender import Subject
from alexnet_tf.bench.epochs import in_memory
from alexnet_tf.bench.ours import made_up_batch
from alexnet_tf.config.schema import Config, LRNConfig, Norm, PoolConfig, StageConfig, StagedModelConfig

ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "gelu": torch.nn.GELU,
    "linear": torch.nn.Identity,
}


def train_step(config: Config, threads: int, compiled: bool) -> Subject:
    """Forward, backward and SGD with momentum and decay over the same batch again and again."""
    images, labels = _batch(config, _device())
    step = _make_step(config, threads, compiled)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            loss = step(images, labels)
        loss.item()

    return Subject(run, items=len(images), facts=_versions(threads))


def epoch(config: Config, threads: int, compiled: bool) -> Subject:
    """An epoch over tensors in memory, gathered, cropped and mirrored by the batch: no DataLoader is as quick."""
    config, images, labels = in_memory(config)
    rows, height, width, _ = images.shape
    size, padding = config.training.batch_size, 4
    step = _make_step(config, threads, compiled)
    device = _device()
    every, truth = torch.from_numpy(images), torch.from_numpy(labels).long()
    mean = every.float().mean(0)

    def batch(chosen: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(every[chosen], (0, 0, padding, padding, padding, padding))
        top, left = torch.randint(2 * padding + 1, (2,)).tolist()  # one place for the batch, the quickest
        cropped = padded[:, top : top + height, left : left + width].float()
        mirrored = torch.where(torch.rand(len(chosen), 1, 1, 1) < 0.5, cropped.flip(2), cropped)
        return ((mirrored - mean) / 64).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            order = torch.randperm(rows)
            for start in range(0, rows - size + 1, size):
                chosen = order[start : start + size]
                loss = step(batch(chosen), truth[chosen].to(device))
        loss.item()

    return Subject(run, items=rows // size * size, facts=_versions(threads), warm_up=0)


def _make_step(
    config: Config, threads: int, compiled: bool
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """From images [B, C, H, W] and labels [B] to the loss, the update done."""
    device = _device()
    forward = _forward(config, threads, compiled)
    settings: Any = config.optimizer
    optimizer = torch.optim.SGD(
        forward.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
    )
    low = config.training.precision == "bfloat16"

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def inference(config: Config, threads: int, compiled: bool) -> Subject:
    """The logits of a batch."""
    device = _device()
    images, _ = _batch(config, device)
    forward = _forward(config, threads, compiled).train(False)
    low = config.training.precision == "bfloat16"

    def run(repetitions: int) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            for _ in range(repetitions):
                forward(images).sum().item()

    return Subject(run, items=len(images), facts=_versions(threads))


def lrn(shape: tuple[int, int, int, int], config: LRNConfig, threads: int) -> Subject:
    """Forward and backward of `LocalResponseNorm` over maps of `shape` [N, H, W, C]."""
    torch.set_num_threads(threads)
    rows, height, width, channels = shape
    layer = _lrn(config)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn((rows, channels, height, width), generator=generator).mul_(20)
    maps = maps.to(memory_format=torch.channels_last).requires_grad_()
    upstream = torch.randn(maps.shape, generator=generator).to(memory_format=torch.channels_last)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            maps.grad = None
            layer(maps).backward(upstream)

    return Subject(run, items=1, facts=_versions(threads))


def network(config: Any) -> torch.nn.Sequential:
    """The network that `config` describes, of PyTorch's layers with their own initial weights."""
    assert isinstance(config, StagedModelConfig)
    net = torch.nn.Sequential(*(part for stage in config.stages.values() for part in _stage(stage, config)))
    with torch.no_grad():  # layers learn their inputs' channels from the first ones
        net.train(False)(torch.zeros(1, config.input_channels, config.input_size, config.input_size))
    return net.train()


def _stage(stage: StageConfig, config: StagedModelConfig) -> list[torch.nn.Module]:
    units, nn = stage.units or config.num_classes, torch.nn
    dense = stage.kind == "dense"
    layers: list[Any] = [nn.Flatten(), nn.LazyLinear(units)] if dense else _convolution(stage, units)
    for part in stage.order:
        if part == "activation":
            layers.append(ACTIVATIONS[str(stage.activation or config.activation)]())
        elif part == "norm" and stage.norm == Norm.batch:
            layers.append(nn.BatchNorm1d(units) if dense else nn.BatchNorm2d(units))
        elif part == "norm" and stage.norm == Norm.lrn and (lrn := config.lrn) is not None:
            layers.append(_lrn(lrn))
        elif part == "pool" and stage.pool is not None and stage.pool.kind != "none":
            layers.append(_pool(stage.pool))
    if stage.adaptive_pool:
        layers.append(nn.AdaptiveAvgPool2d(stage.adaptive_pool))
    if stage.dropout:
        layers.append(nn.Dropout(stage.dropout))
    return layers


class SamePadding(torch.nn.Module):
    """Zeros on all sides as TensorFlow's "SAME" has them, one more at the end where they are odd."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pads [N, C, H, W]."""
        pixels: list[int] = []
        for side in (maps.shape[3], maps.shape[2]):
            total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
            pixels += [total // 2, total - total // 2]
        return torch.nn.functional.pad(maps, pixels)


def _convolution(stage: StageConfig, units: Any) -> list[torch.nn.Module]:
    def convolution(pixels: int) -> torch.nn.Module:
        return torch.nn.LazyConv2d(units, stage.kernel, stage.stride, pixels, groups=stage.columns)

    if stage.padding == "same":
        return [SamePadding(stage.kernel, stage.stride), convolution(0)]
    pixels = int(stage.padding) if stage.padding.isdigit() else 0
    extra = stage.stride - 1 if stage.rounding == "up" else 0
    if not extra:
        return [convolution(pixels)]
    return [torch.nn.ZeroPad2d((pixels, pixels + extra, pixels, pixels + extra)), convolution(0)]


def _pool(pool: PoolConfig) -> torch.nn.Module:
    kind = torch.nn.MaxPool2d if pool.kind == "max" else torch.nn.AvgPool2d
    return kind(pool.size, pool.stride, ceil_mode=pool.rounding == "up")


def _lrn(config: LRNConfig) -> torch.nn.Module:
    """PyTorch divides alpha by the size, as Caffe does."""
    alpha = config.alpha if config.convention == "mean" else config.alpha * config.size
    return torch.nn.LocalResponseNorm(config.size, alpha, config.beta, config.k)


def _forward(config: Config, threads: int, compiled: bool) -> torch.nn.Module:
    torch.set_num_threads(threads)
    net = network(config.model).to(_device(), memory_format=torch.channels_last)
    return cast("torch.nn.Module", torch.compile(net)) if compiled else net


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _batch(config: Config, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = made_up_batch(config)
    moved = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    return moved, torch.from_numpy(labels).long().to(device)


def _versions(threads: int) -> dict[str, Any]:
    return {"torch": torch.__version__, "threads": threads}
