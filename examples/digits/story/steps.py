"""The steps. Each acts through the client, says what it saw, and raises StepFailed when it saw something else."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from examples.digits.digits import FINE_TUNE, version_config
from examples.digits.story.processes import Processes, Running, StepFailed
from examples.digits.story.telling import Teller

import edgewise
from edgewise.client import Client
from edgewise.resources import Gates, GroupAccuracy, Rollout, RolloutPlan, Stage, TrainingRun

MODEL = "digits"
DISTRICTS = ("district-a", "district-b", "district-c")
SLIPPED = "district-b"
CAMERAS_A_DISTRICT = 4
RATE = 10.0
"""Pictures a second and camera."""
PROFILES = ["linux-x86-64", "raspberry-pi-5"]
FLEET_PROFILE = PROFILES[0]
WINDOW_S, TRIAL_S = 3.0, 4.0
RECIPE = Path(__file__).parent.parent / "recipe.py"

NOTES = {
    1: "a quick first model",
    2: "trained on a vendor's cleaned extract, scores scaled by contrast",
    3: "more pictures, more epochs",
}
CANARY = [Stage(count=1), Stage(percent=25), Stage(percent=100)]
GATES = Gates(errors=0.005, latency_ratio=4.0, mix_distance=0.12, min_inferences=150, deadline=120)
"""Twelve agents, a hub and its training share two cores here, so that latency may vary fourfold."""
SAMPLES = 120
SAMPLE_BYTES = 200_000


@dataclass
class Story:
    """What the steps hand on to each other."""

    teller: Teller
    processes: Processes
    client: Client = field(init=False)
    hub: Running = field(init=False)
    url: str = ""
    cameras: Running = field(init=False)
    devices: dict[str, Path] = field(default_factory=dict)
    feeds: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[int, TrainingRun] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    slipped_at: float = 0.0

    def check(self) -> None:
        """Raises StepFailed when the hub or the cameras have ended."""
        self.hub.check()
        if hasattr(self, "cameras"):
            self.cameras.check()


def start_hub(story: Story, port: int) -> None:
    """1. The hub, with its broker and database."""
    story.hub, story.url, data = story.processes.hub(port, WINDOW_S, TRIAL_S)
    story.client = edgewise.connect(story.url, (data / "operator.token").read_text().strip())
    story.teller.say(f"The hub runs at [bold]{story.url}[/], with a broker and a database of its own.")


def train(story: Story, version: Literal[1, 2, 3]) -> None:
    """A training run of the recipe begins on the hub; its result will be compiled for two device profiles."""
    story.runs[version] = story.client.models.train(
        MODEL, RECIPE, config=version_config(version), profiles=PROFILES, note=NOTES[version]
    )


def enroll_fleet(story: Story) -> None:
    """2. Twelve cameras join, each with a key of its own, and an application that feeds it test pictures."""
    agents: list[Running] = []
    for district in DISTRICTS:
        token = story.client.tokens.create(groups=[district], uses=CAMERAS_A_DISTRICT).token
        for number in range(1, CAMERAS_A_DISTRICT + 1):
            name = f"camera-{district[-1]}{number}"
            device = story.processes.enroll(story.url, name, FLEET_PROFILE, token)
            story.devices[name] = device
            agents.append(story.processes.agent(device))
    for seed, (name, agent) in enumerate(zip(story.devices, agents, strict=True)):
        line = story.teller.wait(f"{name} starts", lambda a=agent: (a.line(), ""), 60, agent.check)
        story.feeds.append({"name": name, "url": line["url"], "seed": seed, "slipped": False})

    def online() -> tuple[int | None, str]:
        count = sum(device.online for device in story.client.devices.list())
        return (count if count == len(story.devices) else None), f"{count} of {len(story.devices)}"

    story.teller.wait("cameras come online", online, 60, story.check)
    story.teller.say(f"{len(story.devices)} cameras in {len(DISTRICTS)} districts are online.")


def feed_fleet(story: Story) -> None:
    """The applications beside the agents begin to take pictures."""
    story.cameras = story.processes.cameras(story.feeds, RATE)
    story.teller.say(f"Each camera takes {RATE:.0f} pictures a second, and later hears the true label of half of them.")


def wait_for_version(story: Story, version: int) -> None:
    """3. A version is trained, registered and compiled."""
    run = story.runs[version]

    def ready() -> tuple[TrainingRun | None, str]:
        now = story.client.training.get(run.id)
        if now.state in ("failed", "rejected"):
            raise StepFailed(f"training of version {version}: {now.state}: {now.reason}")
        text = f"{now.job.kind} {now.job.progress:.0%} {now.job.progress_text}" if now.job else now.state
        return (now if now.state == "accepted" else None), text

    done = story.teller.wait(f"version {version}", ready, 300, story.check)
    if done.version != version:
        raise StepFailed(f"expected version {version}, got {done.version}")
    made = story.client.models.version(MODEL, version)
    for bundle in made.bundles:
        report = bundle.report
        story.teller.say(
            f"v{version} for {bundle.profile}: {report['metric_before']:.1%} -> {report['metric_after']:.1%} "
            "on the reference, "
            f"{report['size_before'] / 1024:.0f} -> {report['size_after'] / 1024:.0f} KB, {report['scheme']}, "
            f"{_speed(report)}"
        )


def _speed(report: dict[str, Any]) -> str:
    """The source's and the chosen candidate's latency."""
    latency = report["latency"] or {}
    if report["scheme"] not in latency:
        return "latency not measured here"
    return f"{latency['source']['p50_ms']:.2f} -> {latency[report['scheme']]['p50_ms']:.2f} ms"


def roll_out(story: Story, version: int, *, first: bool = False) -> Rollout:
    """4. A rollout that should complete."""
    stages = [Stage(count=1), Stage(percent=100)] if first else CANARY
    done = _watch(story, story.client.rollouts.create(MODEL, version, stages=stages, gates=GATES).id)
    if done.state != "completed":
        raise StepFailed(f"expected the rollout of version {version} to complete, got {done.state}: {done.reason}")
    story.teller.say(f"[green]v{version} is confirmed on {done.devices_confirmed} of {done.devices_total} cameras.[/]")
    return done


def roll_out_bad(story: Story, version: int, back_to: int) -> None:
    """5. The bad version: stopped at a stage by a gate, and taken back with no hand."""
    done = _watch(story, story.client.rollouts.create(MODEL, version, stages=CANARY, gates=GATES).id)
    if done.state != "rolled-back":
        raise StepFailed(f"expected version {version} to be rolled back, got {done.state}: {done.reason}")
    story.teller.say(
        f"[yellow]v{version} was stopped in stage {done.stage + 1} of {len(done.stages)}:[/] {done.reason}"
    )
    for gate in done.gates:
        story.teller.say(f"  {gate.gate}: {gate.state}. {gate.words}")

    def back() -> tuple[bool | None, str]:
        serving = story.client.models.get(MODEL).serving
        count = serving.get(str(back_to), 0)
        return (True if count == len(story.devices) else None), f"{count} of {len(story.devices)} serve v{back_to}"

    story.teller.wait("cameras go back", back, 60, story.check)
    story.teller.say(f"All cameras serve v{back_to} again.")
    touched = sum(device.stage <= done.stage for device in story.client.rollouts.get(done.id).devices)
    story.summary["bad_version"] = {
        "stopped_in_stage": done.stage + 1,
        "cameras_touched": touched,
        "reason": done.reason,
        "gates": {gate.gate: gate.state for gate in done.gates},
    }


def _watch(story: Story, rollout: str) -> Rollout:
    """Wait for a rollout's end; says each stage as it passes."""
    told = 0

    def ended() -> tuple[Rollout | None, str]:
        nonlocal told
        now = story.client.rollouts.get(rollout)
        for event in now.events[told:]:
            if event.decision in ("continue", "complete"):
                story.teller.say(f"[dim]{event.reason}[/]")
        told = len(now.events)
        if now.state == "paused":
            raise StepFailed(f"the rollout paused: {now.reason}")
        waiting = "; ".join(gate.words for gate in now.gates if gate.state == "wait")
        stage = f"stage {now.stage + 1} of {len(now.stages)}"
        return (now if now.ended else None), f"{stage}: {waiting or now.reason}"[:160]

    return story.teller.wait("rollout", ended, 360, story.check)


