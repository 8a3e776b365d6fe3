"""Run a SavedModel as a stranger would: a script for a fresh process that has TensorFlow and nothing of ours.

Usage: `python -I reload.py FOLDER IMAGES.npz OUTPUTS.npz`. Every array of `IMAGES.npz` (uint8 [N, H, W, C]) goes
through the signature `serving_default`; `OUTPUTS.npz` gets each output as `<output>.<name of the array>`.
"""

import sys
from collections.abc import Sequence

import numpy as np

BLOCKED = "alexnet_tf"


class Blocker:
    """Makes the import of our package fail, although it is installed here."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:  # noqa: ARG004
        """Refuse the package; leave the rest to the other finders."""
        if name.partition(".")[0] == BLOCKED:
            raise ImportError(f"the SavedModel needs {name}, which others do not have")


def main(folder: str, images: str, outputs: str) -> None:
    """Load, run, write."""
    sys.meta_path.insert(0, Blocker)
    import tensorflow as tf

    serve = tf.saved_model.load(folder).signatures["serving_default"]
    results = {}
    with np.load(images) as batches:
        for key in batches.files:
            for name, tensor in serve(images=tf.constant(batches[key])).items():
                array = tensor.numpy()
                text = array.dtype == object
                results[f"{name}.{key}"] = np.array([item.decode() for item in array], str) if text else array
    np.savez(outputs, **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
