"""The report and the index in a real browser: on a phone, in the dark, by keyboard, without a network."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import NAMES, VARIABLE, Chromium, Page, find_chromium

from alexnet_tf.runs import Job, State, SweepFolder
from alexnet_tf.studies import write_report

EVIL, QUOTED = "<script>alert(1)</script>", "\"quoted\" & 'single' onload=alert(2)"
LONG = "a_name_of_an_arm_that_has_no_place_to_break_and_goes_on_and_on"
PHONE, DESK = 360, 1200
CONTRAST = 4.5
"""WCAG 2.1, success criterion 1.4.3 (level AA), for text of the usual size."""

LUMINANCE = """
  const channels = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
  const background = element => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
"""
"""Relative luminance as WCAG 2.1 defines it, and the colour behind an element."""

CONTRASTS = f"""(() => {{ {LUMINANCE}
  const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll('*')].filter(own).map(element => {{
    const pair = [channels(getComputedStyle(element).color), background(element)].map(luminance);
    return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), element.tagName, element.textContent];
  }});
}})()"""
"""Of every element with text of its own: contrast, tag, text."""

LOOK = f"""(() => {{ {LUMINANCE}
  const all = selector => [...document.querySelectorAll(selector)];
  return {{
    language: document.documentElement.lang,
    title: document.title,
    landmarks: ['header', 'main', 'footer'].map(name => all(`body > ${{name}}`).length),
    headings: all('h1, h2, h3, h4, h5, h6').map(heading => Number(heading.tagName[1])),
    images: all('img').map(image => [image.complete, image.naturalWidth, image.alt]),
    scripts: all('script, [onload], [onerror]').length,
    ids: all('[id]').map(element => element.id),
    page: luminance(background(document.body)),
    width: document.documentElement.scrollWidth,
    scrolling: all('body *').filter(box => box.scrollWidth > box.clientWidth + 1
      && ['auto', 'scroll'].includes(getComputedStyle(box).overflowX))
      .map(box => [box.tabIndex, box.getAttribute('role'), box.getAttribute('aria-label')]),
    outside: all('body *').filter(box => box.getBoundingClientRect().right > innerWidth + 1
      && !box.closest('.scroll')).map(box => box.outerHTML.slice(0, 80)),
  }};
}})()"""

STOPS = "[...document.querySelectorAll('a, details > summary, .scroll')].length"
FOCUS = """(() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const all = [...document.querySelectorAll('*')];
  return [all.indexOf(element), element.matches('a, summary, .scroll'),
    getComputedStyle(element).outlineStyle !== 'none'];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip(f"no browser: neither ${VARIABLE} nor one of {', '.join(NAMES)} on the path")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, sweep_builder: Callable[..., SweepFolder]
) -> dict[str, Path]:
    """A study with every part that a report can have, of wicked names, and the index over it and another."""
    folder = tmp_path_factory.mktemp("pages") / "all <b> & 'more'"
    comparisons = {
        QUOTED: {"arm": EVIL, "reference": QUOTED, "claim": 6.0},
        "<b>": {"arm": LONG, "reference": EVIL, "claim": 2.0},
    }
    sweep = sweep_builder(
        folder / "study",
        {EVIL: [100, 110], QUOTED: [250, 360], LONG: [300, 380]},
        comparisons,
        command=["experiment=fast_or_slow", f"data.name={EVIL}", f"run_dir={LONG * 2}"],
        name=f"study_{EVIL}",
        question=f"<img src=x onerror=alert(3)> {QUOTED} {LONG * 2}",
        source=EVIL,
    )
    sweep.run(sweep.jobs[5]).write_status(State.failed, reason=f"killed {EVIL} {LONG * 2}")
    sweep.jobs.append(Job(name="tune", arm=EVIL, seed=100, phase="tune", overrides=("optimizer.lr=0.1",)))
    sweep.save()
    sweep_builder(folder / "other", {"quick": [100], "slow": [300]}, name=QUOTED)
    return {"index": write_report([folder]).html, "study": folder / "study" / "report.html"}


@pytest.fixture(scope="module", params=["study", "index"])
def show(request: pytest.FixtureRequest, browser: Chromium, pages: dict[str, Path]) -> Callable[..., Page]:
    """Opens the page; each width and colour scheme once."""
    opened: dict[tuple[int, bool], Page] = {}
    url = pages[request.param].as_uri()

    def show(width: int = DESK, *, dark: bool = False) -> Page:
        if (width, dark) not in opened:
            opened[width, dark] = browser.open(url, width=width, dark=dark)
        page = opened[width, dark]
        assert page.requests == [url]
        assert page.complaints == []
        return page

    return show


def test_it_needs_no_network_and_no_name_runs(show):
    page = show()
    look = page.evaluate(LOOK)
    assert look["scripts"] == 0
    assert page.evaluate("document.querySelectorAll('b, img[src=x]').length") == 0
    assert EVIL in page.evaluate("document.body.innerText")
    assert QUOTED in page.evaluate("document.body.innerText")
    show()  # nothing was asked for or complained about meanwhile


def test_every_picture_is_there_and_described(show, request):
    images = show().evaluate(LOOK)["images"]
    assert len(images) == (0 if "index" in request.node.name else 3)
    for complete, width, text in images:
        assert complete
        assert width > 0
        assert len(text) > 40


def test_its_structure_can_be_heard(show):
    look = show().evaluate(LOOK)
    assert look["language"] == "en"
    assert look["title"]
    assert look["landmarks"] == [1, 1, 1]
    assert look["headings"][0] == 1
    assert look["headings"].count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(look["headings"]))
    assert len(look["ids"]) == len(set(look["ids"]))


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_only_tables_scroll_sideways_and_each_takes_the_focus(show, width, request):
    look = show(width).evaluate(LOOK)
    assert look["width"] <= width
    assert look["outside"] == []
    assert all(stop == 0 and role == "region" and label for stop, role, label in look["scrolling"])
    if width == PHONE and "study" in request.node.name:
        assert look["scrolling"]


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(show, dark):
    page = show(dark=dark)
    light = page.evaluate(LOOK)["page"]
    assert light < 0.05 if dark else light > 0.8
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 5
    assert [item for item in contrasts if item[0] < CONTRAST] == []


def test_pictures_are_dark_in_the_dark(show):
    filters = "[...document.images].map(image => getComputedStyle(image).filter)"
    assert all("invert" in text for text in show(dark=True).evaluate(filters))
    assert all(text == "none" for text in show().evaluate(filters))


def test_tab_visits_every_link_and_every_scrolling_box_in_order(show):
    page = show()
    visited = []
    for _ in range(page.evaluate(STOPS)):
        page.press_tab()
        visited.append(page.evaluate(FOCUS))
    assert visited
    assert all(stop and stop[1] and stop[2] for stop in visited)  # something of ours has it, and shows it
    places = [place for place, _, _ in visited]
    assert places == sorted(set(places))


def test_the_index_leads_to_the_reports(browser, pages):
    page = browser.open(pages["index"].as_uri(), width=DESK)
    links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.href)")
    found = {Path(unquote(urlsplit(link).path)) for link in links}
    assert found == {pages["study"], pages["study"].parents[1] / "other" / "report.html"}
