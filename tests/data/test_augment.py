"""Every operation eagerly and inside tf.data; what it draws; what it does in evaluation; wrong use."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from alexnet_tf.config import ConfigError
from alexnet_tf.config.checks import FIXED_OPS, check_augment_order
from alexnet_tf.config.schema import (
    AugmentConfig,
    BrightnessConfig,
    CropConfig,
    FactorConfig,
    FlipConfig,
    MeanKind,
    PadCropConfig,
    PCAConfig,
    PCAScale,
    PCASource,
    RandomCropConfig,
    RandomResizedCropConfig,
    ResizeConfig,
    RotateConfig,
    ScaleConfig,
    SubtractMeanConfig,
)
from alexnet_tf.data import OPS, Statistics, make_preprocessing
from alexnet_tf.data.draws import Draws
from alexnet_tf.data.geometry import resize_window

CONFIGS: dict[str, Any] = {
    "resize": ResizeConfig(size=15),
    "center_crop": CropConfig(size=15),
    "random_crop": RandomCropConfig(size=15),
    "random_resized_crop": RandomResizedCropConfig(size=15),
    "pad_crop": PadCropConfig(size=15, padding=2),
    "flip": FlipConfig(),
    "pca": PCAConfig(),
    "rotate": RotateConfig(),
    "brightness": BrightnessConfig(),
    "contrast": FactorConfig(),
    "saturation": FactorConfig(),
    "subtract_mean": SubtractMeanConfig(kind=MeanKind.channel),
    "scale": ScaleConfig(divisor=2.0),
}
RANDOM = [name for name, op in OPS.items() if op.random]
COVARIANCE = np.array([[4000.0, 1500, 900], [1500, 3000, 1200], [900, 1200, 2000]])


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    values, vectors = np.linalg.eigh(COVARIANCE)
    return Statistics(
        mean_image=np.full([20, 30, 3], 7, np.float32),
        mean_channel=np.array([1, 2, 3], np.float32),
        covariance=COVARIANCE,
        eigenvalues=values.astype(np.float32),
        eigenvectors=vectors.astype(np.float32),
        count=5,
    )


def seed_of(number: int) -> tf.Tensor:
    return tf.constant([123456789012345, number], tf.int64)


def run(
    name: str, config: Any, statistics: Statistics | None, images: np.ndarray, seeds: range
) -> np.ndarray:
    """Apply an operation in training to an image with many seeds, in one dataset."""
    apply = OPS[name].build(config, statistics, True)
    dataset = tf.data.Dataset.from_tensor_slices([int(seed) for seed in seeds])
    dataset = dataset.map(
        lambda number: apply(tf.constant(images), seed_of(0) + tf.cast([0, number], tf.int64)),
        num_parallel_calls=2,
    )
    return dataset.batch(len(seeds)).get_single_element().numpy()


def test_every_op_has_a_config_field_and_a_test() -> None:
    fields = set(AugmentConfig.__dataclass_fields__) - {"device", "order"}
    assert set(OPS) == fields == set(CONFIGS)
    assert set(OPS) - set(FIXED_OPS) == set(RANDOM)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", list(OPS))
def test_eager_and_tf_data_agree(
    name: str, training: bool, photo: np.ndarray, statistics: Statistics
) -> None:
    apply = OPS[name].build(CONFIGS[name], statistics, training)
    eager = apply(tf.constant(photo), seed_of(3))
    spec = tf.TensorSpec([None, None, 3], tf.uint8)  # sizes that are not known when the graph is built
    dataset = tf.data.Dataset.from_generator(lambda: [photo], output_signature=spec)
    (mapped,) = dataset.map(lambda image: apply(image, seed_of(3)))
    assert mapped.dtype == eager.dtype
    np.testing.assert_allclose(mapped, eager, atol=1e-3)


@pytest.mark.parametrize("name", list(OPS))
def test_evaluation_takes_batches_and_does_not_draw(
    name: str, photo: np.ndarray, statistics: Statistics
) -> None:
    apply = OPS[name].build(CONFIGS[name], statistics, False)
    single = apply(tf.constant(photo), seed_of(1))
    np.testing.assert_array_equal(single, apply(tf.constant(photo), seed_of(2)))
    both = apply(tf.constant(np.stack([photo, photo])), seed_of(1))
    np.testing.assert_allclose(both, tf.stack([single, single]), atol=1e-4)


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_functions_of_the_seed(name: str, photo: np.ndarray, statistics: Statistics) -> None:
    first = run(name, CONFIGS[name], statistics, photo, range(8))
    np.testing.assert_array_equal(first, run(name, CONFIGS[name], statistics, photo, range(8)))
    assert len({image.tobytes() for image in first}) > 1


@pytest.mark.parametrize("name", ["center_crop", "random_crop", "pad_crop", "flip"])
@pytest.mark.parametrize("training", [True, False])
def test_crops_and_flips_keep_uint8(name: str, training: bool, photo: np.ndarray) -> None:
    assert OPS[name].build(CONFIGS[name], None, training)(tf.constant(photo), seed_of(0)).dtype == tf.uint8


@pytest.mark.parametrize("size", [[20, 30], [30, 20], [15, 40], [7, 7]])
def test_resize_sets_the_shorter_side_and_keeps_the_aspect(size: list[int]) -> None:
    resized = OPS["resize"].build(ResizeConfig(size=14), None, True)(tf.zeros([*size, 3]), seed_of(0))
    assert min(resized.shape[:2]) == 14
    assert max(resized.shape[:2]) == round(14 * max(size) / min(size))


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos3", "area"])
def test_resize_leaves_an_image_of_its_size_alone(photo: np.ndarray, method: str) -> None:
    """Of a size that only the run knows, as that of prepared images; TensorFlow's own is off by 0.004 then."""
    apply = OPS["resize"].build(ResizeConfig(size=min(photo.shape[:2]), method=method), None, True)
    traced = tf.function(lambda image: apply(image, seed_of(0)), [tf.TensorSpec([None, None, 3], tf.uint8)])
    np.testing.assert_array_equal(traced(photo), photo)


