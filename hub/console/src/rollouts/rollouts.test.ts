import { expect, test } from "vitest";

import { barScale } from "../parts/bar";
import { DEFAULT_GATES, readGates } from "./gate-values";
import { gateFigure, PRESETS } from "./words";

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
