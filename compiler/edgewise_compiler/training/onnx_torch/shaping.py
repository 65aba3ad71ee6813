"""Operators that move, cut and join; and the shapes that they are given, computed on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .graph import Node
from .registry import Facts, Host, host_array, host_op, ints, op, symbolic

FAR = 2**31 - 1
SMALL = 1024
"""Host values are shapes: nothing larger is made on the host."""


@host_op("Shape")
def shape(node: Node, x: torch.Tensor | Host) -> Host:
    """The dimensions from ``start`` to ``end``."""
    return host_array(list(x.shape)[node.get("start", 0) : node.get("end")])


@host_op("Size")
def size(node: Node, x: torch.Tensor | Host) -> Host:
    """The number of elements."""
    count: Any = 1
    for dim in x.shape:
        count = count * dim
    return host_array([count]).reshape(())


@op("Reshape", host=(1,))
def reshape(node: Node, x: torch.Tensor, to: Host) -> torch.Tensor:
    """A 0 copies a dimension unless ``allowzero``."""
    target = ints(to)
    if not node.get("allowzero", 0):
        target = [x.shape[i] if isinstance(dim, int) and dim == 0 else dim for i, dim in enumerate(target)]
        if len(target) == 2 and x.ndim > 1 and target[1] == -1 and ints(to)[0] == 0:
            return x.flatten(1)
    return x.reshape(target)


@host_op("Reshape")
def reshape_host(node: Node, x: Host, to: Host) -> Host:
    """Of a shape itself."""
    return x.reshape(ints(to))


@op("Flatten")
def flatten(node: Node, x: torch.Tensor) -> torch.Tensor:
    """To two axes."""
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.reshape(1, -1)
    if axis == x.ndim:
        return x.reshape(-1, 1)
    x = x.flatten(axis)
    return x.flatten(0, axis - 1) if axis > 1 else x


@op("Transpose")
def transpose(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Reversed where no order is given."""
    return x.permute(node.get("perm") or list(range(x.ndim))[::-1])


@op("Squeeze", host=(1,))
def squeeze(node: Node, x: torch.Tensor, axes: Host | None = None) -> torch.Tensor:
    """Axes as attribute or input; without any, all of length one."""
    found = node.get("axes") if axes is None else ints(axes)
    if found is None:
        return x.squeeze()
    for axis in sorted((axis % x.ndim for axis in found), reverse=True):
        x = x.squeeze(axis)
    return x


@host_op("Squeeze")
def squeeze_host(node: Node, x: Host, axes: Host | None = None) -> Host:
    """Of a shape itself."""
    found = node.get("axes") if axes is None else ints(axes)
    return x.squeeze(None if found is None else tuple(found))


@op("Unsqueeze", host=(1,))
def unsqueeze(node: Node, x: torch.Tensor, axes: Host | None = None) -> torch.Tensor:
    """Axes count in the result."""
    found = node.get("axes") if axes is None else ints(axes)
    rank = x.ndim + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


@host_op("Unsqueeze")
def unsqueeze_host(node: Node, x: Host, axes: Host | None = None) -> Host:
    """Of a shape itself."""
    return np.expand_dims(x, tuple(node.get("axes") if axes is None else ints(axes)))


@op("Concat")
def concat(node: Node, *parts: torch.Tensor) -> torch.Tensor:
    """Along one axis."""
    return torch.cat(parts, node.get("axis"))


@host_op("Concat")
def concat_host(node: Node, *parts: Host) -> Host:
    """Of shapes."""
    return np.concatenate(parts, node.get("axis"))


