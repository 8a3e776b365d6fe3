"""`python -m alexnet_tf.training RUN [CHANGES]`: train the run whose folder holds its config. A sweep's jobs start so.

So do the workers of `strategy.local_workers`. With `--stop-at-end-of-input` after it the training saves and stops when
standard input ends: a sweep that is killed does not leave its job behind.
"""

import sys
from dataclasses import replace

from alexnet_tf import runs
from alexnet_tf.config import ConfigError, from_run
from alexnet_tf.data import DataError
from alexnet_tf.training.signals import stop_at_end_of
from alexnet_tf.training.trainer import train


def main(path: str, *options: str) -> int:
    """Train or go on; the exit status is that of `alexnet train`."""
    if "--stop-at-end-of-input" in options:
        stop_at_end_of(sys.stdin.fileno())
    changes = [text for text in options if not text.startswith("--")]
    try:
        folder = runs.RunFolder.open(path)
        config = from_run(folder.path / runs.CONFIG, folder.config_dict())
        train(replace(config, resume=path), overrides=changes)
    except (ConfigError, DataError, runs.RunError, runs.Stopped) as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
