"""Every shape that the API takes and gives: the OpenAPI document, the console's types and the client read from here.

One file, since a reader wants to see the whole. Times are Unix seconds; ids are opaque strings.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")

NameStr = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class In(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[T]):
    """One page; ``next`` is the cursor of the following one, or null."""

    items: list[T]
    next: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details. ``code`` is stable."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str


# --- system ---------------------------------------------------------------------------------------------------------


class System(BaseModel):
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


class SignInCodeOut(BaseModel):
    """A one-time code for the console and how long it holds, in seconds."""

    code: str
    expires_in: float


class SignIn(In):
    """The one-time code, as typed."""

    code: Annotated[str, Field(min_length=4, max_length=32)]


class SessionOut(BaseModel):
    """A console session: send ``csrf`` in the header ``X-CSRF-Token`` with every request that changes something."""

    csrf: str
    expires_at: float


# --- fleet ----------------------------------------------------------------------------------------------------------


class JoinTokenIn(In):
    """Groups that a joining device is put into, how many devices may join, for how many seconds."""

    groups: Annotated[list[NameStr], Field(max_length=16)] = []
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    expires_in: Annotated[float, Field(gt=0, le=30 * 86400)] = 3600


class JoinTokenOut(BaseModel):
    """``token`` is shown this once."""

    id: str
    token: str
    groups: list[str]
    uses: int
    expires_at: float


class DeviceModel(BaseModel):
    """One model on one device: what is wished for (``version``, ``bundle``) and what is there."""

    model: str
    version: int | None
    bundle: str | None
    running_version: int | None
    confirmed_version: int | None
    state: Literal["none", "pending", "trial", "confirmed", "failed"]
    reason: str = ""
    """Why the device is not at the wished version, in words."""


class DeviceOut(BaseModel):
    """A device. ``agent``: the version of its agent that last reported; empty before."""

    id: str
    profile: str
    agent: str
    groups: list[str]
    online: bool
    last_seen: float | None
    enrolled_at: float
    revoked: bool
    generation: int
    """Newest desired generation."""
    reported_generation: int
    models: list[DeviceModel]
    facts: dict[str, Any]
    consent: dict[str, Any]


class GaugeOut(BaseModel):
    """One number over a span: its mean, its least and its most."""

    mean: float
    least: float
    most: float


class HealthSpan(BaseModel):
    """One span of a device's resources. ``gauges``: cpu (share), memory, disk_free and the like (bytes), temperature
    (degrees Celsius), throttled (share of the time), power (watts); ``totals``: received_bytes, sent_bytes, energy_mj,
    throttle_events. What the device cannot tell is missing."""

    start: float
    """By the device's clock, which may be off by ``uncertainty``; null: it was never held against another."""
    end: float
    uncertainty: float | None
    received_at: float
    duration: float
    """Seconds that are in it: less than ``end - start`` where nothing came."""
    gauges: dict[str, GaugeOut]
    totals: dict[str, int]


class ModelLatency(BaseModel):
    """What a device answered with one version, how long it took, and the millijoules of an inference: the board's mean
    power over the time that it ran, so an upper estimate; null where the board does not tell its power."""

    model: str
    version: int
    duty: str
    inferences: int
    errors: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    energy_mj: float | None


class DeviceHealth(BaseModel):
    """How a device is: spans, oldest first, and the latency of its models over the same time."""

    device: str
    spans: list[HealthSpan]
    models: list[ModelLatency]


class DevicePatch(In):
    """Replace the device's groups."""

    groups: Annotated[list[NameStr], Field(max_length=16)]


class GroupOut(BaseModel):
    """A named group."""

    name: str
    devices: int
    online: int


class ProfileOut(BaseModel):
    """A device profile. ``runtimes``: the preferred first; ``dtypes``: what the hardware computes well."""

    name: str
    title: str
    architecture: str
    runtimes: list[str]
    dtypes: list[str]


# --- registry -------------------------------------------------------------------------------------------------------


class RecipeSource(In):
    """A version is trained by running the recipe: see POST /training-runs."""

    kind: Literal["recipe"] = "recipe"
    recipe: Sha256
    weights: Sha256
    config: dict[str, Any] = {}


class OnnxSource(In):
    """An ONNX file and an npz with ``inputs`` and, if known, ``labels``: both uploaded as blobs before."""

    kind: Literal["onnx"] = "onnx"
    model: Sha256
    data: Sha256


