"""Reader for tensors of files that `torch.save` wrote in its older format, without PyTorch.

The file is three pickles that say what it is, one with the tensors' shapes, one with the names of the storages, and
then each storage: its length and its values. Nothing but tensors is unpickled. Format: `_legacy_save` in PyTorch's
torch/serialization.py.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.errors import ConfigurationError

_MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Location of a tensor's values; offset and strides count values."""

    kind: str
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _TYPES:
            return name
        raise pickle.UnpicklingError(f"holds {module}.{name}, not tensors alone")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _tensor(pid: tuple[Any, ...], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(pid[1], pid[2], offset, shape, strides)


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Tensors by name; raises ConfigurationError where the file is none of the older form."""
    try:
        with path.open("rb") as file:
            parts: list[Any] = [_Unpickler(file).load() for _ in range(5)]
            magic, _, _, tensors, names = parts
            if magic != _MAGIC:
                raise pickle.UnpicklingError("is no file of torch.save")
            kinds = {tensor.storage: _TYPES[tensor.kind] for tensor in tensors.values()}
            storages = {name: _storage(file, kinds[name]) for name in names}
            return {name: _values(storages[tensor.storage], tensor) for name, tensor in tensors.items()}
    except (OSError, pickle.UnpicklingError, EOFError, struct.error, ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as weights: {error}") from error


def _storage(file: BinaryIO, kind: str) -> NDArray[Any]:
    (length,) = struct.unpack("<q", file.read(8))
    return np.frombuffer(file.read(length * np.dtype(kind).itemsize), kind)


def _values(storage: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    # TensorFlow's weights came as transposed views, so the strides matter.
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(storage):
        raise ValueError(f"a tensor of shape {tensor.shape} lies outside its storage")
    steps = tuple(step * storage.itemsize for step in tensor.strides)
    view: NDArray[Any] = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps)
    return np.ascontiguousarray(view)
