"""ONNX -> TFLite: converted once to a float file by litert-torch, then quantized by ai-edge-quantizer.

The signature ``serving_default`` has the ONNX model's names of inputs and outputs. 64-bit inputs and outputs come out
with 32 bits: the result says what each is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import arrays, layout, quantize_litert, tflite
from . import job as protocol

NARROWED = {"int64": "int32", "float64": "float32"}
"""What the converter makes of 64-bit tensors."""


def convert(job: dict[str, Any], progress: protocol.Progress) -> dict[str, Any]:
    """The job is ``litert.Job``; the result is ``litert.Converted``."""
    if job["mode"] in quantize_litert.STATIC:
        # Before the minutes that a conversion may take.
        next(_items(job))
    kept = Path(job["float"])
    if not kept.exists():
        progress(0.05, "import the converter")
        part = kept.with_name(f"{kept.name}.part")
        part.write_bytes(_float(job, progress))
        part.replace(kept)
    made = data = kept.read_bytes()
    if job["mode"] != "fp32":
        progress(0.7, f"quantize: {job['mode']}")
        small = tflite.read(quantize_litert.quantize(data, job["mode"], _items(job)))
        tflite.strip(small)
        made = tflite.write(small)
    Path(job["out"]).write_bytes(made)
    return tflite.describe(tflite.read(made))


def _float(job: dict[str, Any], progress: protocol.Progress) -> bytes:
    """The float file. Imports torch and JAX: what only quantizes does not pay for them."""
    import litert_torch
    import torch

    from . import source

    torch.set_num_threads(1)
    progress(0.3, "read the model")
    model = source.load(Path(job["model"]), job["inputs"])
    inputs, outputs = job["inputs"], job["outputs"]
    # The converter writes the names into Python code: any name of ONNX's would not do.
    given = [f"i{index:03}" for index in range(len(inputs))]
    made = [f"o{index:03}" for index in range(len(outputs))]
    last = [job["nhwc"] and _is_image(spec) for spec in inputs]

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            ordered = [tensors[name] for name in given]
            first = [t.permute(0, 3, 1, 2) if nhwc else t for t, nhwc in zip(ordered, last, strict=True)]
            return dict(zip(made, self.model(*first), strict=True))

    samples = source.samples(inputs)
    traced = {
        name: sample.permute(0, 2, 3, 1).contiguous() if nhwc else sample
        for name, sample, nhwc in zip(given, samples, last, strict=True)
    }
    progress(0.4, "convert")
    converted = litert_torch.convert(Named().eval(), sample_kwargs=traced)
    file = tflite.read(converted.model_content())
    layout.simplify(file)
    tflite.rename(file, dict(zip([*given, *made], [*(spec["name"] for spec in inputs), *outputs], strict=True)))
    return tflite.write(file)


def _items(job: dict[str, Any]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Calibration items as the float file takes them: channels last where asked, 32 bits."""
    if not job["calibration"]:
        raise ValueError(f"{job['mode']}: expected calibration data, got none")
    images = {spec["name"] for spec in job["inputs"] if job["nhwc"] and _is_image(spec)}
    for item in arrays.items(job["calibration"], job["inputs"]):
        yield {
            name: (np.moveaxis(array, 1, -1) if name in images else array).astype(
                NARROWED.get(array.dtype.name, array.dtype), order="C"
            )
            for name, array in item.items()
        }


def _is_image(spec: dict[str, Any]) -> bool:
    shape: Sequence[int] = spec["shape"]
    return len(shape) == 4 and spec["dtype"].startswith("float")


if __name__ == "__main__":
    protocol.main(convert)
