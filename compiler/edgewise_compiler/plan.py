"""The plan: which passes, in which order. Pure. What cannot work is refused here, before anything is computed.

A plan is a directed acyclic graph of nodes. A **node** is a pass with its configuration and, for each role of the pass,
the node whose file it takes; the leaves are what the source gave (``Origin``). Two nodes that say the same *are* the
same: what several targets or profiles share (export, calibrate, distill, prune) is computed once.

**Traits** are words for what holds of a model: ``float32``, ``folded`` (BatchNorm folded, standard operators only),
``fused`` (operators of onnxruntime's own), ``half``, ``weights`` (only the weights are compressed), ``quantized``,
``equalized``, ``pruned``, ``masked``, ``trained``. A pass needs some, forbids some, gives some and drops some.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import msgspec

from edgewise_compiler.errors import CompileError
from edgewise_compiler.passes import MODELS, Kind, Pass, PassConfig, find


@dataclass(frozen=True)
class Origin:
    """A file that the source gave: the model to compile (``source``), or a teacher or student beside it."""

    name: str
    kind: Kind
    traits: frozenset[str]

    @property
    def title(self) -> str:
        """In words."""
        return self.name


@dataclass(frozen=True)
class Node:
    """One run of a pass. ``inputs``: (role, where its file comes from)."""

    pass_name: str
    inputs: tuple[tuple[str, Node | Origin], ...]
    config: PassConfig

    @cached_property
    def does(self) -> Pass:
        """The pass."""
        return find(self.pass_name)

    @property
    def kind(self) -> Kind:
        """What its file is."""
        return self.does.makes

    @property
    def title(self) -> str:
        """In words, for progress and errors."""
        return self.does.title

    @cached_property
    def traits(self) -> frozenset[str]:
        """What holds of the model it makes, provided that the plan is right (``check``)."""
        return (self._model_traits() - self.does.drops) | self.does.gives

    def _model_traits(self) -> frozenset[str]:
        roles = dict(self.inputs)
        return roles["model"].traits if "model" in roles and self.kind in MODELS else frozenset()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # A graph of nodes is a deep value: without this each look-up would walk it whole.
        return hash((self.pass_name, self.inputs, msgspec.json.encode(self.config)))


Step = Node | Origin


def node(pass_name: str, config: PassConfig | None = None, **inputs: Step) -> Node:
    """A node: ``node("quantize", Quantize.Config(scheme="u8s8"), model=optimized, ranges=ranges)``."""
    return Node(pass_name, tuple(sorted(inputs.items())), find(pass_name).Config() if config is None else config)


def order(*targets: Step) -> list[Node]:
    """Every node that these need, each once, after what it takes."""
    seen: dict[Node, None] = {}
    for target in targets:
        _visit(target, seen)
    return list(seen)


def _visit(step: Step, seen: dict[Node, None]) -> None:
    if isinstance(step, Origin) or step in seen:
        return
    for _, taken in step.inputs:
        _visit(taken, seen)
    seen[step] = None


def check(*targets: Step) -> None:
    """Is every pass given what it takes and needs, and nothing it forbids? Raises CompileError (``cannot-plan``)."""
    for problem in problems(*targets):
        raise CompileError(f"plan: {problem}", code="cannot-plan")


def problems(*targets: Step) -> Iterator[str]:
    """What is wrong with a plan, in sentences."""
    for step in order(*targets):
        does, given = step.does, dict(step.inputs)
        if type(step.config) is not does.Config:
            yield f"{does.name}: expected the configuration {does.Config.__qualname__}, got {type(step.config)}"
        for role in sorted(does.takes.keys() ^ given.keys()):
            yield f"{does.name}: expected inputs {', '.join(does.takes)}, " + (
                f"{role} is missing" if role in does.takes else f"got {role} besides"
            )
        for role, taken in given.items():
            if role in does.takes and taken.kind != does.takes[role]:
                yield f"{does.name}: {role}: expected {does.takes[role]}, got {taken.kind} (from {taken.title})"
        model = given.get("model")
        if model is None:
            continue
        if does.needs - model.traits:
            yield (
                f"{does.name} needs a model that is {', '.join(sorted(does.needs - model.traits))}; "
                f"{model.title} gives {', '.join(sorted(model.traits)) or 'none of that'}"
            )
        if does.forbids & model.traits:
            yield f"{does.name} cannot follow {model.title}: {', '.join(sorted(does.forbids & model.traits))} already"
