import { expect, test } from "vitest";

import type { Judgement } from "../api/types";
import { accuracyRange, accuracySeries, devicePath, evidenceSeries, evidenceTop, surprise, SUREST, timeRange } from "./series";

function judgement(given: Partial<Judgement> = {}): Judgement {
  return {
    model: "digits",
    group: "district-b",
    at: 100,
    span_start: 40,
    span_end: 100,
    n: 500,
    verdict: "quiet",
    words: "",
    p_value: 0.5,
    alpha: 0.001,
    effect: 0.1,
    tests: [],
    estimated_accuracy: 0.97,
    estimated_low: 0.95,
    estimated_high: 0.98,
    reference_accuracy: 0.972,
    labelled: 0,
    labelled_accuracy: null,
    windows: 4,
    versions: [3],
    kinds: [],
    effect_low: 0,
    effect_high: 0.2,
    false_alert_rate: 2e-4,
    evidence: 1,
    concept_evidence: 0,
    concept_limit: 10_000,
    stands_out: false,
    one_device: null,
    watch: null,
    devices: [],
    quality: [],
    changed: [],
    clusters: [],
    columns: [],
    label_drift_p: null,
    prior: [],
    since: null,
    ...given,
  };
}

test("evidence rises as p falls, and ends at the top", () => {
  expect(surprise(1)).toBe(0);
  expect(surprise(0.001)).toBeCloseTo(3);
  expect(surprise(0)).toBe(SUREST);
  expect(surprise(1e-300)).toBe(SUREST);
});

test("an alarm is drawn where p is below alpha, and nothing where nothing was judged", () => {
  const series = evidenceSeries([
    judgement({ verdict: "wait", p_value: 1 }),
    judgement(),
    judgement({ p_value: 1e-4, verdict: "drift" }),
  ]);
  expect(series.evidence[0]).toBeNull();
  expect(series.alarm).toEqual([null, null, 4]);
  expect(series.line[2]).toBeCloseTo(3);
});

test("labelled accuracy is drawn only where there were labels", () => {
  const series = accuracySeries([
    judgement({ labelled_accuracy: 0.9 }),
    judgement({ labelled: 20, labelled_accuracy: 0.9 }),
  ]);
  expect(series.labelled).toEqual([null, 0.9]);
});

test("small multiples share ranges that hold everything drawn", () => {
  const quiet = [judgement({ at: 100 }), judgement({ at: 300 })];
  const drifted = [judgement({ at: 200, p_value: 0, estimated_low: 0.8, labelled: 5, labelled_accuracy: 0.7 })];
  const [from, to] = timeRange([quiet, drifted]) ?? [NaN, NaN];
  expect(from).toBeLessThan(100);
  expect(to).toBeGreaterThan(300);
  expect(evidenceTop([quiet, drifted])).toBeGreaterThan(SUREST);
  const [low, high] = accuracyRange([quiet, drifted]);
  expect(low).toBeLessThan(0.7);
  expect(high).toBeGreaterThan(0.98);
  expect(high).toBeLessThanOrEqual(1);
  expect(timeRange([[], []])).toBeUndefined();
});

test("a device's line spans its box and never leaves it", () => {
  expect(devicePath([0, 5, 20], 10, 100, 20)).toBe("M0.0 20.0L50.0 10.0L100.0 0.0");
  expect(devicePath([10], 10, 100, 20)).toBe("M0.0 0.0L100.0 0.0");
  expect(devicePath([], 10, 100, 20)).toBe("");
});