class AgentSource(In):
    """A release of the agent, of the model ``edgewise-agent``: its wheels, uploaded as blobs before. It needs no
    compiling: there is a bundle for every device profile at once."""

    kind: Literal["agent"] = "agent"
    wheels: Annotated[list[Sha256], Field(min_length=1, max_length=16)]


class VersionIn(In):
    """Register a version."""

    source: Annotated[RecipeSource | OnnxSource | AgentSource, Field(discriminator="kind")]
    note: Annotated[str, Field(max_length=500)] = ""


class BundleOut(BaseModel):
    """A version compiled for a profile. ``report`` as ``edgewise_compiler.report.Report``."""

    digest: str
    model: str
    version: int
    profile: str
    total_size: int
    report: dict[str, Any]
    created_at: float


class VersionOut(BaseModel):
    """A version with its lineage, and the bundles compiled so far."""

    model: str
    version: int
    source: dict[str, Any]
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    note: str
    created_at: float
    bundles: list[BundleOut]


Rule = Literal["count", "flag", "refuse"]


class QualityRules(In):
    """What devices do with an input that fits a model's signature and does not look right: ``count`` lets it through,
    ``flag`` says so in the answer's parameters, ``refuse`` does not run it; every case is counted. Null: the default,
    which counts values out of bounds and refuses the rest. A device's owner has the last word."""

    out_of_bounds: Rule | None = None
    not_finite: Rule | None = None
    missing: Rule | None = None
    unknown_inputs: Rule | None = None


class ModelPatch(In):
    """Replace the model's rules."""

    quality: QualityRules


class ModelOut(BaseModel):
    """A model; ``serving`` counts devices by confirmed version (key: version as text)."""

    name: str
    versions: int
    latest: int | None
    floor: int
    quality: QualityRules
    serving: dict[str, int]
    created_at: float


Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BudgetIn(In):
    """What a bundle may cost and must still be worth; null is no limit.

    ``max_latency_p95`` in ms, ``max_size`` (of the model file) and ``max_peak_ram`` in bytes; a ratio is to the source
    in fp32. ``max_metric_drop``: a share lost against the source; 0.02 where neither it nor ``min_metric`` is given.
    """

    max_latency_p95: Limit | None = None
    max_latency_ratio: Limit | None = None
    max_size: Limit | None = None
    max_size_ratio: Limit | None = None
    max_peak_ram: Limit | None = None
    min_metric: Annotated[float, Field(allow_inf_nan=False)] | None = None
    max_metric_drop: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class StudentIn(In):
    """A registered version that learns to answer as the compiled one."""

    model: NameStr
    version: int


class TechniquesIn(In):
    """Techniques asked for by name, beside what the ladder finds on its own, and how long those that train do so; null
    is the compiler's default. The fields of ``edgewise_compiler.techniques.Techniques``.

    ``mask``: zeros in the weights, ``2:4`` or a share such as ``0.8``. ``lora``: the rank of adapters that are
    fine-tuned on the version's labels; ``apart`` keeps them beside an unchanged model. ``student``: tried beside the
    version, from the weights that it has.
    """

    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    loss: Literal["kd", "dkd"] | None = None
    mask: Annotated[str, Field(max_length=16, pattern=r"^(2:4|0?\.0*[1-9][0-9]*)$")] | None = None
    lora: Annotated[int, Field(ge=1, le=1024)] | None = None
    apart: bool = False
    student: StudentIn | None = None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.apart and self.lora is None:
            raise ValueError("apart: expected the rank of an adapter (lora) to keep apart")
        if self.lora is not None and self.mask is not None:
            raise ValueError("expected mask or lora, got both: adapters would fill the zeros")
        return self


class CompileIn(In):
    """Compile one version for several profiles in one request.

    ``training``: may techniques that train be tried? null: where the budget has limits. A budget that nothing meets
    fails the job, saying what is missing, unless ``allow_over_budget``: then the nearest there is is kept.
    """

    model: NameStr
    version: int
    profiles: Annotated[list[NameStr], Field(min_length=1, max_length=32)]
    budget: BudgetIn | None = None
    training: bool | None = None
    allow_over_budget: bool = False
    techniques: TechniquesIn | None = None


class JobOut(BaseModel):
    """A job. ``error``: {"code", "detail"}. ``result`` of a compile: {"bundles": [...], "refused": [{"profile", "code",
    "detail"}]}; a refused profile's targets cannot take the model."""

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


