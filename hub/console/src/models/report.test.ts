import { expect, test } from "vitest";

import { beforeAfter, figures, readReport } from "./report";

test("latency is that of the scheme that was kept", () => {
  const report = readReport({
    metric: "accuracy",
    metric_before: 0.9731,
    metric_after: 0.9724,
    scheme: "u8s8",
    latency: { fp32: { p50_ms: 2, p95_ms: 3 }, u8s8: { p50_ms: 0.5, p95_ms: 0.7 } },
    not_measured: null,
  });
  expect([report.p50, report.p95, report.speed]).toEqual([0.5, 0.7, undefined]);
  expect(beforeAfter(report)).toBe("97.3% → 97.2%");
});

test("what was not measured is said, and an unknown report is no error", () => {
  const report = readReport({ latency: null, not_measured: "this machine is not aarch64" });
  expect(report.p50).toBeUndefined();
  expect(report.notMeasured).toBe("this machine is not aarch64");
  expect(beforeAfter(readReport({ metric_after: "high" }))).toBe("not measured");
});

test("metrics are read however deep, shares as percent", () => {
  expect(figures({ accuracy: 0.9702, loss: 0.1234, new: { accuracy: 0.5, n: 121 }, note: "", list: [1] })).toEqual([
    ["accuracy", "97.0%"],
    ["loss", "0.123"],
    ["new accuracy", "50.0%"],
    ["new samples", "121"],
  ]);
});

test("candidates stand as chosen, on the front or beaten, with what each lacks", () => {
  const candidate = { target: "onnxruntime", rung: "ptq", size: 10, lacks: [], latency: null };
  const report = readReport({
    metric: "accuracy",
    scheme: "u8s8",
    target: "onnxruntime",
    meets: false,
    missing: ["latency 0.6 of fp32, expected at most 0.5"],
    front: ["fp32", "u8s8"],
    latency: { source: { p50_ms: 2 }, u8s8: { p50_ms: 1.2, p95_ms: 1.4 } },
    candidates: [
      { ...candidate, name: "fp32", metric: 0.97, lacks: ["size 1.00 of fp32, expected at most 0.50", 3] },
      { ...candidate, name: "s8s8", metric: "high", size: "small" },
      { ...candidate, name: "u8s8", metric: 0.96, latency: { p50_ms: 1.2 } },
      "nonsense",
    ],
  });
  expect(report.candidates.map((one) => one.standing)).toEqual(["front", "beaten", "chosen", "beaten"]);
  expect(report.candidates.map((one) => one.figure)).toEqual(["97.0%", "not measured", "96.0%", "not measured"]);
  expect(report.candidates[0]?.lacks).toEqual(["size 1.00 of fp32, expected at most 0.50"]);
  expect([report.candidates[1]?.size, report.candidates[2]?.p50, report.speed]).toEqual([undefined, 1.2, 0.6]);
  expect([report.meets, report.missing.length]).toEqual([false, 1]);
});

test("a report without a budget or candidates says nothing of them", () => {
  const report = readReport({ scheme: "u8s8", candidates: "none" });
  expect([report.meets, report.missing, report.candidates]).toEqual([undefined, [], []]);
});
