"""What the hub's API gives and takes, as the Python client sees it: one frozen struct a shape.

Rules that hold here:
- each struct has the fields of its namesake in ``edgewise_hub.api.schemas``; ``tests/sdk_client`` compares them;
- fields that this build does not know are ignored, so that an older client reads a newer hub;
- times are Unix seconds, shares are 0..1, ids are opaque.

One file, as ``schemas.py`` is: a reader wants to see the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from edgewise.errors import EdgewiseError
from edgewise.wire.quality import Quality

T = TypeVar("T")


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all shapes."""


class Page(Resource, Generic[T], frozen=True, kw_only=True):
    """One page of a list; ``next`` is the cursor of the following one."""

    items: list[T]
    next: str | None = None


class Event(Resource, frozen=True, kw_only=True):
    """Something changed on the hub: ask for it by ``id``. ``kind``: device, rollout, judgement, alert, job,
    training-run, sample-request; or ``resync``: the connection was lost, so read again whatever you hold."""

    kind: str
    id: str


class System(Resource, frozen=True, kw_only=True):
    """What this hub is."""

    version: str
    tenant: str
    started_at: float
    broker_connected: bool
    devices: int
    devices_online: int
    windows: int
    window_bytes: int
    blob_bytes_sent: int


class SignInCode(Resource, frozen=True, kw_only=True):
    """A one-time code for the console; holds for ``expires_in`` seconds."""

    code: str
    expires_in: float


# --- fleet ----------------------------------------------------------------------------------------------------------


class JoinToken(Resource, frozen=True, kw_only=True):
    """A token with which devices enroll. ``token`` is shown once, when it is made."""

    id: str
    token: str
    groups: list[str]
    uses: int
    expires_at: float

    def __repr__(self) -> str:
        return f"JoinToken(id={self.id!r}, groups={self.groups!r}, uses={self.uses}, expires_at={self.expires_at})"


class DeviceModel(Resource, frozen=True, kw_only=True):
    """One model on one device: what is wished for (``version``, ``bundle``) and what is there.
    ``reason``: why the device is not at the wished version."""

    model: str
    version: int | None
    bundle: str | None
    running_version: int | None
    confirmed_version: int | None
    state: Literal["none", "pending", "trial", "confirmed", "failed"]
    reason: str = ""


class Device(Resource, frozen=True, kw_only=True):
    """A device. ``generation``: its newest desired state; ``reported_generation``: the newest that it has seen;
    ``agent``: the version of its agent that last reported, empty before."""

    id: str
    profile: str
    agent: str
    groups: list[str]
    online: bool
    last_seen: float | None
    enrolled_at: float
    revoked: bool
    generation: int
    reported_generation: int
    models: list[DeviceModel]
    facts: dict[str, Any]
    consent: dict[str, Any]


class HealthGauge(Resource, frozen=True, kw_only=True):
    """One number over a span: its mean, its least and its most."""

    mean: float
    least: float
    most: float


class HealthSpan(Resource, frozen=True, kw_only=True):
    """A span of a device's resources. ``start`` and ``end`` are by its clock, off by ``uncertainty`` at most (None: not
    known); names and units of ``gauges`` and ``totals`` are those of ``wire.health``."""

    start: float
    end: float
    uncertainty: float | None
    received_at: float
    duration: float
    gauges: dict[str, HealthGauge]
    totals: dict[str, int]


class ModelLatency(Resource, frozen=True, kw_only=True):
    """What a device answered with one version, how long it took, and the millijoules of an inference: an upper
    estimate, None where the board does not tell its power."""

    model: str
    version: int
    duty: str
    inferences: int
    errors: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    energy_mj: float | None


class DeviceHealth(Resource, frozen=True, kw_only=True):
    """How a device is: spans, oldest first, and the latency of its models."""

    device: str
    spans: list[HealthSpan]
    models: list[ModelLatency]


class Group(Resource, frozen=True, kw_only=True):
    """A named group of devices."""

    name: str
    devices: int
    online: int


class DeviceProfile(Resource, frozen=True, kw_only=True):
    """A device profile that the hub knows. ``runtimes``: the preferred first."""

    name: str
    title: str
    architecture: str
    runtimes: list[str]
    dtypes: list[str]


