// A rollout, its gates and its stages in words. Pure.

import type { GateReading, Rollout, RolloutDevice, StageIn } from "../api/types";
import { number, percent, version } from "../format";
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

export const DEVICE_STATES: readonly RolloutDevice["state"][] = [
  "confirmed",
  "trial",
  "downloading",
  "pending",
  "waiting",
  "failed",
  "rolled-back",
] satisfies readonly StateName[];

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