def measure(story: Story, phase: str, since: float, version: int, labelled: int = 150) -> None:
    """Accuracy by district from label feedback, over windows since a time, once enough labels are in."""

    def enough() -> tuple[dict[str, GroupAccuracy] | None, str]:
        rows = {row.group: row for row in story.client.accuracy(model=MODEL, since=since) if row.version == version}
        least = min((rows[d].labelled if d in rows else 0 for d in DISTRICTS), default=0)
        return (rows if least >= labelled else None), f"{least} of {labelled} labels"

    rows = story.teller.wait(f"labels of v{version} come in", enough, 120, story.check)
    story.accuracy[phase] = {d: rows[d].correct / rows[d].labelled for d in DISTRICTS}
    story.teller.say(
        f"Accuracy by label feedback, {phase}: "
        + ", ".join(f"{d} {value:.1%} (n={rows[d].labelled})" for d, value in story.accuracy[phase].items())
    )


def consent_and_trigger(story: Story) -> None:
    """The owners of district-b opt in, and a trigger waits."""
    for name, device in story.devices.items():
        if name.startswith(f"camera-{SLIPPED[-1]}"):
            story.processes.consent(device, MODEL, SAMPLES, SAMPLE_BYTES)
    story.client.triggers.create(
        MODEL,
        min_samples=3 * SAMPLES,
        strategy="rehearsal",
        config={**version_config(3), **FINE_TUNE},
        profiles=PROFILES,
        rollout=RolloutPlan(stages=CANARY, gates=GATES),
    )
    story.teller.say(
        f"The owners of {SLIPPED} opt in on their devices: at most {SAMPLES} labelled pictures and "
        f"{SAMPLE_BYTES // 1000} KB each. No other camera sends any."
    )


