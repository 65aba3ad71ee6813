"""ONNX -> OpenVINO's own form, as one file: a zip (stored) of ``model.xml`` and ``model.bin``, without times."""

from __future__ import annotations

import re
import zipfile
from importlib.util import find_spec
from pathlib import Path

from edgewise_compiler.errors import one_line
from edgewise_compiler.passes import Pass, Refusal, Work

MEMBERS = ("model.xml", "model.bin")


_NODE = re.compile(r"<Node\((?P<op>\w+)\): (?P<name>[^>]*)>")
_NOISE = ("Check ", "While ", "FrontEnd ")
_SHAPES = re.compile(r"rank|dynamic")


class OpenVino(Pass):
    """Convert. Weights that are int8 or fp16 stay so in the file; QDQ becomes OpenVINO's own quantized operators."""

    name = "openvino"
    title = "convert to OpenVINO"
    makes = "openvino"
    forbids = frozenset(("fused",))
    tolerance = 2e-3
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
            raise Refusal(f"OpenVINO cannot take {why(error)}") from error
        xml = work.folder / MEMBERS[0]
        ov.serialize(model, str(xml), str(xml.with_suffix(".bin")))
        pack(work.out, xml, xml.with_suffix(".bin"))


def why(error: BaseException) -> str:
    """What OpenVINO's frontend says at length, as one line: the first node, the reason, and the rewrite where known.

    Its report has a section a node, ``-- Conv-15 with a message:``, with checks and places of its own source.
    """
    found = _NODE.search(str(error))
    if not found:
        return f"the model: {one_line(error)}"
    section = str(error)[found.start() :].split("\n-- ")[0].split("\nSummary:")[0].splitlines()[1:]
    said = [line.strip() for line in section if line.strip() and not line.startswith(_NOISE)]
    reason = said[-1] if said else "it is not supported"
    shapes = "; fix the shapes of the inputs, or export without control flow" if _SHAPES.search(str(error)) else ""
    return f"{found['op']} {found['name']!r}: {reason}{shapes}"


def pack(out: Path, xml: Path, weights: Path) -> None:
    """One file of the two that OpenVINO writes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in zip(MEMBERS, (xml, weights), strict=True):
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
