"""onnxruntime on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Arrays, RuntimeFailure

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(int8)": "INT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


class OrtRuntime:
    """One InferenceSession; ``run`` is thread-safe."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning would burn a small board's core between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, with no common base but Exception
            raise RuntimeFailure(f"onnxruntime cannot load {path.name}: {error}", code="load-failed") from error

    @property
    def version(self) -> str:
        """Library and version."""
        return f"onnxruntime {ort.__version__}"

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs as the file says. Raises RuntimeFailure for a type that cannot be served."""
        return [_tensor(i) for i in self._session.get_inputs()], [_tensor(o) for o in self._session.get_outputs()]

    def infer(self, inputs: Arrays) -> Arrays:
        """Run once. Raises RuntimeFailure."""
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, inputs), strict=True))
        except Exception as error:  # as above
            raise RuntimeFailure(f"onnxruntime failed: {error}") from error


def _tensor(arg: ort.NodeArg) -> Tensor:
    if arg.type not in _DATATYPES:
        raise RuntimeFailure(f"{arg.name}: cannot serve {arg.type}; expected one of {', '.join(_DATATYPES.values())}")
    shape = [size if isinstance(size, int) else -1 for size in arg.shape]
    return Tensor(name=arg.name, datatype=_DATATYPES[arg.type], shape=shape)
