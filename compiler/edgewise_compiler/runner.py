"""Runs a plan's nodes, each once, and holds every pass to its word.

After a pass that makes a model: the file loads on the runtime of its kind; inputs and outputs are what they were
(names, types, shapes); on real items the outputs are finite where they were, and, unless the pass is lossy,
the same within its tolerance, or within the tremor of a quantized model. A pass that gives something else has broken
its word, and is named.

The outcome of a node is ``Ok``, ``Refused`` (the same for the same inputs, with the reason) or ``Failed`` (with a
folder from which the very run can be repeated). What needs a file that is not there shares the outcome of its maker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx

from edgewise.bundle import Tensor
from edgewise_compiler import tremor
from edgewise_compiler.cache import Cache, Entry, digest_of, environment, key_of
from edgewise_compiler.data import Data
from edgewise_compiler.errors import CompileError, Unsupported, one_line
from edgewise_compiler.model import RUNTIME_OF, Answers, Model
from edgewise_compiler.passes import Needs
from edgewise_compiler.passes.worker import DONE, JOB, OUT, Done, Job, run_job
from edgewise_compiler.plan import Node, Origin, Step, check

PARITY_ITEMS = 32
MAX_LOG = 4000


@dataclass(frozen=True)
class Ok:
    """``digest`` of the file; ``seconds`` that making it took (when it was made); ``cached``: not made now."""

    file: Path
    digest: str
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class Refused:
    """Cannot be done, and why; ``by``: the pass."""

    by: str
    reason: str
    unsupported: tuple[Unsupported, ...] = ()
    code: str = "refused"


@dataclass(frozen=True)
class Failed:
    """Went wrong. ``reproducer``: a folder for ``python -m edgewise_compiler.passes.worker FOLDER``."""

    by: str
    reason: str
    reproducer: Path
    code: str = "compile-failed"


Outcome = Ok | Refused | Failed


@dataclass
class Runner:
    """``origins``: the leaves' files. ``data``: calibrate and, where there is one, train. ``parity``: real items that
    models are held against. ``named``: (scores, embedding). ``folder`` is scratch; ``failures``: of reproducers."""

    origins: Mapping[Origin, Path]
    data: Mapping[Needs, Data]
    parity: Data
    named: tuple[str | None, str | None]
    folder: Path
    failures: Path
    cache: Cache
    seed: int
    progress: Callable[[float, str], None]
    price: float = 0.0
    """Seconds of work so far, as they were when the work was done (what came from the cache counts too)."""
    _done: dict[Step, Outcome] = field(default_factory=dict)
    _models: dict[str, tuple[list[Tensor], list[Tensor], Answers]] = field(default_factory=dict)
    _digests: dict[str, str] = field(default_factory=dict)

    def run(self, step: Step) -> Outcome:
        """The outcome of a node, and before it of all that it needs. Raises CompileError for a plan that is wrong."""
        check(step)
        return self._run(step)

    def outcomes(self) -> Iterator[tuple[Node, Outcome]]:
        """Every node that was run, in order."""
        return ((step, outcome) for step, outcome in self._done.items() if isinstance(step, Node))

    def _run(self, step: Step) -> Outcome:
        if step not in self._done:
            self._done[step] = self._origin(step) if isinstance(step, Origin) else self._node(step)
        return self._done[step]

    def _origin(self, origin: Origin) -> Outcome:
        path = self.origins[origin]
        return Ok(path, digest_of(path))

    def _node(self, node: Node) -> Outcome:
        taken: dict[str, Ok] = {}
        for role, step in node.inputs:
            outcome = self._run(step)
            if not isinstance(outcome, Ok):
                return outcome
            taken[role] = outcome
        if why := node.does.missing():
            return Refused(node.does.name, why, code="missing")
        key = None if node.does.measures else self._key(node, taken)
        if key and (found := self.cache.get(key)):
            return self._from_cache(node, *found)
        place = self.folder / f"{len(self._done):03d}-{node.does.name}"
        place.mkdir()
        self.progress(0.0, node.title)
        started = time.monotonic()
        try:
            done = self._work(node, taken, place)
            if done.error is None:
                self._verify(node, taken, place / OUT, done.notes)
        except OSError as error:
            if error.errno in (28, 122):  # no space, or over quota
                raise CompileError(
                    f"{node.title}: no room left on the disk under {self.folder.parent}", code="no-room"
                ) from error
            return self._failed(node, place, "compile-failed", traceback.format_exc(), error)
        except CompileError as error:
            return self._failed(node, place, error.code, str(error), error)
        except Exception as error:  # passes are many people's code over libraries that raise anything
            return self._failed(node, place, "compile-failed", traceback.format_exc(), error)
        seconds = time.monotonic() - started
        if done.refused:
            entry = Entry(
                pass_name=node.does.name,
                seconds=seconds,
                refused=done.error,
                code=done.code,
                unsupported=done.unsupported,
            )
            if key:
                self.cache.put(key, entry, None)
            return Refused(node.does.name, done.error or "", tuple(done.unsupported), done.code or "refused")
        if done.error is not None:
            said = CompileError(done.error, code=done.code)
            return self._failed(node, place, said.code, done.error, said)
        digest = digest_of(place / OUT)
        if key:
            entry = Entry(pass_name=node.does.name, seconds=seconds, digest=digest, notes=done.notes)
            self.cache.put(key, entry, place / OUT)
        self.price += seconds
        return Ok(place / OUT, digest, tuple(done.notes), seconds)

    def _from_cache(self, node: Node, entry: Entry, file: Path) -> Outcome:
        if entry.digest is None:
            return Refused(node.does.name, entry.refused or "", tuple(entry.unsupported), entry.code or "refused")
        # A copy: the cache's own may give way to newer ones at any time.
        copy = self.folder / f"{len(self._done):03d}-{node.does.name}"
        shutil.copyfile(file, copy)
        self.price += entry.seconds
        return Ok(copy, entry.digest, tuple(entry.notes), entry.seconds, cached=True)

    def _key(self, node: Node, taken: Mapping[str, Ok]) -> str:
        does, data = node.does, self._data(node.does.data)
        if data is not None and does.data not in self._digests:
            self._digests[does.data] = data.digest()
        return key_of(
            does,
            node.config,
            {role: made.digest for role, made in taken.items()},
            None if data is None else self._digests[does.data],
            self.seed if does.seeded else None,
            [str(name) for name in self.named],
        )

    def _data(self, needs: Needs) -> Data | None:
        if needs == "none":
            return None
        return self.data.get(needs, self.data["calibrate"])

    def _work(self, node: Node, taken: Mapping[str, Ok], place: Path) -> Done:
        """Lay out the folder of the run, and run it here or in a process of its own."""
        does, data = node.does, self._data(node.does.data)
        for role, made in taken.items():
            (place / role).symlink_to(made.file.resolve())
        if data is not None and does.isolated:
            shared = self.folder / f"{does.data if does.data in self.data else 'calibrate'}.npz"
            if not shared.exists():
                data.save(shared)
            (place / "data.npz").symlink_to(shared.resolve())
        job = Job(
            pass_name=does.name,
            config=msgspec.to_builtins(node.config),
            inputs={role: role for role in taken},
            data=None if data is None else "data.npz",
            seed=self.seed,
            scores=self.named[0],
            embedding=self.named[1],
            environment=environment(*does.packages),
        )
        (place / JOB).write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=1))
        if not does.isolated:
            return run_job(place, self.progress, data)
        return _in_a_process(place, does.name, does.deadline_s, self.progress)

    def _verify(self, node: Node, taken: Mapping[str, Ok], made: Path, notes: list[str]) -> None:
        """Hold the pass to its word; what rounding explains is noted. Raises CompileError (code ``broke-its-word``)."""
        name = node.does.name
        if not made.is_file():
            raise CompileError(f"pass {name} broke its word: it wrote no file", code="broke-its-word")
        if node.kind not in RUNTIME_OF or "model" not in taken or dict(node.inputs)["model"].kind not in RUNTIME_OF:
            return
        before = self._described(taken["model"], dict(node.inputs)["model"])
        try:
            model = Model(made, node.kind, named=self.named)
            answers = model.answer(self.parity)
        except CompileError as error:
            raise CompileError(f"pass {name} broke its word: {error}", code="broke-its-word") from error
        for what, old, new in (("inputs", before[0], model.inputs), ("outputs", before[1], model.outputs)):
            if problem := changed(old, new):
                raise CompileError(f"pass {name} broke its word: {what}: {problem}", code="broke-its-word")
        if lost := int((before[2].finite() & ~answers.finite()).sum()):
            raise CompileError(
                f"pass {name} broke its word: NaN or infinite outputs for {lost} of {len(answers)} items that "
                "were finite",
                code="broke-its-word",
            )
        if not node.does.lossy and not node.does.trains:
            worst, output = difference(before[2], answers)
            limit = node.does.tolerance
            if worst > limit and node.traits & {"quantized", "weights"}:
                limit = max(limit, tremor.MARGIN * self._tremor(taken["model"], dict(node.inputs)["model"], before[2]))
            if worst > limit:
                raise CompileError(
                    f"pass {name} broke its word: output {output!r} differs by {worst:.2g} of its largest value "
                    f"(it may by {limit:.2g})",
                    code="broke-its-word",
                )
            if limit > node.does.tolerance:
                notes.append(
                    f"{name}: answers differ by {worst:.2g} of the largest, rounding alone moves them by "
                    f"{limit / tremor.MARGIN:.2g}"
                )
        self._models[digest_of(made)] = (model.inputs, model.outputs, answers)

    def _tremor(self, made: Ok, step: Step, answers: Answers) -> float:
        """How far rounding alone moves a model's answers; 0 for a file that is not ONNX."""
        if step.kind != "onnx":
            return 0.0
        model, most = onnx.load_model(str(made.file)), 0.0
        for trial in range(tremor.TRIALS):
            if (moved := tremor.nudged(model, trial)) is None:
                return 0.0
            path = self.folder / "nudged.onnx"
            onnx.save_model(moved, str(path))
            most = max(most, difference(answers, Model(path, named=self.named).answer(self.parity))[0])
        return most

    def _described(self, made: Ok, step: Step) -> tuple[list[Tensor], list[Tensor], Answers]:
        if made.digest not in self._models:
            model = Model(made.file, step.kind, named=self.named)
            self._models[made.digest] = (model.inputs, model.outputs, model.answer(self.parity))
        return self._models[made.digest]

    def _failed(self, node: Node, place: Path, code: str, text: str, error: BaseException) -> Failed:
        """Keep the run's folder, with real files, so that it can be repeated."""
        (place / "error.txt").write_text(text)
        kept = self.failures / place.name
        shutil.rmtree(kept, ignore_errors=True)
        try:
            self.failures.mkdir(parents=True, exist_ok=True)
            shutil.copytree(place, kept, symlinks=False)
            data = self._data(node.does.data)
            if data is not None and not (kept / "data.npz").exists():
                data.save(kept / "data.npz")
        except OSError:
            kept = place
        return Failed(node.does.name, f"{node.does.name}: {one_line(error)}", kept, code)


