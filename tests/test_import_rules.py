"""The table "who may import whom" of the design, kept by reading the source."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "alexnet_tf"
FILES = sorted(PACKAGE.rglob("*.py"))
MAY_IMPORT = {
    "config": set(),
    "runs": set(),
    "processes": set(),
    "launching": {"config", "runs", "processes"},
    "picture_files": {"runs"},  # its error
    "data": {"config", "runs", "picture_files"},  # of runs its writing of files
    "model": {"config"},
    "inference": {"config", "runs", "data", "model"},
    "evaluation": {"config", "runs", "data", "model", "inference"},
    "classical": {"config", "runs"},
    "features": {"config", "runs", "data", "model", "classical", "evaluation", "inference"},
    "training": {"config", "runs", "processes", "data", "model", "classical", "evaluation", "inference", "launching"},
    "importing": {"config", "runs", "data", "model", "inference"},
    "pages": {"runs"},
    "studies": {"config", "runs", "processes", "pages"},
    "export": {"config", "runs", "pages", "data", "model", "inference"},
    "prediction": {"config", "runs", "picture_files", "pages", "data", "inference", "export"},
    "fidelity": {"config", "data", "model", "training"},
    "visualize": {"config", "runs", "pages", "data", "model", "inference", "evaluation", "training", "studies"},
    "cli": {"config", "runs", "processes", "launching", "picture_files", "pages", "data", "model", "inference", "evaluation", "importing", "training", "studies", "export", "prediction", "fidelity", "visualize", "bench", "features"},
    "__init__": {"config", "inference", "model", "training", "runs"},
    "bench": {"config", "runs", "processes", "pages", "data", "model", "inference", "evaluation", "training", "studies", "export", "visualize"},
    "__main__": {"cli"},
}  # fmt: skip
WITHOUT_TENSORFLOW = {
    "config",
    "runs",
    "processes",
    "picture_files",
    "launching",
    "classical",
    "importing",
    "pages",
    "studies",
    "cli",
    "__init__",
    "__main__",
}
HEAVY = {"tensorflow", "keras", "tensorflow_datasets"}


def part(path: Path) -> str:
    """The first name below `alexnet_tf` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    """Every module that is imported, anywhere in a file; `from a import b` as `a.b`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def at_import(body: list[ast.stmt]) -> list[str]:
    """What importing a module imports: not what its functions import, nor what only type checkers see."""
    found = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += imports(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            found += at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
    return found


def ours(names: list[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("alexnet_tf.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_imports_whom(path):
    own = part(path)
    assert own in MAY_IMPORT, f"{own} has no place in the table of the design yet"
    tree = ast.parse(path.read_text())
    others = ours(imports(tree)) - {own}
    assert others <= MAY_IMPORT[own], f"may not import {sorted(others - MAY_IMPORT[own])}"
    if own in WITHOUT_TENSORFLOW:
        assert not HEAVY & {name.split(".")[0] for name in at_import(tree.body)}


def test_the_rules_see_what_they_should():
    text = (
        "import alexnet_tf.cli\nfrom alexnet_tf import data\ndef f():\n    from alexnet_tf.model import x\n"
    )
    tree = ast.parse(text + "if TYPE_CHECKING:\n    import keras\nclass A:\n    import tensorflow as tf\n")
    assert ours(imports(tree)) == {"cli", "data", "model"}
    assert at_import(tree.body) == ["alexnet_tf.cli", "alexnet_tf.data", "tensorflow"]
    assert {"config", "data", "model", "training", "studies"} <= {part(path) for path in FILES}


def test_no_drawer_for_everything():
    assert not {"utils", "util", "helpers", "common", "misc"} & {path.stem for path in FILES}
    assert not {"utils", "util", "helpers", "common", "misc"} & {path.parent.name for path in FILES}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE],
    ids=lambda path: path.parent.name,
)
def test_packages_only_re_export(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    names, listed = [], []
    for node in tree.body[1:]:
        assert isinstance(node, ast.ImportFrom | ast.Import | ast.Assign), ast.unparse(node)
        if isinstance(node, ast.Assign):
            assert ast.unparse(node.targets[0]) == "__all__"
            listed = ast.literal_eval(node.value)
        else:
            names += [alias.asname or alias.name for alias in node.names]
    assert sorted(names) == sorted(listed)


def test_experiments_are_not_imported():
    for path in FILES:
        assert not {
            name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] == "experiments"
        }


# ----------------------------------------------------------------------------- in processes of their own


def loaded(code: str, folder: Path) -> str:
    """What of the heavy packages a program imports."""
    report = f"import sys; print('heavy:', *sorted({HEAVY | {'pandas', 'matplotlib'}!r} & set(sys.modules)))"
    program = f"import atexit; atexit.register(lambda: exec({report!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()[-1].removeprefix("heavy:").strip()


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = {['alexnet', *arguments]!r}; from alexnet_tf.cli import main; main()"


@pytest.mark.parametrize(
    "code",
    [
        "import alexnet_tf, alexnet_tf.cli",
        "import alexnet_tf as at; at.compose(['model=alexnet']); dir(at)",
        command("--help"),
    ],
    ids=["import", "compose", "help"],
)
def test_nothing_heavy_is_imported(code, tmp_path):
    assert loaded(code, tmp_path) == ""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["optimizer.lr=fast"]], ids=["help", "cfg_job", "wrong_use"]
)
def test_what_does_not_train_does_not_import_tensorflow(arguments, tmp_path):
    assert not HEAVY & set(loaded(command("train", *arguments), tmp_path).split())


def test_reports_do_not_import_tensorflow(tmp_path):
    heavy = loaded(
        "import alexnet_tf.studies, alexnet_tf.studies.report, alexnet_tf.studies.plugin.sweeper\n"
        "import alexnet_tf.fidelity",
        tmp_path,
    )
    assert not HEAVY & set(heavy.split())


def test_the_control_would_notice(tmp_path):
    assert "keras" in loaded("import sys, types; sys.modules['keras'] = types.ModuleType('keras')", tmp_path)