class StageIn(In):
    """A stage: so many devices in all, by ``count`` or by ``percent`` of the target, drawn by hash."""

    count: Annotated[int, Field(ge=1)] | None = None
    percent: Annotated[float, Field(gt=0, le=100)] | None = None


class GatesIn(In):
    """Limits that hold in every stage; a gate set to null is left out. Times in seconds.

    ``install_failures``: share of the stage's devices that may fail. ``errors``: share of requests that may fail or
    give a value that is not finite. ``latency_ratio``: p95 against the version before, on the same profile.
    ``mix_distance``: total variation between predicted classes of the new version and of the one before.
    ``min_inferences``: evidence that errors, latency and mix need before they say anything.
    ``deadline``: how long a stage may wait for its devices and its evidence.
    """

    install_failures: Annotated[float, Field(ge=0, le=1)] = 0.0
    errors: Annotated[float, Field(ge=0, le=1)] | None = 0.01
    latency_ratio: Annotated[float, Field(gt=0)] | None = 2.0
    mix_distance: Annotated[float, Field(gt=0, le=1)] | None = 0.1
    min_inferences: Annotated[int, Field(ge=0)] = 200
    soak: Annotated[float, Field(ge=0)] = 0.0
    deadline: Annotated[float, Field(gt=0)] = 3600.0


class RolloutIn(In):
    """Roll ``version`` out to ``group`` (null: every device)."""

    model: NameStr
    version: int
    group: NameStr | None = None
    stages: Annotated[list[StageIn], Field(min_length=1, max_length=20)] = [
        StageIn(count=1),
        StageIn(percent=25),
        StageIn(percent=100),
    ]
    gates: GatesIn = GatesIn()


class GateReading(BaseModel):
    """What one gate says now. ``value`` and ``limit`` are of the same unit; null where there is none yet."""

    gate: Literal["install", "errors", "latency", "mix"]
    state: Literal["pass", "wait", "fail", "off"]
    value: float | None = None
    limit: float | None = None
    n: int = 0
    words: str
    """One sentence with the evidence."""


class RolloutDeviceOut(BaseModel):
    """One device of a rollout."""

    device: str
    groups: list[str]
    stage: int
    draw: float
    state: Literal["waiting", "pending", "downloading", "trial", "confirmed", "failed", "rolled-back"]
    reason: str = ""


class RolloutEventOut(BaseModel):
    """A decision that was taken."""

    at: float
    stage: int
    decision: Literal["start", "continue", "hold", "stop", "complete", "pause", "resume", "abort"]
    reason: str
    gates: list[GateReading]


class RolloutStageOut(BaseModel):
    """A stage: ``devices`` is the number that it reaches in all."""

    index: int
    title: str
    devices: int
    state: Literal["waiting", "running", "passed", "failed"]


class RolloutOut(BaseModel):
    """A rollout. ``reason`` says in words why it is where it is."""

    id: str
    model: str
    from_version: int | None
    to_version: int
    group: str | None
    state: Literal["running", "paused", "completed", "rolled-back", "aborted"]
    stage: int
    stages: list[RolloutStageOut]
    gates: list[GateReading]
    reason: str
    deadline_at: float | None
    devices_total: int
    devices_confirmed: int
    created_at: float
    updated_at: float


class RolloutDetail(RolloutOut):
    """A rollout with its devices and its history."""

    devices: list[RolloutDeviceOut]
    events: list[RolloutEventOut]


# --- monitoring -----------------------------------------------------------------------------------------------------


class PanelReading(BaseModel):
    """One test of the panel over one span."""

    test: Literal["embedding", "mmd", "classes", "confidence", "columns", "embedding-vs-rest", "classes-vs-rest"]
    statistic: float
    threshold: float
    """The statistic's value at which this test alone would raise the alarm."""
    p_value: float
    n: int
    alarm: bool


class WatchOut(BaseModel):
    """A group over time. ``score``: -ln of the smallest p-value over the horizons; ``horizon``: the spans that gave it,
    which are the window that was judged, of about ``n`` inferences; ``limit``: where it alarms."""

    score: float
    limit: float
    horizon: int
    n: float
    alarm: bool


class DeviceWatchOut(BaseModel):
    """A device of a group over time, on its own. ``named``: among the devices that differ, at a false discovery rate of
    0.1."""

    device: str
    score: float
    limit: float
    horizon: int
    n: float
    named: bool


class BrokenOut(BaseModel):
    """Inputs with something against them, beyond what is tolerated: ``count`` of ``n``, above all of ``features``."""

    problem: Literal["refused", "nonfinite_inputs", "out_of_bounds", "nonfinite_outputs", "errors"]
    count: int
    n: int
    words: str
    features: list[str] = []


