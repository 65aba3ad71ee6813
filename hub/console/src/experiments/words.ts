// An experiment in words. Pure.

import type { Experiment, ExperimentIn } from "../api/types";
import { number, percent, version, whole } from "../format";
import type { StateName } from "../parts/marks";

export type Kind = Experiment["kind"];
export type Metric = Experiment["metric"];

interface KindWords {
  title: string;
  note: string;
  /** What can be measured; the first is the hub's own choice. */
  metrics: readonly Metric[];
}

export const KINDS: Record<Kind, KindWords> = {
  shadow: {
    title: "Shadow",
    note: "The candidate also runs, after the answer is out; it never answers.",
    metrics: ["agreement", "accuracy"],
  },
  ab: {
    title: "A/B",
    note: "The candidate answers a share of the users, or of the devices, who stay with it.",
    metrics: ["accuracy"],
  },
  "canary-requests": {
    title: "Canary by requests",
    note: "The candidate answers a share of the requests.",
    metrics: ["accuracy", "latency"],
  },
  interleave: {
    title: "Interleaving",
    note: "Both rank, the answer is drafted from both, and clicks say who ranked better.",
    metrics: ["reward"],
  },
  escalate: {
    title: "Escalation",
    note: "Where the device is not sure, a server is asked: inputs leave the device.",
    metrics: ["agreement"],
  },
};

export const METRIC_TITLES: Record<Metric, string> = {
  accuracy: "Accuracy by labels",
  agreement: "Agreement",
  latency: "Speed",
  reward: "Reward by clicks",
};

/** The state that stands for it: the decision, or that it runs. */
export function shownState(experiment: Pick<Experiment, "state" | "decision">): StateName {
  if (experiment.state === "running") return "running";
  return experiment.decision === "continue" ? "stopped" : experiment.decision;
}

/** "v2 against v1". */
export function versionsWords({ candidate, control }: Pick<Experiment, "candidate" | "control">): string {
  return `${candidate === null ? "a server" : version(candidate)} against ${version(control)}`;
}

const UNITS: Record<Metric, string> = {
  accuracy: "points",
  latency: "speed",
  reward: "wins a request",
  agreement: "agree",
};

/** An effect in the metric's own unit: "+2.1 points", "+12% speed", "98.0% agree". */
export function effectWords(metric: Metric, effect: number): string {
  return `${effectFigure(metric, effect)} ${UNITS[metric]}`;
}

function effectFigure(metric: Metric, effect: number): string {
  const sign = effect > 0 ? "+" : effect < 0 ? "−" : "";
  switch (metric) {
    case "accuracy":
      return `${sign}${(100 * Math.abs(effect)).toFixed(1)}`;
    case "latency":
      return `${sign}${(100 * Math.abs(effect)).toFixed(0)}%`;
    case "reward":
      return `${sign}${Math.abs(effect).toFixed(3)}`;
    case "agreement":
      return percent(1 + effect);
  }
}

/** The interval, or why there is none. */
export function knownWords(experiment: Experiment): string {
  const { metric, effect, low, high } = experiment;
  if (experiment.decision === "broken") return "withheld";
  if (effect === null || low === null || high === null) return "nothing yet";
  return `${effectWords(metric, effect)} (${effectFigure(metric, low)} to ${effectFigure(metric, high)})`;
}

/** What counts as no difference: "±1.0 points". */
export function marginWords({ metric, margin }: Pick<Experiment, "metric" | "margin">): string {
  switch (metric) {
    case "accuracy":
      return `±${(100 * margin).toFixed(1)} points`;
    case "latency":
      return `±${number(100 * margin)}%`;
    case "reward":
      return `±${number(margin)} wins a request`;
    case "agreement":
      return `${number(100 * margin)}% apart`;
  }
}

/** The items of the smaller arm, and how many a decision needs while there are fewer: "12 of 200 items". */
export function itemsWords(experiment: Pick<Experiment, "items" | "min_samples">): string {
  const counts = Object.values(experiment.items);
  const fewest = counts.length > 0 ? Math.min(...counts) : 0;
  return fewest < experiment.min_samples
    ? `${whole(fewest)} of ${whole(experiment.min_samples)} items`
    : `${whole(fewest)} items`;
}

export interface Form {
  kind: Kind;
  share: string;
  by: "key" | "device";
  output: string;
  url: string;
  serverModel: string;
  threshold: string;
}

export const EMPTY_FORM: Form = {
  kind: "shadow",
  share: "",
  by: "key",
  output: "",
  url: "",
  serverModel: "",
  threshold: "60",
};

/** Percent of requests, users or devices that a kind gives the candidate where nothing is said. */
export const DEFAULT_SHARES: Partial<Record<Kind, string>> = { shadow: "100", ab: "50", "canary-requests": "5" };

/** The policy that the form asks for. */
export function readPolicy(form: Form): ExperimentIn["policy"] {
  const share = Number(form.share || DEFAULT_SHARES[form.kind]) / 100;
  switch (form.kind) {
    case "shadow":
      return { kind: "shadow", share };
    case "canary-requests":
      return { kind: "canary-requests", share };
    case "ab":
      return { kind: "ab", weight: share, by: form.by };
    case "interleave":
      return { kind: "interleave", output: form.output };
    case "escalate":
      return {
        kind: "escalate",
        url: form.url,
        model: form.serverModel,
        threshold: Number(form.threshold) / 100,
        timeout_s: 1,
        bytes_per_day: 16 * 1024 * 1024,
      };
  }
}
