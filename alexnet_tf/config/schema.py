"""The dataclass schema of every config group: what can be set, its type, its default and its meaning.

Defaults that differ between recipes live in `conf/*.yaml`; a default that is written here holds everywhere.
`slots=True` makes an unknown key an error even when it was added with Hydra's `+`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import II, MISSING


class Activation(StrEnum):
    """A stage's nonlinearity."""

    relu = "relu"
    tanh = "tanh"
    sigmoid = "sigmoid"
    leaky_relu = "leaky_relu"
    elu = "elu"
    gelu = "gelu"
    linear = "linear"


class Application(StrEnum):
    """The networks of `keras.applications` that are here."""

    vgg16 = "vgg16"
    resnet50 = "resnet50"


class Init(StrEnum):
    """How weights start.

    `normal` is N(0, `weight_std` of the stage), as the sources before 2015 have it; `fan_in_uniform` is uniform within
    +-1 / sqrt(fan-in), PyTorch's default for convolutions and dense layers.
    """

    normal = "normal"
    glorot_uniform = "glorot_uniform"
    glorot_normal = "glorot_normal"
    he_uniform = "he_uniform"
    he_normal = "he_normal"
    lecun_normal = "lecun_normal"
    fan_in_uniform = "fan_in_uniform"


class BiasInit(StrEnum):
    """How biases start: at the stage's `bias`, or uniform within +-1 / sqrt(fan-in) as in PyTorch."""

    constant = "constant"
    fan_in_uniform = "fan_in_uniform"


class DropoutScaling(StrEnum):
    """Whether values are divided by the kept share in training, or multiplied by it at test time as in 2012."""

    train = "train"
    test = "test"


class StageKind(StrEnum):
    """A stage is a convolution or a dense layer with what follows it."""

    conv = "conv"
    dense = "dense"


class Norm(StrEnum):
    """A stage's normalisation."""

    none = "none"
    lrn = "lrn"
    batch = "batch"


class NormConvention(StrEnum):
    """Whether alpha multiplies the sum of squares over the window (paper) or their mean (2012 code, Caffe)."""

    sum = "sum"
    mean = "mean"


class LRNScope(StrEnum):
    """Whether the window of channels reaches across the network's columns or ends at a column's edge.

    The network has as many columns as the stage with the most: in the paper's, the maps of conv1 and conv3 lie in two
    as well, although their kernels see all that is below.
    """

    across = "across"
    column = "column"


class PoolKind(StrEnum):
    """What a pooling window yields."""

    none = "none"
    max = "max"
    avg = "avg"


class Rounding(StrEnum):
    """How an output size that is not a whole number is rounded; `up` lets the last window reach past the edge."""

    down = "down"
    up = "up"


class MeanKind(StrEnum):
    """What is subtracted: the mean image of the training set, its mean colour, or nothing but `values`."""

    image = "image"
    channel = "channel"


class PCAScale(StrEnum):
    """How long the principal components are: the eigenvalues (paper), or their square roots (2012 code)."""

    eigenvalue = "eigenvalue"
    deviation = "deviation"


class PCASource(StrEnum):
    """Whose colours the components are: the training split's, or ImageNet's as published."""

    training = "training"
    published = "published"


class AugmentDevice(StrEnum):
    """Where training images are finished, after the last crop."""

    host = "host"
    accelerator = "accelerator"


class OnError(StrEnum):
    """What an unreadable image does."""

    fail = "fail"
    skip = "skip"


class InMemory(StrEnum):
    """Whether a TFDS data set is held in memory; `auto` holds what is smaller than `memory_limit_mb`."""

    auto = "auto"
    always = "always"
    never = "never"


