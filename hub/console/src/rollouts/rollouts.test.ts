import { expect, test } from "vitest";

import { barScale } from "../parts/bar";
import { DEFAULT_GATES, readGates } from "./gate-values";
import type { Rollout } from "../api/types";
import { decisionWords, gateFigure, PRESETS, reachedWords, shownState, whyWords } from "./words";

test("the bar holds value and limit, also at zero and far beyond", () => {
  expect(barScale(0, 0)).toEqual({ fill: 0, tick: 0 });
  expect(barScale(1, 2).tick).toBeCloseTo(66.7, 1);
  const beyond = barScale(100, 1);
  expect(beyond.fill).toBeGreaterThan(beyond.tick);
  expect(beyond.fill).toBeLessThanOrEqual(100);
});

test("gates are typed in percent, sent as shares; an empty limit leaves its gate out", () => {
  expect(readGates(DEFAULT_GATES)).toEqual({
    install_failures: 0,
    errors: 0.01,
    latency_ratio: 2,
    mix_distance: 0.1,
    min_inferences: 200,
    soak: 0,
    deadline: 3600,
  });
  expect(readGates({ ...DEFAULT_GATES, errors: " ", latency_ratio: "" })).toMatchObject({
    errors: null,
    latency_ratio: null,
  });
});

test("each gate speaks in its own unit", () => {
  expect(gateFigure("errors", 0.01)).toBe("1%");
  expect(gateFigure("latency", 1.04)).toBe("1.04×");
  expect(gateFigure("mix", 0.2871)).toBe("0.287");
});

test("every preset ends at everybody", () => {
  for (const preset of PRESETS) expect(preset.stages.at(-1)).toEqual({ percent: 100 });
});

test("nothing waits for a rollout that is over", () => {
  expect(shownState("waiting", "running")).toBe("waiting");
  expect(shownState("waiting", "rolled-back")).toBe("not-reached");
  expect(shownState("running", "paused")).toBe("paused");
  const rollout = { state: "running", to_version: 2, devices_confirmed: 1, devices_total: 12 } as Rollout;
  expect(reachedWords(rollout)).toBe("1 of 12 devices confirmed");
  expect(reachedWords({ ...rollout, state: "completed" })).toBe("1 of 12 devices on v2 now");
});

test("why: the failed gates by name, else those it waits for, else the hub's words", () => {
  const gate = { value: null, limit: null, n: 0 };
  const gates = [
    { ...gate, gate: "errors", state: "wait", words: "0 of 5" },
    { ...gate, gate: "mix", state: "fail", words: "far off" },
  ] satisfies Rollout["gates"];
  const why = { state: "rolled-back", reason: "mix: far off", gates } as const;
  expect(whyWords(why)).toBe("Prediction mix: far off");
  expect(whyWords({ ...why, state: "running" })).toBe("waiting for evidence: errors");
  expect(whyWords({ ...why, state: "aborted", reason: "aborted by hand" })).toBe("aborted by hand");
  const event = { at: 0, stage: 0, reason: "long", gates };
  expect(decisionWords({ ...event, decision: "hold" })).toBe("waiting for evidence: errors");
  expect(decisionWords({ ...event, decision: "stop" })).toBe("Prediction mix: far off");
  expect(decisionWords({ ...event, decision: "continue" })).toBe("long");
});
