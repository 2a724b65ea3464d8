"""Runs a SavedModel through TensorFlow's C API (tensorflow/c/c_api.h), without importing its Python package.

That import takes two seconds and 150 MB, and each of its calls takes more code through the processor's caches: a worker
that only runs a model needs the two libraries of the package alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: TF_FLOAT of c_api.h, and the tag of the graph that serves.
FLOAT, SERVE = 1, b"serve"
#: A ConfigProto: intra_op_parallelism_threads (2) is 1; inter_op_parallelism_threads (5) is -1, which runs all in the
#: thread that calls.
CONFIG = b"\x10\x01\x28" + b"\xff" * 9 + b"\x01"

Floats = NDArray[np.float32]


class Output(ctypes.Structure):
    """TF_Output: one output of an operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class SessionError(Exception):
    """TensorFlow refuses: the text says why."""


@cache
def library() -> Any:
    """Load TensorFlow's libraries; None where they have another form, or may use a GPU, which needs more than them."""
    spec = find_spec("tensorflow")
    suffix = {"linux": "so.2", "darwin": "2.dylib"}.get(sys.platform)
    folders = spec.submodule_search_locations if spec else None
    if not suffix or not folders or not _is_cpu_only():
        return None
    try:  # it brings the other one, libtensorflow_framework; what they export must not reach other libraries
        return _declared(ctypes.CDLL(str(Path(folders[0]) / f"libtensorflow_cc.{suffix}"), mode=ctypes.RTLD_LOCAL))
    except (OSError, AttributeError):
        return None


def _is_cpu_only() -> bool:
    try:
        return bool(version("tensorflow-cpu"))
    except PackageNotFoundError:
        return False


