"""Reading `torch.save` files: tensors alone, whatever else a file tries."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import ConfigurationError
from app.training.torch_file import read_torch_file

MAGIC = 0x1950A86A20F9469CFC6C


class _Global:
    """Pickled as a reference to `module.name`, called with `arguments` when it is read."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Pickler(pickle._Pickler):  # the one written in Python, whose methods may be overridden; it has no types
    def persistent_id(self, obj: Any) -> Any:
        return obj.arguments if isinstance(obj, _Global) and obj.name == "storage" else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global) and obj.name != "storage":
            self.write(f"c{obj.module}\n{obj.name}\n".encode())  # type: ignore[attr-defined]
            if obj.arguments:
                super().save(obj.arguments)  # type: ignore[misc]
                self.write(b"R")  # type: ignore[attr-defined]
            return
        super().save(obj, save_persistent_id)  # type: ignore[misc]


def written(path: Path, tensors: Any, storages: dict[str, Any], magic: int = MAGIC) -> Path:
    with path.open("wb") as file:
        for part in (magic, 1001, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        _Pickler(file, protocol=2).dump(tensors)
        pickle.dump(list(storages), file, protocol=2)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)) + values.tobytes())
    return path


def tensor(storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> _Global:
    kind = _Global("torch", "FloatStorage")
    stored = _Global("", "storage", "storage", kind, storage, "cpu", 12, None)
    return _Global("torch._utils", "_rebuild_tensor_v2", stored, offset, shape, strides, False, OrderedDict())


def test_tensors_come_back_in_their_shape_whatever_their_strides(tmp_path: Path) -> None:
    values = np.arange(12, dtype="<f4")
    path = written(
        tmp_path / "a.pth",
        {"straight": tensor("7", 0, (3, 4), (4, 1)), "turned": tensor("7", 2, (2, 3), (1, 4))},
        {"7": values},
    )
    found = read_torch_file(path)
    assert np.array_equal(found["straight"], values.reshape(3, 4))
    assert np.array_equal(found["turned"], values.reshape(3, 4)[:, 2:].T)


def test_a_file_that_wants_code_run_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = written(tmp_path / "evil.pth", {"weight": _Global("os", "mkdir", os.fspath(mark))}, {})
    with pytest.raises(ConfigurationError, match=r"os\.mkdir, not tensors alone"):
        read_torch_file(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a newer file", pickle.dumps(1)])
def test_another_file_is_one_clear_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read as weights"):
        read_torch_file(path)


def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"w": tensor("7", 1, (3, 4), (4, 1))}, {"7": np.zeros(12, dtype="<f4")})
    with pytest.raises(ConfigurationError, match="outside its storage"):
        read_torch_file(path)


def test_a_file_without_the_magic_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no file of torch\.save"):
        read_torch_file(written(tmp_path / "a.pth", {}, {}, magic=1))
