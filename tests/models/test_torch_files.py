import os
import pickle

import numpy as np
import pytest

from robustcls.models.torch_files import MAGIC, PROTOCOL, read_state_dict


def arrays():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(4, 3, 2, 2)).astype("float32"),
        # Its strides are not those of its shape.
        "a.turned": rng.normal(size=(5, 2)).astype("float32").T,
        "a.count": np.array(7, np.int64),
    }


def test_round_trip(tmp_path, save_torch):
    saved = arrays()
    save_torch(saved, tmp_path / "w.pth")
    loaded = read_state_dict(tmp_path / "w.pth")
    assert list(loaded) == list(saved)
    for name, array in saved.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("place", ["header", "tensors", "keys"])
def test_code_in_the_pickle_is_refused(tmp_path, place):
    evil = Malicious(tmp_path / "marker")
    parts = [MAGIC, PROTOCOL, {}, {}, []]
    parts[{"header": 2, "tensors": 3, "keys": 4}[place]] = evil
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir"):
        read_state_dict(path)
    assert not evil.marker.exists()


def test_cut_file(tmp_path, save_torch):
    path = tmp_path / "w.pth"
    save_torch(arrays(), path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(pickle.UnpicklingError):
            read_state_dict(path)


def test_tensor_outside_its_storage(tmp_path, save_torch):
    saved = {"w": np.ones(4, "float32")}
    save_torch(saved, tmp_path / "w.pth")
    raw = (tmp_path / "w.pth").read_bytes()
    # The shape (4,) becomes (200,): more than the storage holds.
    shape = pickle.dumps((4,), protocol=2)[2:4]
    assert raw.count(shape + b"\x85") >= 1
    (tmp_path / "w.pth").write_bytes(raw.replace(shape + b"\x85", b"K\xc8\x85", 1))
    with pytest.raises(pickle.UnpicklingError, match="outside"):
        read_state_dict(tmp_path / "w.pth")


def test_another_file(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04 no pickle")
    with pytest.raises(pickle.UnpicklingError):
        read_state_dict(tmp_path / "w.pth")
