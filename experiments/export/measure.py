"""Export a run to every format and quantisation, and print the table of `README.md`.

    python experiments/export/measure.py RUN OUT [ROUNDS]

The exports go to new folders in `OUT`. One image at a time goes through all of them in turns, in one process, so that what else
the machine does meets all alike.
"""

import json
import sys
from pathlib import Path

import numpy as np

import alexnet_tf
from alexnet_tf.config.formats import QUANTIZATIONS
from alexnet_tf.export import export_run, reload


def main(folder: str, out: str, rounds: int) -> None:
    """Export, time in turns, print."""
    run, results, calls = alexnet_tf.load_run(folder), {}, {}
    for kind, quantizations in QUANTIZATIONS.items():
        for quantize in quantizations:
            name = f"{kind} {quantize}"
            results[name] = export_run(run, kind, quantize=quantize, out=Path(out) / name.replace(" ", "_"))
            print(results[name], file=sys.stderr)
    for name, result in results.items():
        card = json.loads((result.path / "model_card.json").read_text())
        _, answer = reload.LOADERS[result.job.kind](str(result.path / card["file"]))
        image = one_image(result.job, result.reference.batches[0][:1])
        calls[name] = lambda answer=answer, image=image: answer(image)
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(reload.median_seconds(call))
    print_table(results, {name: np.array(values) for name, values in times.items()})


def one_image(job, raw: np.ndarray) -> np.ndarray:
    """An image as the export takes it, of the frame's size for a SavedModel too."""
    if job.kind != "savedmodel":
        return job.prepare(raw)
    return np.clip(np.rint(job.make_frame(1).cut(raw)), 0, 255).astype(np.uint8)


def print_table(results, times) -> None:
    """A row for each export."""
    base = times["savedmodel none"]
    print(
        "| format | quantised | MB | largest difference of a probability | same top-1 | top-1 error (the run's) | time of one image, SavedModel = 1 |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, result in results.items():
        own, ratio = result.comparison, times[name] / base
        print(
            f"| {name.replace(' ', ' | ')} | {result.bytes / 1e6:.2f} | {own.max_difference:.1e} | {100 * own.top1_agreement:.1f} % "
            f"| {100 * own.export_error:.1f} % ({100 * own.run_error:.1f} %) "
            f"| {np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}] |"
        )
    print(
        f"\nSavedModel: {1000 * np.median(base):.2f} ms; {own.images} images, {len(base)} rounds",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 7)