# --- registry -------------------------------------------------------------------------------------------------------


class Bundle(Resource, frozen=True, kw_only=True):
    """A version compiled for a profile; ``total_size`` in bytes, ``report`` as the compiler wrote it."""

    digest: str
    model: str
    version: int
    profile: str
    total_size: int
    report: dict[str, Any]
    created_at: float


class Version(Resource, frozen=True, kw_only=True):
    """A version with its lineage, and the bundles compiled so far."""

    model: str
    version: int
    source: dict[str, Any]
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    note: str
    created_at: float
    bundles: list[Bundle]


class Model(Resource, frozen=True, kw_only=True):
    """A model. ``serving`` counts devices by confirmed version (key: the version as text); ``floor``: the lowest
    release that a device may serve; ``quality``: what devices do with inputs that do not look right."""

    name: str
    versions: int
    latest: int | None
    floor: int
    quality: Quality
    serving: dict[str, int]
    created_at: float


_AMOUNT = re.compile(r"(latency|size|ram|metric|drop)=([0-9]{1,12}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,2})?)([a-z]*)")
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_UNITS: dict[tuple[str, str], tuple[str, float]] = {
    ("latency", "us"): ("max_latency_p95", 1e-3),
    ("latency", "ms"): ("max_latency_p95", 1.0),
    ("latency", "s"): ("max_latency_p95", 1e3),
    ("latency", "x"): ("max_latency_ratio", 1.0),
    ("size", "x"): ("max_size_ratio", 1.0),
    ("metric", ""): ("min_metric", 1.0),
    ("drop", ""): ("max_metric_drop", 1.0),
    **{("size", unit): ("max_size", factor) for unit, factor in _BYTES.items()},
    **{("ram", unit): ("max_peak_ram", factor) for unit, factor in _BYTES.items()},
}
"""The field that a key with a unit sets, and what the number is multiplied by."""


class Budget(Resource, frozen=True, kw_only=True):
    """What a bundle may cost and must still be worth; None is no limit. ``max_latency_p95`` in ms, ``max_size`` (of the
    model file) and ``max_peak_ram`` in bytes; a ratio is to the source in fp32; ``max_metric_drop`` is a share lost
    against the source. Without ``min_metric`` and ``max_metric_drop`` the compiler allows a drop of 0.02."""

    max_latency_p95: float | None = None
    max_latency_ratio: float | None = None
    max_size: float | None = None
    max_size_ratio: float | None = None
    max_peak_ram: float | None = None
    min_metric: float | None = None
    max_metric_drop: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``"latency=0.5x,size=200KB,drop=0.005"``. Raises EdgewiseError (code ``bad-budget``)."""
        fields: dict[str, float] = {}
        for part in filter(None, ("".join(part.split()) for part in text.lower().split(","))):
            match = _AMOUNT.fullmatch(part)
            field, factor = _UNITS.get((match[1], match[3]), ("", 0.0)) if match else ("", 0.0)
            value = float(match[2]) * factor if match else 0.0
            if not field or field in fields or (value <= 0 and field not in ("min_metric", "max_metric_drop")):
                raise EdgewiseError(
                    "budget: expected some of latency=5ms, latency=0.5x, size=200KB, size=0.25x, ram=64MB, metric=0.9, "
                    f"drop=0.005, each once; got {part!r}",
                    code="bad-budget",
                )
            fields[field] = value
        return msgspec.convert(fields, cls)

    def fields(self) -> dict[str, float]:
        """The limits there are, by field."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value is not None}


class VersionName(Resource, frozen=True, kw_only=True):
    """A registered version by name."""

    model: str
    version: int


class Techniques(Resource, frozen=True, kw_only=True):
    """Techniques of the compiler by name, and how long those that train do so; None is the compiler's default.

    ``steps`` of the optimizer and ``epochs`` over the training data, at most; ``loss`` of distillation: ``kd`` or
    ``dkd``; ``mask``: zeros in the weights, ``2:4`` or a share such as ``0.8``; ``lora``: the rank of adapters that are
    fine-tuned on labels; ``apart`` keeps them beside an unchanged model; ``student``: a version that learns to answer
    as the compiled one.
    """

    steps: int | None = None
    epochs: int | None = None
    loss: Literal["kd", "dkd"] | None = None
    mask: str | None = None
    lora: int | None = None
    apart: bool = False
    student: VersionName | None = None


