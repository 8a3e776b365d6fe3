"""Random numbers that are a function of a seed and a name, for one example or for a batch of them at once.

TensorFlow's stateless operations take one seed, so that a batch of examples, each with its own, needs a call for each. Its
generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), which is a few integer
operations: here they are done on all seeds at once, compiled, and give the same bits.
"""

from math import pi
from zlib import crc32

import numpy as np
import tensorflow as tf

BLOCK = 4
"""Numbers of 32 bits that the generator makes at a time."""
ROUNDS = 10
LOW = 0xFFFFFFFF
MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]])
KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]])
SCRAMBLING_KEY = np.array([[0x3EC8F720], [0x02461E29]])
"""With it TensorFlow mixes a seed into key and counter (core/kernels/stateless_random_ops.cc)."""


class Draws:
    """What an example draws, or each example of a batch; every name draws independently.

    Args:
        seed: int64 `[2]` of an example, or `[N, 2]` of a batch.
        names: Of a batch all names that will draw: they draw together.
    """

    def __init__(self, seed: tf.Tensor, names: tuple[str, ...] = ()) -> None:
        self.seed = tf.convert_to_tensor(seed)
        self.several = self.seed.shape.rank == 2
        self._blocks: dict[str, tf.Tensor] = {}
        self._words: dict[tuple[str, int], tf.Tensor] = {}  # of one example: operations may ask for the same
        if self.several and names:
            seeds = tf.concat([self._named(name) for name in names], axis=0)
            self._blocks = dict(zip(names, tf.split(philox_blocks(seeds), len(names)), strict=True))

    def _named(self, name: str) -> tf.Tensor:
        flips = tf.constant([crc32(name.encode()) & 0x7FFFFFFF, 0], self.seed.dtype)
        return tf.bitwise.bitwise_xor(self.seed, flips)

    def words(self, name: str, count: int = BLOCK) -> tf.Tensor:
        """Numbers from 0 to 2^32 - 1, int64 `[..., count]`; a batch draws at most `BLOCK` of them."""
        if not self.several:
            if (name, count) not in self._words:
                words = tf.random.stateless_uniform(
                    [count], self._named(name), minval=None, maxval=None, dtype=tf.uint32
                )
                self._words[name, count] = tf.cast(words, tf.int64)
            return self._words[name, count]
        if count > BLOCK:
            raise ValueError(f"{name} draws {count} numbers. Expected at most {BLOCK} in a batch.")
        return self._blocks[name][:, :count]

    def uniform(self, name: str, count: int, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """float32 `[..., count]` from [low, high)."""
        width = np.float32(high) - np.float32(low)
        return _unit(self.words(name, count)) * width + low

    def integers(self, name: str, bounds: tf.Tensor) -> tf.Tensor:
        """int32 `[..., 2]`, each from 0 to less than its one of two bounds (int64 `[2]` or `[..., 2]`)."""
        words = self.words(name)
        bits = tf.bitwise.bitwise_or(words[..., ::2], tf.bitwise.left_shift(words[..., 1::2], _int64(32)))
        return tf.cast(tf.math.floormod(bits, bounds), tf.int32)

    def normal(self, name: str, count: int) -> tf.Tensor:
        """float32 `[..., count]` from N(0, 1), by Box and Muller's transform; computed in float64.

        TensorFlow's own takes float32 on the way, whose logarithms differ with the place in a batch.
        """
        unit = tf.cast(_unit(self.words(name)), tf.float64)
        radius = tf.sqrt(-2 * tf.math.log(tf.maximum(unit[..., ::2], 1e-7)))
        angle = 2 * pi * unit[..., 1::2]
        pairs = tf.stack([radius * tf.sin(angle), radius * tf.cos(angle)], axis=-1)  # [..., 2, 2]
        flat = tf.reshape(pairs, [*([-1] if self.several else []), BLOCK])
        return tf.cast(flat[..., :count], tf.float32)


@tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int64)], autograph=False, jit_compile=True)
def philox_blocks(seeds: tf.Tensor) -> tf.Tensor:
    """The first block of random bits that TensorFlow's stateless operations draw from each seed.

    Args:
        seeds: int64 `[N, 2]`.

    Returns:
        int64 `[N, 4]`, numbers from 0 to 2^32 - 1.
    """
    counters = tf.transpose(seeds)
    even, odd = _philox(_low(counters), _high(counters), tf.constant(SCRAMBLING_KEY))
    nothing = tf.zeros_like(even[0])
    key = tf.stack([even[0], odd[0]])
    even, odd = _philox(tf.stack([nothing, even[1]]), tf.stack([nothing, odd[1]]), key)
    return tf.stack([even[0], odd[0], even[1], odd[1]], axis=1)


def _philox(even: tf.Tensor, odd: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Philox 4x32-10 of counters whose words 0 and 2 are `even`, 1 and 3 `odd`, each `[2, N]`; key `[2, N or 1]`."""

    def mix(done: tf.Tensor, even: tf.Tensor, odd: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, ...]:
        product = even * MULTIPLIERS
        mixed = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(tf.reverse(_high(product), [0]), odd), key)
        return done + 1, mixed, tf.reverse(_low(product), [0]), _low(key + KEY_STEPS)

    start = (tf.constant(0), even, odd, key)
    _, even, odd, _ = tf.while_loop(lambda done, *_: done < ROUNDS, mix, start)
    return even, odd


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def _low(words: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(words, _int64(LOW))


def _high(words: tf.Tensor) -> tf.Tensor:
    return _low(tf.bitwise.right_shift(words, _int64(32)))


def _unit(words: tf.Tensor) -> tf.Tensor:
    """float32 from [0, 1) with the lower 23 bits as its fraction, as TensorFlow makes it."""
    fraction = tf.bitwise.bitwise_and(words, _int64(0x7FFFFF))
    return tf.bitcast(tf.cast(fraction + _int64(0x3F800000), tf.int32), tf.float32) - 1
