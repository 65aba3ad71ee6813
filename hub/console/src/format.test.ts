import { expect, test } from "vitest";

import { bytes, count, percent, probability, relative } from "./format";

test("times are told from now, in one unit", () => {
  expect(relative(1000, 1003)).toBe("now");
  expect(relative(1000, 1012)).toBe("12 s ago");
  expect(relative(1000, 1000 + 3 * 60 + 59)).toBe("3 min ago");
  expect(relative(1000 + 7200, 1000)).toBe("in 2 h");
});

test("a share is never rounded to all or to nothing", () => {
  expect(percent(1)).toBe("100%");
  expect(percent(0.99999)).toBe("> 99.9%");
  expect(percent(0)).toBe("0%");
  expect(percent(0.00001)).toBe("< 0.01%");
  expect(percent(0.0004)).toBe("0.04%");
  expect(percent(0.9731)).toBe("97.3%");
});

test("a probability keeps what tells it from zero", () => {
  expect(probability(0)).toBe("< 1e-10");
  expect(probability(2e-7)).toBe("2e-7");
  expect(probability(0.00214)).toBe("0.0021");
  expect(probability(0.341)).toBe("0.34");
});

test("bytes go up by thousands", () => {
  expect(bytes(847)).toBe("847 B");
  expect(bytes(999.7)).toBe("1.0 KB");
  expect(bytes(61_234)).toBe("61.2 KB");
  expect(bytes(482_600)).toBe("483 KB");
});

test("one device, several devices", () => {
  expect(count(1, "device")).toBe("1 device");
  expect(count(1000, "device")).toBe("1,000 devices");
});
