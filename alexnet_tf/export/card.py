"""The model card: what an export is, what it was measured at and what it cannot, for readers and for programs."""

from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from alexnet_tf import runs
from alexnet_tf.config import override_key, to_dict
from alexnet_tf.data.preprocessing import active_ops
from alexnet_tf.export.comparison import Comparison, Reference
from alexnet_tf.export.frame import RESIZES
from alexnet_tf.export.job import Job
from alexnet_tf.export.served import TOP
from alexnet_tf.pages import load_template
from alexnet_tf.runs import RunError, write_json, write_text

README = "README.md"
FACTS = "model_card.json"
PLACES = ("run_dir", "resume", "init_from", "data.dir")
"""Keys of the config that hold paths of the machine, which are left out."""
WHAT = {
    "savedmodel": "TensorFlow SavedModel",
    "litert": "LiteRT model",
    "onnx": "ONNX model",
    "keras": "Keras file",
}
STORED = {
    "none": "",
    "float16": ", weights in float16",
    "dynamic": ", weights in int8 (dynamic)",
    "int8": ", in int8",
}


def write_card(
    job: Job,
    reference: Reference,
    comparison: Comparison,
    seconds: float,
    folder: Path,
    path: Path,
    *,
    numbered: bool,
) -> None:
    """Write `README.md` and `model_card.json` into the export's folder.

    Args:
        job: What was exported.
        reference: What it was compared on.
        comparison: How it compares.
        seconds: For one image.
        folder: The export's folder.
        path: The export in it: the folder, or a file.
        numbered: Whether the folder will be called by a number, as TensorFlow Serving wants it.
    """
    card = {
        "format": job.kind,
        "quantize": job.quantize,
        "what": f"A {WHAT[job.kind]}{STORED[job.quantize]}".replace("A ONNX", "An ONNX"),
        "file": "." if path == folder else path.name,
        "bytes": size(path),
        "created": runs.now(),
        "run": _run_facts(job),
        **job.preprocessing(),
        "resizes": any(name in RESIZES for name, _ in active_ops(job.run.config.augment)),
        "size": job.network.input_shape[1],
        "classes": job.labels,
        "top": min(TOP, len(job.labels)),
        "comparison": {**asdict(comparison), "origin": reference.origin, "computing": job.computing},
        "seconds": seconds,
        "run_seconds": reference.seconds,
        "evaluations": _evaluations(job),
        "config": _without_places(to_dict(job.run.config)),
        "versions": {name: version(name) for name in ("alexnet_tf", "tensorflow", "keras", "numpy")},
    }
    template = load_template("alexnet_tf.export", "model_card.md.j2")
    shown = {"percent": _percent, "operations": _operations, "code": _code, "numbered": numbered}
    write_text(folder / README, template.render(card=card, **shown))
    write_json(folder / FACTS, card)


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")))


def _run_facts(job: Job) -> dict[str, Any]:
    run, config = job.run, job.run.config
    status, dataset = run.status(), run.dataset()
    typed = [text for text in run.overrides() if override_key(text) not in PLACES]
    return {
        "name": run.name,
        "step": status.get("step"),
        "imported": runs.IMPORTED in status,
        "best_validation_error": status.get("best_error"),
        "model": config.model.name,
        "parameters": job.network.count_params(),
        "precision": str(config.training.precision),
        "seed": config.seed,
        "data": dataset["name"],
        "data_fingerprint": dataset["fingerprint"],
        "examples": ", ".join(f"{count:,} {name}" for name, count in dataset["splits"].items()),
        "overrides": typed,
    }


def _evaluations(job: Job) -> list[dict[str, Any]]:
    """The rows of `alexnet evaluate`, the newest of each split and number of views, since the training last ended."""
    table, end = job.run.evaluations(), str(job.run.environment().get("end", ""))
    numbers = ("top1_error", "top1_low", "top1_high")
    rows = {(row["split"], row["views"]): row for row in table.rows if row["time"] >= end}
    try:
        return [
            {
                "split": row["split"],
                "views": int(row["views"]),
                "examples": int(row["examples"]),
                **{key: float(row[key]) for key in numbers},
            }
            for row in rows.values()
        ]
    except ValueError as error:
        raise RunError(f"{table.path}: is damaged ({error}); nothing was exported") from error


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    config["data"].pop("dir")
    return {key: value for key, value in config.items() if key not in PLACES}


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _code(text: str) -> Markup:
    """A text as Markdown's code on one line, which shows every character as it is; HTML's escapes would show too.

    The backticks around it are more than any in it (CommonMark, section 6.1), so that it cannot end it.
    """
    text = " ".join(text.splitlines())
    longest = max((len(list(run)) for letter, run in groupby(text) if letter == "`"), default=0)
    fence, space = "`" * (longest + 1), " " if "`" in text else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def _operations(operations: list[dict[str, Any]]) -> str:
    """Operations in words: `resize` (size 256, method bilinear), ..."""
    texts = []
    for operation in operations:
        options = [
            f"{key} {value}" for key, value in operation.items() if key != "name" and value is not None
        ]
        texts.append(f"`{operation['name']}`" + (f" ({', '.join(options)})" if options else ""))
    return ", ".join(texts)
