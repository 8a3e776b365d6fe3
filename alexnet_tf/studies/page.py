"""The report as one HTML page that needs nothing else: pictures inside, no network, no script."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from alexnet_tf import runs
from alexnet_tf.studies.plots import Picture
from alexnet_tf.studies.tables import TextTable

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Link:
    """Another page: its title, its path relative to this one, and its answers."""

    title: str
    path: str
    answers: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a report says, in the order of the page.

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
    environment = Environment(
        loader=PackageLoader("alexnet_tf.studies"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pictures = [(picture, _data_uri(picture.svg())) for picture in page.pictures]
    return environment.get_template(TEMPLATE).render(page=page, pictures=pictures)


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
