"""onnxruntime on the CPU.

``run`` with the output names kept is the fastest of its ways that several threads may take at once: see
``docs/decisions/0005-agent-runtimes.md``.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort

from edgewise.bundle import Datatype, Tensor
from edgewise_agent.runtimes import Arrays, RuntimeFailure, reason
from edgewise_agent.runtimes.tensors import tensor

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


class OrtRuntime:
    """One InferenceSession; ``run`` is thread-safe. ``adapter``: a LoRA adapter, active in every inference."""

    def __init__(self, path: Path, threads: int = 1, adapter: Path | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning would burn a small board's core between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, with no common base but Exception
            raise RuntimeFailure(f"onnxruntime cannot load {path.name}: {reason(error)}", code="load-failed") from error
        self._inputs = [_tensor(i) for i in self._session.get_inputs()]
        self._outputs = [_tensor(o) for o in self._session.get_outputs()]
        self._names = [output.name for output in self._outputs]
        self._options = None if adapter is None else self._activate(adapter)

    @property
    def version(self) -> str:
        """Library and version."""
        return f"onnxruntime {ort.__version__}"

    def describe(self) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and outputs as the file says; an adapter's parameters are not among them."""
        return self._inputs, self._outputs

    def infer(self, inputs: Arrays) -> Arrays:
        """Run once. Raises RuntimeFailure."""
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs, self._options), strict=True))
        except Exception as error:  # as above
            raise RuntimeFailure(f"onnxruntime failed: {reason(error)}") from error

    def _activate(self, adapter: Path) -> ort.RunOptions:
        options, self._adapter = ort.RunOptions(), ort.LoraAdapter()  # the options only point at the adapter
        try:
            self._adapter.Load(str(adapter))
            options.add_active_adapter(self._adapter)
        except Exception as error:  # as above
            raise RuntimeFailure(
                f"onnxruntime cannot load the adapter {adapter.name}: {reason(error)}", code="load-failed"
            ) from error
        return options


def _tensor(arg: ort.NodeArg) -> Tensor:
    shape = [size if isinstance(size, int) else -1 for size in arg.shape]
    return tensor(arg.name, _DATATYPES.get(arg.type), arg.type, shape)