class Precision(StrEnum):
    """Compute dtype; variables stay float32 in the 16-bit choices (Keras's mixed policies)."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


class Metric(StrEnum):
    """What a study compares of two runs; see `alexnet_tf.studies.measures`."""

    time_to_error = "time_to_error"
    """Iterations until the error first comes down to `threshold`; compared as a ratio."""
    error = "error"
    """Top-1 error at the end; compared, like all below, as a difference in percentage points."""
    best_error = "best_error"
    """The lowest top-1 error of the run."""
    gap = "gap"
    """Validation error at the end less training error at the end: overfitting."""
    area = "area"
    """Mean of the error's curve over the iterations: how low and how soon."""


class Progress(StrEnum):
    """`auto` draws a bar in a terminal and prints plain lines elsewhere."""

    auto = "auto"
    bar = "bar"
    plain = "plain"
    none = "none"


# --------------------------------------------------------------------------------------------------- data


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """A classification data set: where it is and how its splits are made."""

    name: str = MISSING
    """`digits`, `folder`, or the name of any TFDS image classification set (`cifar10`, `beans`, ...)."""
    dir: str | None = None
    """TFDS data_dir, or the folder of images; null: `ALEXNET_DATA_DIR`, else TFDS's own default."""
    train_split: str = "train"
    validation_split: str | None = None
    """The split (TFDS) or subfolder (`folder`) to validate on; null: carve one from the training split."""
    test_split: str | None = "test"
    """The split to test on; null, or absent from the data: there is none."""
    validation_fraction: float = 0.1
    """Fraction of the training split that is carved off where there is no validation split."""
    split_seed: int | None = 0
    """Seed of the carving and of `train_examples`, apart from `seed` so that runs with different seeds share their
    splits; null: `seed`."""
    classes: list[str] | None = None
    """Keep only the examples of these classes, labelled in this order: names, or slices of the list of all names as in
    Python (`::2`, every second); null: all. A set that is streamed cannot choose."""
    train_examples: int | None = None
    """Keep only this many training examples (a seeded choice, after carving); null: all."""
    image_size: int | None = None
    """Side of the stored square images in pixels, if all are alike; null: they vary."""
    channels: int = 3
    """Colour channels that the stored images have, or are converted to."""
    on_error: OnError = OnError.fail
    """Of `folder`; other sets are checked when they are prepared. An unreadable image ends the work or is left out."""
    max_skipped: float = 0.01
    """The largest fraction of a split's images that `skip` may leave out; more are an error, for then the data are
    probably not what they are taken for. The default is our choice."""
    max_pixels: int = 89_478_485
    """Of `folder` and what `alexnet prepare` reads and makes: the largest width times height; what says it has more is
    unreadable and never decoded. The default is that of Pillow (`Image.MAX_IMAGE_PIXELS`): a quarter of a GiB in RGB."""
    in_memory: InMemory = InMemory.auto
    memory_limit_mb: int = 4096
    shuffle_window: int = 16384
    """Examples in the shuffle buffer of sets that are streamed because memory does not hold them."""
    stream_parts: int = 1
    """Parts of a streamed set that each fill their own rows of every batch. With a multiple of the workers each reads
    only its own files; the order depends on this number, not on the workers."""


# ------------------------------------------------------------------------------------------------ augment


@dataclass(kw_only=True, slots=True)
class ResizeConfig:
    """Resize so that the shorter side is `size` pixels, keeping the aspect ratio."""

    size: int = II("model.input_size")
    method: str = "bilinear"
    """bilinear, bicubic, lanczos3 (all with antialiasing), area or nearest. area is the quickest: means over areas, in
    training over those of a crop that is moved to the nearest pixels of the original, by at most half of one."""
    keep_aspect: bool = True
    """false: both sides become `size` pixels, which warps what is not square."""


@dataclass(kw_only=True, slots=True)
class CropConfig:
    """A square crop of `size` pixels from the centre."""

    size: int = II("model.input_size")


@dataclass(kw_only=True, slots=True)
class RandomCropConfig(CropConfig):
    """A square crop of `size` pixels at a random place, each equally likely, in training; else from the centre."""

    last_offset: bool = True
    """Whether the place at the lower and right edge is one: 33 x 33 for 224 of 256 with it (2012 code), 32 x 32
    without (as the paper counts)."""