def _declared(loaded: Any) -> Any:
    """Declare the types of the functions that are used. Raises AttributeError if one is missing."""
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    many = ctypes.POINTER(pointer)
    types: dict[str, tuple[Any, list[Any]]] = {
        "TF_NewStatus": (pointer, []),
        "TF_GetCode": (ctypes.c_int, [pointer]),
        "TF_Message": (text, [pointer]),
        "TF_NewGraph": (pointer, []),
        "TF_NewSessionOptions": (pointer, []),
        "TF_SetConfig": (None, [pointer, text, size, pointer]),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [pointer, pointer, text, ctypes.POINTER(text), ctypes.c_int, pointer, pointer, pointer],
        ),
        "TF_GraphOperationByName": (pointer, [pointer, text]),
        "TF_AllocateTensor": (pointer, [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, size]),
        "TF_TensorData": (pointer, [pointer]),
        "TF_NumDims": (ctypes.c_int, [pointer]),
        "TF_Dim": (ctypes.c_int64, [pointer, ctypes.c_int]),
        "TF_DeleteTensor": (None, [pointer]),
        "TF_DeleteSession": (None, [pointer, pointer]),
        "TF_DeleteGraph": (None, [pointer]),
        "TF_DeleteSessionOptions": (None, [pointer]),
        "TF_DeleteStatus": (None, [pointer]),
        "TF_SessionRun": (
            None,
            [
                pointer,
                pointer,
                ctypes.POINTER(Output),
                many,
                ctypes.c_int,
                ctypes.POINTER(Output),
                many,
                ctypes.c_int,
                pointer,
                ctypes.c_int,
                pointer,
                pointer,
            ],
        ),
    }
    for name, (result, arguments) in types.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class Session:
    """A loaded SavedModel whose signature `serving_default` has one float32 input and one float32 output.

    Its memory is freed with the object. Calls run one after the other, each in the thread that calls.
    """

    def __init__(self, tf: Any, path: Path) -> None:
        """Load the model in the folder `path`. Raises SessionError, OSError or ValueError."""
        self._tf, self._lock, self._inputs = tf, threading.Lock(), dict[tuple[int, ...], tuple[Any, Floats]]()
        owned = contextlib.ExitStack()
        # Not at the end of the process, where TensorFlow may be gone before.
        weakref.finalize(self, owned.close).atexit = False
        self._status, graph, options = tf.TF_NewStatus(), tf.TF_NewGraph(), tf.TF_NewSessionOptions()
        owned.callback(tf.TF_DeleteStatus, self._status)
        owned.callback(tf.TF_DeleteGraph, graph)
        owned.callback(_delete_tensors, tf, self._inputs)
        try:
            tf.TF_SetConfig(options, CONFIG, len(CONFIG), self._status)
            self._check()
            tags = (ctypes.c_char_p * 1)(SERVE)
            self._session = tf.TF_LoadSessionFromSavedModel(
                options, None, str(path).encode(), tags, 1, graph, None, self._status
            )
            self._check()
        finally:
            tf.TF_DeleteSessionOptions(options)
        owned.callback(tf.TF_DeleteSession, self._session, self._status)
        self._input, self._output = (
            self._tensor(graph, name) for name in signature((path / "saved_model.pb").read_bytes())
        )

    def __call__(self, values: Floats) -> Floats:
        """Run the model on one array; return its output. Raises SessionError."""
        result = ctypes.c_void_p()
        with self._lock:
            tensor, buffer = self._inputs.get(values.shape) or self._new_input(values.shape)
            buffer[...] = values
            self._tf.TF_SessionRun(
                self._session, None, ctypes.byref(self._input), ctypes.byref(tensor), 1,
                ctypes.byref(self._output), ctypes.byref(result), 1, None, 0, None, self._status,
            )  # fmt: skip
            self._check()
        try:
            return self._view(result, *self._shape(result)).copy()
        finally:
            self._tf.TF_DeleteTensor(result)

    def _new_input(self, shape: tuple[int, ...]) -> tuple[Any, Floats]:
        """Allocate the tensor for inputs of a shape, which each call fills anew, and an array on its memory."""
        dims = (ctypes.c_int64 * len(shape))(*shape)
        tensor = ctypes.c_void_p(
            self._tf.TF_AllocateTensor(FLOAT, dims, len(shape), 4 * int(np.prod(shape, dtype=np.int64)))
        )
        self._inputs[shape] = tensor, self._view(tensor, *shape)
        return self._inputs[shape]

    def _shape(self, tensor: Any) -> Iterator[int]:
        return (self._tf.TF_Dim(tensor, at) for at in range(self._tf.TF_NumDims(tensor)))

    def _view(self, tensor: Any, *shape: int) -> Floats:
        """Return an array on the memory of a tensor."""
        size = int(np.prod(shape, dtype=np.int64))
        memory: Any = (ctypes.c_float * size).from_address(self._tf.TF_TensorData(tensor))
        return np.frombuffer(memory, np.float32).reshape(shape)

    def _tensor(self, graph: Any, name: str) -> Output:
        """Return the output that a name such as "Softmax:0" means."""
        operation, _, index = name.partition(":")
        found = self._tf.TF_GraphOperationByName(graph, operation.encode())
        if not found:
            raise SessionError(f"the graph has no {name}")
        return Output(found, int(index or 0))

    def _check(self) -> None:
        if self._tf.TF_GetCode(self._status):
            raise SessionError(self._tf.TF_Message(self._status).decode(errors="replace"))


def _delete_tensors(tf: Any, inputs: dict[tuple[int, ...], tuple[Any, Floats]]) -> None:
    for tensor, _ in inputs.values():
        tf.TF_DeleteTensor(tensor)


def load(path: Path) -> Callable[[Floats], Floats] | None:
    """Load the model in a folder; None where TensorFlow's libraries cannot be used alone. Raises as `Session` does."""
    tf = library()
    return Session(tf, path) if tf else None


def signature(model: bytes) -> tuple[str, str]:
    """Return the names of input and output of `serving_default` in a SavedModel. Raises ValueError if there is none."""
    for graph in _fields(model, 2):  # SavedModel.meta_graphs
        for entry in _fields(graph, 5):  # MetaGraphDef.signature_def: a map
            if [*_fields(entry, 1)] == [b"serving_default"]:
                [known] = _fields(entry, 2)
                # SignatureDef.inputs and .outputs: maps to a TensorInfo, which has a name (1).
                [[given], [found]] = (
                    [name for info in _fields(known, field) for value in _fields(info, 2) for name in _fields(value, 1)]
                    for field in (1, 2)
                )
                return given.decode(), found.decode()
    raise ValueError("the model has no signature serving_default")


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the values of a field that is text or a message, in a message of Protocol Buffers. Raises ValueError."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            if key >> 3 == wanted:
                yield message[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("this is no message of Protocol Buffers")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    value = shift = 0
    while at < len(message):
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not message[at - 1] & 0x80:
            return value, at
    raise ValueError("a number is cut off")