def test_resize_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), [16, 8])[..., np.newaxis]  # 16 x 16, columns alternate
    resized = OPS["resize"].build(ResizeConfig(size=4), None, True)(tf.constant(stripes), seed_of(0))
    np.testing.assert_allclose(resized[:, 1:-1], 127.5, atol=20)


def test_random_crop_offsets_are_uniform_from_0_to_the_difference() -> None:
    rows, columns = np.meshgrid(np.arange(12), np.arange(10), indexing="ij")
    image = np.stack([rows, columns], axis=-1).astype(np.uint8)  # a pixel's value is its place
    crops = run("random_crop", RandomCropConfig(size=8), None, image, range(4500))
    corners = crops[:, 0, 0].astype(int)
    counts = np.zeros([5, 3], int)
    np.add.at(counts, tuple(corners.T), 1)
    assert counts.sum() == 4500  # nothing beyond 12 - 8 and 10 - 8
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3
    np.testing.assert_array_equal(crops[0], image[corners[0, 0] :, corners[0, 1] :][:8, :8])


@pytest.mark.parametrize(("last_offset", "side"), [(True, 33), (False, 32)])
def test_the_places_of_224_of_256_are_those_of_the_code_or_of_the_paper(last_offset: bool, side: int) -> None:
    rows, columns = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = tf.constant(np.stack([rows, columns], axis=-1).astype(np.uint8))  # a pixel's value is its place
    apply = OPS["random_crop"].build(RandomCropConfig(size=224, last_offset=last_offset), None, True)

    def corner(number: tf.Tensor) -> tf.Tensor:
        crop = apply(image, tf.stack([tf.constant(7, tf.int64), number]))
        return tf.stack([crop[0, 0], crop[-1, -1]])

    draws = 20 * side**2  # chi-square wants 5 or more in each cell
    corners = tf.data.Dataset.range(draws).map(corner, num_parallel_calls=2).batch(draws)
    corners = corners.get_single_element().numpy().astype(int)
    np.testing.assert_array_equal(corners[:, 1] - corners[:, 0], 223)
    counts = np.zeros([256, 256], int)
    np.add.at(counts, tuple(corners[:, 0].T), 1)
    assert (counts[:side, :side] > 0).all()  # one of them is left out once in 400,000 such tests
    assert counts[:side, :side].sum() == draws
    assert stats.chisquare(counts[:side, :side].ravel()).pvalue > 1e-3