@dataclass(kw_only=True, slots=True)
class RandomResizedCropConfig:
    """A crop of random area and aspect ratio, resized to `size`; in evaluation: resize to `eval_resize`, centre."""

    size: int = II("model.input_size")
    min_area: float = 0.08
    max_area: float = 1.0
    min_ratio: float = 0.75
    max_ratio: float = 4 / 3
    eval_resize: int | None = None
    """Shorter side before the centre crop in evaluation; null: 8/7 of `size` (256 for 224)."""


@dataclass(kw_only=True, slots=True)
class PadCropConfig:
    """Pad with `padding` zero pixels on each side, then crop `size` at random: the usual one for small images."""

    size: int = II("model.input_size")
    padding: int = 4


@dataclass(kw_only=True, slots=True)
class FlipConfig:
    """Mirror horizontally with this probability."""

    probability: float = 0.5


@dataclass(kw_only=True, slots=True)
class PCAConfig:
    """Add a random combination of the principal components of RGB (paper, section 4.1)."""

    std: float = 0.1
    """Standard deviation of the three coefficients."""
    scale: PCAScale = PCAScale.eigenvalue
    """`eigenvalue` (the paper's words, with RGB in [0, 1]: about 5.5 units of 0-255 on ImageNet) or `deviation` (its
    square root, as the authors' code does: about 12 units)."""
    source: PCASource = PCASource.training
    """`published`: variances 0.2175, 0.0188, 0.0045 of RGB in [0, 1] (fb.resnet.torch), which need no pass over the data."""
    divisor: float = 1.0
    """Divide the image by this after the noise, in training only; the authors' code has 1.1."""


@dataclass(kw_only=True, slots=True)
class RotateConfig:
    """Rotate by an angle drawn uniformly from +-`degrees`, filling with zeros."""

    degrees: float = 10.0


@dataclass(kw_only=True, slots=True)
class BrightnessConfig:
    """Add a value drawn uniformly from +-`max_delta` (units of 0-255)."""

    max_delta: float = 32.0


@dataclass(kw_only=True, slots=True)
class FactorConfig:
    """Multiply contrast or saturation by a factor drawn uniformly from `lower` to `upper`."""

    lower: float = 0.8
    upper: float = 1.2


@dataclass(kw_only=True, slots=True)
class SubtractMeanConfig:
    """Subtract the mean of the training split, or fixed `values` per channel (units of 0-255)."""

    kind: MeanKind = MeanKind.image
    values: list[float] | None = None


@dataclass(kw_only=True, slots=True)
class ScaleConfig:
    """Divide by one number, or by one number per channel (units of 0-255)."""

    divisor: float = 1.0
    channel_divisors: list[float] | None = None


@dataclass(kw_only=True, slots=True)
class AugmentConfig:
    """Named operations: those in `order` run, in that order; null switches one of them off."""

    device: AugmentDevice = AugmentDevice.host
    """`accelerator`: in training, what follows on the last crop runs where the network does, with what the host drew."""
    order: list[str] = MISSING
    resize: ResizeConfig | None = field(default_factory=ResizeConfig)
    center_crop: CropConfig | None = field(default_factory=CropConfig)
    random_crop: RandomCropConfig | None = field(default_factory=RandomCropConfig)
    random_resized_crop: RandomResizedCropConfig | None = field(default_factory=RandomResizedCropConfig)
    pad_crop: PadCropConfig | None = field(default_factory=PadCropConfig)
    flip: FlipConfig | None = field(default_factory=FlipConfig)
    pca: PCAConfig | None = field(default_factory=PCAConfig)
    rotate: RotateConfig | None = field(default_factory=RotateConfig)
    brightness: BrightnessConfig | None = field(default_factory=BrightnessConfig)
    contrast: FactorConfig | None = field(default_factory=FactorConfig)
    saturation: FactorConfig | None = field(default_factory=FactorConfig)
    subtract_mean: SubtractMeanConfig | None = field(default_factory=SubtractMeanConfig)
    scale: ScaleConfig | None = field(default_factory=ScaleConfig)


