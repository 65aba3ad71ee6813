import { expect, test } from "vitest";

import type { DeviceHealth, HealthSpan } from "../api/types";
import { clockWords, lines, path, totals } from "./health";

function span(received_at: number, changes: Partial<HealthSpan>): HealthSpan {
  const times = { start: 0, end: 60, duration: 60, uncertainty: 0.25, received_at };
  return { ...times, gauges: {}, totals: {}, ...changes };
}

const HEALTH: DeviceHealth = {
  device: "cam-1",
  models: [],
  spans: [
    span(100, { gauges: { cpu: { mean: 0.5, least: 0.1, most: 0.954 } }, totals: { sent_bytes: 900, energy_mj: 1.8e6 } }),
    span(160, { gauges: { temperature: { mean: 55.4, least: 55, most: 56 } }, totals: { energy_mj: 1.8e6 } }),
    span(220, { gauges: { cpu: { mean: 0.25, least: 0.2, most: 0.3 } }, totals: { sent_bytes: 100 } }),
  ],
};

test("each resource that there is says what it is now, and what it was", () => {
  expect(lines(HEALTH).map(({ title, now, range }) => [title, now, range])).toEqual([
    ["Processor", "25%", "10% to 95%"],
    ["Temperature", "55 °C", "55 °C to 56 °C"],
  ]);
  expect(lines({ ...HEALTH, spans: [] })).toEqual([]);
});

test("a line has a gap where nothing was told, and fits its box", () => {
  const [cpu, temperature] = lines(HEALTH);
  expect(path(cpu!.points, 120, 30)).toBe("M0.0 0.0h0M120.0 30.0h0");
  expect(path(temperature!.points, 120, 30)).toBe("M60.0 15.0h0");
  expect(path([], 120, 30)).toBe("");
});

test("totals add up", () => {
  expect(totals(HEALTH)).toEqual([
    ["Network", "0 B in, 1.0 KB out"],
    ["Energy", "1 Wh"],
  ]);
});

test("the clock is as sure as it is", () => {
  expect(clockWords(span(0, {}))).toBe("right within 250 ms");
  expect(clockWords(span(0, { uncertainty: 12 }))).toBe("right within 12 s");
  expect(clockWords(span(0, { uncertainty: null }))).toContain("not known");
});
