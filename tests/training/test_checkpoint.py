import contextlib
import logging
import pickle
import resource
import threading
import zipfile

import keras
import numpy as np
import pytest

from alexnet_tf.model import Dropout
from alexnet_tf.runs import RunError, RunFolder, WriteError
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
    with checkpoint.Keeper(run, 3) as keeper:
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
    with checkpoint.Keeper(run, 2) as keeper:
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
    with checkpoint.Keeper(run, 1) as keeper:
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

    keeper.wait()
    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(KeyboardInterrupt), keeper:
        keeper.save(2, content(2), best=True)
    path, found = checkpoint.load_newest(run)
    assert found.state == {"step": 1}
    assert sorted(file.name for file in path.parent.iterdir()) == ["best.npz", "step-000000001.npz"]


# ------------------------------------------------------------------------------------------------- damage


def same(first, second):
    return first.state == second.state and {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in first.arrays.items()
    } == {name: (array.dtype, array.shape, array.tobytes()) for name, array in second.arrays.items()}


def survivors(path, damages):
    """How many damaged versions of a file are read as what was written; all others must be refused."""
    original, data, alike, lines = checkpoint.load(path), path.read_bytes(), 0, []
    for damage in damages:
        path.write_bytes(damage(bytearray(data)))
        try:
            found = checkpoint.load(path)
        except RunError as error:
            lines.append(str(error))
        else:
            assert same(found, original)
            alike += 1
    path.write_bytes(data)
    assert all(line.startswith(f"{path}: damaged (") and "\n" not in line for line in lines)
    return alike


def replaced(place, value):
    def damage(data):
        data[place] = value
        return bytes(data)

    return damage


def small(path):
    arrays = {"model/000/w": np.arange(6, dtype=np.float32).reshape(2, 3), "model/001/b": np.float64(0.5)}
    checkpoint.save(path, Checkpoint(arrays, {"step": 3}))
    return path.stat().st_size


def test_a_damaged_file_is_refused_or_read_as_it_was_written(tmp_path):
    path, generator = tmp_path / "c.npz", np.random.default_rng(0)
    size = small(path)
    places, values = generator.integers(0, size, 200), generator.integers(0, 256, 200)
    flips = [replaced(int(place), int(value)) for place, value in zip(places, values, strict=True)]
    alike = survivors(path, flips)
    assert 0 < alike < 100  # such as the archive's dates, which mean nothing
    cuts = [lambda data, end=end: bytes(data[:end]) for end in range(0, size, 23)]
    assert survivors(path, cuts) == 0


@pytest.mark.slow
def test_no_single_byte_of_a_file_can_be_changed_unnoticed(tmp_path):
    path = tmp_path / "c.npz"
    size = small(path)
    data = path.read_bytes()
    flips = [replaced(place, data[place] ^ 1 << bit) for place in range(size) for bit in range(8)]
    alike = survivors(path, flips)
    assert survivors(path, [lambda data, end=end: bytes(data[:end]) for end in range(size)]) == 0
    print(f"{len(flips)} flips of a bit, {alike} harmless; {size} truncations; every other one detected")


def test_a_header_that_claims_another_type_is_noticed(tmp_path):
    """The zip format's own checksum is not asked where an array ends before its bytes do."""
    path = tmp_path / "c.npz"
    checkpoint.save(path, Checkpoint({"model/000/w": np.ones(50_000, np.float32)}, {"step": 3}))
    data = path.read_bytes()
    damaged = data.replace(b"'<f4'", b"'<f2'", 1)
    assert damaged != data
    path.write_bytes(damaged)
    with np.load(path) as archive:
        assert archive["model/000/w"].dtype == np.float16
    with pytest.raises(RunError, match=r"c\.npz: damaged \(its checksum does not fit\)"):
        checkpoint.load(path)


# --------------------------------------------------------------------------------------- in the background


def test_what_was_captured_does_not_change_with_the_variables():
    variables = make()
    arrays = checkpoint.capture(variables)
    before = {name: array.tobytes() for name, array in arrays.items()}
    for group in variables.values():
        for variable in group:
            variable.assign(keras.ops.zeros_like(variable))
    assert {name: array.tobytes() for name, array in arrays.items()} == before


class Gate:
    """A file system that is slow: `np.savez` waits until it is told to go on."""

    def __init__(self, monkeypatch):
        self.open, self.inside, savez = threading.Event(), threading.Event(), np.savez

        def slow(stream, **arrays):
            self.inside.set()
            assert self.open.wait(30)
            savez(stream, **arrays)

        monkeypatch.setattr(np, "savez", slow)


def test_saving_returns_at_once_and_at_most_one_write_is_in_flight(run, monkeypatch):
    gate = Gate(monkeypatch)
    with checkpoint.Keeper(run, 9) as keeper:
        keeper.save(1, content(1), best=False)
        assert gate.inside.wait(30)
        assert run.checkpoints() == []
        keeper.check()  # does not wait
        second = threading.Thread(target=lambda: keeper.save(2, content(2), best=False))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        gate.open.set()
        second.join(30)
        assert [path.name for path in run.checkpoints()][:1] == ["step-000000001.npz"]
    assert [path.name for path in run.checkpoints()] == ["step-000000001.npz", "step-000000002.npz"]


@contextlib.contextmanager
def no_room():
    """Files of at most 4 kB for this process, as a quota or a full disk has it.

    For a test's body alone, not a fixture: what pytest then writes may go to a file, which may be larger.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large(step):
    return Checkpoint({"model/000/w": np.full(5000, step, np.float32)}, {"step": step})


@no_room()
def test_a_write_that_fails_is_raised_at_the_next_look_and_keeps_what_there_is(run, caplog):
    message = r"step-000000002\.npz: cannot be written \(File too large\)$"
    with checkpoint.Keeper(run, 1) as keeper:
        keeper.save(1, content(1), best=True)
        keeper.save(2, large(2), best=True)
        keeper.settle()
        with pytest.raises(WriteError, match=message):
            keeper.check()
        keeper.save(2, large(2), best=True)
        with pytest.raises(WriteError, match=message):
            keeper.save(3, content(3), best=False)
    keeper = checkpoint.Keeper(run, 1)
    keeper.save(2, large(2), best=True)
    with pytest.raises(WriteError, match=message):  # at the end at the latest
        keeper.__exit__(None, None, None)
    keeper = checkpoint.Keeper(run, 1)
    keeper.save(2, large(2), best=True)
    keeper.__exit__(ValueError, ValueError("what ended the run"), None)  # which is not hidden
    assert "step-000000002.npz: cannot be written" in caplog.text
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
        "best.npz",
        "step-000000001.npz",
    ]
    assert checkpoint.load_newest(run)[1].state == {"step": 1}


def test_after_a_restore_the_files_are_those_of_a_writer_that_was_not_killed(run):
    with checkpoint.Keeper(run, 9) as keeper:
        for step in (1, 2, 3, 4):
            keeper.save(step, content(step), best=step == 1)
    truncate(run.checkpoints()[-1])
    path, found = checkpoint.load_newest(run)
    assert found.state == {"step": 3}
    checkpoint.Keeper(run, 2).follow(path, best=True)  # killed before it was marked and the old ones removed
    assert [path.name for path in run.checkpoints()] == ["step-000000002.npz", "step-000000003.npz"]
    assert checkpoint.load(run.path / "checkpoints" / checkpoint.BEST).state == {"step": 3}
