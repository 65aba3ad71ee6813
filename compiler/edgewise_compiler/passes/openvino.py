"""ONNX -> OpenVINO's own form, as one file: a zip (stored) of ``model.xml`` and ``model.bin``, without times."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

from edgewise_compiler.errors import one_line
from edgewise_compiler.passes import Pass, Refusal, Work

MEMBERS = ("model.xml", "model.bin")


class OpenVino(Pass):
    """Convert. Weights that are int8 or fp16 stay so in the file; QDQ becomes OpenVINO's own quantized operators."""

    name = "openvino"
    title = "convert to OpenVINO"
    makes = "openvino"
    forbids = frozenset(("fused",))
    lossy = True  # its kernels round in their own way; the metric judges them
    packages = ("openvino", "onnx", "numpy")

    def missing(self) -> str | None:
        """The library."""
        return None if find_spec("openvino") else "openvino is not installed: pip install 'edgewise-agent[openvino]'"

    def run(self, work: Work) -> None:
        """Raises Refusal with what OpenVINO's frontend says of a node that it cannot take."""
        from edgewise_agent.runtimes.openvino import import_openvino

        ov = import_openvino()
        try:
            model = ov.Core().read_model(work.inputs["model"].read_bytes(), b"")
        except RuntimeError as error:
            raise Refusal(f"OpenVINO cannot take the model: {one_line(error)}") from error
        xml = work.folder / MEMBERS[0]
        ov.serialize(model, str(xml), str(xml.with_suffix(".bin")))
        pack(work.out, xml, xml.with_suffix(".bin"))


def pack(out: Path, xml: Path, weights: Path) -> None:
    """One file of the two that OpenVINO writes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in zip(MEMBERS, (xml, weights), strict=True):
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