class Job(Resource, frozen=True, kw_only=True):
    """Work that the hub does on its own. ``progress`` is 0..1; ``error``: {"code", "detail"}.

    ``result`` of a compile: {"bundles", "refused": [{"profile", "code", "detail"}]}, by profile.
    """

    id: str
    kind: Literal["train", "compile", "calibrate"]
    state: Literal["queued", "running", "done", "failed"]
    progress: float
    progress_text: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None


# --- rollouts -------------------------------------------------------------------------------------------------------


class Stage(Resource, frozen=True, kw_only=True):
    """A stage to ask for: so many devices in all, by ``count`` or by ``percent`` of the target."""

    count: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> Stage:
        """``"3"`` is three devices, ``"25%"`` a share. Raises EdgewiseError (code ``bad-stage``)."""
        match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(%?)\s*", text)
        if match and match[2] and 0 < float(match[1]) <= 100:
            return cls(percent=float(match[1]))
        if match and not match[2] and match[1].isdecimal() and int(match[1]) > 0:
            return cls(count=int(match[1]))
        raise EdgewiseError(
            f"stage: expected a number of devices such as 3, or a share such as 25%, got {text!r}", code="bad-stage"
        )


DEFAULT_STAGES = (Stage(count=1), Stage(percent=25), Stage(percent=100))


class Gates(Resource, frozen=True, kw_only=True):
    """Limits that hold in every stage; None leaves a gate out. ``install_failures`` and ``errors`` are shares,
    ``latency_ratio`` is p95 against the version before, ``mix_distance`` the total variation between predicted
    classes; ``min_inferences``: the evidence that gates need; ``soak`` and ``deadline`` in seconds."""

    install_failures: float = 0.0
    errors: float | None = 0.01
    latency_ratio: float | None = 2.0
    mix_distance: float | None = 0.1
    min_inferences: int = 200
    soak: float = 0.0
    deadline: float = 3600.0


class RolloutPlan(Resource, frozen=True, kw_only=True):
    """How a training run's result is rolled out; ``group`` None is every device."""

    group: str | None = None
    stages: Sequence[Stage] = DEFAULT_STAGES
    gates: Gates = Gates()


class GateReading(Resource, frozen=True, kw_only=True):
    """What one gate says now, from ``n`` pieces of evidence; ``words`` is one sentence."""

    gate: Literal["install", "errors", "latency", "mix"]
    state: Literal["pass", "wait", "fail", "off"]
    value: float | None = None
    limit: float | None = None
    n: int = 0
    words: str


class RolloutDevice(Resource, frozen=True, kw_only=True):
    """One device of a rollout."""

    device: str
    groups: list[str]
    stage: int
    draw: float
    state: Literal["waiting", "pending", "downloading", "trial", "confirmed", "failed", "rolled-back"]
    reason: str = ""


class RolloutEvent(Resource, frozen=True, kw_only=True):
    """A decision that was taken."""

    at: float
    stage: int
    decision: Literal["start", "continue", "hold", "stop", "complete", "pause", "resume", "abort"]
    reason: str
    gates: list[GateReading]


class RolloutStage(Resource, frozen=True, kw_only=True):
    """A stage; ``devices`` is the number that it reaches in all."""

    index: int
    title: str
    devices: int
    state: Literal["waiting", "running", "passed", "failed"]


class Rollout(Resource, frozen=True, kw_only=True):
    """A rollout. ``stage`` is the index of the present one; ``reason`` says in words why it is where it is."""

    id: str
    model: str
    from_version: int | None
    to_version: int
    group: str | None
    state: Literal["running", "paused", "completed", "rolled-back", "aborted"]
    stage: int
    stages: list[RolloutStage]
    gates: list[GateReading]
    reason: str
    deadline_at: float | None
    devices_total: int
    devices_confirmed: int
    created_at: float
    updated_at: float

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in ("completed", "rolled-back", "aborted")


