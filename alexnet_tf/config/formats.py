"""What is written of a run for others: the formats of an export, how small, the files of features, the packages they need."""

import importlib.util
from pathlib import Path

from alexnet_tf.config.checks import VIEWS, ConfigError, check_table_file, one_of

EXTRA = "export"
QUANTIZATIONS: dict[str, tuple[str, ...]] = {
    "savedmodel": ("none",),
    "litert": ("none", "float16", "dynamic", "int8"),
    "onnx": ("none", "float16", "dynamic", "int8"),
    "keras": ("none",),
}
"""Every format of `alexnet export`, and how the weights of each can be stored."""
PACKAGES: dict[str, tuple[str, ...]] = {
    "litert": ("ai_edge_litert",),
    "onnx": ("tf2onnx", "onnxruntime"),
}
"""The modules that a format is made and run with, beyond TensorFlow."""

FEATURES = (".npz", ".parquet")
"""How the names of files of features end, which says of what kind they are."""


def check_features_file(out: Path) -> None:
    """Raise `ConfigError` for a name that ends otherwise than the kinds of files, or a package that is missing."""
    check_table_file("--out", out, FEATURES)


def check_export(kind: str, quantize: str, views: int) -> None:
    """Raise `ConfigError` for a format that there is not, not so quantised, or whose packages are not installed."""
    if kind not in QUANTIZATIONS:
        raise ConfigError(f"--format {kind}: expected one of {', '.join(QUANTIZATIONS)}")
    if quantize not in QUANTIZATIONS[kind]:
        choices = ", ".join(QUANTIZATIONS[kind])
        raise ConfigError(f"--quantize {quantize}: expected one of {choices} with --format {kind}")
    one_of("--views", views, VIEWS)
    if kind == "keras" and views != 1:
        raise ConfigError(f"--views {views}: expected 1 with --format keras, which is the network alone")
    missing = [name for name in PACKAGES.get(kind, ()) if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        what = "package" if len(missing) == 1 else "packages"
        raise ConfigError(f"--format {kind}: needs the {what} {names}; install alexnet_tf[{EXTRA}]")