# -------------------------------------------------------------------------------------------------- model


@dataclass(kw_only=True, slots=True)
class LRNConfig:
    """Local response normalisation over channels (paper, section 3.3)."""

    size: int = 5
    """Channels in the window (the paper's n), not the half-width that TensorFlow calls depth_radius."""
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    convention: NormConvention = NormConvention.sum
    scope: LRNScope = LRNScope.across


@dataclass(kw_only=True, slots=True)
class MapNormConfig:
    """Normalisation within each map over a window in space: the third norm of the authors' 2012 network file."""

    size: int = 5
    """Side of the window in pixels."""
    k: float = 1.0
    alpha: float = 1e-3
    beta: float = 0.75
    convention: NormConvention = NormConvention.mean


@dataclass(kw_only=True, slots=True)
class PoolConfig:
    """Pooling; a window of 3 with a stride of 2 is the paper's overlapping one."""

    kind: PoolKind = PoolKind.none
    size: int = 3
    stride: int = 2
    rounding: Rounding = Rounding.down


@dataclass(kw_only=True, slots=True)
class StageConfig:
    """One weighted layer and what follows it."""

    kind: StageKind = StageKind.conv
    units: int | None = None
    """Filters of a convolution, units of a dense layer; null: the number of classes."""
    kernel: int = 3
    stride: int = 1
    padding: str = "same"
    """`same`, `valid`, or the number of zero pixels on each side, as a string of digits."""
    rounding: Rounding = Rounding.down
    columns: int = 1
    """Columns that the stage's kernels are divided into, each seeing only its share of the input channels."""
    activation: Activation | None = None
    """null: `model.activation`."""
    norm: Norm = Norm.none
    """`batch` takes its statistics over the rows of one replica, so results depend on the number of replicas, unless
    `model.sync_batch_norm`."""
    map_norm: bool = False
    """Normalise within each map too, by `model.map_norm`."""
    pool: PoolConfig | None = field(default_factory=PoolConfig)
    """null, or `pool.kind=none`: no pooling."""
    order: list[str] = field(default_factory=lambda: ["activation", "norm", "map_norm", "pool"])
    adaptive_pool: int | None = None
    """Side in pixels that maps are brought to after all of `order`, by averages over bins that fit; null: as they are."""
    dropout: float = 0.0
    """Fraction of this stage's outputs that are dropped in training."""
    init: Init | None = None
    """null: `model.init`."""
    weight_std: float = 0.01
    """Standard deviation of the initial weights where they start `normal`."""
    bias: float = 0.0
    """Initial value of the biases; 0 under `model.bias_init=fan_in_uniform`, which leaves no place for another."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every network has."""

    name: str = MISSING
    input_size: int = MISSING
    """Side of the square input in pixels."""
    input_channels: int | None = None
    """null: taken from the data."""
    num_classes: int | None = None
    """null: taken from the data."""
    freeze_until: str | None = None
    """All layers up to and including this one, such as `conv3`, do not move: a stage, or in other networks a layer or the
    beginning of its name. They compute as in inference, without dropout and with BatchNorm's stored statistics. null: all
    layers learn."""


@dataclass(kw_only=True, slots=True)
class StagedModelConfig(ModelConfig):
    """A network as an ordered dict of stages."""

    activation: Activation = Activation.relu
    init: Init = Init.normal
    bias_init: BiasInit = BiasInit.constant
    dropout_scaling: DropoutScaling = DropoutScaling.train
    lrn: LRNConfig | None = field(default_factory=LRNConfig)
    """The normalisation of every stage with `norm: lrn`; null switches it off everywhere."""
    map_norm: MapNormConfig = field(default_factory=MapNormConfig)
    """The normalisation of every stage with `map_norm: true`."""
    sync_batch_norm: bool = False
    """Take the statistics of every stage with `norm: batch` over the rows of all replicas, at some communication."""
    stages: dict[str, StageConfig] = MISSING