class ChangedOut(BaseModel):
    """A predicted class that comes more or less often: shares now and in the reference, and how many standard errors
    lie between."""

    index: int
    residual: float
    share: float
    reference: float


class ClusterOut(BaseModel):
    """A cluster of the embedding space that is seen more or less often. ``classes``: the reference's classes that live
    there, [class, share], the largest first; none where the reference never saw it."""

    index: int
    residual: float
    share: float
    reference: float
    classes: list[tuple[int, float]]


class ColumnOut(BaseModel):
    """A column of a table, ranked by its change. ``named``: at a false discovery rate of 0.05; ``size``: Cramer's V;
    ``place``: where its share changed most, of ``share`` now and ``reference`` before."""

    name: str
    p_value: float
    named: bool
    size: float
    place: int
    share: float
    reference: float


class PriorOut(BaseModel):
    """How often a class comes, estimated from predictions under label shift, with a 95% interval."""

    index: int
    now: float
    low: float
    high: float
    reference: float


class SinceOut(BaseModel):
    """When a change began (Unix seconds), and the earliest and latest that it may have."""

    at: float
    earliest: float
    latest: float


class JudgementOut(BaseModel):
    """One group over one span.

    ``verdict``: quiet, drift (virtual: not estimated to harm), harmful (estimated to harm), label-shift, data-quality
    (inputs are broken: whether they drifted cannot be told), wait (too little seen). ``kinds``: of drift, as the field
    names them; label drift is estimated from
    predictions unless ``label_drift_p`` says otherwise: the p-value of the labels that arrived. ``alpha``: the
    false-alarm rate of this judgement; ``false_alert_rate``: the chance that such a judgement opens an alert where
    nothing drifted. ``effect``: how large, as the distance in units of the reference's spread, with a 95% interval.
    Accuracies are shares, with a 95% interval where estimated. ``evidence``: of drift so far; reaching E takes at
    least E spans on average where nothing drifted; ``concept_evidence``: the same of labelled errors, an alarm at
    ``concept_limit``. ``stands_out``: from the rest of the fleet, among all groups, at a false discovery rate of 0.1.
    ``one_device``: without it there would be an alarm.
    """

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
    watch: WatchOut | None = None
    devices: list[DeviceWatchOut] = []
    quality: list[BrokenOut] = []
    changed: list[ChangedOut] = []
    clusters: list[ClusterOut] = []
    columns: list[ColumnOut] = []
    label_drift_p: float | None = None
    prior: list[PriorOut] = []
    since: SinceOut | None = None


class DeviceHistoryOut(BaseModel):
    """A device's score over a group's judgements (``at``: Unix seconds, oldest first), and where it would alarm."""

    device: str
    at: list[float]
    score: list[float]
    limit: float
    named: bool


class DriftGroup(BaseModel):
    """A group's newest judgement and its history, oldest first; only the newest tells of devices and of what changed.
    ``devices``: the history of those with most evidence now."""

    model: str
    group: str
    current: JudgementOut | None
    history: list[JudgementOut]
    devices: list[DeviceHistoryOut] = []


class CalibrationIn(In):
    """``version`` null: the newest that was compiled. ``per_day``: items a day of one device; null: as lately."""

    model: NameStr
    version: Annotated[int, Field(ge=1)] | None = None
    per_day: Annotated[int, Field(ge=1, le=10_000_000)] | None = None


class RateOut(BaseModel):
    """``alarms`` in ``trials``, and the 95% interval of their rate."""

    alarms: int
    trials: int
    rate: float
    low: float
    high: float


class PowerOut(BaseModel):
    """Share of spans of ``n`` items in which a shift of ``size`` raised the alarm."""

    shift: str
    size: float
    n: int
    power: float


class SmallestShiftOut(BaseModel):
    """The smallest move of the mean embedding seen with 80% chance in a day; null: none of those tried."""

    who: str
    per_day: int
    n: int
    size: float | None


class BundleCalibrationOut(BaseModel):
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
    false_alarms: RateOut | None = None
    promise: int = 0
    run_length: float | None = None
    run_length_low: float | None = None
    run_length_high: float | None = None
    alarms: int = 0
    horizon: int = 0
    horizon_needed: int = 0
    power: list[PowerOut] = []
    smallest: list[SmallestShiftOut] = []
    needed: int = 0
    enough: bool = False
    words: list[str] = []