class RolloutDetail(Rollout, frozen=True, kw_only=True):
    """A rollout with its devices and its history."""

    devices: list[RolloutDevice]
    events: list[RolloutEvent]


# --- experiments ----------------------------------------------------------------------------------------------------

Kind = Literal["shadow", "ab", "canary-requests", "interleave", "escalate"]
Metric = Literal["accuracy", "agreement", "latency", "reward"]


class Guardrails(Resource, frozen=True, kw_only=True):
    """Limits for the candidate; None leaves one out. ``failed``: share of the devices on which it may fail to install
    or to run; ``errors``: share of its requests that may fail; ``latency_ratio``: against the control's p95."""

    failed: float = 0.1
    errors: float | None = 0.02
    latency_ratio: float | None = 2.0


class ExperimentArm(Resource, frozen=True, kw_only=True):
    """What one arm saw. ``accuracy`` is of the labelled items; None where there are none."""

    role: Literal["control", "candidate", "shadow"]
    version: int | None
    requests: int
    errors: int
    labelled: int
    correct: int
    clicks: int
    wins: int
    accuracy: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None


class ExperimentDevice(Resource, frozen=True, kw_only=True):
    """One device that takes part, or did. ``values``: those that it gave to the statistics."""

    device: str
    state: Literal["waiting", "taking-part", "failed", "left"]
    reason: str
    joined_at: float
    requests: int
    values: int


class ExperimentPoint(Resource, frozen=True, kw_only=True):
    """What was known at a time: the effect and its confidence sequence."""

    at: float
    n: int
    effect: float
    low: float
    high: float


class ExperimentEscalated(Resource, frozen=True, kw_only=True):
    """What went to a server."""

    asked: int
    answered: int
    fallbacks: int
    changed: int
    bytes: int


class Experiment(Resource, frozen=True, kw_only=True):
    """An experiment. ``effect`` is the candidate's lead in units of the metric (latency: how much faster, 0.25 is a
    quarter), between ``low`` and ``high`` at every look with probability 1 - ``alpha``; None while nothing is known, or
    where the result is withheld (decision ``broken``). ``n``: values of devices; ``items``: of the metric, by arm."""

    id: str
    model: str
    kind: Kind
    policy: dict[str, Any]
    group: str | None
    control: int
    candidate: int | None
    metric: Metric
    margin: float
    min_samples: int
    alpha: float
    state: Literal["running", "ended"]
    decision: Literal["continue", "candidate-wins", "control-wins", "no-difference", "guardrail", "broken", "stopped"]
    reason: str
    effect: float | None
    low: float | None
    high: float | None
    n: int
    items: dict[str, int]
    devices_total: int
    devices_left_out: int
    rollout: str | None
    created_at: float
    updated_at: float
    ended_at: float | None

    @property
    def ended(self) -> bool:
        """Nothing more will be measured."""
        return self.state == "ended"


class ExperimentDetail(Experiment, frozen=True, kw_only=True):
    """With its arms, its devices, and what was known when, oldest first."""

    arms: list[ExperimentArm]
    compared: int
    agreed: int
    dropped: int
    ties: int
    escalated: ExperimentEscalated
    devices: list[ExperimentDevice]
    history: list[ExperimentPoint]


# --- monitoring -----------------------------------------------------------------------------------------------------


class PanelReading(Resource, frozen=True, kw_only=True):
    """One test of the panel over one span."""

    test: Literal["embedding", "mmd", "classes", "confidence", "columns", "embedding-vs-rest", "classes-vs-rest"]
    statistic: float
    threshold: float
    p_value: float
    n: int
    alarm: bool


class Watch(Resource, frozen=True, kw_only=True):
    """A group over time: ``horizon`` spans, of about ``n`` inferences, gave the score; it alarms at ``limit``."""

    score: float
    limit: float
    horizon: int
    n: float
    alarm: bool


class DeviceWatch(Resource, frozen=True, kw_only=True):
    """A device of a group over time. ``named``: among those that differ, at a false discovery rate of 0.1."""

    device: str
    score: float
    limit: float
    horizon: int
    n: float
    named: bool