@dataclass(kw_only=True, slots=True)
class ApplicationConfig(ModelConfig):
    """A network as `keras.applications` builds it, with its initializers and without weights."""

    application: Application = MISSING


@dataclass(kw_only=True, slots=True)
class ResidualConfig(ModelConfig):
    """A residual network for small images, of two 3x3 convolutions a block (He et al., 2015, section 4.2)."""

    filters: list[int] = MISSING
    """Filters of each group of blocks; every group but the first halves the map."""
    blocks: int = MISSING
    """Blocks of each group (the paper's n): 6n + 2 weighted layers where there are three groups."""


@dataclass(kw_only=True, slots=True)
class ClassicalConfig(ModelConfig):
    """Features by a formula and a linear SVM on them: fitted in one go, without a network.

    Images are framed as in evaluation, by the resizing and cropping operations of `augment`; its other operations,
    `optimizer`, `schedule`, the batch and the epochs have no effect.
    """

    c: float = MISSING
    """Weight of the squared hinge loss against the squared norm of the coefficients (scikit-learn's C)."""
    iterations: int = 1000
    """At most so many passes of the SVM's solver for each class."""


@dataclass(kw_only=True, slots=True)
class HogConfig(ClassicalConfig):
    """Histograms of oriented gradients (Dalal and Triggs, 2005); needs the extra `classical`."""

    orientations: int = 9
    """Bins of a histogram, over 180 degrees."""
    cell: int = 8
    """Side of a histogram's square cell in pixels."""
    block: int = 2
    """Side in cells of the overlapping blocks over which histograms are normalised (L2-Hys)."""


@dataclass(kw_only=True, slots=True)
class SiftBowConfig(ClassicalConfig):
    """A histogram of visual words (Csurka et al., 2004): SIFT descriptors (Lowe, 2004) on a grid, by nearest centre."""

    words: int = 500
    """Centres of k-means: the vocabulary, and the length of the histogram."""
    vocabulary_images: int = 1000
    """Training images, a seeded choice, whose descriptors the vocabulary is made of."""
    cell: int = 3
    """Side in pixels of a descriptor's 4 x 4 cells."""
    step: int = 3
    """Pixels between the centres of two descriptors."""


# ---------------------------------------------------------------------------------- optimizer and schedule


@dataclass(kw_only=True, slots=True)
class GroupConfig:
    """Variables with a rate and decay of their own."""

    match: str = MISSING
    """Regular expression searched in the variable's path, such as `bias$` or `^conv1/`."""
    lr: float | None = None
    """Absolute learning rate; null: `optimizer.lr`."""
    weight_decay: float | None = None
    """null: `optimizer.weight_decay`."""
    trainable: bool = True
    """false: the group does not move at all, whatever its momentum."""


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """What every optimizer has."""

    name: str = MISSING
    lr: float = MISSING


@dataclass(kw_only=True, slots=True)
class SGDConfig(OptimizerConfig):
    """The paper's update (section 5): v = momentum v - decay lr w - lr g; w = w + v."""

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    groups: dict[str, GroupConfig] = field(default_factory=dict)
    """The first group whose `match` is found in a variable's path takes it; the rest keep the values above."""
    multipliers: dict[str, float] = field(default_factory=dict)
    """Factors on the rates of layers, whatever their group: by stage (or the beginning of a layer's name), `head` for the
    last layer with weights, `rest` for all that are not named; else 1."""


@dataclass(kw_only=True, slots=True)
class AdamConfig(OptimizerConfig):
    """Keras's Adam with decoupled weight decay (AdamW where the decay is not zero)."""

    name: str = "adam"
    lr: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0