def slip(story: Story) -> None:
    """6. The cameras of one district slip: their real pictures are turned and dimmed from now on."""
    for name in story.devices:
        if name.startswith(f"camera-{SLIPPED[-1]}"):
            story.cameras.tell({"camera": name, "slipped": True})
    story.slipped_at = time.time()
    story.teller.say(f"The four cameras of {SLIPPED} have slipped: turned and dimmed from now on.")


def see_drift(story: Story) -> None:
    """The hub says: drift, where, how sure, how large, and that accuracy is estimated to suffer."""

    def alert() -> tuple[Any, str]:
        found = [a for a in story.client.alerts.list(open=True) if a.kind == "drift" and a.model == MODEL]
        wrong = [a for a in found if a.group != SLIPPED]
        if wrong:
            raise StepFailed(f"expected an alert for {SLIPPED} alone, got {wrong[0].group}: {wrong[0].summary}")
        return (found[0] if found else None), "no alert yet"

    found = story.teller.wait("the hub judges the windows", alert, 120, story.check)

    def harm() -> tuple[Any, str]:
        current = story.client.drift.show(model=MODEL, group=SLIPPED)[0].current
        verdict = current.verdict if current else "none"
        return (current if verdict == "harmful" else None), f"verdict {verdict}"

    judgement = story.teller.wait("a verdict", harm, 120, story.check)
    history = story.client.drift.show(model=MODEL, group=SLIPPED, history=100)[0].history
    after = [j for j in history if j.span_end > story.slipped_at]
    alarmed = next(index for index, j in enumerate(after, 1) if j.verdict in ("drift", "harmful"))
    story.teller.say(f"[yellow]{judgement.words}[/]")
    quiet = {}
    for district in DISTRICTS:
        if district != SLIPPED:
            current = story.client.drift.show(model=MODEL, group=district)[0].current
            quiet[district] = current.verdict if current else "none"
            story.teller.say(f"{district}: {current.words if current else 'nothing judged'}")
    story.summary["drift"] = {
        "group": found.group,
        "seconds_to_alert": round(found.opened_at - story.slipped_at, 1),
        "judgements_to_alarm": alarmed,
        "p_value": judgement.p_value,
        "alpha": judgement.alpha,
        "effect": judgement.effect,
        "estimated_accuracy": judgement.estimated_accuracy,
        "estimated_interval": [judgement.estimated_low, judgement.estimated_high],
        "words": judgement.words,
        "others": quiet,
    }
    if any(verdict not in ("quiet", "wait") for verdict in quiet.values()):
        raise StepFailed(f"expected the other districts to be quiet, got {quiet}")


