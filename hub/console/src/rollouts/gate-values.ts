// The gates as typed, and as the API takes them. Pure.

import type { GatesIn } from "../api/types";

/** As typed: shares in percent; "" leaves a gate out where it may be left out. */
export interface GateValues {
  install_failures: string;
  errors: string;
  latency_ratio: string;
  mix_distance: string;
  min_inferences: string;
  soak: string;
  deadline: string;
}

/** The hub's own defaults (schemas.GatesIn). */
export const DEFAULT_GATES: GateValues = {
  install_failures: "0",
  errors: "1",
  latency_ratio: "2",
  mix_distance: "0.1",
  min_inferences: "200",
  soak: "0",
  deadline: "3600",
};

export function readGates(values: GateValues): GatesIn {
  return {
    install_failures: share(values.install_failures) ?? 0,
    errors: share(values.errors),
    latency_ratio: figure(values.latency_ratio),
    mix_distance: figure(values.mix_distance),
    min_inferences: figure(values.min_inferences) ?? 0,
    soak: figure(values.soak) ?? 0,
    deadline: figure(values.deadline) ?? Number(DEFAULT_GATES.deadline),
  };
}

function figure(text: string): number | null {
  return text.trim() === "" ? null : Number(text);
}

function share(text: string): number | null {
  const percent = figure(text);
  return percent === null ? null : percent / 100;
}