@op("Split", host=(1,))
def split(node: Node, x: torch.Tensor, sizes: Host | None = None) -> tuple[torch.Tensor, ...]:
    """Sizes as attribute or input; without them, equal parts with a smaller last one."""
    axis = node.get("axis", 0)
    found = node.get("split") if sizes is None else ints(sizes)
    if found is None:
        count = node.get("num_outputs", len(node.outputs))
        return tuple(torch.split(x, (x.shape[axis] + count - 1) // count, axis))
    return tuple(torch.split(x, found, axis))


@op("Slice", host=(1, 2, 3, 4))
def cut(
    node: Node, x: torch.Tensor, starts: Host, ends: Host, axes: Host | None = None, steps: Host | None = None
) -> torch.Tensor:
    """Steps may be negative."""
    for start, end, axis, step in _slices(starts, ends, axes, steps):
        axis = axis % x.ndim
        if step < 0:
            length = x.shape[axis]
            begin = min(start + length if start < 0 else start, length - 1)
            stop = max(end + length, -1) if end < 0 else end
            x = x.narrow(axis, stop + 1, begin - stop) if begin > stop else x.narrow(axis, 0, 0)
            x = x.flip(axis)
            start, end, step = 0, FAR, -step
        until = None if isinstance(end, int) and end >= FAR else end
        if isinstance(start, int) and start == 0 and until is None and step == 1:
            continue
        x = x[(slice(None),) * axis + (slice(start, until, step),)]
    return x


@host_op("Slice")
def cut_host(
    node: Node, x: Host, starts: Host, ends: Host, axes: Host | None = None, steps: Host | None = None
) -> Host:
    """Of a shape itself."""
    for start, end, axis, step in _slices(starts, ends, axes, steps):
        stop = None if step < 0 and end < -x.shape[axis] else end
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, stop, step),)]
    return x


def _slices(starts: Host, ends: Host, axes: Host | None, steps: Host | None) -> list[tuple[Any, Any, int, int]]:
    first = ints(starts)
    along = list(range(len(first))) if axes is None else ints(axes)
    return list(zip(first, ints(ends), along, [1] * len(first) if steps is None else ints(steps), strict=True))


@op("Gather")
def gather(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Indices may be negative."""
    axis = node.get("axis", 0) % x.ndim
    if indices.ndim == 1 and axis > 0:
        return torch.index_select(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))
    return x[(slice(None),) * axis + (indices,)]


@op("GatherHost", host=(1,))
def gather_known(node: Node, x: torch.Tensor, indices: Host) -> torch.Tensor:
    """Gather with indices that are known: a view where they allow one."""
    axis = node.get("axis", 0) % x.ndim
    wanted = [index + x.shape[axis] if index < 0 else index for index in ints(indices)]
    if indices.ndim == 0:
        return x.select(axis, wanted[0])
    if indices.ndim == 1 and wanted == list(range(wanted[0], wanted[0] + len(wanted))):
        return x.narrow(axis, wanted[0], len(wanted))
    places = torch.tensor(wanted, device=x.device).reshape(indices.shape)
    return x[(slice(None),) * axis + (places,)]


@host_op("Gather")
def gather_host(node: Node, x: Host, indices: Host) -> Host:
    """Of a shape itself."""
    taken = np.take(x, indices.astype(np.int64), axis=node.get("axis", 0))
    if isinstance(taken, np.ndarray):
        return taken
    made = np.empty((), x.dtype)
    made[()] = taken
    return made


@op("GatherElements")
def gather_elements(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Indices may be negative."""
    axis = node.get("axis", 0)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices).long())


def _no_batch(node: Node, facts: Facts) -> str | None:
    return "has batch_dims" if node.get("batch_dims", 0) else None