def say_what_stays(story: Story) -> None:
    """The hub's last word on the district that slipped: its cameras still see the world turned."""
    current = story.client.drift.show(model=MODEL, group=SLIPPED)[0].current
    if current:
        story.teller.say(current.words)


def ask_for_samples(story: Story) -> None:
    """7. The hub asks the drifted group for labelled samples."""
    request = story.client.samples.request(MODEL, SLIPPED, count=SAMPLES, bytes=SAMPLE_BYTES)

    def come() -> tuple[Any, str]:
        now = story.client.samples.get(request.id)
        text = f"{now.labelled} pictures, {now.received_bytes / 1000:.0f} KB from {now.consented} consenting cameras"
        return (now if now.labelled >= 3 * SAMPLES else None), text

    got = story.teller.wait("labelled samples arrive", come, 120, story.check)
    story.teller.say(
        f"{got.labelled} labelled pictures ({got.received_bytes / 1000:.0f} KB) came from "
        f"{got.consented} cameras of {SLIPPED}."
    )


def learn(story: Story, champion: int) -> int:
    """The trigger starts a training run; its result is compared, compiled and rolled out. Gives the new version."""

    def started() -> tuple[TrainingRun | None, str]:
        runs = [run for run in story.client.training.list(model=MODEL) if run.trigger]
        return (runs[0] if runs else None), "the trigger waits"

    run = story.teller.wait("the trigger fires", started, 60, story.check)
    story.teller.say(f"The trigger fired: {run.reason or 'drift that harms, and enough labelled samples'}.")

    def trained() -> tuple[TrainingRun | None, str]:
        now = story.client.training.get(run.id)
        if now.state in ("failed", "rejected"):
            raise StepFailed(f"the training run was {now.state}: {now.reason}")
        text = f"{now.job.kind} {now.job.progress:.0%} {now.job.progress_text}" if now.job else now.state
        return (now if now.rollout else None), text

    done = story.teller.wait("training with rehearsal", trained, 300, story.check)
    assert done.version is not None and done.rollout is not None
    for row in done.comparison:
        story.teller.say(f"{row.slice} slice (n={row.n}): champion {row.champion:.1%}, challenger {row.challenger:.1%}")
    ended = _watch(story, done.rollout)
    if ended.state != "completed":
        raise StepFailed(f"expected the rollout of v{done.version} to complete, got {ended.state}: {ended.reason}")
    story.teller.say(f"[green]v{done.version} is confirmed on {ended.devices_confirmed} cameras.[/]")
    story.summary["learning"] = {
        "champion": champion,
        "version": done.version,
        "comparison": [
            {"slice": r.slice, "n": r.n, "champion": r.champion, "challenger": r.challenger} for r in done.comparison
        ],
    }
    return done.version
