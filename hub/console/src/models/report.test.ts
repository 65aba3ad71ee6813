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
  expect([report.p50, report.p95]).toEqual([0.5, 0.7]);
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
