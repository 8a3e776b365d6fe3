"""Draw what `alexnet bench step --profile DIR` left: the operations of one training step over time.

    python experiments/bench/trace.py DIR PICTURE.png

A row for each of the threads that TensorFlow's executor used; the longest kinds of operations have a colour each.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import Patch
from tensorflow.tsl.profiler.protobuf import xplane_pb2

STEP = "train_step"
KINDS = {
    "convolutions: gradient of kernels": ("Conv2DBackpropFilter",),
    "convolutions: gradient of maps": ("Conv2DBackpropInput",),
    "convolutions: forward": ("Conv2D",),
    "matrix products": ("MatMul",),
    "small updates": ("ResourceApply",),
    "LRN's passes, large updates (XLA)": ("_fusion",),
    "pooling": ("Pool",),
    "slices, splits, paddings": ("Slice", "Split", "Concat", "Pad"),
}
OTHER = "other"
IS_OPERATION = re.compile(r"[^:]+:\w+|\w+_fusion")
"""An operation's event is called by its name and kind, a loop of XLA's by what it has fused; others have C++ names."""


def kind_of(operation: str) -> str:
    """What a bar is coloured by."""
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), OTHER)


def read_step(folder: Path) -> list[tuple[int, float, float, str]]:
    """The operations of the last step: (thread, begin, duration, name), in ms from its begin."""
    file = sorted(folder.rglob("*.xplane.pb"))[-1]
    space = xplane_pb2.XSpace.FromString(file.read_bytes())
    (plane,) = (plane for plane in space.planes if plane.name.startswith("/host:CPU"))
    names = {number: data.name for number, data in plane.event_metadata.items()}
    events = [
        (
            thread,
            line.timestamp_ns / 1e6 + event.offset_ps / 1e9,
            event.duration_ps / 1e9,
            names[event.metadata_id],
        )
        for thread, line in enumerate(plane.lines)
        for event in line.events
    ]
    _, begin, length, _ = max((event for event in events if event[3] == STEP), key=lambda event: event[1])
    return [
        (thread, start - begin, duration, name.rsplit(":", 1)[-1])
        for thread, start, duration, name in events
        if IS_OPERATION.fullmatch(name) and begin <= start < begin + length
    ]


def main(folder: str, picture: str) -> None:
    """Draw, and print how the time of the operations divides."""
    operations = read_step(Path(folder))
    seconds = Counter()
    for _, _, duration, name in operations:
        seconds[kind_of(name)] += duration
    total = seconds.total()
    colours = dict(
        zip([*KINDS, OTHER], [*plt.colormaps["tab10"].colors[: len(KINDS)], "lightgrey"], strict=True)
    )
    threads = sorted({thread for thread, *_ in operations})
    figure, axes = plt.subplots(figsize=(12, 1.6 + 0.5 * len(threads)), layout="constrained")
    for row, thread in enumerate(threads):
        bars = [(begin, length, kind_of(name)) for own, begin, length, name in operations if own == thread]
        axes.broken_barh(
            [bar[:2] for bar in bars], (row - 0.4, 0.8), color=[colours[kind] for *_, kind in bars]
        )
    axes.set(yticks=range(len(threads)), yticklabels=[f"thread {row + 1}" for row in range(len(threads))])
    axes.set_xlabel("ms from the step's begin")
    patches = [
        Patch(color=colours[kind], label=f"{kind}, {amount / total:.0%}")
        for kind, amount in seconds.most_common()
    ]
    figure.legend(handles=patches, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(picture, dpi=110)
    for kind, amount in seconds.most_common():
        print(f"{amount:9.1f} ms {amount / total:6.1%}  {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
