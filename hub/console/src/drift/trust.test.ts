import { expect, test } from "vitest";

import type { Alert, BundleCalibration } from "../api/types";
import { errorRate, newest, trustFacts } from "./trust";

const RATE = { alarms: 4, trials: 80, rate: 0.05, low: 0.014, high: 0.123 };
const BUNDLE = {
  digest: "d", profile: "p", error: null, m: 2000, block: 20, independent: 300, level_low: 0.03, level_high: 0.07,
  span: 100, alpha: 0.001, false_alarms: RATE, promise: 100, run_length: 87.4, run_length_low: 60.2,
  run_length_high: 131, alarms: 20, horizon: 4, horizon_needed: 9300, power: [], needed: 4000, enough: false, words: [],
  smallest: [{ who: "device", per_day: 300, n: 90, size: 0.42 }, { who: "group", per_day: 3000, n: 90, size: null }],
} as BundleCalibration;
const ALERT = {
  id: "a", kind: "drift", model: "m", group: "g", summary: "s", details: { false_alert_rate: 2.02e-4 }, opened_at: 1,
  closed_at: null, calibration: null,
} as Alert;

test("a calibration is read as facts: rate, run length, smallest shifts, and what the reference lacks", () => {
  const facts = new Map(trustFacts(BUNDLE));
  expect(facts.get("Reference")).toBe("2,000 items, as good as 300 drawn alone; too small: 4,000 are needed");
  expect(facts.get("False alarms, due 5%")).toBe("5.0% (4 of 80 undrifted spans), between 1.4% and 12.3%");
  expect(facts.get("Spans to a false alarm of the watch, due 100") ?? "").toMatch(/^87, between 60 and 131; .* 4 spans/);
  expect(facts.get("Smallest shift that a device shows in a day") ?? "").toMatch(/^a move of 0\.42 .*, of 300/);
  expect(facts.get("Smallest shift that a group shows in a day") ?? "").toMatch(/^none of those tried/);
});

test("an alert quotes its stated rate, and the measured one where there is one", () => {
  expect(errorRate(ALERT)).toMatch(/^An alert takes .* false at most once in 4,950 judgements\.$/);
  const quoted = { job: "j", version: 1, at: 1, profile: "p", false_alarms: RATE, promise: 100, run_length: 87, words: [] };
  const told = errorRate({ ...ALERT, calibration: { ...quoted, enough: false } }) ?? "";
  expect(told).toMatch(/4 of 80 undrifted spans alarm at 5% \(5\.0%\)\. The reference is too small/);
  expect(errorRate({ ...ALERT, details: {} })).toBe(undefined);
  expect(errorRate({ ...ALERT, kind: "data-quality" })).toBe(undefined);
});

test("the newest version's calibration is shown", () => {
  expect(newest([{ version: 2 }, { version: 10 }, { version: 3 }])?.version).toBe(10);
  expect(newest([])).toBe(undefined);
});
