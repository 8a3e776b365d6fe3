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

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)

    def multiply(factor: tf.Tensor, times: int) -> None:
        for _ in range(times):
            product = tf.matmul(factor, factor)
        product[0, 0].numpy()

    def rate(side: int) -> float:
        factor = tf.cast(tf.random.stateless_normal((side, side), [0, 0]), dtype)
        multiply(factor, 1)
        started = time.perf_counter()
        multiply(factor, max(1, (4096 // side) ** 2))
        return max(1, (4096 // side) ** 2) * side**3 / (time.perf_counter() - started)

    side = max(SIDES, key=rate)
    factor = tf.cast(tf.random.stateless_normal((side, side), [0, 0]), dtype)
    return Subject(
        lambda repetitions: multiply(factor, repetitions),
        work=2.0 * side**3,
        facts={"size": f"{side} x {side}"},
    )


def memory_bandwidth(threads: int) -> Subject:
    """Copying memory with so many threads; work in bytes read and written."""
    source = np.ones(COPIED_BYTES // 8)
    target = np.empty_like(source)
    parts = np.array_split(np.arange(len(source)), threads)
    slices = [slice(part[0], part[-1] + 1) for part in parts]
    pool = ThreadPoolExecutor(threads)

    def copy(part: slice) -> None:
        np.copyto(target[part], source[part])

    def run(repetitions: int) -> None:
        for _ in range(repetitions):
            list(pool.map(copy, slices))

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
