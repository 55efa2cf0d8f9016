"""Endpoints to a versioned SavedModel folder, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging as absl_logging
from tensorflow.core.protobuf import saved_model_pb2

from robustcls._locks import locked
from robustcls._settings import PositiveInt, checked
from robustcls._validation import InputError
from robustcls.serving.exports.endpoints import Endpoint, Outputs

SAVED_MODEL = "saved_model.pb"
_WRITING = ".writing-"
#: Seconds after which a half version was left by an export that was killed.
_ABANDONED = 3600
_CLASSIFY = "tensorflow/serving/classify"
_RANDOM = re.compile(r"Random|Multinomial|ParameterizedTruncatedNormal|StatelessSample|RngReadAnd")


def version_folders(folder: Path) -> dict[int, Path]:
    """Returns the version folders of a model by number, the oldest first."""
    found = (path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    return dict(sorted((int(path.name), path) for path in found))


def write_version(
    out: Path | str,
    endpoints: Sequence[Endpoint],
    tables: Iterable[tf.lookup.StaticHashTable],
    finish: Callable[[Path], None],
    version: int | None = None,
) -> Path:
    """Writes a SavedModel as the next version of a model; see `write_folder`.

    Args:
        out: the model's folder, made if need be.
        endpoints: the signatures.
        tables: look-up tables that the endpoints use; variables are found by themselves.
        finish: puts further files into the folder of the version before it appears.
        version: its number; None takes the next.

    Raises:
        InputError: as for `write_folder`, or a graph that does not serve.
    """

    def fill(folder: Path) -> None:
        save_endpoints(folder, endpoints, tables)
        check_graph(folder)
        finish(folder)

    return write_folder(out, fill, version)


@checked
def write_folder(
    out: Path | str, fill: Callable[[Path], None], version: PositiveInt | None = None
) -> Path:
    """Writes the next version of a model; a half version never appears.

    Meanwhile the model's folder is locked. What an export that was killed over an hour ago left
    behind is removed.

    Args:
        out: the model's folder, made if need be.
        fill: writes the files of the version into a folder.
        version: its number; None takes the next (int >= 1 or None, default None).

    Returns:
        The folder of the version, `out/<number>`.

    Raises:
        InputError: the version exists, another export writes into `out`, or it cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            return _write(out, fill, version)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}.") from error


def _write(out: Path, fill: Callable[[Path], None], version: int | None) -> Path:
    if version in version_folders(out):
        raise InputError(f"version must be a new one; {out / str(version)} exists.")
    _remove_abandoned(out)
    temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=out))
    try:
        fill(temporary)
        return _publish(temporary, out, version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_saved_model(folder: Path) -> saved_model_pb2.SavedModel:
    """Reads the graph and the signatures of a version.

    Raises:
        InputError: there is no SavedModel.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / SAVED_MODEL).read_bytes())
    except Exception as error:  # OSError, or protobuf's DecodeError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder / SAVED_MODEL} must be a SavedModel; {reason}.") from None
    return saved


def check_graph(folder: Path) -> None:
    """Refuses what would serve badly.

    Raises:
        InputError: operations that draw random numbers, so that answers would vary, or that
            insist on XLA, which TensorFlow Serving has off.
    """
    for meta_graph in read_saved_model(folder).meta_graphs:
        library = meta_graph.graph_def.library
        nodes = [node for function in library.function for node in function.node_def]
        for node in [*meta_graph.graph_def.node, *nodes]:
            if _RANDOM.search(node.op):
                raise InputError(
                    f"model must have no random operations; received {node.op} ({node.name})."
                )
            if node.attr["_XlaMustCompile"].b:
                raise InputError(
                    "model must not be compiled with jit_compile, as Keras does with a "
                    f"convolution of several groups in a subclassed model; received {node.name}."
                )
        if any(function.attr["_XlaMustCompile"].b for function in library.function):
            raise InputError("model must not be compiled with jit_compile.")


def save_endpoints(
    folder: Path, endpoints: Sequence[Endpoint], tables: Iterable[tf.lookup.StaticHashTable] = ()
) -> None:
    """Writes a SavedModel."""
    archive = keras.export.ExportArchive()
    for table in tables:
        archive.track(table)
    for endpoint in endpoints:
        archive.add_endpoint(endpoint.name, _traced(endpoint), list(endpoint.inputs))
    verbosity = absl_logging.get_verbosity()
    try:
        absl_logging.set_verbosity(absl_logging.ERROR)
        archive.write_out(str(folder), verbose=False)
    finally:
        absl_logging.set_verbosity(verbosity)
    saved = read_saved_model(folder)
    signatures = saved.meta_graphs[0].signature_def
    for endpoint in endpoints:
        if endpoint.is_classify:
            signatures[endpoint.name].method_name = _CLASSIFY
    (folder / SAVED_MODEL).write_bytes(saved.SerializeToString(deterministic=True))


def _traced(endpoint: Endpoint) -> Callable[..., Outputs]:
    """Returns the endpoint's function with its graph made.

    Keras and TensorFlow trace it once each; so both trace a call of this graph instead.
    """
    specs = list(endpoint.inputs)
    function = tf.function(endpoint.function, input_signature=specs, autograph=False)
    graph = function.get_concrete_function()

    def call(*inputs: tf.Tensor) -> Outputs:
        return graph(*inputs)

    # With the names and the defaults of the inputs.
    call.__signature__ = inspect.signature(endpoint.function)  # type: ignore[attr-defined]
    return call


def _remove_abandoned(out: Path) -> None:
    for path in out.glob(f"{_WRITING}*"):
        # Another export may be done with its own meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path, ignore_errors=True)


def _publish(temporary: Path, out: Path, version: int | None) -> Path:
    temporary.chmod(0o755)  # mkdtemp's folders are for their owner alone; a container is another.
    for path in temporary.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    while True:
        target = out / str(version or max(version_folders(out), default=0) + 1)
        try:
            os.rename(temporary, target)
            return target
        except OSError as error:
            # Another export took the number first.
            if version is not None or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