@dataclass(kw_only=True, slots=True)
class ScheduleConfig:
    """What every schedule has."""

    name: str = MISSING
    warmup_epochs: float = 0.0
    """Epochs over which the rate rises linearly from a fraction of itself to its full value."""
    unfreeze: dict[int, str | None] = field(default_factory=dict)
    """What `model.freeze_until` is from the start of an epoch on, by epoch, counted from 1: `{3: conv2, 5: null}`, ever
    earlier layers, null for none. Without it nothing is released."""


@dataclass(kw_only=True, slots=True)
class ConstantConfig(ScheduleConfig):
    """One rate throughout."""

    name: str = "constant"


@dataclass(kw_only=True, slots=True)
class PlateauConfig(ScheduleConfig):
    """Divide the rate when the validation error stops improving (paper, section 5), then stop."""

    name: str = "plateau"
    divisor: float = 10.0
    patience: int = 5
    """Epochs without improvement before the rate is divided."""
    min_delta: float = 0.0
    """An improvement is a validation error lower than the best by more than this (fraction, 0-1)."""
    reductions: int = 3
    """After so many divisions the next plateau ends the run."""


@dataclass(kw_only=True, slots=True)
class StepsConfig(ScheduleConfig):
    """Divide the rate at the start of given epochs, and after given iterations."""

    name: str = "steps"
    divisor: float = 10.0
    epochs: list[int] = field(default_factory=list)
    """Counted from 1."""
    iterations: list[int] = field(default_factory=list)
    """Finished steps, such as Caffe's 100,000, 200,000, ..."""


@dataclass(kw_only=True, slots=True)
class CosineConfig(ScheduleConfig):
    """Half a cosine from the full rate to `final_fraction` of it over the whole run."""

    name: str = "cosine"
    final_fraction: float = 0.0


@dataclass(kw_only=True, slots=True)
class PhaseConfig:
    """What changes at the start of an epoch, and stays so until a later phase changes it."""

    epoch: int = MISSING
    """Counted from 1."""
    rates: dict[str, float] = field(default_factory=dict)
    """Absolute learning rates of groups of the optimizer; `rest` is the group of the variables in no other."""
    trainable: dict[str, bool] = field(default_factory=dict)
    """false freezes a group, which then does not move at all, whatever its momentum; true releases it."""
    augment_off: list[str] = field(default_factory=list)
    """Operations that training leaves out from here to the end."""


@dataclass(kw_only=True, slots=True)
class TableConfig(ScheduleConfig):
    """Phases, each from an epoch on: rates by group, frozen groups, operations switched off."""

    name: str = "table"
    phases: dict[str, PhaseConfig] = MISSING


# --------------------------------------------------------------------------------- strategy and training


@dataclass(kw_only=True, slots=True)
class StrategyConfig:
    """Where the replicas are."""

    name: str = "auto"
    """`auto` (every GPU there is, else one device), `one_device`, `mirrored` or `multi_worker`."""
    logical_devices: int | None = None
    """Split the CPU into this many devices to try out `mirrored` without GPUs."""
    local_workers: int | None = None
    """`multi_worker`: start this many workers on this machine, which share its GPUs; null: this process is one of those
    that `TF_CONFIG` or Slurm's variables name."""
    timeout_seconds: float = 600.0
    """`multi_worker`: a worker that finishes no batch for so long, or finds no other workers at the start, ends the run."""


@dataclass(kw_only=True, slots=True)
class ProbeConfig:
    """The error on a fixed seeded subset of training images, in inference mode, without augmentation."""

    every: int = 0
    """Steps between two measurements; 0: none."""
    examples: int = 1000
    stop_below: float | None = None
    """End the run when the probe's error (fraction, 0-1) is below this."""