class BrokenInputs(Resource, frozen=True, kw_only=True):
    """``count`` of ``n`` inputs have something against them, above all those ``features``."""

    problem: Literal["refused", "nonfinite_inputs", "out_of_bounds", "nonfinite_outputs", "errors"]
    count: int
    n: int
    words: str
    features: list[str] = []


class ChangedClass(Resource, frozen=True, kw_only=True):
    """A predicted class that comes more or less often: shares, and the standard errors between them."""

    index: int
    residual: float
    share: float
    reference: float


class Cluster(Resource, frozen=True, kw_only=True):
    """A cluster of the embedding space, by the reference's classes that live there: [class, share]."""

    index: int
    residual: float
    share: float
    reference: float
    classes: list[tuple[int, float]]


class Column(Resource, frozen=True, kw_only=True):
    """A column of a table; ``named`` at a false discovery rate of 0.05, ``size``: Cramer's V."""

    name: str
    p_value: float
    named: bool
    size: float
    place: int
    share: float
    reference: float


class Prior(Resource, frozen=True, kw_only=True):
    """How often a class comes, estimated from predictions, with a 95% interval."""

    index: int
    now: float
    low: float
    high: float
    reference: float


class Since(Resource, frozen=True, kw_only=True):
    """When a change began (Unix seconds), at the earliest and at the latest."""

    at: float
    earliest: float
    latest: float


class Judgement(Resource, frozen=True, kw_only=True):
    """One group over one span. ``alpha``: the false-alarm rate; ``false_alert_rate``: the chance of a false alert;
    ``effect``: how large, in units of the reference's spread, with a 95% interval; accuracies are shares, with a 95%
    interval where estimated. ``evidence``: so far, of drift; ``concept_evidence``: of labelled errors."""

    model: str
    group: str
    at: float
    span_start: float
    span_end: float
    n: int
    verdict: Literal["wait", "quiet", "label-shift", "drift", "harmful", "data-quality"]
    kinds: list[Literal["covariate", "prediction", "label", "concept"]] = []
    words: str
    p_value: float
    alpha: float
    effect: float
    effect_low: float = 0.0
    effect_high: float = 0.0
    false_alert_rate: float | None = None
    tests: list[PanelReading]
    estimated_accuracy: float | None
    estimated_low: float | None
    estimated_high: float | None
    reference_accuracy: float | None
    labelled: int
    labelled_accuracy: float | None
    windows: int
    versions: list[int]
    evidence: float = 0.0
    concept_evidence: float = 0.0
    concept_limit: float | None = None
    stands_out: bool = False
    one_device: str | None = None
    watch: Watch | None = None
    devices: list[DeviceWatch] = []
    quality: list[BrokenInputs] = []
    changed: list[ChangedClass] = []
    clusters: list[Cluster] = []
    columns: list[Column] = []
    label_drift_p: float | None = None
    prior: list[Prior] = []
    since: Since | None = None


class DeviceHistory(Resource, frozen=True, kw_only=True):
    """A device's score over a group's judgements, oldest first, and where it would alarm."""

    device: str
    at: list[float]
    score: list[float]
    limit: float
    named: bool


class DriftGroup(Resource, frozen=True, kw_only=True):
    """A group's newest judgement and its history, oldest first; only the newest tells of devices and of what changed.
    ``devices``: the history of those with most evidence now."""

    model: str
    group: str
    current: Judgement | None
    history: list[Judgement]
    devices: list[DeviceHistory] = []


class Rate(Resource, frozen=True, kw_only=True):
    """``alarms`` in ``trials``, and the 95% interval of their rate."""

    alarms: int
    trials: int
    rate: float
    low: float
    high: float


class Power(Resource, frozen=True, kw_only=True):
    """Share of spans of ``n`` items in which a shift of ``size`` raised the alarm."""

    shift: str
    size: float
    n: int
    power: float


class SmallestShift(Resource, frozen=True, kw_only=True):
    """The smallest move of the mean embedding seen with 80% chance in a day; None: none of those tried."""

    who: str
    per_day: int
    n: int
    size: float | None


