"""ONNX -> ExecuTorch (.pte) for XNNPACK, and what such a file answers.

int8 is XNNPACK's symmetric scheme: weights per channel, activations by calibration, inputs and outputs float.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import arrays, source
from . import job as protocol


def convert(job: dict[str, Any], progress: protocol.Progress) -> dict[str, Any]:
    """The job is ``executorch.Job``; the result is ``executorch.Converted``."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    progress(0.3, "read the model")
    model = source.load(Path(job["model"]), job["inputs"])
    samples = source.samples(job["inputs"])
    with torch.no_grad():
        if job["mode"] == "int8":
            progress(0.4, "calibrate")
            model = _quantized(model, samples, job)
        progress(0.6, "lower")
        exported = torch.export.export(model, samples)
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    rest = [
        node.target.name()
        for node in lowered.exported_program().graph.nodes
        if node.op == "call_function" and "call_delegate" not in str(node.target) and "getitem" not in str(node.target)
    ]
    progress(0.9, "write")
    Path(job["out"]).write_bytes(bytes(lowered.to_executorch().buffer))
    return {"portable": rest}


def verify(job: dict[str, Any], progress: protocol.Progress) -> dict[str, Any]:
    """Run a file over items [n, ...]; answers as an npz, by output name. The result is ``executorch.Verified``."""
    from executorch.runtime import Runtime, Verification

    program = Runtime.get().load_program(Path(job["model"]), verification=Verification.InternalConsistency)
    method = program.load_method("forward")
    if method is None:
        raise ValueError("expected a method 'forward', got none")
    answers: list[list[Any]] = [[] for _ in job["outputs"]]
    tensors: list[torch.Tensor] = []
    for item in arrays.items(job["data"], job["inputs"], limit=None):
        tensors = [torch.from_numpy(item[spec["name"]]) for spec in job["inputs"]]
        # The runtime's memory is used again by the next run.
        for rows, output in zip(answers, method.execute(tensors), strict=True):
            rows.append(np.atleast_1d(output.detach().numpy().copy()))
    arrays.save(job["out"], {name: np.concatenate(rows) for name, rows in zip(job["outputs"], answers, strict=True)})
    return {"seconds": [_timed(method, tensors) for _ in range(job["runs"])]}


def _timed(method: Any, tensors: list[torch.Tensor]) -> float:
    start = time.perf_counter()
    method.execute(tensors)
    return time.perf_counter() - start


def _quantized(model: torch.nn.Module, samples: tuple[torch.Tensor, ...], job: dict[str, Any]) -> torch.nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if not job["calibration"]:
        raise ValueError("int8: expected calibration data, got none")
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(torch.export.export(model, samples).module(), quantizer)
    for item in arrays.items(job["calibration"], job["inputs"]):
        observed(*(torch.from_numpy(item[spec["name"]]) for spec in job["inputs"]))
    quantized: torch.nn.Module = convert_pt2e(observed)
    return quantized


def run(job: dict[str, Any], progress: protocol.Progress) -> dict[str, Any]:
    """``task``: ``convert`` or ``verify``."""
    torch.set_num_threads(1)
    return {"convert": convert, "verify": verify}[job.pop("task")](job, progress)


if __name__ == "__main__":
    protocol.main(run)