@dataclass(kw_only=True, slots=True)
class EarlyStoppingConfig:
    """Stop when the validation error has not improved for `patience` epochs."""

    patience: int | None = None
    """null: never stop early."""
    min_delta: float = 0.0


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How long, in what arithmetic, and what is kept."""

    batch_size: int = 128
    """Examples of one step over all replicas."""
    accumulate: int = 1
    """Parts that every replica does its rows of a step in, one after the other, to save memory; the result is the same."""
    eval_batch_size: int | None = None
    """null: `batch_size`."""
    epochs: int = 10
    steps: int | None = None
    """End after this many steps, whatever `epochs` says; null: `epochs` decides."""
    overfit_batches: int = 0
    """Train on the first so many batches of the first epoch again and again, unaugmented; 0: off."""
    precision: Precision = Precision.float32
    jit_compile: bool = False
    eager: bool = False
    """Run every step in Python, for debugging."""
    deterministic: bool = False
    """Only operations whose results repeat to the bit, at some cost in speed."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    evaluate_every: int = 1
    """Epochs between two validations; 0: only at the end."""
    checkpoint_every: str = "1 epoch"
    """`N epochs`, `N steps` or `N minutes`; `never` keeps only the final model."""
    keep_checkpoints: int = 2
    tensorboard: bool = False
    """Write `events/` for TensorBoard (needs the extra `tensorboard`)."""
    mlflow: bool = False
    """Log to the MLflow server of `MLFLOW_TRACKING_URI` (needs the extra `track`)."""
    progress: Progress = Progress.auto
    intra_threads: int = 0
    """Threads within an operation; 0: TensorFlow decides."""
    inter_threads: int = 0
    """Operations at once; 0: TensorFlow decides."""


# -------------------------------------------------------------------------------------------------- study


@dataclass(kw_only=True, slots=True)
class ComparisonConfig:
    """Two arms and what the source claims about them."""

    id: str = ""
    """The claim's number in `alexnet claims`, such as `C1`; empty: it is not one of the paper's."""
    arm: str = MISSING
    reference: str = MISSING
    metric: Metric | None = None
    """null: `study.metric`."""
    split: str | None = None
    """null: `study.split`."""
    threshold: float | None = None
    """null: `study.threshold`."""
    views: int = 0
    """Evaluate `arm` after the training over so many views (1, 5 or 10) of each image; 0: as training measured."""
    reference_views: int = 0
    average: int = 1
    """More than 1: so many runs of `arm`, of seeds that follow on one another, with their probabilities averaged, against
    the mean of the same runs' errors; both evaluated over `views`."""
    claim: float | None = None
    """The claimed size: for `time_to_error` the ratio reference / arm (how many times faster `arm` is), for the other
    metrics arm - reference in percentage points (negative: `arm` is lower)."""
    direction: int = 0
    """The claimed side where the source gives no number: 1 for above, -1 for below no effect; 0: that of `claim`."""
    margin: float | None = None
    """For a claim of no effect: the largest one, in the claim's unit, that would still count as none."""


@dataclass(kw_only=True, slots=True)
class TuneConfig:
    """Values of one key to try for each arm, on seeds of their own, before the comparison."""

    key: str = "optimizer.lr"
    values: dict[str, list[float]] = field(default_factory=dict)
    """For each arm the candidates; an arm that is not named keeps its own value, and {} tunes nothing."""
    seeds: list[int] = field(default_factory=lambda: [100])


@dataclass(kw_only=True, slots=True)
class PretrainConfig:
    """Runs that arms start from, by `init_from`: one for each seed, trained before the arms."""

    overrides: list[str] = field(default_factory=list)
    """After those of `study.common` and what is typed, in place of an arm's."""
    arms: list[str] = field(default_factory=list)
    """The arms that start from the run of their seed; []: there is no such run."""


