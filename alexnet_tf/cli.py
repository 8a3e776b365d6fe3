"""The `alexnet` command: one subcommand per verb, each a few lines that call the library.

Everything heavy is imported inside the verbs, so that `alexnet --help` answers at once.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from alexnet_tf.config import Config

SAID_SECONDS = 60.0
FAILED, WRONG_USE, STOPPED, INTERRUPTED = 1, 2, 75, 130
"""Exit statuses; others come with the errors. By SIGINT or SIGTERM a command ends with 75 where it has saved what the same
command goes on from, else with 130."""

PREPARED_KEYS = (
    "name",
    "dir",
    "train_split",
    "validation_split",
    "test_split",
    "on_error",
    "max_skipped",
    "max_pixels",
)
"""Keys of `data` that decide which pictures `alexnet prepare` reads."""

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
    views: Annotated[int, typer.Option(help="Crops of each image to average over: 1, 5 or 10.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops at once.")] = 128,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average the runs' probabilities too.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the average; default: evaluations/<time>_<split>_ensemble."),
    ] = None,
) -> None:
    """Measure finished runs on a split: loss, top-1 and top-5 error with 95 % intervals, per class, confusions."""
    from alexnet_tf.config import ConfigError

    if out is not None and not ensemble:
        raise ConfigError(f"--out {out}: expected --ensemble with it; a run's results go into its own folder")
    _check_runs(*folders)
    _check_views(folders, views)
    _import_tensorflow()
    from alexnet_tf.evaluation import Settings, evaluate_ensemble, evaluate_runs
    from alexnet_tf.inference import load_run

    settings = Settings(split, views, batch_size, progress=True)
    members = [load_run(folder) for folder in folders]
    evaluations = evaluate_ensemble(members, settings, out) if ensemble else evaluate_runs(members, settings)
    title = f"{split} split, {views} {'view' if views == 1 else 'views'}; [95 % interval]"
    columns = ["run", "examples", "loss", "top-1 error %", "top-5 error %"]
    _print_table(title, columns, [evaluation.terminal_row() for evaluation in evaluations])
    for evaluation in evaluations:
        print(f"tables and confusion matrix: {evaluation.path}")


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
def claims(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Sweeps, or folders of them.", show_default=False),
    ] = None,
) -> None:
    """Print the paper's claims: what the source says, what was measured, the verdict, the command.

    Without paths the results below ./experiments and ./sweeps count.
    """
    from alexnet_tf.pages import print_table
    from alexnet_tf.studies import claims_table, find_results, load_claims

    print_table(claims_table(load_claims(), find_results(paths or [])))


@app.command()
def export(
    folder: Run,
    kind: Annotated[
        str, typer.Option("--format", help="savedmodel, litert (.tflite), onnx or keras.")
    ] = "savedmodel",
    quantize: Annotated[
        str, typer.Option(help="none, float16, dynamic or int8: of litert and onnx.")
    ] = "none",
    views: Annotated[int, typer.Option(help="Crops of each image to average over: 1, 5 or 10.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; default: RUN/export/FORMAT/VERSION.")
    ] = None,
) -> None:
    """Export a run for other programs: loaded back in a fresh process, compared with the run, with a model card."""
    from alexnet_tf.config import check_export
    from alexnet_tf.runs import check_new

    check_export(kind, quantize, views)
    if out is not None:
        check_new(out)
    _check_runs(folder)
    _check_views([folder], views)
    _import_tensorflow()
    from alexnet_tf.export import export_run
    from alexnet_tf.inference import load_run

    print(export_run(load_run(folder), kind, quantize=quantize, views=views, out=out))


@app.command()
def predict(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|SAVEDMODEL", help="A run, or its SavedModel.", show_default=False)
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|-...",
            help="Pictures, folders with all below them, or - for paths from standard input, one on each line.",
            show_default=False,
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Most probable classes to name.")] = 5,
    views: Annotated[int | None, typer.Option(help="Of a run: crops to average over, 1, 5 or 10.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 32,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each picture, a line each.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A header and a row for each picture.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png|.svg", help="Draw the first eight pictures with bars, as Figure 4."),
    ] = None,
) -> None:
    """Name what is on pictures, with probabilities; a bad file is reported and left out, and the exit status is 1."""
    from alexnet_tf.config import ConfigError
    from alexnet_tf.picture_files import check_inputs
    from alexnet_tf.runs import RunFolder, find_savedmodel

    if as_json and as_csv:
        raise ConfigError("--json --csv: expected one of them")
    if plot is not None and plot.suffix not in (".png", ".svg"):
        raise ConfigError(f"--plot {plot}: expected a name that ends in .png or .svg")
    if plot is not None and not plot.parent.is_dir():
        raise ConfigError(f"--plot {plot}: expected a file in a folder that there is, {plot.parent} is none")
    saved = find_savedmodel(source)
    if saved is None:
        views = 1 if views is None else views
        _check_views([RunFolder.open(source).path], views)
    elif views is not None:
        raise ConfigError(
            f"--views {views}: expected with a run; a SavedModel has the views it was exported with"
        )
    check_inputs(inputs)
    _import_tensorflow()
    from alexnet_tf import prediction
    from alexnet_tf.inference import load_run

    of = prediction.Classifier
    classifier = of.of_savedmodel(saved) if saved else of.of_run(load_run(source), views or 1)
    kind = "json" if as_json else "csv" if as_csv else "text"
    options = prediction.Options(kind, top, batch_size, plot)
    with _counted("pictures", "what was printed is right", sys.stderr) as told:
        done, failed = prediction.predict(classifier, inputs, options, told)
    if failed:
        _fail(f"{failed:,} of {done:,} pictures could not be read", FAILED)


@app.command(context_settings={"ignore_unknown_options": True})
def features(
    folder: Run,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[data=NAME] [KEY=VALUE]...", show_default=False)
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="A stage, such as fc7; default: the one before the last.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="FILE.npz or FILE.parquet; default: RUN/features/DATA_LAYER.npz.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 128,
    fit: Annotated[bool, typer.Option(help="Fit a linear classifier on them.")] = True,
) -> None:
    """Write what a layer makes of the images of all splits, and fit a linear classifier (an SVM) on that.

    The classifier's C is chosen by a held-out fifth of the training split; the other splits measure it.
    """
    from alexnet_tf.config import check_features_file

    if out is not None:
        check_features_file(out)
    _check_runs(folder)
    _import_tensorflow()
    from alexnet_tf import features as library
    from alexnet_tf.inference import load_run

    run = load_run(folder)
    extraction = library.prepare_extraction(run, overrides or [], layer)
    name = f"{extraction.source.name.replace('/', '_')}_{extraction.layer}.npz"
    file = out or run.path / library.FOLDER / name
    if fit:
        library.check_fit(extraction)
    with _counted("images", "nothing is written") as told:
        library.write_features(extraction, file, batch_size=batch_size, told=told)
    print(f"{file}: {extraction.total:,} images, {extraction.width:,} features of {extraction.layer}")
    if fit:
        probe = library.fit_probe(file, len(extraction.source.class_names))
        title = f"linear SVM on {extraction.layer} of {run.name}, C={probe.c:g}; [95 % interval]"
        _print_table(title, ["split", "examples", "error %"], probe.rows())


@app.command(context_settings={"ignore_unknown_options": True})
def prepare(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder of the prepared set.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[data=NAME] [data.KEY=VALUE]...", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels of the shorter side.")] = 256,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 95,
    raw: Annotated[bool, typer.Option("--raw", help="Raw pixels instead of JPEGs.")] = False,
    records: Annotated[int, typer.Option(min=1, help="Pictures in a shard.")] = 2048,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I (0 to N-1) of N, for an array of jobs.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode; 0: one for each core.")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read a finished set again and check all of it.")
    ] = False,
) -> None:
    """Make originals small once: shards that data=prepared reads, with index, statistics and checksums.

    The originals are ILSVRC-2012's archives or class folders (data=imagenet2012), any class folders (data=folder) or a set
    of TFDS's. The same command goes on after an interruption, without doing a finished shard again.
    """
    from alexnet_tf.config import ConfigError, compose

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if verify and given - {"out", "verify"}:
        raise ConfigError("prepare --verify: expected nothing more than --out DIR")
    if {"raw", "quality"} <= given:
        raise ConfigError(f"--quality {quality}: expected without --raw, whose pixels are no JPEGs")
    if not verify:
        _check_prepared_keys(overrides or [])
    part, parts = _part(shard)
    config = None if verify else compose(overrides or [])
    _import_tensorflow()
    import tensorflow_datasets  # noqa: F401 - now: while it is imported nothing else can be, such as by the bar's thread

    from alexnet_tf import data

    again = "nothing is changed" if verify else "what is finished stays, and the same command goes on"
    with _counted("pictures", again, status=INTERRUPTED if verify else STOPPED) as told:
        if config is None:
            print(f"{out}: {data.verify_prepared(out, told):,} pictures, every one as it was written")
            return
        recipe = data.Recipe(size=size, quality=None if raw else quality, records_per_shard=records)
        plan = data.make_plan(config.data, out, recipe)
        whole = data.prepare(plan, part=part, parts=parts, workers=workers, told=told)
    left = "" if whole else f"; part {part} of {parts} is done, the set is whole when the others are"
    print(f"{out}: train with data=prepared data.dir={out}{left}")


@app.command(context_settings={"ignore_unknown_options": True})
def inspect(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[data=NAME] [KEY=VALUE]...", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page; default: inspections/NAME.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Images on the contact sheet.")] = 8,
    limit: Annotated[int, typer.Option(min=1, help="Images of each split that are read.")] = 20_000,
) -> None:
    """Look at a data set as training will see it: a sheet of augmented images, classes, sizes, duplicates."""
    from alexnet_tf.config import compose

    config = compose(overrides or [])
    _import_tensorflow()
    from alexnet_tf.visualize import inspect_data

    folder = out or Path("inspections") / config.data.name.replace("/", "_")
    with _counted("images", "the same command begins anew") as told:
        page = inspect_data(config, folder, samples=samples, limit=limit, told=told)
    for answer in page.answers:
        print(answer)
    print(folder / "index.html")


@app.command(context_settings={"ignore_unknown_options": True})
def visualize(
    folder: Run,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[what=NAME,...] [KEY=VALUE]...", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page; default: RUN/plots/visualize.")
    ] = None,
) -> None:
    """Look inside a finished run: kernels, activations, patches, evidence, neighbours, mistakes, gradients on one page.

    Options: what=kernels,columns,activations,patches,deconvolution,gradcam,saliency,neighbours,map,mistakes,confusion,
    saturation,histograms,gradients (default: all that the run allows), layer=conv5, unit=7, image=FILE or
    image=validation:3, target=CLASS, split=validation, examples=1000.
    """
    from alexnet_tf.config.look import parse_look

    look = parse_look(options or [])
    _check_runs(folder)
    _import_tensorflow()
    from alexnet_tf.inference import load_run
    from alexnet_tf.visualize import visualize_run
    from alexnet_tf.visualize.gallery import FOLDER

    with _counted("pictures", "nothing is written") as told:
        page = visualize_run(load_run(folder), look, out, told)
    for answer in page.answers:
        print(answer)
    for table in page.details:
        for name, reason in table.rows:
            print(f"left out {name}: {reason}")
    print((out or folder / FOLDER) / "index.html")


@app.command(context_settings={"ignore_unknown_options": True})
def figures(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]... [KEY=VALUE]...", help="Default: all.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the PNG and SVG files.")] = Path("figures"),
    run: Annotated[
        list[Path] | None, typer.Option(help="For convergence: a run; repeatable.", show_default=False)
    ] = None,
    sweep: Annotated[
        list[Path] | None,
        typer.Option(help="For augmentation_effect: a sweep or study; repeatable.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="For augmentation: a photograph; default: one of scikit-learn's.")
    ] = None,
) -> None:
    """Draw explanatory figures from the code and from runs: architecture, activations, dropout, augmentation, ...

    Keys such as model=alexnet_owt or augment=code2012 say of which network and augmentation.
    """
    from alexnet_tf.config import compose
    from alexnet_tf.config.look import check_figures
    from alexnet_tf.runs import SweepFolder

    chosen = [text for text in names or [] if "=" not in text]
    check_figures(chosen, {"--run": run, "--sweep": sweep, "--image": image})
    # The first seed whose draw mirrors the photograph.
    defaults = ["data=imagenet2012", "model=alexnet", "seed=1"]
    config = compose([*defaults, *(text for text in names or [] if "=" in text)])
    _check_runs(*run or [])
    for folder in sweep or []:
        SweepFolder.open(folder)
    _import_tensorflow()
    from alexnet_tf.visualize import Subjects, draw_figures

    subjects = Subjects(config=config, photograph=image, runs=run or [], sweeps=sweep or [])
    pictures, missing = draw_figures(chosen, subjects)
    for picture in pictures:
        print(*picture.save(out))
    for name, option in missing.items():
        print(f"{name}: left out, needs {option}")


@app.command(context_settings={"ignore_unknown_options": True})
def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="step, inference, lrn, data, epoch, startup, scaling or memory.", show_default=False
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Trials of each contender.")] = 7,
    seconds: Annotated[float, typer.Option(min=0, help="How long a trial lasts at least.")] = 1.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Part of the name of a contender beside ours; repeatable.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all trials there too.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Leave a trace of ours for TensorBoard.")
    ] = None,
) -> None:
    """Measure ours beside its peers and the machine's limit, in turns: only the ratios mean something elsewhere."""
    from alexnet_tf import bench as benches
    from alexnet_tf.pages import print_table

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _counted("turns", "nothing is written") as told:
        result = benches.run_bench(
            what, overrides or [], rounds=rounds, seconds=seconds, only=only or [], profile=profile, told=told
        )
    print_table(result.table())
    for note in result.notes:
        print(note)
    if json_file is not None:
        from alexnet_tf.runs import write_json

        write_json(json_file, result.json())
    if result.failed:
        sys.exit(FAILED)