class BundleCalibration(Resource, frozen=True, kw_only=True):
    """Of one bundle's reference. ``error``: why it cannot be used; all else is empty then. ``independent``: items drawn
    alone that know as much as its ``m``, by which the level of 5% is known to lie between ``level_low`` and
    ``level_high``; ``horizon``: spans that a watch looks back over at most, for want of ``horizon_needed`` items;
    ``needed``: items that the promise asks of the reference; ``words``: all of it, in sentences."""

    digest: str
    profile: str
    error: str | None = None
    m: int = 0
    block: int = 1
    independent: int = 0
    level_low: float = 0.0
    level_high: float = 0.0
    span: int = 0
    alpha: float = 0.0
    false_alarms: Rate | None = None
    promise: int = 0
    run_length: float | None = None
    run_length_low: float | None = None
    run_length_high: float | None = None
    alarms: int = 0
    horizon: int = 0
    horizon_needed: int = 0
    power: list[Power] = []
    smallest: list[SmallestShift] = []
    needed: int = 0
    enough: bool = False
    words: list[str] = []


class Calibration(Resource, frozen=True, kw_only=True):
    """How far drift alarms of one version can be trusted. ``job``: that measured it; ``per_day``: items a day, by who
    is watched."""

    job: str
    model: str
    version: int
    at: float
    per_day: dict[str, int]
    bundles: list[BundleCalibration]


class CalibrationQuote(Resource, frozen=True, kw_only=True):
    """What an alert quotes of its model's newest calibration: of the bundle with the most false alarms."""

    job: str
    version: int
    at: float | None
    profile: str
    false_alarms: Rate
    promise: int
    run_length: float | None
    enough: bool
    words: list[str]


class Alert(Resource, frozen=True, kw_only=True):
    """An alert; open until ``closed_at``. ``calibration``: of a drift alert, how far its kind can be trusted."""

    id: str
    kind: str
    model: str
    group: str | None
    summary: str
    details: dict[str, Any]
    opened_at: float
    closed_at: float | None
    calibration: CalibrationQuote | None = None


class GroupAccuracy(Resource, frozen=True, kw_only=True):
    """What one group served with one version: counts of items, of windows and of their bytes."""

    model: str
    group: str
    version: int
    inferences: int
    errors: int
    nonfinite_outputs: int
    labelled: int
    correct: int
    windows: int
    window_bytes: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None

    @property
    def accuracy(self) -> float | None:
        """Share of labelled items that were right; None where none is labelled."""
        return self.correct / self.labelled if self.labelled else None


# --- learning -------------------------------------------------------------------------------------------------------


class SampleRequest(Resource, frozen=True, kw_only=True):
    """Samples asked of a group, and what has come; ``count`` and ``bytes`` are budgets a device, ``devices`` counts
    samples received by device, ``consented`` the devices whose owner opted in."""

    id: str
    model: str
    group: str
    count: int
    bytes: int
    state: Literal["open", "closed"]
    received: int
    received_bytes: int
    labelled: int
    devices: dict[str, int]
    consented: int
    created_at: float


class SliceComparison(Resource, frozen=True, kw_only=True):
    """Champion against challenger on one slice (``old``: the reference; ``new``: held-out samples)."""

    slice: Literal["old", "new"]
    n: int
    champion: float
    challenger: float


class TrainingRun(Resource, frozen=True, kw_only=True):
    """A training run; ``version`` is what came of it, once accepted."""

    id: str
    model: str
    strategy: str
    parent_version: int | None
    state: Literal["queued", "running", "accepted", "rejected", "failed"]
    reason: str
    comparison: list[SliceComparison]
    version: int | None
    job: Job | None
    trigger: str | None
    rollout: str | None
    created_at: float
    finished_at: float | None

    @property
    def ended(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in ("accepted", "rejected", "failed")


class Trigger(Resource, frozen=True, kw_only=True):
    """A trigger; it fires once for each alert."""

    id: str
    model: str
    on: str
    min_samples: int
    strategy: str
    enabled: bool
    fired_at: float | None
    created_at: float