class CalibrationOut(BaseModel):
    """How far drift alarms of one version can be trusted. ``job``: that measured it; ``per_day``: items a day, by who
    is watched."""

    job: str
    model: str
    version: int
    at: float
    per_day: dict[str, int]
    bundles: list[BundleCalibrationOut]


class CalibrationQuote(BaseModel):
    """What an alert quotes of its model's newest calibration: of the bundle with the most false alarms."""

    job: str
    version: int
    at: float | None
    profile: str
    false_alarms: RateOut
    promise: int
    run_length: float | None
    enough: bool
    words: list[str]


class AlertOut(BaseModel):
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


class GroupAccuracy(BaseModel):
    """Served and labelled counts of one group and version since ``since``."""

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


# --- learning -------------------------------------------------------------------------------------------------------


class SampleRequestIn(In):
    """Ask a group's devices for labelled samples; only those whose owner consented send any. Budgets are a device's."""

    model: NameStr
    group: NameStr
    count: Annotated[int, Field(ge=1, le=100_000)]
    bytes: Annotated[int, Field(ge=1, le=1_000_000_000)]


class SampleRequestOut(BaseModel):
    """What was asked, and what has come."""

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
    """Samples received by device."""
    consented: int
    """Devices of the group whose owner consented."""
    created_at: float


class RolloutPlanIn(In):
    """How a training run's result is rolled out."""

    group: NameStr | None = None
    stages: list[StageIn] = [StageIn(count=1), StageIn(percent=25), StageIn(percent=100)]
    gates: GatesIn = GatesIn()


class TrainingRunIn(In):
    """Run a recipe: ``full`` trains from scratch, ``rehearsal`` fine-tunes ``parent_version`` on old data and samples.
    The accepted version is compiled for ``profiles`` and, with ``rollout``, rolled out."""

    model: NameStr
    strategy: Literal["full", "rehearsal"] = "full"
    recipe: Sha256 | None = None
    """Blob of the recipe file; null takes the parent's."""
    config: dict[str, Any] = {}
    parent_version: int | None = None
    sample_request: str | None = None
    profiles: Annotated[list[NameStr], Field(max_length=32)] = []
    rollout: RolloutPlanIn | None = None
    note: Annotated[str, Field(max_length=500)] = ""


class SliceComparison(BaseModel):
    """Champion against challenger on one slice (``old``: the reference; ``new``: held-out samples)."""

    slice: Literal["old", "new"]
    n: int
    champion: float
    challenger: float


class TrainingRunOut(BaseModel):
    """A training run."""

    id: str
    model: str
    strategy: str
    parent_version: int | None
    state: Literal["queued", "running", "accepted", "rejected", "failed"]
    reason: str
    comparison: list[SliceComparison]
    version: int | None
    job: JobOut | None
    trigger: str | None
    rollout: str | None
    created_at: float
    finished_at: float | None


class TriggerIn(In):
    """When a group's verdict is ``harmful`` (or ``drift`` where ``config.any_drift``) and enough labelled samples of it
    are there, train and roll out."""

    model: NameStr
    on: Literal["drift"] = "drift"
    min_samples: Annotated[int, Field(ge=1)] = 200
    strategy: Literal["rehearsal"] = "rehearsal"
    config: dict[str, Any] = {}
    profiles: Annotated[list[NameStr], Field(max_length=32)] = []
    rollout: RolloutPlanIn | None = None


class TriggerOut(BaseModel):
    """A trigger; it fires once for each alert."""

    id: str
    model: str
    on: str
    min_samples: int
    strategy: str
    enabled: bool
    fired_at: float | None
    created_at: float


# --- experiments ----------------------------------------------------------------------------------------------------

ShareFloat = Annotated[float, Field(ge=0, le=1)]
SplitFloat = Annotated[float, Field(ge=0.01, le=0.99)]


class ShadowIn(In):
    """A share of the requests is also run by the candidate, after the answer has gone out."""

    kind: Literal["shadow"]
    share: Annotated[float, Field(gt=0, le=1)] = 1.0


class ABIn(In):
    """The candidate answers a share of the users (parameter ``key`` of a request) or of the devices, who stay with
    it."""

    kind: Literal["ab"]
    weight: SplitFloat = 0.5
    by: Literal["key", "device"] = "key"


class CanaryRequestsIn(In):
    """The candidate answers a share of the requests."""

    kind: Literal["canary-requests"]
    share: SplitFloat = 0.05


