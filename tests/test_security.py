"""No line of ours runs what a file says, takes an archive apart, or listens to the network.

Tests with files that try it stand where the files are read: `training/test_faults.py`, `model/test_weights_files.py`,
`training/test_checkpoint.py`, `studies/test_report.py`.
"""

import ast
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from alexnet_tf import launching

ROOT = Path(__file__).parents[1]
FILES = sorted(path for part in ("alexnet_tf", "experiments") for path in (ROOT / part).rglob("*.py"))
TEMPLATES = sorted((ROOT / "alexnet_tf").rglob("*.j2"))
FORBIDDEN = {"eval", "exec", "compile", "__import__", "extract", "extractall", "unpack_archive", "read_pickle", "Unpickler"} | {
    "unsafe_load", "full_load", "enable_unsafe_deserialization", "get_file", "system", "popen", "serve_forever"
}  # fmt: skip
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
WITH_A_FLAG = "alexnet_tf/model/weights/arrays.py"
"""Unpickles what the user says to trust, with `--allow-pickle-which-can-run-any-code`."""


def dangers(source: str, name: str = "") -> list[str]:
    """What a module does that a file or the network could misuse, with the lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in ("0.0.0.0", "::"):
            found.append(f"{node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and _is_dangerous(node, name):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def _is_dangerous(call: ast.Call, name: str) -> bool:
    whole = ast.unparse(call.func)
    owner, _, last = whole.rpartition(".")
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if owner in UNPICKLERS and last in ("load", "loads", "open"):
        return True
    if last in FORBIDDEN and not (last == "compile" and owner):  # re.compile, a Keras model's
        return True
    if whole == "np.load":
        return given.get("allow_pickle", "False") != "False" and name != WITH_A_FLAG
    if whole == "torch.load":
        return given.get("weights_only") != "True"
    if whole == "yaml.load":
        return given.get("Loader") not in ("yaml.SafeLoader", "_Loader")  # runs.py: C's safe one
    if last == "load_model":
        return given.get("safe_mode") != "True"
    if last == "Environment":
        return given.get("autoescape") != "True"
    if last == "bind":
        return "'127.0.0.1'" not in ast.unparse(call.args[0])
    return given.get("shell", "False") != "False"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_a_file_or_the_network_could_misuse(path: Path) -> None:
    assert dangers(path.read_text(), path.relative_to(ROOT).as_posix()) == []


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(file)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "keras.models.load_model(path)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "tarfile.open(path).extractall(folder)",
        "shutil.unpack_archive(path)",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "Environment(loader=loader)",
        "server.bind(('', 80))",
        "host = '0.0.0.0'",
    ],
)
def test_the_search_finds_it(source: str) -> None:
    assert len(dangers(source)) == 1


def test_the_search_lets_the_safe_forms_be() -> None:
    safe = "np.load(p)\nre.compile(p)\nyaml.safe_load(t)\ntorch.load(p, weights_only=True)\ns.bind(('127.0.0.1', 0))"
    assert dangers(safe) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_switches_escaping_off(path: Path) -> None:
    text = path.read_text().replace(" ", "")
    assert not [word for word in ("|safe", "autoescape", "Markup", "<script") if word in text]


def test_workers_of_one_machine_are_reached_by_loopback() -> None:
    assert [address.rpartition(":")[0] for address in launching._free_addresses(3)] == ["127.0.0.1"] * 3


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_tfds_extracts_nothing_outside(tmp_path: Path, kind: str) -> None:
    """It extracts the archives of the sets that it prepares, and nobody else does."""
    from tensorflow_datasets.core.download import extractor

    names, path = ["../evil", "a/../../evil", f"{tmp_path}/evil", "a/good"], tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(b"x"))
    read = {"tar": extractor.iter_tar, "zip": extractor.iter_zip}[kind]
    with path.open("rb") as stream:
        assert [name for name, _ in read(stream)] == ["a/good"]
