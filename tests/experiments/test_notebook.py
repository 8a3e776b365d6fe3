"""The tour in Python runs as it stands, and the notebook beside it is the same, executed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_tf.inference import load_run

FOLDER = Path(__file__).parents[2] / "experiments" / "notebook"


def script_cells():
    """(kind, source) of the cells of the percent format; of text without the comment signs."""
    _, *parts = re.split(r"^# %%(.*)\n", (FOLDER / "tour.py").read_text(), flags=re.MULTILINE)
    cells = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        if head.strip() == "[markdown]":
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            cells.append(("markdown", body))
        else:
            cells.append(("code", body.strip()))
    return cells


def notebook():
    return json.loads((FOLDER / "tour.ipynb").read_text())


def test_the_notebook_is_the_script():
    found = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook()["cells"]]
    assert found == script_cells()
    assert len(found) > 15


def test_the_notebook_was_executed_in_order_and_without_an_error():
    cells = [cell for cell in notebook()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result", "display_data"}
    assert (
        sum("image/png" in output.get("data", {}) for output in outputs) == 3
    )  # curves, predictions, kernels
    streams = [output for output in outputs if output["output_type"] == "stream"]
    assert {output["name"] for output in streams} == {"stdout"}
    assert "/tmp" not in json.dumps(outputs)
    assert str(Path.home()) not in json.dumps(outputs)


@pytest.mark.slow
def test_the_tour_runs_with_plain_python(tmp_path):
    done = subprocess.run(
        [sys.executable, str(FOLDER / "tour.py")],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = [load_run(path) for path in sorted((tmp_path / "runs").iterdir())]
    assert [run.config.model.activation for run in runs] == ["relu", "tanh"]
    for run in runs:
        table = run.metrics()
        assert len(table) == 30
        assert table["top1_error"].iloc[-1] < 0.1  # on validation images: it has learnt the digits
        assert repr(run.path.name) in done.stdout.replace("runs/", "")
    assert "model.activaton: no such key" in done.stdout
    assert int(re.search(r"^(\d+) of 16 right$", done.stdout, re.MULTILINE)[1]) >= 12
    difference = float(re.search(r"differ from the run's by at most (.*)\.\n", done.stdout)[1])
    assert difference < 1e-5