def _check_prepared_keys(overrides: list[str]) -> None:
    """Refuse what does not decide which pictures are prepared."""
    from alexnet_tf.config import ConfigError

    for text in overrides:
        group, _, key = text.lstrip("+~").partition("=")[0].partition(".")
        if group != "data":
            raise ConfigError(
                f"{text}: expected data=NAME or data.KEY=VALUE; what is prepared is the data alone"
            )
        if key and key not in PREPARED_KEYS:
            raise ConfigError(
                f"{text}: has no effect on what is prepared, expected one of data.{', data.'.join(PREPARED_KEYS)}; "
                "the others belong to training with data=prepared"
            )
    if not any(text.startswith("data=") for text in overrides):
        raise ConfigError("prepare: expected data=NAME, such as data=imagenet2012 or data=folder")


def _part(shard: str | None) -> tuple[int, int]:
    """From `I/N` to the two numbers."""
    from alexnet_tf.config import ConfigError

    if shard is None:
        return 0, 1
    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ConfigError(f"--shard {shard}: expected I/N with I from 0 to N-1, such as 0/8")
    return int(part), int(parts)


@contextlib.contextmanager
def _counted(
    what: str, stopped: str, stream: TextIO | None = None, *, status: int = INTERRUPTED
) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for what is counted, with its rate and the time left; where no terminal is, a line every minute.

    The bar is on standard output unless another stream is given. A signal ends the command with `status`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]}")
    console = Console(file=stream)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(what), rate, TimeRemainingColumn())
    # A bar on another stream leaves nothing there, and what goes from standard output to a file stays there.
    bar = Progress(
        *columns,
        console=console,
        transient=stream is not None,
        disable=stream is not None and not console.is_terminal,
        redirect_stdout=stream is None or sys.stdout.isatty(),
    )
    try:
        with bar:
            task = bar.add_task(what, total=None, rate="")

            said = time.monotonic()

            def told(done: int, total: int | None) -> None:
                nonlocal said
                if not console.is_terminal and time.monotonic() - said > SAID_SECONDS:
                    said = time.monotonic()
                    of = "" if total is None else f" of {total:,}"
                    print(f"{done:,}{of} {what}", flush=True, file=stream)
                speed = bar.tasks[task].speed
                bar.update(task, completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

            yield told
    except KeyboardInterrupt:
        _fail(f"stopped; {stopped}", status)


@app.command("import-weights")
def import_weights(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE|RUN", help="A file of weights; with --to a run.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The run to make; with --to the file.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(help="The network, such as alexnet_owt or alexnet_caffe.", show_default=False),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="torch: write a run's weights as a state dict.", show_default=False)
    ] = None,
    mean: Annotated[
        Path | None, typer.Option(help="Caffe's mean image (.npy, .binaryproto); default: its mean colour.")
    ] = None,
    class_names: Annotated[
        Path | None, typer.Option(help="Names of the classes, a line each or JSON; default: the data's.")
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle-which-can-run-any-code",
            help="Open a pickled .npy. A pickle is a program: it can read, change and send whatever you can. "
            "Only for a file whose maker you trust; an .npz of plain arrays needs no flag.",
        ),
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[data=NAME] [KEY=VALUE]...", show_default=False)
    ] = None,
) -> None:
    """Make a run of others' weights (.pth, .safetensors, .caffemodel, .npz, .npy), or with --to torch the reverse.

    The preprocessing is that of the weights' source, augment=owt for state dicts, augment=caffe for the others; keys of
    model, data and augment change it.
    """
    from alexnet_tf import importing
    from alexnet_tf.config import ConfigError

    if to not in (None, "torch"):
        raise ConfigError(f"--to {to}: expected torch")
    if (model is None) == (to is None):
        raise ConfigError(
            "import-weights: expected --model NAME to make a run, or --to torch to write a state dict"
        )
    if to:
        if mean or class_names or allow_pickle or overrides:
            raise ConfigError("import-weights --to torch: expected nothing more than RUN and --out FILE")
        importing.check_target(source, out)
        _import_tensorflow()
        print(f"{out}: {importing.write_state_dict(source, out)} tensors")
        return
    plan = importing.plan_import(
        source,
        out,
        str(model),
        overrides or [],
        mean=mean,
        class_names=class_names,
        allow_pickle=allow_pickle,
    )
    _import_tensorflow()
    run = importing.import_weights(plan)
    print(
        f"{run.path}: {run.status()['reason']}\nfine-tune it: alexnet train init_from={run.path} model={model} ..."
    )


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


