"""Resize: along each axis alone, by the formulas of the standard; by ``F.interpolate`` where the two agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .graph import Node
from .registry import Facts, Host, ints, op

INTERPOLATE = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _refused(node: Node, facts: Facts) -> str | None:
    if node.get("antialias", 0):
        return "antialias"
    if node.get("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return "crops"
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "keeps the aspect ratio"
    if node.get("mode", "nearest") == "cubic":
        half = node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        if not half or node.get("cubic_coeff_a", -0.75) != -0.75 or node.get("exclude_outside", 0):
            return "cubic in a way that torch has not"
        scales = facts.constant(node, 2)
        if scales is not None and bool(np.any(scales != np.round(scales))):
            return "cubic by a scale that is not whole"
        if facts.rank(node.inputs[0]) not in (4, None):
            return "cubic on other than 4 axes"
    return None


@op("Resize", host=(1, 2, 3), check=_refused)
def resize(
    node: Node, x: torch.Tensor, roi: Host | None = None, scales: Host | None = None, sizes: Host | None = None
) -> torch.Tensor:
    """To ``sizes``, or by ``scales``."""
    axes = [axis % x.ndim for axis in node.get("axes") or range(x.ndim)]
    if sizes is not None and sizes.size:
        wanted = dict(zip(axes, ints(sizes), strict=True))
        factors = {axis: size / x.shape[axis] for axis, size in wanted.items()}
    elif scales is not None:
        factors = dict(zip(axes, [float(part) for part in scales.reshape(-1)], strict=True))
        wanted = {
            axis: int(x.shape[axis] * factor) if factor != 1 else x.shape[axis] for axis, factor in factors.items()
        }
    else:
        raise ValueError(f"Resize {node.name!r}: expected scales or sizes")
    changed = [axis for axis in axes if factors[axis] != 1]
    if not changed:
        return x
    fast = _interpolate(node, x, changed, factors, wanted)
    if fast is not None:
        return fast
    for axis in changed:
        x = _along(node, x, axis, factors[axis], wanted[axis])
    return x


def upsample(node: Node, x: torch.Tensor, scales: Host) -> Any:
    """The older name of Resize."""
    return resize(node, x, None, scales)


def _interpolate(
    node: Node, x: torch.Tensor, changed: list[int], factors: dict[int, float], wanted: dict[int, Any]
) -> torch.Tensor | None:
    """By ``F.interpolate``, where it gives the same."""
    mode = node.get("mode", "nearest")
    place = node.get("coordinate_transformation_mode", "half_pixel")
    if x.ndim not in INTERPOLATE or min(changed) < 2:
        return None
    exact = all(abs(x.shape[axis] * factors[axis] - wanted[axis]) < 1e-6 for axis in changed)
    size = [wanted.get(axis, x.shape[axis]) for axis in range(2, x.ndim)]
    if mode == "cubic":
        return F.interpolate(x, size, mode="bicubic", align_corners=False)
    if mode == "linear" and exact and place == "half_pixel":
        return F.interpolate(x, size, mode=INTERPOLATE[x.ndim], align_corners=False)
    if mode == "linear" and exact and place == "align_corners":
        return F.interpolate(x, size, mode=INTERPOLATE[x.ndim], align_corners=True)
    whole = exact and all(float(factors[axis]).is_integer() for axis in changed)
    rounding = node.get("nearest_mode", "round_prefer_floor")
    if (
        mode == "nearest"
        and whole
        and (place, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    ):
        return F.interpolate(x, size, mode="nearest")
    return None


def _along(node: Node, x: torch.Tensor, axis: int, factor: float, size: int) -> torch.Tensor:
    n = int(x.shape[axis])
    at = _places(node, np.arange(size, dtype=np.float32), n, np.float32(factor), size)
    if node.get("mode", "nearest") == "nearest":
        rounding = node.get("nearest_mode", "round_prefer_floor")
        rounded = {
            "round_prefer_floor": np.ceil(at - 0.5),
            "round_prefer_ceil": np.floor(at + 0.5),
            "floor": np.floor(at),
            "ceil": np.ceil(at),
        }[rounding]
        return x.index_select(axis, torch.from_numpy(rounded.clip(0, n - 1).astype(np.int64)).to(x.device))
    at = at.clip(0, n - 1)
    low = np.floor(at).astype(np.int64).clip(0, max(n - 2, 0))
    weight = torch.from_numpy((at - low).astype(np.float32)).to(x)
    weight = weight.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    first = x.index_select(axis, torch.from_numpy(low).to(x.device))
    second = x.index_select(axis, torch.from_numpy((low + 1).clip(0, n - 1)).to(x.device))
    return first + (second - first) * weight


def _places(node: Node, at: Any, n: int, factor: Any, size: int) -> Any:
    """Where each element of the result lies in the source: in float32, which decides where to round."""
    place = node.get("coordinate_transformation_mode", "half_pixel")
    if place == "asymmetric":
        return at / factor
    if place == "align_corners":
        last = n * factor - 1
        return at * (n - 1) / last if last > 0 else at * 0
    if place == "pytorch_half_pixel" and size == 1:
        return at * 0
    if place == "half_pixel_symmetric":
        adjusted = size / (factor * n)
        return n / 2 * (1 - adjusted) + (at + 0.5) / factor - 0.5
    return (at + 0.5) / factor - 0.5


op("Upsample", host=(1,))(upsample)