class InterleaveIn(In):
    """Both rank (scores [1, items] in ``output``); the answer is their team draft, and clicks say who is better."""

    kind: Literal["interleave"]
    output: NameStr


class EscalateIn(In):
    """Where the device is less sure than ``threshold``, the server's ``model`` at ``url`` (up to ``/v2``) is asked:
    inputs leave the device, and only for a server that its owner allows."""

    kind: Literal["escalate"]
    threshold: ShareFloat
    url: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s@]+$")]
    model: NameStr
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 1.0
    bytes_per_day: Annotated[int, Field(ge=0, lt=2**53)] = 16 * 1024 * 1024


PolicyIn = Annotated[ShadowIn | ABIn | CanaryRequestsIn | InterleaveIn | EscalateIn, Field(discriminator="kind")]


class GuardrailsIn(In):
    """Limits for the candidate; null leaves one out. ``failed``: share of the devices on which it may fail to install
    or to run. ``errors``: share of its requests that may fail. ``latency_ratio``: against the control's p95 on the same
    device; a shadow has none, since it runs at a low priority when the inputs are warm."""

    failed: ShareFloat = 0.1
    errors: Annotated[float, Field(gt=0, lt=1)] | None = 0.02
    latency_ratio: Annotated[float, Field(gt=0)] | None = 2.0


class ExperimentIn(In):
    """Compare version ``candidate`` with ``control`` (null: what most of the group runs) on ``group`` (null: every
    device). ``metric`` null: the first of the kind. ``margin``: a difference of at most so much is none; null: the
    metric's own. ``min_samples``: items of each arm before anything is decided. ``alpha``: chance that a winner is
    named where there is none. ``block``: items of an arm that make one value of a device; ``cap``: values that it
    gives at most. ``devices``: share of the group that takes part."""

    model: NameStr
    policy: PolicyIn
    candidate: int | None = None
    control: int | None = None
    group: NameStr | None = None
    metric: Literal["accuracy", "agreement", "latency", "reward"] | None = None
    margin: Annotated[float, Field(gt=0, le=1)] | None = None
    min_samples: Annotated[int, Field(ge=1)] = 200
    alpha: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.05
    block: Annotated[int, Field(ge=1, le=100_000)] = 20
    cap: Annotated[int, Field(ge=1, le=100_000)] = 500
    devices: Annotated[float, Field(gt=0, le=1)] = 1.0
    guardrails: GuardrailsIn = GuardrailsIn()


class ExperimentArm(BaseModel):
    """What one arm saw. ``accuracy`` is of the labelled items; null where there are none."""

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


class ExperimentDeviceOut(BaseModel):
    """One device that takes part, or did. ``values``: those that it gave."""

    device: str
    state: Literal["waiting", "taking-part", "failed", "left"]
    reason: str
    joined_at: float
    requests: int
    values: int


class ExperimentPoint(BaseModel):
    """What was known at a time: the effect and its confidence sequence."""

    at: float
    n: int
    effect: float
    low: float
    high: float


class ExperimentEscalated(BaseModel):
    """What went to a server."""

    asked: int
    answered: int
    fallbacks: int
    changed: int
    bytes: int


class ExperimentOut(BaseModel):
    """An experiment. ``effect`` is the candidate's lead in units of the metric, and with ``low`` and ``high`` null
    while nothing is known, or where the result is withheld (decision ``broken``). ``compared``: answers of a shadow
    held against those that went out."""

    id: str
    model: str
    kind: Literal["shadow", "ab", "canary-requests", "interleave", "escalate"]
    policy: dict[str, Any]
    group: str | None
    control: int
    candidate: int | None
    metric: Literal["accuracy", "agreement", "latency", "reward"]
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
    """Of the group: those whose profile the candidate is not compiled for, or that run another version."""
    rollout: str | None
    created_at: float
    updated_at: float
    ended_at: float | None


class ExperimentDetail(ExperimentOut):
    """With its arms, its devices, and what was known when."""

    arms: list[ExperimentArm]
    compared: int
    agreed: int
    dropped: int
    ties: int
    escalated: ExperimentEscalated
    devices: list[ExperimentDeviceOut]
    history: list[ExperimentPoint]


class PromoteIn(In):
    """Roll the candidate out to the experiment's group. ``force``: although it did not win."""

    stages: Annotated[list[StageIn], Field(min_length=1, max_length=20)] = [
        StageIn(count=1),
        StageIn(percent=25),
        StageIn(percent=100),
    ]
    gates: GatesIn = GatesIn()
    force: bool = False