def test_a_crop_of_the_whole_image_has_one_place(photo: np.ndarray) -> None:
    square = photo[:20, :20]
    for last_offset in (True, False):
        crops = run("random_crop", RandomCropConfig(size=20, last_offset=last_offset), None, square, range(3))
        np.testing.assert_array_equal(crops, np.stack([square] * 3))


@pytest.mark.parametrize("size", [[20, 30], [30, 20], [7, 7]])
def test_resize_can_warp_to_a_square(size: list[int]) -> None:
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    ramps = tf.constant(np.stack([rows / size[0], columns / size[1]], axis=-1), tf.float32)
    warped = OPS["resize"].build(ResizeConfig(size=14, keep_aspect=False), None, True)(ramps, seed_of(0))
    assert warped.shape == [14, 14, 2]
    # Pixel i of 14 lies (i + 1/2) / 14 along its side, to a fifth of a pixel; pixels of the image are counted alike.
    for axis, length in enumerate(size):
        places = (np.moveaxis(warped.numpy()[..., axis], axis, 0) + 0.5 / length)[2:-2]
        expected = (np.arange(14)[2:-2] + 0.5) / 14
        np.testing.assert_allclose(places, np.tile(expected[:, np.newaxis], [1, 14]), atol=0.2 / 14)


def test_center_crop_takes_the_centre(photo: np.ndarray) -> None:
    for name, config in (("center_crop", CropConfig(size=10)), ("random_crop", RandomCropConfig(size=10))):
        cropped = OPS[name].build(config, None, False)(tf.constant(photo), seed_of(0))
        np.testing.assert_array_equal(cropped, photo[5:15, 10:20])


def test_pad_crop_shifts_by_up_to_the_padding_and_fills_with_zeros() -> None:
    image = np.arange(1, 26, dtype=np.uint8).reshape(5, 5, 1)
    crops = run("pad_crop", PadCropConfig(size=5, padding=1), None, image, range(400))
    padded = np.pad(image, [[1, 1], [1, 1], [0, 0]])
    possible = {padded[y : y + 5, x : x + 5].tobytes() for y in range(3) for x in range(3)}
    assert {crop.tobytes() for crop in crops} == possible
    plain = OPS["pad_crop"].build(PadCropConfig(size=5, padding=1), None, False)(
        tf.constant(image), seed_of(0)
    )
    np.testing.assert_array_equal(plain, image)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_flip_mirrors_with_its_probability(photo: np.ndarray, probability: float) -> None:
    flipped = run("flip", FlipConfig(probability=probability), None, photo, range(1000))
    mirrored = np.array([np.array_equal(image, photo[:, ::-1]) for image in flipped])
    unchanged = np.array([np.array_equal(image, photo) for image in flipped])
    assert (mirrored ^ unchanged).all()
    assert stats.binomtest(int(mirrored.sum()), 1000, probability).pvalue > 1e-3


# Of ImageNet's RGB in [0, 1], as fb.resnet.torch publishes them (datasets/imagenet.lua): variances, and p1, p2, p3.
PUBLISHED_VARIANCES = (0.2175, 0.0188, 0.0045)
PUBLISHED_DIRECTIONS = ((-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203))


def covariance_of_the_noise(config: PCAConfig) -> np.ndarray:
    """std^2 times the sum of l_i^2 p_i p_i', in units of 0-255, from the formulas of the sources."""
    variances, directions = PUBLISHED_VARIANCES, PUBLISHED_DIRECTIONS
    if config.source == PCASource.training:
        values, vectors = np.linalg.eigh(COVARIANCE)
        variances, directions = tuple(values / 255**2), tuple(vectors.T)
    # In [0, 1]: the paper's l are the variances, the code's their roots.
    lengths = variances if config.scale == PCAScale.eigenvalue else np.sqrt(variances)
    parts = [length**2 * np.outer(p, p) for length, p in zip(lengths, directions, strict=True)]
    return (config.std * 255 / config.divisor) ** 2 * np.sum(parts, axis=0)