@op("GatherND", check=_no_batch)
def gather_nd(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The last axis of ``indices`` is a place in the first axes of ``x``."""
    return x[indices.long().unbind(-1)]


def _no_reduction(node: Node, facts: Facts) -> str | None:
    reduction = node.get("reduction", "none")
    return None if reduction in ("none", "add") else f"has reduction {reduction!r}"


@op("ScatterElements", check=_no_reduction)
def scatter_elements(node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    """Replaces or adds."""
    axis = node.get("axis", 0)
    places = torch.where(indices < 0, indices + x.shape[axis], indices).long()
    return x.scatter_add(axis, places, updates) if node.get("reduction") == "add" else x.scatter(axis, places, updates)


@op("ScatterND", check=_no_reduction)
def scatter_nd(node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    """Replaces or adds."""
    return torch.index_put(x, indices.long().unbind(-1), updates, node.get("reduction") == "add")


@op("Expand", host=(1,))
def expand(node: Node, x: torch.Tensor, to: Host) -> torch.Tensor:
    """Broadcasts both ways: a 1 in the target keeps what is there."""
    target = ints(to)
    before = [1] * (len(target) - x.ndim) + list(x.shape)
    target = [1] * (len(before) - len(target)) + target
    return x.expand(
        [was if isinstance(dim, int) and dim == 1 else dim for was, dim in zip(before, target, strict=True)]
    )


@host_op("Expand")
def expand_host(node: Node, x: Host, to: Host) -> Any:
    """Of sizes; a tensor where the target is symbolic."""
    target = ints(to)
    if symbolic(to) or np.prod(target, dtype=np.float64) > SMALL:
        return expand(node, torch.tensor(x), to)
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target))))


@op("Tile", host=(1,))
def tile(node: Node, x: torch.Tensor, repeats: Host) -> torch.Tensor:
    """Whole repeats along each axis."""
    return x.repeat(ints(repeats))


@host_op("ConstantOfShape")
def constant_of_shape(node: Node, to: Host) -> Any:
    """Small integers stay on the host, for they may be part of a shape."""
    value = node.get("value", np.zeros(1, np.float32)).reshape(-1)[0]
    target = ints(to)
    if not symbolic(to) and np.issubdtype(value.dtype, np.integer) and np.prod(target, dtype=np.float64) <= SMALL:
        return np.full(target, value)
    return torch.full(target, value.item(), dtype=torch.from_numpy(np.array([value])).dtype)


@host_op("Range")
def arange(node: Node, start: Host, limit: Host, delta: Host) -> Any:
    """A tensor, unless it is short and known."""
    if any(map(symbolic, (start, limit, delta))):
        return torch.arange(*(part.reshape(-1)[0] for part in (start, limit, delta)))
    made = np.arange(start.reshape(-1)[0], limit.reshape(-1)[0], delta.reshape(-1)[0]).astype(start.dtype)
    return made if made.size <= SMALL else torch.tensor(made)


@op("Trilu", host=(1,))
def triangle(node: Node, x: torch.Tensor, k: Host | None = None) -> torch.Tensor:
    """Upper or lower."""
    offset = 0 if k is None else ints(k)[0]
    return torch.triu(x, offset) if node.get("upper", 1) else torch.tril(x, offset)


@op("OneHot", host=(1,))
def one_hot(node: Node, indices: torch.Tensor, depth: Host, values: torch.Tensor) -> torch.Tensor:
    """``values`` are off and on; an index outside is off everywhere."""
    count = ints(depth)[0]
    axis = node.get("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    places = torch.where(indices < 0, indices + count, indices).unsqueeze(axis)
    steps = torch.arange(count, device=indices.device).reshape([-1 if i == axis else 1 for i in range(places.ndim)])
    return torch.where(places == steps, values[1], values[0])


@op("DepthToSpace", "SpaceToDepth")
def blocks(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Channels into blocks of pixels and back."""
    b = node.get("blocksize")
    n, c, h, w = x.shape
    if node.op == "SpaceToDepth":
        order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
        return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b * b, h // b, w // b)
    if node.get("mode", "DCR") == "DCR":
        return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)
    return x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // (b * b), h * b, w * b)


@op("Pad", host=(1, 2, 3))
def pad(node: Node, x: torch.Tensor, pads: Host, value: Host | None = None, axes: Host | None = None) -> torch.Tensor:
    """By a constant, by reflection, by the edge, or around. Negative pads cut, for constants."""
    amounts = ints(pads)
    along = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in ints(axes)]
    before = dict(zip(along, amounts[: len(along)], strict=True))
    after = dict(zip(along, amounts[len(along) :], strict=True))
    if node.get("mode", "constant") == "constant":
        fill = 0.0 if value is None or not value.size else value.reshape(-1)[0].item()
        flat = [part for axis in reversed(range(x.ndim)) for part in (before.get(axis, 0), after.get(axis, 0))]
        while len(flat) > 2 and flat[-2:] == [0, 0]:
            flat = flat[:-2]
        return F.pad(x, flat, value=fill)
    for axis in along:
        x = _grow(x, axis, before[axis], after[axis], node.get("mode"))
    return x


def _grow(x: torch.Tensor, axis: int, before: int, after: int, mode: str) -> torch.Tensor:
    n = x.shape[axis]
    parts = [x]
    if mode == "reflect":
        first = x.narrow(axis, 1, before).flip(axis) if before else None
        last = x.narrow(axis, n - 1 - after, after).flip(axis) if after else None
    elif mode == "wrap":
        first = x.narrow(axis, n - before, before) if before else None
        last = x.narrow(axis, 0, after) if after else None
    else:
        first = x.narrow(axis, 0, 1).repeat_interleave(before, axis) if before else None
        last = x.narrow(axis, n - 1, 1).repeat_interleave(after, axis) if after else None
    parts = [part for part in (first, x, last) if part is not None]
    return torch.cat(parts, axis) if len(parts) > 1 else x
