"""The `alexnet` command: one subcommand per verb, each a few lines that call the library.

Everything heavy is imported inside the verbs, so that `alexnet --help` answers at once.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from alexnet_tf.config import Config

WRONG_USE, INTERRUPTED = 2, 130
"""Exit statuses; others come with the errors: 1 the work failed, 75 stopped by a signal after saving."""

NOTICE = re.compile(
    r"[IWE]\d{4} \d\d:|WARNING: All log messages before absl|To enable the following instructions"
)
"""A log line of TensorFlow's C++ libraries."""

app = typer.Typer(
    name="alexnet",
    help="AlexNet experiments: train, compare, measure, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

sweeps = typer.Typer(
    help="Sweeps and studies: how far one is, going on with it, its table.", no_args_is_help=True
)
app.add_typer(sweeps, name="sweep")

Run = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Compose a config with Hydra and train: `alexnet train model=alexnet data=folder data.dir=DIR`.

    All of Hydra's options work (`alexnet train --help` lists them): --cfg job, --info, --config-dir, -m, ...
    """
    _run_hydra(context.args)


@app.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 128,
) -> None:
    """Measure finished runs on a split: loss, top-1 and top-5 error over every example."""
    _check_runs(*folders)
    _import_tensorflow()
    from alexnet_tf.evaluation import evaluate_run
    from alexnet_tf.inference import load_run

    rows = []
    for run in [load_run(folder) for folder in folders]:
        scores = evaluate_run(run, split, batch_size)
        top5 = "-" if scores.top5_error is None else f"{100 * scores.top5_error:.2f}"
        rows.append(
            [
                str(run.path),
                str(scores.examples),
                f"{scores.loss:.4f}",
                f"{100 * scores.top1_error:.2f}",
                top5,
            ]
        )
    _print_table(f"{split} split", ["run", "examples", "loss", "top-1 error %", "top-5 error %"], rows)


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="A sweep, or runs.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the report; default: the first path.")] = None,
) -> None:
    """Make the report of a sweep or of runs again: tables, plots, one HTML page."""
    from rich.console import Console

    from alexnet_tf.studies import write_report

    write_report(paths, out).print(Console())


@app.command()
def export(
    folder: Run,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; default: RUN/export/savedmodel/VERSION.")
    ] = None,
) -> None:
    """Export a SavedModel: uint8 images to probabilities, labels and preprocessing inside; reloaded and compared."""
    _check_runs(folder)
    _import_tensorflow()
    from alexnet_tf.export import export_savedmodel
    from alexnet_tf.inference import load_run

    print(export_savedmodel(load_run(folder), out))


@app.command(context_settings={"ignore_unknown_options": True})
def summary(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[model=NAME] [model.KEY=VALUE]...", show_default=False)
    ] = None,
) -> None:
    """Print a network's layers, shapes, parameters and multiply-accumulates."""
    from alexnet_tf.config import ConfigError, compose_model

    for text in overrides or []:
        if not text.lstrip("+~").startswith("model"):
            raise ConfigError(
                f"{text}: expected model=NAME or model.KEY=VALUE; a summary is of the network alone"
            )
    config = compose_model(overrides or [])
    _import_tensorflow()
    from alexnet_tf.model import build, layer_table, total

    network = build(config)
    layers = layer_table(network)
    rows = [
        [row.name, row.kind, " x ".join(map(str, row.output_shape)), f"{row.parameters:,}", f"{row.macs:,}"]
        for row in [*layers, total(layers)]
    ]
    _print_table(network.name, ["layer", "kind", "output", "parameters", "multiply-accumulates"], rows)


Sweep = Annotated[Path, typer.Argument(help="A sweep's folder.", show_default=False)]


@sweeps.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(
    context: typer.Context,
    folder: Sweep,
    skip_failed: Annotated[bool, typer.Option(help="Leave alone what failed.")] = False,
) -> None:
    """Run what is missing or unfinished, as the sweep was started: `alexnet sweep resume SWEEP`.

    An override or option of Hydra given after it (hydra/launcher=joblib, seed=0,1,2) takes the place of that of its key.
    """
    from alexnet_tf.studies import resume_command

    arguments, origin = resume_command(folder, context.args, skip_failed=skip_failed)
    if origin is None:
        print(
            "the folder that the sweep was started in is gone; relative paths count from here",
            file=sys.stderr,
        )
    else:
        os.chdir(origin)
    _run_hydra(arguments)


@sweeps.command()
def status(
    folder: Sweep,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until nothing runs or waits.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for programs instead.")] = False,
) -> None:
    """Show every job: done, running with time left, stopped, failed and why, waiting, dead."""
    from alexnet_tf.config import ConfigError
    from alexnet_tf.runs import SweepFolder
    from alexnet_tf.studies import print_status, read_standings, standings_dict

    if not as_json:
        print_status(folder, watch=watch)
        return
    if watch:
        raise ConfigError("--watch: expected without --json, which prints once")
    sweep = SweepFolder.open(folder)
    print(json.dumps(standings_dict(sweep, read_standings(sweep)), indent=2))


@sweeps.command(name="export")
def export_table(
    folder: Sweep,
    out: Annotated[
        Path | None, typer.Option(help="FILE.csv or FILE.parquet; default: SWEEP/runs.csv.")
    ] = None,
) -> None:
    """Write one table of all runs: a row for each job, step and split, with what differs between their configs."""
    from alexnet_tf.studies import export_sweep

    print(export_sweep(folder, out))


def main() -> None:
    """Run the command; wrong input is one line on standard error, and the exit status says what kind it was."""
    arguments = sys.argv[1:]
    # Hydra's completion script calls the bare command with `-sc query=SHELL`; all that it completes is `train`.
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        arguments = ["train", *arguments]
        if line := os.environ.get("COMP_LINE"):
            os.environ["COMP_LINE"] = line.replace(" train ", " ", 1)
    with _exit_statuses():
        sys.exit(app(args=arguments, prog_name="alexnet", standalone_mode=False))


def _run_hydra(arguments: list[str]) -> None:
    """Hand the arguments to Hydra, which composes the config and calls back."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra_plugins.alexnet_tf.registration import register
    from omegaconf import DictConfig

    from alexnet_tf.config import (
        CONFIG_MODULE,
        HYDRA_VERSION,
        ConfigError,
        explain,
        is_compose_error,
        register_schemas,
        resolve,
    )

    _check_options(arguments)
    register_schemas()
    register()
    full_error = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them its way
    sys.argv = ["alexnet train", *arguments]
    single: list[tuple[DictConfig, list[str]]] = []
    origin, sweeping = Path.cwd(), os.getpid()

    def task(composed: DictConfig) -> dict[str, Any] | None:
        """A job of a sweep runs in a child process; a single run starts when Hydra is done, out of its reach."""
        overrides = list(HydraConfig.get().overrides.task)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            from alexnet_tf.studies import run_job

            os.chdir(origin)  # a launcher's worker may be elsewhere
            try:
                return run_job(resolve(composed), overrides)
            except (
                SystemExit
            ):  # a signal came: in this process the sweep ends, a worker of a launcher only says so
                if os.getpid() == sweeping:
                    raise
                return None
        single.append((composed, overrides))
        return None

    try:
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base=HYDRA_VERSION)(
            task
        )()
    except Exception as error:
        if full_error == "1" or not is_compose_error(error):
            raise
        raise ConfigError(explain(error)) from error
    for composed, overrides in single:
        _train(resolve(composed), overrides)


def _check_options(arguments: list[str]) -> None:
    """Refuse an unknown option in one line, where Hydra's parser prints its usage of several."""
    from hydra._internal.utils import get_args_parser

    from alexnet_tf.config import ConfigError

    def fail(message: str) -> NoReturn:
        raise ConfigError(f"{message}. See alexnet train --help")

    parser = get_args_parser()
    parser.error = fail  # type: ignore[method-assign]
    parser.parse_args(arguments)


def _train(config: "Config", overrides: list[str]) -> None:
    """Train in this process and say where the result is."""
    if config.resume:
        _check_runs(Path(config.resume))
    else:
        _print_config(config)
    _import_tensorflow()
    from alexnet_tf import training

    run = training.train(config, overrides=overrides)
    print(f"{run!r}\nreport: alexnet report {run.path}")


def _check_runs(*folders: Path) -> None:
    """Find a wrong path before TensorFlow takes its seconds to load."""
    from alexnet_tf.runs import RunFolder

    for folder in folders:
        RunFolder.open(folder)


def _print_config(config: "Config") -> None:
    """The resolved config as a tree, without the operations that do not run and the stages' defaults."""
    from rich.console import Console
    from rich.tree import Tree

    from alexnet_tf.config import to_dict
    from alexnet_tf.config.schema import StageConfig

    content = to_dict(config)
    names = ("order", *config.augment.order)
    content["augment"] = {name: value for name, value in content["augment"].items() if name in names}
    default = to_dict(StageConfig())
    content["model"]["stages"] = {
        name: ", ".join(
            f"{key}={value}" for key, value in stage.items() if value != default[key] or key == "kind"
        )
        for name, stage in content["model"]["stages"].items()
    }

    def grow(tree: Tree, values: dict[str, Any]) -> Tree:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                grow(tree.add(key), value)
            else:
                tree.add(f"{key}: {value}")
        return tree

    Console(highlight=False, markup=False).print(grow(Tree("config"), content))


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on the terminal, the first column to the left and the others to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def _import_tensorflow() -> None:
    """Import TensorFlow without its start-up notices, which no environment variable of 2.21 keeps off the terminal.

    What its C++ libraries print while they load goes to a file; lines that are no log lines are printed afterwards,
    and with the variable `TF_CPP_MIN_LOG_LEVEL` at 0 or 1 nothing is held back.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines()
            print(*(line for line in lines if not NOTICE.match(line)), sep="\n", end="", file=sys.stderr)


@contextlib.contextmanager
def _exit_statuses() -> Iterator[None]:
    """Turn the errors that we raise on purpose into one line and an exit status; others keep their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if hasattr(
            error, "format_message"
        ):  # of the command line itself: an unknown verb, a missing argument
            message = " ".join(error.format_message().split()).rstrip(".")
            if not message:  # no verb at all: the help has been printed
                sys.exit(WRONG_USE)
            _fail(f"{message}. See alexnet --help", WRONG_USE)
        # Our own errors have a status; importing their classes here would be slow.
        status = getattr(error, "exit_status", None)
        if status is None or os.environ.get("ALEXNET_DEBUG"):
            raise
        _fail(str(error), status)


def _fail(message: str, status: int) -> None:
    print(f"alexnet: {message}", file=sys.stderr)
    sys.exit(status)
