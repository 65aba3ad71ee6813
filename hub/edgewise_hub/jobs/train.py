"""The job ``train``: a training run's strategy, and, where it is accepted, the version that comes of it.

Payload: {"run"}. Result: {"accepted", "reason", "version"}. The run's row moves on from the job's (``learning.runs``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from importlib.metadata import version as package_version
from typing import Any

from edgewise.errors import EdgewiseError
from edgewise_compiler.recipe import load_recipe, save_weights
from edgewise_hub.jobs.work import Work
from edgewise_hub.learning import options, samples, strategies
from edgewise_hub.learning.strategies.lesson import Learned, Lesson, Parent
from edgewise_hub.learning.tables import TrainingRun
from edgewise_hub.registry.tables import Version
from edgewise_hub.registry.versions import register

PACKAGES = ("edgewise-hub", "edgewise-compiler", "numpy", "safetensors", "torch")


def run(work: Work) -> None:
    """Train, compare, and register what is accepted. Raises CompileError, LearningError, BlobError, LeaseLost."""
    hub = work.hub
    with hub.database.read() as session:
        training = session.get(TrainingRun, (hub.tenant, work.payload["run"]))
        if training is None:
            raise EdgewiseError(f"training run {work.payload['run']}: there is none", code="no-run")
        row = None
        if training.parent_version is not None:
            row = session.get(Version, (hub.tenant, training.model, training.parent_version))
        request = training.sample_request_id
        labelled = samples.labelled(session, hub, request) if request is not None else None
    ours, config = options.read(training.config)
    work.progress(0.0, f"{training.strategy}: begin")
    lesson = Lesson(
        recipe=load_recipe(work.blob(training.recipe, "recipe.py")),
        config=config,
        options=ours,
        parent=_parent(work, row) if row is not None and training.strategy != "full" else None,
        samples=labelled,
        progress=work.part(0.02, 0.95),
    )
    learned = strategies.find(training.strategy)(lesson)
    weights = _keep(work, learned)
    lineage = {
        "parent": training.parent_version,
        "strategy": training.strategy,
        "recipe": training.recipe,
        "config": training.config,
        "data": learned.data,
        "sample_request": request,
        "environment": environment(),
        "training_run": training.id,
    }
    with work.saving() as session:
        saved = session.get_one(TrainingRun, (hub.tenant, training.id))
        saved.reason = learned.verdict.reason
        saved.comparison = {
            "metric": lesson.recipe.METRIC,
            "standard_error": learned.standard_error,
            "slices": [asdict(one) for one in learned.slices],
        }
        if weights is not None:
            source = {"kind": "recipe", "recipe": training.recipe, "weights": weights, "config": config}
            made = register(session, hub, training.model, source, lineage, learned.metrics, training.note, time.time())
            saved.version = made.version
        result = {"accepted": weights is not None, "reason": saved.reason, "version": saved.version}
        work.finish(session, result)


def environment() -> dict[str, str]:
    """Versions of what trained."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in PACKAGES}}


def _parent(work: Work, row: Version) -> Parent:
    source: dict[str, Any] = row.source
    if source["kind"] != "recipe":
        raise EdgewiseError(
            f"{row.model} version {row.version}: expected one made by a recipe, got {source['kind']}", code="no-recipe"
        )
    return Parent(row.version, work.blob(source["weights"], "parent.safetensors"), source["config"])


def _keep(work: Work, learned: Learned) -> str | None:
    """The accepted model's weights as a blob; None where nothing was accepted."""
    if learned.model is None or not learned.verdict.accepted:
        return None
    path = work.folder / "weights.safetensors"
    save_weights(learned.model, path)
    return work.hub.blobs.put_file(path)
