"""ONNX graphs as torch modules that train and export, and their weights written back into the same graph.

Rules that hold in this package:
- it imports torch, onnx, numpy and itself, nothing else: converters load it by file path in environments of their own;
- ``unsupported`` lists every node that has no form here without building anything; ``to_module`` builds or raises;
- shapes are computed on the host, in Python integers (symbolic ones under ``torch.export``), values in tensors.
"""

from __future__ import annotations

from .graph import Unsupported, UnsupportedGraphError, fold, with_shapes
from .module import OnnxModule, to_module, unsupported
from .write import write_back

__all__ = [
    "OnnxModule",
    "Unsupported",
    "UnsupportedGraphError",
    "fold",
    "to_module",
    "unsupported",
    "with_shapes",
    "write_back",
]