@pytest.mark.parametrize(
    "config",
    [
        PCAConfig(),
        PCAConfig(scale=PCAScale.deviation, divisor=1.1),
        PCAConfig(source=PCASource.published),
        PCAConfig(source=PCASource.published, scale=PCAScale.deviation, std=0.2),
    ],
    ids=["paper", "code2012", "published", "published_deviation"],
)
def test_pca_noise_has_the_covariance_that_its_sources_give_it(
    statistics: Statistics, config: PCAConfig
) -> None:
    draws = 25_000
    known = statistics if config.source == PCASource.training else None
    images = run("pca", config, known, np.zeros([2, 1, 3], np.uint8), range(draws))
    assert (images == images[:, :1]).all()  # the same colour at every pixel
    noise = images[:, 0, 0].astype(np.float64)
    expected = covariance_of_the_noise(config)
    variances = np.diag(expected)
    # An entry S_ij of the covariance of n normal draws has the variance (S_ii S_jj + S_ij^2) / (n - 1): five of its roots.
    error = np.sqrt((np.outer(variances, variances) + expected**2) / (draws - 1))
    assert (np.abs(np.cov(noise.T) - expected) / error).max() < 5
    assert (np.abs(noise.mean(axis=0)) / np.sqrt(variances / draws)).max() < 5


def test_pca_divides_the_training_image_alone(photo: np.ndarray, statistics: Statistics) -> None:
    config = PCAConfig(std=0.0, divisor=1.1)
    np.testing.assert_allclose(run("pca", config, statistics, photo, range(1))[0], photo / 1.1, rtol=1e-6)
    np.testing.assert_array_equal(
        OPS["pca"].build(config, statistics, False)(tf.constant(photo), seed_of(0)), photo
    )


def test_rotation_turns_about_the_centre_and_fills_with_zeros() -> None:
    image = np.full([9, 9, 1], 200, np.uint8)
    image[4, 4] = 10
    turned = run("rotate", RotateConfig(degrees=45), None, image, range(20))
    np.testing.assert_allclose(turned[:, 4, 4], 10, atol=1e-2)
    assert turned.min() == 0
    still = run("rotate", RotateConfig(degrees=0), None, image, range(1))
    np.testing.assert_allclose(still[0], image, atol=1e-2)


def test_brightness_adds_one_number_within_its_range(photo: np.ndarray) -> None:
    change = run("brightness", BrightnessConfig(max_delta=10), None, photo, range(500)) - photo
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1, :1], change.shape), atol=1e-3)
    assert stats.kstest(change[:, 0, 0, 0], stats.uniform(-10, 20).cdf).pvalue > 1e-3


def test_contrast_keeps_the_mean_and_scales_the_distance(photo: np.ndarray) -> None:
    changed = run("contrast", FactorConfig(lower=0.5, upper=1.5), None, photo, range(50))
    np.testing.assert_allclose(
        changed.mean(axis=(1, 2)), np.tile(photo.mean(axis=(0, 1)), [50, 1]), atol=1e-2
    )
    factors = changed.std(axis=(1, 2)) / photo.std(axis=(0, 1))
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones(3), atol=1e-4)
    assert 0.5 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.5


def test_saturation_keeps_the_grey_of_each_pixel(photo: np.ndarray) -> None:
    changed = run("saturation", FactorConfig(lower=0.0, upper=2.0), None, photo, range(5))
    weights = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(changed @ weights, np.tile(photo @ weights, [5, 1, 1]), atol=1e-2)
    grey = run("saturation", FactorConfig(lower=0.0, upper=0.0), None, photo, range(1))[0]
    np.testing.assert_allclose(grey, np.repeat((photo @ weights)[..., np.newaxis], 3, axis=2), atol=1e-2)
    with pytest.raises(ValueError, match=r"saturation needs 3 colour channels. Received 1"):
        OPS["saturation"].build(FactorConfig(), None, True)(tf.zeros([4, 4, 1]), seed_of(0))