def changed(old: list[Tensor], new: list[Tensor]) -> str | None:
    """How the inputs or outputs differ: names, types or shapes; None when they do not.

    A batch may become dynamic, and integers of 64 bits 32 (TFLite's kernels take no others).
    """
    before, after = {tensor.name: tensor for tensor in old}, {tensor.name: tensor for tensor in new}
    if set(before) != set(after):
        return f"expected {', '.join(before)}, got {', '.join(after)}"
    for name, tensor in before.items():
        got = after[name]
        if got.datatype != tensor.datatype and (tensor.datatype, got.datatype) != ("INT64", "INT32"):
            return f"{name}: expected {tensor.datatype}, got {got.datatype}"
        fits = len(got.shape) == len(tensor.shape) and all(
            one == other or -1 in (one, other) for one, other in zip(tensor.shape, got.shape, strict=True)
        )
        if not fits:
            return f"{name}: expected shape {tensor.shape}, got {got.shape}"
    return None


def difference(one: Answers, other: Answers) -> tuple[float, str]:
    """(largest difference relative to the output's largest value or 1, the output) over items finite in both."""
    rows, worst, where = one.finite() & other.finite(), 0.0, ""
    for name, output in one.outputs.items():
        if output.dtype.kind != "f" or not rows.any() or not output.size:
            continue
        want, got = output[rows].astype(np.float64), other.outputs[name][rows].astype(np.float64)
        found = float(np.abs(want - got).max() / max(1.0, float(np.abs(want).max())))
        if found > worst:
            worst, where = found, name
    return worst, where


def _in_a_process(place: Path, name: str, deadline_s: float, progress: Callable[[float, str], None]) -> Done:
    """Raises CompileError (code ``worker-died``) when the process does, or is not done in time."""
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgewise_compiler.passes.worker", str(place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
            start_new_session=True,
        )
        timer = threading.Timer(deadline_s, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                fraction, text = msgspec.json.decode(line, type=tuple[float, str])
                progress(fraction, text)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
    if status == 0:
        return msgspec.json.decode((place / DONE).read_bytes(), type=Done)
    said = (place / "log.txt").read_bytes()[-MAX_LOG:].decode(errors="replace").strip()
    last = said.splitlines()[-1] if said else "it said nothing"
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise CompileError(f"the worker of pass {name} {ended}: {last}", code="worker-died")