@app.command(context_settings={"ignore_unknown_options": True})
def fidelity(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[model=NAME]... [KEY=VALUE]...", show_default=False)
    ] = None,
) -> None:
    """Compare built networks and recipes with the numbers of their sources, line by line; all of them by default."""
    from rich.console import Console

    from alexnet_tf.fidelity import check, compose_checked, load_sources, print_end, print_report

    table, console = load_sources(), Console(highlight=False)
    names = [text.removeprefix("model=") for text in overrides or [] if text.startswith("model=")]
    others = [text for text in overrides or [] if not text.startswith("model=")]
    sources = {name: table.of(name) for name in names or table.networks}
    configs = {name: compose_checked(name, source, others) for name, source in sources.items()}
    _import_tensorflow()
    reports = []
    for name, source in sources.items():
        reports.append(check(name, source, configs[name]))
        print_report(reports[-1], console)
    print_end(reports, table.titles, console)
    if not all(report.ok for report in reports):
        sys.exit(FAILED)


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
    from alexnet_tf.processes import handling

    with _exit_statuses(), handling(_interrupt):
        status = app(args=arguments, prog_name="alexnet", standalone_mode=False)
        if status == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt, without a word
            raise KeyboardInterrupt
        sys.exit(status)


def _interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends a command as Ctrl-C does: what is half written goes; training has a handler of its own."""
    del number, frame
    raise KeyboardInterrupt


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
    """Train in this process, or in workers of its own, and say where the result is."""
    from alexnet_tf.config import check_installed
    from alexnet_tf.launching import starts_workers, train_in_workers

    if config.resume:
        _config_of(Path(config.resume), "resume")
    else:
        if config.init_from:
            _config_of(Path(config.init_from), "init_from")
        check_installed(config.model)
        _print_config(config)
    if starts_workers(config, overrides):
        print(f"report: alexnet report {train_in_workers(config, overrides).path}")
        return
    _import_tensorflow()
    from alexnet_tf import training

    run = training.train(config, overrides=overrides)
    print(f"{run!r}\nreport: alexnet report {run.path}")


def _check_runs(*folders: Path) -> None:
    """Find a wrong path or an unreadable config before TensorFlow takes its seconds to load."""
    for folder in folders:
        _config_of(folder)


def _config_of(folder: Path, key: str = "") -> "Config":
    """The config of a run, whose path came by a key of the config or as an argument; without TensorFlow."""
    from alexnet_tf.config import from_run
    from alexnet_tf.runs import CONFIG, RunFolder

    return from_run(folder / CONFIG, RunFolder.open(folder, key).config_dict())


def _check_views(folders: list[Path], views: int) -> None:
    """Find a run whose preprocessing cannot cut so many views before TensorFlow is loaded."""
    from alexnet_tf.config import ConfigError, view_crop

    for folder in folders:
        try:
            view_crop(_config_of(folder).augment, views)
        except ConfigError as error:
            raise ConfigError(f"{folder}: {error}") from error


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
    stages = content["model"].get("stages", {})  # networks of keras.applications have none
    for name, stage in stages.items():
        differing = [key for key, value in stage.items() if value != default[key] or key == "kind"]
        stages[name] = ", ".join(f"{key}={stage[key]}" for key in differing)

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
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def _import_tensorflow() -> None:
    """Import TensorFlow without its start-up notices, which no environment variable of 2.21 keeps off the terminal.

    What its C++ libraries print while they load goes to a file; lines that are no log lines are printed afterwards,
    and with the variable `TF_CPP_MIN_LOG_LEVEL` at 0 or 1 nothing is held back.
    """
    from alexnet_tf.processes import NOTICE, keep_freed_memory

    keep_freed_memory()
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
        if _was_interrupted(error):
            _fail("interrupted", INTERRUPTED)
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


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error is only what a library made of an interruption."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _fail(message: str, status: int) -> None:
    print(f"alexnet: {message}", file=sys.stderr)
    sys.exit(status)
