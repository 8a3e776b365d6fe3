"""The wheel holds what the checkout holds, and works from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: setuptools leaves build products beside the source
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in (name for name in names if (ROOT / name).is_file() and not name.startswith("tests/")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel unpacked ahead of everything else on the path."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return {"PYTHONPATH": str(folder)}


def _expected() -> set[str]:
    files = {
        path.relative_to(ROOT)
        for folder in ("alexnet_tf", "conf")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".j2", ".typed")
    }
    names = set()
    for path in files:
        if path.parts[0] == "conf":
            names.add(f"alexnet_tf/{path}")
        elif path.parts[:3] == ("alexnet_tf", "studies", "plugin"):
            names.add("/".join(("hydra_plugins", "alexnet_tf", *path.parts[3:])))
        else:
            names.add(str(path))
    return names


def test_the_wheel_holds_the_tree_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == _expected()


def test_it_runs_from_an_empty_folder(installed, tmp_path):
    where = subprocess.run(
        [sys.executable, "-c", "import alexnet_tf, alexnet_tf.conf; print(alexnet_tf.conf.__file__)"],
        cwd=tmp_path,
        env={**os.environ, **installed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(installed["PYTHONPATH"])
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "alexnet_tf",
            "train",
            "experiment=smoke",
            "model=digits_quick",
            "run_dir=run",
        ],
        cwd=tmp_path,
        env={**os.environ, **installed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "model.keras").exists()


def test_its_sweeper_is_found(installed, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "alexnet_tf", "train", "--info", "plugins"],
        cwd=tmp_path,
        env={**os.environ, **installed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "StudySweeper" in result.stdout