def test_random_resized_crop_draws_areas_and_falls_back_to_the_centre() -> None:
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    image = np.stack([rows, columns], axis=-1).astype(np.uint8)
    config = RandomResizedCropConfig(size=8, min_area=0.25, max_area=0.5)
    crops = run("random_resized_crop", config, None, image, range(300))
    # Eight samples across a box of length b lie b / 8 apart.
    height = (crops[:, 6, 0, 0] - crops[:, 1, 0, 0]) / 5 * 8
    width = (crops[:, 0, 6, 1] - crops[:, 0, 1, 1]) / 5 * 8
    assert (height * width / 64**2).min() > 0.23
    assert (height * width / 64**2).max() < 0.53
    assert 0.7 < (width / height).min() < 0.85
    assert 1.2 < (width / height).max() < 1.4
    narrow = np.zeros([4, 100, 1], np.uint8)  # no draw fits: 4 x 5 from the centre
    narrow[:, 47:52] = 9
    whole = RandomResizedCropConfig(size=4, min_area=1.0, max_area=1.0)
    np.testing.assert_allclose(run("random_resized_crop", whole, None, narrow, range(3)), 9, atol=1e-4)


def test_random_resized_crop_in_evaluation(photo: np.ndarray) -> None:
    apply = OPS["random_resized_crop"].build(RandomResizedCropConfig(size=14), None, False)
    resized = tf.image.resize(photo, [16, 24], antialias=True)
    np.testing.assert_allclose(apply(tf.constant(photo), seed_of(0)), resized[1:15, 5:19], atol=1e-3)
    with pytest.raises(ValueError, match=r"eval_resize must be at least size=14. Received 10"):
        OPS["random_resized_crop"].build(RandomResizedCropConfig(size=14, eval_resize=10), None, True)


def test_subtract_mean_and_scale(photo: np.ndarray, statistics: Statistics) -> None:
    def result(name: str, config: Any) -> np.ndarray:
        return OPS[name].build(config, statistics, True)(tf.constant(photo), seed_of(0)).numpy()

    photo_float = photo.astype(np.float32)
    channel, image = MeanKind.channel, MeanKind.image
    np.testing.assert_array_equal(result("subtract_mean", SubtractMeanConfig(kind=image)), photo_float - 7)
    np.testing.assert_array_equal(
        result("subtract_mean", SubtractMeanConfig(kind=channel)),
        photo_float - np.array([1, 2, 3], np.float32),
    )
    np.testing.assert_array_equal(
        result("subtract_mean", SubtractMeanConfig(values=[4, 5, 6])),
        photo_float - np.array([4, 5, 6], np.float32),
    )
    np.testing.assert_array_equal(result("scale", ScaleConfig(divisor=4.0)), photo_float / 4)
    np.testing.assert_array_equal(
        result("scale", ScaleConfig(channel_divisors=[1, 2, 4])),
        photo_float / np.array([1, 2, 4], np.float32),
    )


# ------------------------------------------------------------------------------------------------ the chain


def test_a_crop_larger_than_the_image_is_an_error(photo: np.ndarray) -> None:
    for name, config in (("center_crop", CropConfig(size=25)), ("random_crop", RandomCropConfig(size=25))):
        apply = OPS[name].build(config, None, True)
        with pytest.raises(ValueError, match=rf"augment.{name}.size=25 is larger than the image.*20x30"):
            apply(tf.constant(photo), seed_of(0))
        traced = tf.function(
            apply, input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([2], tf.int64)]
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"augment.{name}.size=25 is larger"):
            traced(tf.cast(photo, tf.float32), seed_of(0))


