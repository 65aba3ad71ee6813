// A rollout, its gates and its stages in words. Pure.

import type { GateReading, Rollout, RolloutDevice, RolloutEvent, RolloutStage, StageIn } from "../api/types";
import { count, number, percent, version, whole } from "../format";
import type { StateName } from "../parts/marks";

export const GATE_TITLES: Record<GateReading["gate"], string> = {
  install: "Installs",
  errors: "Errors",
  latency: "Latency",
  mix: "Prediction mix",
};

/** What a gate's figure is: said once, under its title. */
export const GATE_UNITS: Record<GateReading["gate"], string> = {
  install: "share of devices that failed",
  errors: "share of requests that failed or gave no finite value",
  latency: "p95 against the version before",
  mix: "distance between predicted classes, new against before",
};

/** A gate's value or limit in its own unit. */
export function gateFigure(gate: GateReading["gate"], value: number): string {
  switch (gate) {
    case "install":
    case "errors":
      return percent(value).replace(".0%", "%");
    case "latency":
      return `${number(value)}×`;
    case "mix":
      return number(value);
  }
}

/** "v1 → v2", or "v1" where nothing was served before. */
export function versionsWords(rollout: Pick<Rollout, "from_version" | "to_version">): string {
  const { from_version: from, to_version: to } = rollout;
  return from === null ? version(to) : `${version(from)} → ${version(to)}`;
}

export function targetWords(group: string | null): string {
  return group ?? "every device";
}

export const DEVICE_STATES: readonly StateName[] = [
  "confirmed",
  "trial",
  "downloading",
  "pending",
  "waiting",
  "not-reached",
  "failed",
  "rolled-back",
];

function ended(state: Rollout["state"]): boolean {
  return state !== "running" && state !== "paused";
}

/** A stage or a device as the state of its rollout lets it be told: nothing waits for a rollout that is over. */
export function shownState(state: RolloutStage["state"] | RolloutDevice["state"], rollout: Rollout["state"]): StateName {
  if (state === "waiting" && ended(rollout)) return "not-reached";
  return state === "running" && rollout === "paused" ? "paused" : state;
}

/** How many are there: "3 of 12 devices confirmed"; of a rollout that is over, how many serve its version still. */
export function reachedWords(rollout: Rollout): string {
  const share = `${whole(rollout.devices_confirmed)} of ${count(rollout.devices_total, "device")}`;
  return ended(rollout.state) ? `${share} on ${version(rollout.to_version)} now` : `${share} confirmed`;
}

/** Why a rollout stands where it stands: the failed gates, else those it waits for, else the hub's own words. */
export function whyWords(rollout: Pick<Rollout, "state" | "reason" | "gates">): string {
  const { state, reason, gates } = rollout;
  const words = state === "rolled-back" ? failedWords(gates) : state === "running" ? waitingWords(gates) : "";
  return words || reason || "nothing decided yet";
}

/** What a decision said: of a hold only which gates it waited for, since the evidence stands below it. */
export function decisionWords({ decision, reason, gates }: RolloutEvent): string {
  const words = decision === "stop" ? failedWords(gates) : decision === "hold" ? waitingWords(gates) : "";
  return words || reason;
}

/** "Errors: 9 of 100 failed or were not finite", or "" where none failed. */
function failedWords(gates: readonly GateReading[]): string {
  const failed = gates.filter((gate) => gate.state === "fail");
  return failed.map((gate) => `${GATE_TITLES[gate.gate]}: ${gate.words}`).join("; ");
}

/** "waiting for evidence: installs, errors", or "" where none is waited for. */
function waitingWords(gates: readonly GateReading[]): string {
  const waiting = gates.filter((gate) => gate.state === "wait").map((gate) => GATE_TITLES[gate.gate].toLowerCase());
  return waiting.length > 0 ? `waiting for evidence: ${waiting.join(", ")}` : "";
}

export interface Preset {
  name: string;
  note: string;
  stages: StageIn[];
}

export const PRESETS: readonly Preset[] = [
  { name: "Canary", note: "1 device, then 25%, then all", stages: [{ count: 1 }, { percent: 25 }, { percent: 100 }] },
  {
    name: "Cautious",
    note: "1 device, 5%, 20%, 50%, then all",
    stages: [{ count: 1 }, { percent: 5 }, { percent: 20 }, { percent: 50 }, { percent: 100 }],
  },
  { name: "All at once", note: "every device in one stage; the gates still hold", stages: [{ percent: 100 }] },
];
