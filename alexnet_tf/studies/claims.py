"""The paper's claims in one table: what each source says, what was measured, and the verdict. Imports no TensorFlow."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from alexnet_tf.config import CONFIG_MODULE
from alexnet_tf.pages import TextTable
from alexnet_tf.runs import RunError, read_json
from alexnet_tf.studies import wording
from alexnet_tf.studies.study import ComparisonSpec, StudyResult, comparison_specs

RESULT = "result.json"
"""What a study's report leaves for the table of claims."""
PLACES = ("experiments", "sweeps")
"""Folders of the current one that are searched for results."""
LOOKS = (
    (
        "C13",
        "the colour in the first layer's kernels, column against column",
        "one column for colour, one for form (paper, section 6.1)",
        "alexnet visualize RUN what=columns",
    ),
    (
        "C14",
        "the training images with the nearest features of fc7",
        "they look alike, their pixels differ (paper, section 6.1)",
        "alexnet visualize RUN what=neighbours",
    ),
)
"""Claims that are looked at in one run, with the command: id, what is looked at, what the source says."""
COLUMNS = ("Claim", "experiment=", "Comparison", "Source says", "Measured", "Verdict")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a source, and the comparison of a study that tests it.

    Args:
        id: Such as `C1`; several comparisons may be about one claim.
        study: The study's name.
        comparison: The comparison's name in it.
        text: What is compared: the arms and the measure.
        says: What the source says, with the place where it says so.
    """

    id: str
    study: str
    comparison: str
    text: str
    says: str


def load_claims() -> list[Claim]:
    """The claims of the studies in `conf/experiment/`, in the order of their numbers."""
    folder = resources.files(CONFIG_MODULE) / "experiment"
    found = []
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        study = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("study") or {}
        if "name" in study:
            found += [_claim(study, spec) for spec in comparison_specs(study) if spec.id]
    return sorted(found, key=lambda claim: (_number(claim.id), claim.study))


def _number(id_: str) -> int:
    return int(id_.removeprefix("C"))


def _claim(study: Mapping[str, Any], spec: ComparisonSpec) -> Claim:
    return Claim(
        id=spec.id,
        study=study["name"],
        comparison=spec.name,
        text=f"{wording.sides_text(spec)}: {wording.compared(spec)}",
        says=f"{wording.claim_of(spec)} ({study['source'].partition(':')[0]})",
    )


def result_json(study: StudyResult) -> dict[str, Any]:
    """A study's answers: for each comparison the effect with its interval, the claim, the verdict."""
    configs = [run.config for run in study.finished]
    data = sorted({str(config.get("data", {}).get("name", "")) for config in configs})
    return {
        "study": study.name,
        "scale": study.scale,
        "data": data,
        "comparisons": {
            item.name: {
                "id": item.id,
                "measure": wording.compared(item),
                "effect": item.effect.value,
                "low": item.effect.low,
                "high": item.effect.high,
                "text": wording.effect(item.effect),
                "seeds": item.effect.n,
                "claimed": wording.claimed(item),
                "verdict": wording.verdict(item),
            }
            for item in study.comparisons
        },
    }


def find_results(paths: Sequence[Path] = ()) -> dict[str, dict[str, Any]]:
    """The results by study: those in `paths`, or below `PLACES`; of two of one study the one found first counts.

    Args:
        paths: Folders with a `result.json`, such as sweeps, or folders of such.

    Raises:
        RunError: If a path has none, or one is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths or [Path(place) for place in PLACES]:
        files = [path / RESULT] if (path / RESULT).is_file() else sorted(path.glob(f"*/{RESULT}"))
        if paths and not files:
            raise RunError(f"{path}: no {RESULT} in it or one level below; alexnet report SWEEP makes one")
        for file in files:
            content = read_json(file)
            if not isinstance(content.get("comparisons"), Mapping) or "study" not in content:
                raise RunError(f"{file}: expected the keys study and comparisons")
            found.setdefault(str(content["study"]), content)
    return found


def claims_table(claims: Iterable[Claim], results: Mapping[str, Mapping[str, Any]]) -> TextTable:
    """A row for each claim, those of `LOOKS` too."""
    rows = [_row(claim, results.get(claim.study, {})) for claim in claims]
    rows += [
        (name, wording.MISSING, what, says, f"in each run: {command}", wording.MISSING)
        for name, what, says, command in LOOKS
    ]
    rows.sort(key=lambda row: _number(row[0]))
    caption = "What the sources claim and what was measured; alexnet train experiment=NAME measures it"
    return TextTable(caption, COLUMNS, rows, prose=True)


def _row(claim: Claim, result: Mapping[str, Any]) -> tuple[str, ...]:
    found = result.get("comparisons", {}).get(claim.comparison)
    if not found:
        return claim.id, claim.study, claim.text, claim.says, "not yet", wording.MISSING
    place = ", ".join([str(result.get("scale", "")), *result.get("data", [])]).strip(", ")
    seeds = wording.counted(int(found.get("seeds", 0)), "seed")
    measured = f"{found.get('text', wording.MISSING)} ({seeds}, {place})"
    return claim.id, claim.study, claim.text, claim.says, measured, str(found.get("verdict", wording.MISSING))