def test_images_of_unknown_size_that_do_not_fit_a_mean_image_are_an_error(statistics: Statistics) -> None:
    subtract = OPS["subtract_mean"].build(SubtractMeanConfig(kind=MeanKind.image), statistics, False)
    traced = tf.function(
        subtract, input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([2], tf.int64)]
    )
    assert traced(tf.zeros((20, 30, 3)), seed_of(0)).shape == (20, 30, 3)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"augment.subtract_mean takes images of 20x30x3 at its place .* crop them to that first.*20 40 3",
    ):
        traced(tf.zeros((20, 40, 3)), seed_of(0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AugmentConfig(order=["flop"]), "order=flop: expected one of resize, center_crop"),
        (
            AugmentConfig(order=["flip", "flip"], flip=FlipConfig()),
            r"order=\['flip', 'flip'\]: .*at most once",
        ),
        (AugmentConfig(order=["scale"], scale=ScaleConfig(divisor=0.0)), "divisor must not be 0"),
        (AugmentConfig(order=["pca"], pca=PCAConfig()), "pca needs the statistics"),
        (
            AugmentConfig(order=["scale", "pca"], pca=PCAConfig(source=PCASource.published)),
            "expected scale after pca, as augment.pca.source=published",
        ),
        (AugmentConfig(order=["resize"], resize=ResizeConfig(size=3, method="linear")), "bilinear.*'linear'"),
        (AugmentConfig(order=["subtract_mean"], subtract_mean=SubtractMeanConfig()), "needs the statistics"),
        (
            AugmentConfig(
                order=["subtract_mean", "scale", "pca"],
                subtract_mean=SubtractMeanConfig(),
                scale=ScaleConfig(),
                pca=PCAConfig(),
            ),
            "scale not to stand between pca and subtract_mean",
        ),
    ],
)
def test_wrong_chains_are_refused(config: AugmentConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_preprocessing(config, None, training=True)


def test_the_rule_about_scale_knows_every_op_that_needs_statistics() -> None:
    assert {name for name, op in CONFIGS.items() if OPS[name].needs_statistics(op)} == {
        "pca",
        "subtract_mean",
    }
    values = SubtractMeanConfig(values=[1, 2, 3])
    assert not OPS["subtract_mean"].needs_statistics(values)
    published = PCAConfig(source=PCASource.published)
    assert not OPS["pca"].needs_statistics(published)
    check_augment_order(AugmentConfig(order=["pca", "scale", "subtract_mean"], pca=published))
    order = ["pca", "scale", "subtract_mean"]
    check_augment_order(AugmentConfig(order=order, subtract_mean=values))
    check_augment_order(AugmentConfig(order=order, pca=None))
    with pytest.raises(ConfigError, match="scale not to stand between"):
        check_augment_order(AugmentConfig(order=order))


def test_a_mean_of_another_shape_is_refused(statistics: Statistics) -> None:
    config = AugmentConfig(order=["subtract_mean"], subtract_mean=SubtractMeanConfig())
    chain = make_preprocessing(config, statistics, training=True)
    with pytest.raises(ValueError, match=r"augment.subtract_mean has values of shape \(20, 30, 3\)"):
        chain.per_batch(tf.zeros([2, 20, 1, 3]))


def test_the_tail_that_batches_can_take_runs_on_batches(photo: np.ndarray, statistics: Statistics) -> None:
    config = AugmentConfig(
        order=["center_crop", "rotate", "flip", "subtract_mean", "scale"],
        center_crop=CropConfig(size=10),
        rotate=RotateConfig(degrees=0),
        flip=FlipConfig(),
        subtract_mean=SubtractMeanConfig(kind=MeanKind.channel),
        scale=ScaleConfig(divisor=3.0),
    )
    training = make_preprocessing(config, statistics, training=True, fixed_size=True)
    assert training.per_example is not None
    part = training.per_example(tf.constant(photo), seed_of(0))
    np.testing.assert_array_equal(part, photo[5:15, 10:20])  # up to the rotation, which takes one image
    assert len(training.tail) == 3
    whole = make_preprocessing(config, statistics, training=False, fixed_size=True)
    assert whole.per_example is None
    expected = (photo[5:15, 10:20] - np.array([1, 2, 3], np.float32)) / 3
    np.testing.assert_allclose(whole.per_batch(tf.constant(photo[np.newaxis]))[0], expected, rtol=1e-6)
    assert make_preprocessing(config, statistics, training=False).per_example is not None


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.batched])
def test_a_batch_becomes_what_each_of_its_images_does(
    name: str, photo: np.ndarray, statistics: Statistics
) -> None:
    images = np.stack([np.roll(photo, places, axis=1) for places in range(5)])
    seeds = np.array([[123456789012345, -3], [7, 5], [-1, 0], [2**62, 9], [0, 2**40]])
    apply = OPS[name].build(CONFIGS[name], statistics, True)
    together = apply(tf.constant(images), Draws(seeds, (name,)))
    alone = [apply(tf.constant(image), seed) for image, seed in zip(images, seeds, strict=True)]
    np.testing.assert_array_equal(together, tf.stack(alone))
    assert together.dtype == alone[0].dtype


