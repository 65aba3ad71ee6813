"""ONNX -> ExecuTorch's .pte with XNNPACK, in the toolchain ``executorch``, which also says what a file answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgewise_compiler.bundle import write_npz
from edgewise_compiler.data import Array, Data, read_npz
from edgewise_compiler.model import Answers, Model
from edgewise_compiler.passes import Kind, Needs, Pass, PassConfig, Refusal, Work
from edgewise_compiler.passes.litert import specs
from edgewise_compiler.toolchains import environment, executorch
from edgewise_compiler.toolchains.process import ToolchainFailed


class ExecuTorch(Pass):
    """To a program with a batch of one: fp32, or int8 by XNNPACK's quantizer."""

    name = "executorch"
    title = "convert to ExecuTorch"
    makes: ClassVar[Kind] = "pte"
    forbids = frozenset({"fused", "weights", "quantized"})
    data: ClassVar[Needs] = "calibrate"
    lossy = True
    packages = ("edgewise-compiler",)

    class Config(PassConfig, frozen=True, kw_only=True):
        """``mode``: as the class says."""

        mode: Literal["fp32", "int8"] = "fp32"

    def missing(self) -> str | None:
        """The toolchain."""
        return None if environment.find("executorch") else environment.hint("executorch")

    def tools(self) -> dict[str, str]:
        """The toolchain's lock."""
        return {"executorch": environment.digest("executorch")}

    def run(self, work: Work) -> None:
        """Raises Refusal with the nodes that have no form there."""
        assert work.data is not None
        model = Model(work.inputs["model"])
        calibration = work.folder / "calibration.npz"
        write_npz(calibration, dict(work.data.inputs))
        job = executorch.Job(
            model=work.inputs["model"],
            out=work.folder / "made.pte",
            mode=work.config.mode,
            inputs=specs(model, work.data),
            calibration=calibration,
        )
        try:
            done = executorch.convert(job, work.progress)
        except ToolchainFailed as error:
            if error.code in ("unsupported", "cannot-convert"):
                raise Refusal(str(error), error.unsupported) from error
            raise
        if done.portable:
            work.notes.append(f"not by XNNPACK but by portable kernels: {', '.join(done.portable)}")
        (work.folder / "made.pte").replace(work.out)


def answer(path: Path, data: Data, source: Model) -> Answers:
    """What a .pte file answers, with the names of the source's outputs. Raises ToolchainFailed."""
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "given.npz", Path(folder) / "got.npz"
        write_npz(given, dict(data.inputs))
        check = executorch.Check(
            model=path,
            data=given,
            out=got,
            inputs=specs(source, data),
            outputs=[tensor.name for tensor in source.outputs],
        )
        executorch.verify(check, lambda fraction, text: None)
        arrays = read_npz(got)
    outputs = {name: _by_item(array, len(data)) for name, array in arrays.items()}
    return Answers(outputs, source.scores, source.embedding)


def _by_item(array: Array, n: int) -> Array:
    """[n, ...]: what has no batch axis (a state [2, 1, 128] an item) comes joined along its first axis."""
    joined = array if len(array) == n else array.reshape(n, len(array) // n, *array.shape[1:])
    return joined.astype(np.float32) if joined.dtype.kind == "f" else joined
