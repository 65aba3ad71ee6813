"""What a power cut may leave of a folder: a model of files, names and what has been synced. Pure.

Rules of the model, which is stricter than a journaling file system:
- ``fsync`` of a file makes its data durable, and nothing of its name; ``fsync`` of a folder makes the names in it
  durable, and nothing of their data;
- whatever is not synced may be on the disk or not, each by itself: a name without its data, a later name without an
  earlier one; a write may be there by half, or as zeros of the right length;
- a rename is atomic: the old name or the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

MAX_EXHAUSTIVE = 4
"""Of so many operations not yet synced, each subset is a case; of more, those that are telling."""


@dataclass(frozen=True)
class Op:
    """One system call. ``path`` is relative to the folder; ``inode`` is the file it is about."""

    kind: str  # mkdir create rename unlink rmdir | truncate write | sync sync-folder | note
    path: str = ""
    target: str = ""
    inode: int = 0
    offset: int = 0
    data: bytes = b""
    fact: Any = None

    @property
    def names(self) -> bool:
        """Does it change names in a folder?"""
        return self.kind in ("mkdir", "create", "rename", "unlink", "rmdir")

    @property
    def changes(self) -> bool:
        """Does it change a file's bytes?"""
        return self.kind in ("truncate", "write")


@dataclass
class Tree:
    """What is on the disk: folders, names -> inodes, inodes -> bytes."""

    folders: set[str] = field(default_factory=lambda: {"."})
    entries: dict[str, int] = field(default_factory=dict)
    inodes: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Tree:
        """Another one of the same content."""
        return Tree(set(self.folders), dict(self.entries), dict(self.inodes))

    def apply(self, op: Op, torn: str | None = None) -> None:
        """Carry out one operation; ``torn``: ``half`` or ``zeros`` of a write."""
        match op.kind:
            case "mkdir":
                self.folders.add(op.path)
            case "rmdir":
                self.folders.discard(op.path)
            case "create":
                self.entries[op.path] = op.inode
            case "rename":
                if self.entries.get(op.path) == op.inode:
                    del self.entries[op.path]
                self.entries[op.target] = op.inode
            case "unlink":
                self.entries.pop(op.path, None)
            case "truncate":
                self.inodes[op.inode] = b""
            case "write":
                data = op.data
                if torn == "half":
                    data = data[: len(data) // 2]
                elif torn == "zeros":
                    data = bytes(len(data))
                old = self.inodes.get(op.inode, b"").ljust(op.offset, b"\0")
                self.inodes[op.inode] = old[: op.offset] + data + old[op.offset + len(data) :]

    def files(self) -> dict[str, bytes]:
        """Path -> bytes of what can be reached."""
        return {
            path: self.inodes.get(inode, b"")
            for path, inode in sorted(self.entries.items())
            if all(str(parent) in self.folders for parent in PurePosixPath(path).parents)
        }

    def digest(self) -> str:
        """One string for one content."""
        found = hashlib.sha256()
        for folder in sorted(self.folders):
            found.update(folder.encode() + b"/")
        for path, data in self.files().items():
            found.update(path.encode() + b"\0" + len(data).to_bytes(8, "big") + data)
        return found.hexdigest()

    def write_to(self, folder: Path) -> None:
        """Make it a real folder."""
        folder.mkdir(parents=True)
        for name in sorted(self.folders):
            if all(str(parent) in self.folders for parent in PurePosixPath(name).parents):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
        for path, data in self.files().items():
            (folder / path).write_bytes(data)


@dataclass(frozen=True)
class Cut:
    """A power cut after ``after`` operations: what of those not synced is lost, and which write is torn, and how."""

    after: int
    lost: frozenset[int]
    torn: tuple[int, str] | None = None

    def __str__(self) -> str:
        how = f", operation {self.torn[0]} is torn ({self.torn[1]})" if self.torn else ""
        return f"after operation {self.after}, lost {sorted(self.lost)}{how}"


def tree_after(start: Tree, ops: Sequence[Op], cut: Cut) -> Tree:
    """What the cut leaves."""
    tree = start.copy()
    for index, op in enumerate(ops[: cut.after]):
        if index not in cut.lost:
            tree.apply(op, cut.torn[1] if cut.torn and cut.torn[0] == index else None)
    return tree


def cuts(ops: Sequence[Op], step: int = 1) -> Iterator[Cut]:
    """Every prefix (each ``step``-th), and what may be lost of each."""
    pending: dict[int, Op] = {}
    for index in range(len(ops) + 1):
        if index % step == 0 or index == len(ops):
            yield from _variants(index, pending)
        if index < len(ops):
            _advance(pending, index, ops[index])


def _advance(pending: dict[int, Op], index: int, op: Op) -> None:
    if op.names or op.changes:
        pending[index] = op
    elif op.kind == "sync":
        for known in [i for i, p in pending.items() if p.changes and p.inode == op.inode]:
            del pending[known]
    elif op.kind == "sync-folder":
        for known in [i for i, p in pending.items() if p.names and str(PurePosixPath(p.path).parent) == op.path]:
            del pending[known]


def _variants(after: int, pending: Mapping[int, Op]) -> Iterator[Cut]:
    indices = list(pending)
    everything = frozenset(indices)
    if len(indices) <= MAX_EXHAUSTIVE:
        lost = {frozenset(some) for count in range(len(indices) + 1) for some in combinations(indices, count)}
    else:
        lost = {frozenset[int](), everything}
        lost |= {frozenset([i]) for i in indices} | {everything - {i} for i in indices}
        lost |= {frozenset(indices[k:]) for k in range(len(indices))}
        lost |= {frozenset(i for i in indices if pending[i].names), frozenset(i for i in indices if pending[i].changes)}
    for some in sorted(lost, key=sorted):
        yield Cut(after, some)
    for index in indices:
        if pending[index].kind == "write":
            for how in ("half", "zeros"):
                yield Cut(after, frozenset(), (index, how))