def test_a_chain_on_batches_draws_for_the_sizes_at_each_place(
    photo: np.ndarray, statistics: Statistics
) -> None:
    config = AugmentConfig(
        order=["resize", "pad_crop", "contrast", "random_crop", "flip", "scale"],
        resize=ResizeConfig(size=24),
        pad_crop=PadCropConfig(size=26, padding=3),
        contrast=FactorConfig(),
        random_crop=RandomCropConfig(size=12),
        flip=FlipConfig(),
        scale=ScaleConfig(divisor=2.0),
    )
    images = tf.constant(np.stack([photo, 255 - photo, photo[::-1]]))
    seeds = tf.constant([[1, 2], [3, 4], [5, 6]], tf.int64)
    chain = make_preprocessing(config, statistics, training=True, fixed_size=True)
    assert chain.per_example is None
    found = chain.per_batch(images, chain.draw(images, seeds))
    for image, seed, result in zip(images, seeds, found, strict=True):
        for name in config.order:
            image = OPS[name].build(getattr(config, name), statistics, True)(image, seed)
        np.testing.assert_allclose(result, image, atol=1e-3)


ORDERS = {
    "paper": ["resize", "center_crop", "subtract_mean", "random_crop", "flip"],
    "caffe": ["resize", "subtract_mean", "scale", "random_crop", "flip"],
    "centre": ["resize", "center_crop", "subtract_mean"],
    "two crops": ["resize", "center_crop", "random_crop", "subtract_mean"],
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "keep_aspect", "method"),
    [([47, 70], True, "bilinear"), ([31, 20], True, "bicubic"), ([33, 60], False, "lanczos3")],
)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_only_what_a_crop_keeps_is_resized_and_it_is_the_same(
    order: list[str], shape: list[int], keep_aspect: bool, method: str, training: bool
) -> None:
    config = AugmentConfig(
        order=order,
        resize=ResizeConfig(size=24, method=method, keep_aspect=keep_aspect),
        center_crop=CropConfig(size=24),
        random_crop=RandomCropConfig(size=17),
        flip=FlipConfig(),
        subtract_mean=SubtractMeanConfig(kind=MeanKind.channel),
        scale=ScaleConfig(divisor=2.0),
    )
    image = np.random.default_rng(0).integers(0, 256, [*shape, 3]).astype(np.uint8)
    mean = np.random.default_rng(1).uniform(0, 200, [24, 24, 3]).astype(np.float32)
    by_pixel = order == ORDERS["paper"]
    if by_pixel:
        config.subtract_mean = SubtractMeanConfig(kind=MeanKind.image)
    known = Statistics(mean, mean[0, 0], COVARIANCE, mean[0, 0], COVARIANCE.astype(np.float32), 1)
    chain = make_preprocessing(config, known, training=training)
    assert chain.per_example is not None
    together = tf.function(
        lambda image: chain.per_example(image, seed_of(4)), [tf.TensorSpec([None, None, 3], tf.uint8)]
    )
    found = chain.per_batch(together(image)[tf.newaxis])[0]
    expected = tf.constant(image)
    for name in order:
        expected = OPS[name].build(getattr(config, name), known, training)(expected, seed_of(4))
    np.testing.assert_allclose(found, expected, atol=0.02)  # of 255: places are in float32


def test_area_means_are_those_of_a_crop_on_whole_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, [48, 72, 3]).astype(np.uint8)
    window = resize_window(tf.constant(image), (24, 36), tf.constant([5, 3]), 17, "area")
    expected = image[10:44, 6:40].reshape(17, 2, 17, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(window, expected, rtol=1e-5)
    moved = resize_window(tf.constant(image[:, :70]), (24, 35), tf.constant([5, 3]), 17, "area")
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    whole = resize_window(tf.constant(image[:17, :17]), (24, 24), tf.constant([7, 0]), 17, "area")  # enlarged
    assert whole.shape == [17, 17, 3]


def test_nothing_to_do_is_a_cast() -> None:
    chain = make_preprocessing(AugmentConfig(order=["flip"], flip=None), None, training=True)
    assert chain.per_example is None
    assert chain.per_batch(tf.zeros([1, 2, 2, 1], tf.uint8)).dtype == tf.float32
