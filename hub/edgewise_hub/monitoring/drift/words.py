"""A judgement in plain words: what, where, how sure, how large, what it means for accuracy."""

from __future__ import annotations

from edgewise_hub.monitoring.drift.baseline import PROMISE
from edgewise_hub.monitoring.drift.finding import CONCEPT, Finding
from edgewise_hub.monitoring.drift.panel import Judged, Reading

_DIFFERENCES = {
    "embedding": "its inputs differ from the reference",
    "mmd": "its inputs differ from the reference",
    "classes": "its mix of predicted classes differs from the reference",
    "confidence": "the model's confidence differs from the reference",
    "columns": "a column of its inputs differs from the reference",
    "embedding-vs-rest": "its inputs differ from the rest of the fleet",
    "classes-vs-rest": "its mix of predicted classes differs from the rest of the fleet",
}
_TITLES = {"drift": "Drift", "harmful": "Harmful drift", "label-shift": "Label shift"}


def tell(finding: Finding, group: str) -> str:
    """All that was found of a group, broken inputs first."""
    judged, watched = finding.judged, finding.watched
    if finding.broken:
        problems = "; ".join(broken.words for broken in finding.broken[:2])
        return f"Data quality in {group}: {problems}. Whether it drifted cannot be told while inputs are broken."
    if watched is None or any(reading.alarm for reading in judged.readings) or judged.labels_alarm:
        return say(judged, group)
    if watched.concept >= CONCEPT:
        return (
            f"Harmful drift in {group}: over time, labels show more errors than the reference, while its inputs look "
            f"the same (evidence {watched.concept:,.0f}, an alarm at {CONCEPT:,.0f}). {_span_rate()}"
        )
    if watched.group is not None and watched.group.alarm:
        spans = "span" if watched.group.horizon == 1 else f"{watched.group.horizon} spans"
        return (
            f"Drift in {group}: slight in any one span, clear over the last {spans} (about {watched.group.n:,.0f} "
            f"inferences): its inputs differ from the reference. {_span_rate()}"
        )
    return say(judged, group)


def _span_rate() -> str:
    return f"Such an alarm is false at most once in {PROMISE:,.0f} spans on average."


def say(judged: Judged, group: str) -> str:
    """One to four sentences."""
    if judged.verdict == "wait":
        return f"{group}: nothing that can be judged was seen yet ({judged.n} inferences)."
    if judged.one_device is not None:
        return (
            f"{group} is quiet: what differs is {judged.one_device} alone, and one device makes no group's alarm "
            f"({judged.n} inferences)."
        )
    if judged.verdict == "quiet":
        return f"{group} is quiet: {judged.n} inferences look like the reference (p = {_p(judged.p_value)})."
    alarms = [reading for reading in judged.readings if reading.alarm]
    sentences = [f"{_TITLES[judged.verdict]} in {group}: {_cause(judged, alarms)}; {_rate(judged.alpha)}."]
    if judged.verdict == "label-shift":
        sentences.append("What differs is explained by how often each class comes, not by how it looks.")
    sentences += _accuracy(judged)
    return " ".join(sentences)


def _cause(judged: Judged, alarms: list[Reading]) -> str:
    sure = f"p {'' if judged.p_value < 1e-6 else '= '}{_p(judged.p_value)}"
    if not alarms:
        return f"labels show fewer correct answers than the reference ({sure})"
    first = min(alarms, key=lambda reading: reading.p_value)
    if any(reading.test == "embedding" for reading in alarms):
        first = next(reading for reading in alarms if reading.test == "embedding")
    distance = f"distance {judged.effect:.1f}, " if first.test == "embedding" else ""
    rest = " and from the rest of the fleet" if _also_rest(first, alarms) else ""
    return f"{_DIFFERENCES[first.test]}{rest} ({distance}{sure})"


def _also_rest(first: Reading, alarms: list[Reading]) -> bool:
    return any(reading.test == f"{first.test}-vs-rest" for reading in alarms)


def _rate(alpha: float) -> str:
    return f"such an alarm is false at most once in {round(1 / alpha):,} judgements"


def _accuracy(judged: Judged) -> list[str]:
    found = []
    if judged.labelled:
        share = judged.correct / judged.labelled
        found.append(f"Labelled: {share:.0%} of {judged.labelled} correct.")
    if judged.estimate is None:
        if not judged.labelled:
            found.append("Accuracy cannot be estimated: the reference has no labels or no confidences.")
        return found
    estimate = judged.estimate
    found.append(
        f"Accuracy is estimated at {estimate.accuracy:.0%} ({estimate.low:.0%} to {estimate.high:.0%}, with the usual "
        f"error of such estimates; too hopeful under strong drift), {estimate.reference:.0%} on the reference."
    )
    if judged.refuted:
        found.append("The labels show that this estimate is too low.")
    return found


def _p(value: float) -> str:
    return "< 1e-6" if value < 1e-6 else f"{value:.2g}"
