"""One HTML page that needs nothing else: pictures inside, no network, no script."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from alexnet_tf import runs
from alexnet_tf.pages.picture import Picture
from alexnet_tf.pages.table import TextTable
from alexnet_tf.runs import RunError, write_text

TEMPLATE = "page.html.j2"
PLOTS = "plots"


@dataclass(frozen=True)
class Link:
    """Another page: its title, its path relative to this one, and its answers."""

    title: str
    path: str
    answers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page says, in its order.

    Args:
        title: Heading of the page.
        question: What the study asks; empty for plain runs.
        source: Where the claim stands.
        answers: A sentence for each comparison, or one on the runs.
        pictures: Drawn figures.
        results: Tables of results.
        rule: How verdicts come about; empty for plain runs.
        details: Tables below the results: jobs that do not count, config differences, environment.
        commands: What to type to do it again, each with what it does.
        links: Other pages, each with its path relative to this one and what it says.
    """

    title: str
    answers: Sequence[str]
    question: str = ""
    source: str = ""
    pictures: Sequence[Picture] = ()
    results: Sequence[TextTable] = ()
    rule: str = ""
    details: Sequence[TextTable] = ()
    commands: Sequence[tuple[str, str]] = ()
    links: Sequence["Link"] = ()
    made: str = field(default_factory=runs.now)


def render(page: Page) -> str:
    """The page as HTML; every text in it is escaped."""
    return load_template("alexnet_tf.pages", TEMPLATE).render(page=page)


def load_template(package: str, name: str) -> Template:
    """A template of a package; it escapes every text for HTML, which who shows Markdown shows too."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def write_page(page: Page, path: Path) -> None:
    """Write the page, and its pictures as files into the folder `plots` beside it; each atomically.

    Raises:
        RunError: If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for picture in page.pictures:
            picture.save(path.parent / PLOTS)
        write_text(path, render(page))
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror})") from error