@dataclass(kw_only=True, slots=True)
class StudyScaleConfig:
    """How big a study is: what `conf/scale/` sets besides data, network and length."""

    name: str = ""
    """`smoke`, `small` or `paper`; empty: none was chosen. `smoke` never gives a verdict."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])


@dataclass(kw_only=True, slots=True)
class AtScaleConfig:
    """What a study has of its own at one scale."""

    common: list[str] = field(default_factory=list)
    """After those of `study.common`."""
    arms: dict[str, list[str]] = field(default_factory=dict)
    """Arms in place of `study.arms`, where sizes or rates that fit the scale stand in them; {}: those."""
    seeds: list[int] = field(default_factory=list)
    """In place of `study.seeds`; []: those."""
    tune: dict[str, list[float]] = field(default_factory=dict)
    """In place of `study.tune.values`; {}: those."""
    pretrain: list[str] = field(default_factory=list)
    """In place of `study.pretrain.overrides`; []: those."""


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    """A comparison of arms over seeds, run by one command and reported."""

    name: str = MISSING
    question: str = MISSING
    source: str = ""
    arms: dict[str, list[str]] = MISSING
    """Each arm's overrides."""
    scale: str = II("scale.name")
    at: dict[str, AtScaleConfig] = field(default_factory=dict)
    """By the name of a scale; merged into the study when the config is resolved."""
    common: list[str] = field(default_factory=list)
    """Overrides of every arm; what is typed comes after them, and an arm's own after that."""
    seeds: list[int] = II("scale.seeds")  # noqa: RUF009 - an interpolation, not a list
    metric: Metric = Metric.time_to_error
    split: str = "probe"
    """The split whose error is measured: `probe` (training images without augmentation), `train`, `validation`."""
    threshold: float = 0.25
    """The error (fraction, 0-1) that the arms race to."""
    comparisons: dict[str, ComparisonConfig] = field(default_factory=dict)
    tune: TuneConfig = field(default_factory=TuneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)


@dataclass(kw_only=True, slots=True)
class Config:
    """The whole: one run, or with `study` the sweep of a comparison."""

    seed: int = 0
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    augment: AugmentConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    scale: StudyScaleConfig = field(default_factory=StudyScaleConfig)
    study: StudyConfig | None = None
    run_dir: str | None = None
    """The run's (or sweep's) folder; null: a new one under `runs/` (or `sweeps/`)."""
    resume: str | None = None
    """A run folder to continue with its own config."""
    init_from: str | None = None
    """A finished run whose weights are the first ones, for fine-tuning; null: those of `model.init`."""

    def __repr__(self) -> str:
        """What one wants to know first, by its keys; `config.to_yaml` gives all of it."""
        length = "steps" if self.training.steps else "epochs"
        shown: list[tuple[str, Any, str]] = [
            ("data", self.data, "name"),
            ("model", self.model, "name"),
            ("model", self.model, "activation"),  # not every kind of network has one
            ("augment", self.augment, "order"),
            ("optimizer", self.optimizer, "name"),
            ("optimizer", self.optimizer, "lr"),
            ("schedule", self.schedule, "name"),
            ("training", self.training, length),
            ("training", self.training, "batch_size"),
            ("study", self.study, "name"),
        ]
        values = [f"{group}.{key}={getattr(part, key)}" for group, part, key in shown if hasattr(part, key)]
        return f"Config({', '.join([*values, f'seed={self.seed}'])})"


SCHEMAS: dict[tuple[str | None, str], Any] = {
    (None, "schema"): Config,
    ("schema/model", "staged"): StagedModelConfig,
    ("schema/model", "application"): ApplicationConfig,
    ("schema/model", "residual"): ResidualConfig,
    ("schema/model", "hog"): HogConfig,
    ("schema/model", "sift_bow"): SiftBowConfig,
    ("schema/optimizer", "sgd"): SGDConfig,
    ("schema/optimizer", "adam"): AdamConfig,
    ("schema/schedule", "constant"): ConstantConfig,
    ("schema/schedule", "plateau"): PlateauConfig,
    ("schema/schedule", "steps"): StepsConfig,
    ("schema/schedule", "cosine"): CosineConfig,
    ("schema/schedule", "table"): TableConfig,
}
"""Nodes of Hydra's ConfigStore by (group, name). Groups whose members differ in fields have one each."""
