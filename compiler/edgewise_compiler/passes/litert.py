"""ONNX -> TFLite by litert-torch, then fewer bits by ai-edge-quantizer; both in the toolchain ``litert``.

Inputs and outputs keep their names and layout; those of 64 bits come out with 32, since TFLite's kernels want that.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar, Literal

import numpy as np
import onnx

from edgewise_agent.runtimes.tensors import NUMPY
from edgewise_compiler.bundle import write_npz
from edgewise_compiler.data import Data
from edgewise_compiler.errors import Unsupported
from edgewise_compiler.model import Model
from edgewise_compiler.passes import Kind, Needs, Pass, PassConfig, Refusal, Work
from edgewise_compiler.toolchains import environment, litert
from edgewise_compiler.toolchains.process import ToolchainFailed

Mode = Literal["fp16", "int8", "int8x16", "dynamic", "weight4"]


class LiteRt(Pass):
    """To a float TFLite file with a batch of one."""

    name = "litert"
    title = "convert to TFLite"
    makes: ClassVar[Kind] = "tflite"
    forbids = frozenset({"fused", "weights", "quantized"})
    data: ClassVar[Needs] = "calibrate"
    packages = ("edgewise-compiler",)
    tolerance = 2e-3

    def missing(self) -> str | None:
        """The toolchain."""
        return None if environment.find("litert") else environment.hint("litert")

    def tools(self) -> dict[str, str]:
        """The toolchain's lock."""
        return {"litert": environment.digest("litert")}

    def run(self, work: Work) -> None:
        """Raises Refusal with the nodes that have no form in TFLite."""
        _convert(work, "fp32")


class LiteRtQuantize(Pass):
    """Fewer bits: fp16 weights, static int8, int8 weights with 16-bit activations, dynamic int8, 4-bit weights."""

    name = "litert_quantize"
    version = 3
    title = "quantize for LiteRT"
    paper = "Jacob et al. 2018, arXiv:1712.05877"
    takes: ClassVar[dict[str, Kind]] = {"model": "tflite"}
    makes: ClassVar[Kind] = "tflite"
    gives = frozenset({"quantized"})
    forbids = frozenset({"quantized"})
    drops = frozenset({"float32"})
    data: ClassVar[Needs] = "calibrate"
    lossy = True
    packages = ("edgewise-compiler",)

    class Config(PassConfig, frozen=True, kw_only=True):
        """``mode``: as the class says."""

        mode: Mode = "int8"

    def missing(self) -> str | None:
        """The toolchain."""
        return None if environment.find("litert") else environment.hint("litert")

    def tools(self) -> dict[str, str]:
        """The toolchain's lock."""
        return {"litert": environment.digest("litert")}

    def run(self, work: Work) -> None:
        """Raises Refusal when the quantizer cannot take the model."""
        _convert(work, work.config.mode)


def _convert(work: Work, mode: litert.Mode) -> None:
    path = work.inputs["model"]
    model = Model(path, "onnx" if mode == "fp32" else "tflite")
    calibration = None
    if mode in litert.CALIBRATED:
        assert work.data is not None
        calibration = work.folder / "calibration.npz"
        write_npz(calibration, dict(work.data.inputs))
    # A float file that is there already is quantized as it is; else it is converted first.
    float_model = work.out if mode == "fp32" else work.folder / "float.tflite"
    if mode != "fp32":
        float_model.write_bytes(path.read_bytes())
    job = litert.Job(
        model=path,
        out=work.folder / "made.tflite",
        mode=mode,
        inputs=specs(model, work.data),
        outputs=[tensor.name for tensor in model.outputs],
        float_model=float_model,
        calibration=calibration,
    )
    try:
        litert.convert(job, work.progress)
    except ToolchainFailed as error:
        if error.code in ("unsupported", "cannot-convert"):
            raise Refusal(str(error), error.unsupported) from error
        raise
    (work.folder / "made.tflite").replace(work.out)


def specs(model: Model, data: Data | None) -> list[litert.TensorSpec]:
    """Inputs with a batch of one and, where the model leaves them open, the sizes of the data's items."""
    found = []
    for tensor in model.inputs:
        shape = [1 if axis == 0 and size == -1 else size for axis, size in enumerate(tensor.shape)]
        if -1 in shape and data is not None:
            array = data.inputs[tensor.name]
            shape = list(array.shape[1:] if array.ndim > len(shape) else (1, *array.shape[1:]))
        found.append(litert.TensorSpec(tensor.name, np.dtype(NUMPY[tensor.datatype]).name, tuple(shape)))
    return found


def unsupported(model: onnx.ModelProto) -> list[Unsupported]:
    """What the importer to torch has no form of. Without torch here, the conversion itself says so."""
    if find_spec("torch") is None:
        return []
    from edgewise_compiler.training import onnx_torch

    return [
        Unsupported(node=one.node, op=one.op, why=one.why, rewrite=one.rewrite) for one in onnx_torch.unsupported(model)
    ]
