"""What the machine itself can do: matrix products, memory, decoding JPEGs. No network gets beyond them."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from alexnet_tf.bench.contender import Subject

SIDES = (1024, 2048, 4096)
COPIED_BYTES = 2**28


def matrix_products(dtype: str, threads: int) -> Subject:
    """The best rate of square matrix products in TensorFlow, over a few sizes; work in floating point operations."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)

    def multiply(factor: tf.Tensor, times: int) -> None:
        for _ in range(times):
            product = tf.matmul(factor, factor)
        product[0, 0].numpy()

    def square(side: int) -> tf.Tensor:
        return tf.cast(tf.random.stateless_normal((side, side), [0, 0]), dtype)

    def rate(side: int) -> float:
        factor, times = square(side), (max(SIDES) // side) ** 2
        multiply(factor, 1)
        started = time.perf_counter()
        multiply(factor, times)
        return times * side**3 / (time.perf_counter() - started)

    side = max(SIDES, key=rate)
    factor = square(side)
    return Subject(
        lambda repetitions: multiply(factor, repetitions),
        work=2.0 * side**3,
        facts={"size": f"{side} x {side}"},
    )


def memory_bandwidth(threads: int) -> Subject:
    """Copying memory with so many threads; work in bytes read and written."""
    source = np.ones(COPIED_BYTES // 8)
    target = np.empty_like(source)
    targets, sources = np.array_split(target, threads), np.array_split(source, threads)  # views
    pool = ThreadPoolExecutor(threads)

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            list(pool.map(np.copyto, targets, sources))

    return Subject(run, work=2.0 * COPIED_BYTES)


def jpeg_decoding(files: list[str], threads: int) -> Subject:
    """libjpeg-turbo by itself (simplejpeg), so many threads, from memory to RGB; work in images."""
    import simplejpeg

    contents = [Path(file).read_bytes() for file in files]
    pool = ThreadPoolExecutor(threads)  # it lets go of the interpreter while it decodes

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            list(pool.map(lambda content: simplejpeg.decode_jpeg(content).shape, contents))

    facts = {"simplejpeg": simplejpeg.__version__}
    return Subject(run, work=len(files), items=len(files), facts=facts)
