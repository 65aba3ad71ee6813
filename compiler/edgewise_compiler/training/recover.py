"""Recovery: a changed model (quantized, pruned, masked, smaller) is trained to answer as its teacher does.

Rules that hold here:
- the teacher's answers are the target, so nothing but inputs is needed; labels help where there are any;
- a held-out part of the *training* items judges each epoch, and the best state is kept, the state before training
  among them: a recovery makes nothing worse. The reference data is never seen;
- on one thread the same seed gives the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgewise_compiler.data import Array
from edgewise_compiler.errors import CompileError
from edgewise_compiler.training import losses
from edgewise_compiler.training.recovery import Recovery

Labels = npt.NDArray[np.int64]
Progress = Callable[[float, str], None]

MAX_KEPT = 512 * 1024**2
"""Bytes of the teacher's answers that are kept; above, it is asked anew for each batch."""
EVALUATED = 256
"""Items at a time where nothing is trained."""
MAX_NORM = 5.0
"""Gradients are cut to this norm."""
MIN_HELD_OUT = 4
FEW = 8
"""With fewer items at once, batch normalization keeps its statistics."""


@dataclass(frozen=True)
class Feeds:
    """Training items as a module takes them. ``arrays``: in the order of its inputs, each [n, ...].

    ``chunk``: how many items the module takes at once; None is as many as one likes. ``whole``: for which inputs an
    item is the whole tensor, without an axis for the batch (``chunk`` is 1 then); empty is for none.
    """

    arrays: tuple[Array, ...]
    chunk: int | None = None
    whole: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays[0])

    def at(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """The items of some rows, as tensors."""
        whole = self.whole or (False,) * len(self.arrays)
        return tuple(
            torch.from_numpy(np.array(array[rows[0]] if one else array[rows]))
            for array, one in zip(self.arrays, whole, strict=True)
        )

    def batches(self, rows: npt.NDArray[np.int64], batch: int) -> Iterator[list[npt.NDArray[np.int64]]]:
        """Rows by batch, each as the chunks that go through the module one after the other.

        Where chunks have a fixed size a batch holds whole ones, at least one; rows that do not fill one are left out.
        """
        if self.chunk is not None:
            batch = max(batch // self.chunk, 1) * self.chunk
            rows = rows[: len(rows) // self.chunk * self.chunk]
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            size = self.chunk or len(part)
            yield [part[i : i + size] for i in range(0, len(part), size)]


@dataclass(frozen=True)
class Teacher:
    """A teacher with its answers where they are kept. ``powers``: the mean square of each float output. ``rows``: the
    items that it has answers for, NaN being none: of others nothing is to be learned."""

    module: nn.Module
    answers: list[list[Tensor]] | None
    floats: tuple[bool, ...]
    powers: tuple[float, ...]
    form: losses.Form
    rows: npt.NDArray[np.int64]

    def answer(self, feeds: Feeds, rows: npt.NDArray[np.int64]) -> list[Tensor]:
        """Outputs for one chunk of rows."""
        if self.answers is not None:
            if any(feeds.whole):
                return self.answers[int(rows[0])]
            return [output[torch.from_numpy(rows)] for output in self.answers[0]]
        with torch.no_grad():
            return list(self.module(*feeds.at(rows)))


@contextmanager
def seeded(seed: int, threads: int) -> Iterator[None]:
    """torch's random numbers from ``seed``, and this many threads; as it was afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def teach(module: nn.Module, feeds: Feeds, score_index: int | None) -> Teacher:
    """Ask the teacher once. Raises CompileError (code ``not-finite``) when it answers NaN for every item."""
    module.eval()
    answers: list[list[Tensor]] = []
    held, rows = 0, np.arange(len(feeds), dtype=np.int64)
    sums: list[float] = []
    counts: list[int] = []
    form: losses.Form | None = None
    size = feeds.chunk or EVALUATED
    answered = np.ones(len(feeds), bool)
    with torch.no_grad():
        for start in range(0, len(feeds), size):
            part = rows[start : start + size]
            outputs = _fixed(module, feeds, part, size)
            sums, counts = sums or [0.0] * len(outputs), counts or [0] * len(outputs)
            for i, output in enumerate(outputs):
                if output.is_floating_point():
                    good = output[torch.isfinite(output)]
                    sums[i] += float(good.double().square().sum())
                    counts[i] += good.numel()
                    by_item = output.ndim > 0 and len(output) == len(part) and not any(feeds.whole)
                    lost = output.isnan().reshape(len(part), -1).any(1) if by_item else output.isnan().any()
                    answered[part] &= ~lost.numpy()
            if score_index is not None:
                seen = losses.form_of(outputs[score_index])
                form = seen if form in (None, seen) else "logits" if "logits" in (form, seen) else "values"
            held += sum(output.nbytes for output in outputs)
            if held <= MAX_KEPT:
                answers.append(outputs)
    floats = tuple(output.is_floating_point() for output in outputs)
    if not any(counts) or not answered.any():
        raise CompileError("the teacher answers NaN or infinity for every training item", code="not-finite")
    kept: list[list[Tensor]] | None = None
    batched = all(output.ndim and len(output) == len(part) for output in outputs)
    if held <= MAX_KEPT and any(feeds.whole):
        kept = answers
    elif held <= MAX_KEPT and batched:
        kept = [[torch.cat(parts) for parts in zip(*answers, strict=True)]]
    powers = tuple(max(total / count, 1e-12) if count else 1.0 for total, count in zip(sums, counts, strict=True))
    return Teacher(module, kept, floats, powers, form or "values", rows[answered])


def _fixed(module: nn.Module, feeds: Feeds, part: npt.NDArray[np.int64], size: int) -> list[Tensor]:
    """The module's outputs for a part; one too short for a fixed chunk is filled up with its last row."""
    if feeds.chunk is None or len(part) == size:
        return list(module(*feeds.at(part)))
    filled = np.concatenate([part, np.repeat(part[-1:], size - len(part))])
    return [output[: len(part)] for output in module(*feeds.at(filled))]


@dataclass(frozen=True)
class Target:
    """The loss of one recovery. ``score_index``: which output is the scores; labels are used for it alone."""

    teacher: Teacher
    config: Recovery
    score_index: int | None
    labels: Tensor | None

    def loss(self, given: Sequence[Tensor], feeds: Feeds, rows: npt.NDArray[np.int64]) -> Tensor:
        """Of one chunk."""
        wanted = self.teacher.answer(feeds, rows)
        total = torch.zeros(())
        config, form = self.config, self.teacher.form
        on_scores = self.score_index is not None and config.loss != "mse" and form != "values"
        for i, (output, want) in enumerate(zip(given, wanted, strict=True)):
            if not self.teacher.floats[i] or output.shape != want.shape:
                continue
            # Infinity (a mask's) is no value to come close to.
            good = torch.isfinite(want)
            want = torch.where(good, want, torch.zeros(()))
            output = torch.where(good, output, want)
            if i == self.score_index and on_scores:
                total = total + self._on_scores(output, want, rows)
            else:
                weight = config.feature_weight if on_scores else 1.0
                total = total + weight * losses.fidelity(output, want, self.teacher.powers[i])
        return total

    def _on_scores(self, given: Tensor, wanted: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
        config, form = self.config, self.teacher.form
        student, teacher = losses.logits_of(given, form), losses.logits_of(wanted, form)
        labels = None if self.labels is None else self.labels[torch.from_numpy(rows)]
        if labels is not None and len(labels) != len(student):
            labels = None
        if config.loss == "dkd":
            target = teacher.argmax(1) if labels is None else labels
            loss = losses.dkd(student, teacher, target, config.dkd_alpha, config.dkd_beta, config.temperature)
        else:
            loss = losses.kd(student, teacher, config.temperature)
        if labels is None or not config.label_weight:
            return loss
        with_labels = nn.functional.cross_entropy(student, labels)
        return (1 - config.label_weight) * loss + config.label_weight * with_labels


def recover(
    student: nn.Module,
    teacher: nn.Module | Teacher,
    inputs: Sequence[Array] | Feeds,
    labels: Labels | None,
    *,
    outputs: Sequence[str],
    scores: str | None,
    config: Recovery,
    seed: int,
    progress: Progress,
    notes: list[str] | None = None,
    statistics: bool = True,
) -> nn.Module:
    """Train ``student`` to answer as ``teacher``; gives the student in its best state, in evaluation mode.

    ``inputs``: arrays in the order of the modules' inputs, each [n, ...]. ``labels``: int64 [n]. ``outputs``: names of
    the modules' outputs, in order; ``scores``: which of them is class scores. Every parameter that requires a gradient
    trains. ``notes`` gets a sentence. ``statistics``: may batch normalization update its own? Raises CompileError: code
    ``not-finite`` where training runs away, ``bad-data`` for labels that are no classes of the scores or too few items.
    """
    feeds = inputs if isinstance(inputs, Feeds) else Feeds(tuple(inputs))
    index = list(outputs).index(scores) if scores is not None and scores in outputs else None
    with seeded(seed, config.threads):
        taught = teacher if isinstance(teacher, Teacher) else teach(teacher, feeds, index)
        target = Target(taught, config, index, _checked(labels, feeds, taught, index))
        random, said = np.random.default_rng(seed), [] if notes is None else notes
        return _train(student, feeds, target, random, progress, said, statistics)


def _checked(labels: Labels | None, feeds: Feeds, teacher: Teacher, index: int | None) -> Tensor | None:
    if labels is None or index is None or teacher.form == "values":
        return None
    if len(labels) != len(feeds):
        raise CompileError(f"expected {len(feeds)} labels, one for each item, got {len(labels)}", code="bad-data")
    classes = teacher.answer(feeds, np.arange(feeds.chunk or 1, dtype=np.int64))[index].shape[-1]
    if labels.min() < 0 or labels.max() >= classes:
        raise CompileError(
            f"expected labels from 0 to {classes - 1}, as many as the model has scores, "
            f"got {labels.min()} to {labels.max()}",
            code="bad-data",
        )
    return torch.from_numpy(labels.astype(np.int64))


def _train(
    student: nn.Module,
    feeds: Feeds,
    target: Target,
    random: np.random.Generator,
    progress: Progress,
    notes: list[str],
    statistics: bool,
) -> nn.Module:
    config = target.config
    order = random.permutation(target.teacher.rows)
    held = max(MIN_HELD_OUT, round(config.held_out * len(order)), feeds.chunk or 1)
    least = held + max(2, feeds.chunk or 1)
    if len(order) < least:
        raise CompileError(
            f"expected at least {least} training items with finite answers, got {len(order)}", code="bad-data"
        )
    judged, trained = np.sort(order[:held]), order[held:]
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = sum(1 for _ in feeds.batches(trained, config.batch))
    epochs = min(config.epochs, max(1, config.max_steps // per_epoch)) if config.max_steps else config.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, per_epoch * epochs, config.warm_up))
    best, best_epoch = evaluate(student, feeds, target, judged), 0
    before, state = best, copy.deepcopy(student.state_dict())
    epoch = 0
    while epoch < epochs:
        epoch += 1
        mean = _epoch(student, feeds, target, random.permutation(trained), optimizer, schedule, statistics)
        loss = evaluate(student, feeds, target, judged)
        if not (math.isfinite(mean) and math.isfinite(loss)):
            raise CompileError(
                f"training ran away in epoch {epoch}: the loss is {mean} (held out: {loss}); lower the learning rate "
                f"of {config.learning_rate:g}",
                code="not-finite",
            )
        if loss < best or not math.isfinite(best):
            best, best_epoch, state = loss, epoch, copy.deepcopy(student.state_dict())
        progress(epoch / epochs, f"epoch {epoch} of {epochs}, held-out loss {loss:.4g}")
        if epoch - best_epoch >= config.patience:
            break
    if epochs < config.epochs:
        notes.append(
            f"{epochs} of {config.epochs} epochs were trained: more do not fit into {config.max_steps} steps of "
            f"{config.batch} items"
        )
    student.load_state_dict(state)
    notes.append(
        f"held-out loss {before:.4g} -> {best:.4g} in epoch {best_epoch} of {epochs}, on {len(judged)} items"
        + _said(target)
    )
    return student.eval()


def _said(target: Target) -> str:
    if target.score_index is None or target.teacher.form == "values":
        return ", by normalised squared error on the outputs"
    if target.config.loss == "dkd" and target.labels is None:
        return ", by DKD with the teacher's first class as the target: there are no labels"
    return ""


def rate(step: int, steps: int, warm_up: float) -> float:
    """The learning rate's factor: linear up, then a cosine down to 1% of it."""
    rising = warm_up * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    through = (step - rising) / max(1.0, steps - rising)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, through)))


def _epoch(
    student: nn.Module,
    feeds: Feeds,
    target: Target,
    rows: npt.NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    statistics: bool,
) -> float:
    """Train once over the rows. Gives the mean loss; stops at the first that is not finite."""
    train_mode(student, statistics=statistics and (feeds.chunk is None or feeds.chunk >= FEW))
    total, n = 0.0, 0
    for chunks in feeds.batches(rows, target.config.batch):
        if feeds.chunk is None and len(chunks[0]) < 2:
            continue  # statistics of a batch of one are none
        optimizer.zero_grad(set_to_none=True)
        for chunk in chunks:
            loss = target.loss(student(*feeds.at(chunk)), feeds, chunk) / len(chunks)
            if not bool(torch.isfinite(loss)):
                return float(loss.detach())
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], MAX_NORM)
        optimizer.step()
        schedule.step()
        n += 1
    return total / max(1, n)


def train_mode(module: nn.Module, *, statistics: bool) -> None:
    """Training mode; without ``statistics``, batch normalization keeps those that it has."""
    module.train()
    if not statistics:
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()


def evaluate(student: nn.Module, feeds: Feeds, target: Target, rows: npt.NDArray[np.int64]) -> float:
    """The mean loss over rows, in evaluation mode."""
    student.eval()
    total, n = 0.0, 0
    with torch.no_grad():
        for chunks in feeds.batches(rows, EVALUATED):
            for chunk in chunks:
                total += float(target.loss(student(*feeds.at(chunk)), feeds, chunk)) * len(chunk)
                n += len(chunk)
    return total / max(1, n)
