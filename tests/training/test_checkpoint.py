import logging
import pickle
import zipfile

import keras
import numpy as np
import pytest

from alexnet_tf.model import Dropout
from alexnet_tf.runs import RunError, RunFolder
from alexnet_tf.training import Checkpoint, CoupledSGD, checkpoint


def make(seed=0, units=3, momentum=0.9):
    """A model and an optimizer that have taken three steps."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, Dropout(0.5, name="fc1_dropout")(keras.layers.Dense(units, name="fc1")(inputs))
    )
    optimizer = CoupledSGD(0.1, momentum, 0.01, {"biases": {"match": "bias$", "learning_rate": 0.3}})
    optimizer.build(model.trainable_variables)
    for step in range(3):
        shapes = [variable.shape for variable in model.trainable_variables]
        optimizer.apply([np.random.default_rng(step + seed).normal(size=shape) for shape in shapes])
    optimizer.set_rates({"rest": 0.05 + seed, "biases": 0.07 + seed})
    return {"model": model.variables, "optimizer": optimizer.variables}


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run", "seed: 0\n", [])


def content(step):
    return Checkpoint({"model/000/w": np.full(50, step, np.float32)}, {"step": step})


def test_all_variables_come_back_to_the_bit(tmp_path):
    first, second = make(), make(seed=1)
    state = {"counters": {"step": 3, "totals": [0.1, 1 / 3], "best_error": float("inf"), "stop_reason": None}}
    path = tmp_path / "c.npz"
    checkpoint.save(path, Checkpoint(checkpoint.capture(first), state))
    loaded = checkpoint.load(path)
    assert loaded.state == state
    assert not np.array_equal(first["model"][0].numpy(), second["model"][0].numpy())
    checkpoint.restore(second, loaded, path)
    for group in ("model", "optimizer"):
        assert len(first[group]) == len(second[group])
        for mine, other in zip(first[group], second[group], strict=True):
            assert mine.numpy().tobytes() == other.numpy().tobytes(), mine.path
    names = {variable.path for variable in first["optimizer"]}
    assert {name for name in names if name.endswith("iteration")}
    assert len([name for name in names if name.endswith("velocity")]) == 2
    assert int(second["optimizer"][0].numpy()) == 3  # iterations


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint32"])
def test_dtypes_are_kept(tmp_path, dtype):
    array = np.array([1, 2, 3], dtype)
    checkpoint.save(tmp_path / "c.npz", Checkpoint({"a/000/b": array, "s/000/t": np.array(7, dtype)}, {}))
    arrays = checkpoint.load(tmp_path / "c.npz").arrays
    assert arrays["a/000/b"].dtype == dtype
    np.testing.assert_array_equal(arrays["a/000/b"], array)
    assert arrays["s/000/t"].shape == ()


def test_another_model_is_refused_and_nothing_is_assigned(tmp_path):
    big, small = make(units=5), make(seed=1)
    before = [variable.numpy() for group in small.values() for variable in group]
    saved = Checkpoint(checkpoint.capture(big), {})
    with pytest.raises(
        RunError,
        match=r"c\.npz: does not fit the model: expected model/000/.*fc1/kernel of shape \(4, 3\), found \(4, 5\)",
    ):
        checkpoint.restore(small, saved, tmp_path / "c.npz")
    fewer = Checkpoint(dict(list(checkpoint.capture(small).items())[:-1]), {})
    with pytest.raises(RunError, match=r"found None"):
        checkpoint.restore(small, fewer, tmp_path / "c.npz")
    after = [variable.numpy() for group in small.values() for variable in group]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_there_is_no_pickle_in_it(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save(path, Checkpoint(checkpoint.capture(make()), {"step": 3}))
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                np.lib.format.read_magic(file)
                _, _, dtype = np.lib.format.read_array_header_1_0(file)
                assert not dtype.hasobject
    np.savez(path, state=np.array([{"step": 3}], object))  # an attacker's: it would run code when read
    with pytest.raises(RunError, match="damaged"):
        checkpoint.load(path)
    path.write_bytes(pickle.dumps({"step": 3}))
    with pytest.raises(RunError, match="damaged"):
        checkpoint.load(path)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    place = data.index(np.full(50, 3, np.float32).tobytes()[:40])  # in the middle of an array
    data[place + 21] ^= 0x10
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def without_state(path):
    np.savez(path, a=np.zeros(3))


@pytest.mark.parametrize("damage", [truncate, flip, empty, without_state])
def test_a_damaged_newest_is_reported_and_the_one_before_it_used(run, caplog, damage):
    keeper = checkpoint.Keeper(run, 3)
    for step in (1, 2, 3):
        keeper.save(step, content(step), best=False)
    damage(run.checkpoints()[-1])
    with caplog.at_level(logging.WARNING):
        path, found = checkpoint.load_newest(run)
    assert path.name == "step-000000002.npz"
    assert found.state == {"step": 2}
    assert "step-000000003.npz: damaged" in caplog.text
    assert "going back to the one before it" in caplog.text
    for path in run.checkpoints():
        truncate(path)
    with pytest.raises(RunError, match=r"all 3 checkpoints are damaged; remove them to start from step 0"):
        checkpoint.load_newest(run)


def test_without_any_there_is_none(run):
    assert checkpoint.load_newest(run) is None


def test_the_newest_and_the_best_are_kept(run):
    keeper = checkpoint.Keeper(run, 2)
    for step in range(1, 7):
        keeper.save(step, content(step), best=step in (1, 3))
    folder = run.path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.npz",
        "step-000000005.npz",
        "step-000000006.npz",
    ]
    assert checkpoint.load(folder / "best.npz").state == {"step": 3}
    truncate(folder / "step-000000006.npz")
    assert checkpoint.load(folder / "best.npz").state == {"step": 3}


def test_the_best_is_a_copy_where_there_are_no_links(run, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    keeper = checkpoint.Keeper(run, 1)
    keeper.save(1, content(1), best=True)
    keeper.save(2, content(2), best=False)
    assert checkpoint.load(run.path / "checkpoints" / "best.npz").state == {"step": 1}
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
        "best.npz",
        "step-000000002.npz",
    ]


def test_a_crash_while_writing_leaves_the_old_ones(run, monkeypatch):
    keeper = checkpoint.Keeper(run, 2)
    keeper.save(1, content(1), best=True)

    def crash(stream, **_):
        stream.write(b"PK half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(KeyboardInterrupt):
        keeper.save(2, content(2), best=True)
    path, found = checkpoint.load_newest(run)
    assert found.state == {"step": 1}
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.npz", "step-000000001.npz"]
