"""From a run to a page of pictures, and the folder that it is written to."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from alexnet_tf import data, runs
from alexnet_tf.config import ConfigError
from alexnet_tf.config.look import PICTURES, Look
from alexnet_tf.inference import Run
from alexnet_tf.pages import PLOTS, Page, TextTable, write_page
from alexnet_tf.runs import RunError, WrongPathError
from alexnet_tf.visualize.network import NotApplicableError
from alexnet_tf.visualize.sections import SECTIONS, Section
from alexnet_tf.visualize.subject import Subject

FOLDER = Path("plots") / "visualize"
"""In the run."""


def visualize_run(
    run: Run, look: Look, out: Path | None = None, told: Callable[[int, int], None] = lambda *_: None
) -> Page:
    """Draw what a finished run allows and write a page of it, with each picture as PNG and SVG.

    The folder is filled beside and takes the place of what an earlier call left.

    Args:
        run: The run.
        look: What to draw, and its options.
        out: The folder; default: `plots/visualize` in the run.
        told: Called with (pictures done, pictures in all).

    Raises:
        ConfigError: The run is of no network; an option does not fit it; what was asked for by name does not exist there.
        RunError: The run has not finished, its model is damaged, the folder cannot be written, or what was asked for by
            name takes another file that is damaged.
        WrongPathError: The folder holds other things.
        DataError: Its data are not there or not readable.
    """
    folder = out or run.path / FOLDER
    if folder.exists() and not _is_ours(folder):
        raise WrongPathError(
            f"{folder}: holds other things. Expected a new folder, or one of alexnet visualize"
        )
    subject = Subject(run, look)
    try:
        _ = subject.model  # which every picture takes
        subject.check()
        page = _page(subject, told)
    except tf.errors.OpError as error:
        if known := data.explain_error(error, subject.source):
            raise known from error
        raise
    _replace(folder, page)
    return page


def _is_ours(folder: Path) -> bool:
    """Whether a folder has only what this module writes, so that it may go."""
    own = {"index.html", PLOTS, *(f"{PLOTS}/{name}.{kind}" for name in PICTURES for kind in ("png", "svg"))}
    return folder.is_dir() and all(str(path.relative_to(folder)) in own for path in folder.rglob("*"))


def _replace(folder: Path, page: Page) -> None:
    """Write the page into a new folder that takes the name of the old one."""
    folder = folder.resolve()  # a link stays, what it leads to is exchanged
    try:
        with runs.temporary_folder(folder.parent) as new:
            write_page(page, new / "index.html")
            old = new.with_name(f"{new.name}.old")
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error


def _page(subject: Subject, told: Callable[[int, int], None]) -> Page:
    names = subject.look.what or tuple(PICTURES)
    sections: dict[str, Section] = {}
    left_out: list[tuple[str, str]] = []
    for done, name in enumerate(names):
        told(done, len(names))
        try:
            sections[name] = SECTIONS[name](subject)
        except NotApplicableError as error:
            if subject.look.what:
                raise ConfigError(f"what={name}: {subject.run.path} has no such picture: {error}") from error
            left_out.append((name, str(error)))
        except RunError as error:  # a damaged file, such as a checkpoint
            if subject.look.what:
                raise
            left_out.append((name, str(error)))
    told(len(names), len(names))
    again = ["alexnet", "visualize", str(subject.run.path), *_typed(subject.look)]
    return Page(
        title=f"Inside {subject.run.name}",
        question=_question(subject),
        answers=[answer for section in sections.values() for answer in section.answers]
        or [f"{len(sections)} pictures of {subject.run.config.model.name}."],
        pictures=[section.picture for section in sections.values()],
        details=[TextTable("Pictures that this run has not", ("what=", "because"), left_out, prose=True)]
        if left_out
        else [],
        commands=[("These pictures again:", shlex.join(again))],
    )


def _question(subject: Subject) -> str:
    config = subject.run.config
    return (
        f"The network {config.model.name} after {subject.run.status().get('step', 0):,} steps on {config.data.name}; "
        "units are counted from 0."
    )


def _typed(look: Look) -> list[str]:
    """The options that were given."""
    given = {name: getattr(look, name) for name in ("layer", "unit", "image", "target", "split")}
    given = {"what": ",".join(look.what) if look.what else None, **given}
    if look.examples != Look.examples:
        given["examples"] = look.examples
    return [f"{name}={value}" for name, value in given.items() if value is not None]
