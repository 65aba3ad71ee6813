"""OpenVINO on the CPU: an ONNX file, or OpenVINO IR in a zip.

Rules that hold here:
- a file is known by its first bytes, since blobs have no extension, and read by the one frontend for it;
- an IR zip holds exactly ``model.xml`` and ``model.bin``, stored, and is read into memory;
- what is not quantized is computed in float32 on every processor: else OpenVINO takes bfloat16 or float16 where the
  hardware has it, and the compiler would have judged another model;
- no telemetry: importing openvino would write a client id into the user's home and send an event.
"""

from __future__ import annotations

import sys
import zipfile
from collections import deque
from importlib import import_module
from pathlib import Path
from typing import Any

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Arrays, RuntimeFailure, reason
from edgewise_agent.runtimes.tensors import Signature, tensor

MAX_XML = 64 * 1024 * 1024
IR_MEMBERS = ("model.xml", "model.bin")
_ZIP = b"PK\x03\x04"

_DATATYPES: dict[str, Datatype] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}


def import_openvino() -> Any:
    """The module ``openvino``, without its telemetry, in this process from now on. Raises ImportError."""
    # To import a module that is None fails, and openvino then takes a stub of its own; nncf does without as well.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")


ov = import_openvino()


class OpenVinoRuntime:
    """One compiled model with one stream; an infer request for each call that runs at the same time."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        config = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # two models on a small board would be pinned to the same cores
        }
        try:
            self._compiled = ov.Core().compile_model(_read(path), "CPU", config)
            self._inputs = [_tensor(port) for port in self._compiled.inputs]
            self._outputs = [_tensor(port) for port in self._compiled.outputs]
            if not self._inputs or not self._outputs:  # as which openvino takes an empty file
                raise ValueError("expected a model with inputs and outputs")
        except RuntimeFailure:
            raise
        except Exception as error:  # the frontends raise classes of their own, with no common base but Exception
            raise RuntimeFailure(f"openvino cannot load {path.name}: {reason(error)}", code="load-failed") from error
        self._names = [output.name for output in self._outputs]
        self._signature = Signature(self._inputs)
        self._idle: deque[Any] = deque()

    @property
    def version(self) -> str:
        """Library and version."""
        return f"openvino {ov.__version__.partition('-')[0]}"

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs as the file says."""
        return self._inputs, self._outputs

    def infer(self, inputs: Arrays) -> Arrays:
        """Run once. Raises RuntimeFailure."""
        self._signature.check(inputs)  # openvino would cast, and take what it was given last for what is missing
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            # A tensor made here, a copy, takes 10 us less than openvino's own way with an array.
            answers = request.infer({i: ov.Tensor(inputs[one.name]) for i, one in enumerate(self._inputs)})
        except RuntimeError as error:  # and the request is not used again
            raise RuntimeFailure(f"openvino failed: {reason(error)}") from error
        outputs = dict(zip(self._names, answers.values(), strict=True))
        self._idle.append(request)
        return outputs


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(len(_ZIP))
    if head == _ZIP:
        xml, weights = _unzip(path)
        return ov.Core().read_model(model=xml, weights=weights)
    frontend = ov.frontend.FrontEndManager().load_by_framework("onnx")
    return frontend.convert(frontend.load(str(path)))


def _unzip(path: Path) -> tuple[bytes, bytes]:
    """The bytes of model.xml and model.bin. Raises ValueError or BadZipFile for any other zip."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if sorted(members) != sorted(IR_MEMBERS) or len(archive.infolist()) != len(IR_MEMBERS):
            raise ValueError(f"a zip of OpenVINO IR: expected {IR_MEMBERS}, got {sorted(members)[:8]}")
        for member in members.values():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise ValueError(f"a zip of OpenVINO IR: expected {member.filename} stored, not compressed")
        if members["model.xml"].file_size > MAX_XML:
            raise ValueError(f"a zip of OpenVINO IR: model.xml: expected at most {MAX_XML} bytes")
        xml, weights = (archive.read(name) for name in IR_MEMBERS)
    if not xml.startswith((b"<?xml", b"<net")):
        raise ValueError("a zip of OpenVINO IR: model.xml: expected XML")
    return xml, weights


def _tensor(port: Any) -> Tensor:
    native = port.get_element_type().get_type_name()
    shape = [-1 if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape()]
    return tensor(_name(port), _DATATYPES.get(native), native, shape)


def _name(port: Any) -> str:
    """A tensor may have several names: the one that its node is called by is the file's own."""
    names = sorted(port.get_names())
    called = port.get_node().get_friendly_name()
    own = [name for name in names if called in (name, f"{name}/sink_port_0")]
    return str((own or names or [called])[0])
