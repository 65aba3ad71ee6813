// Reads a bundle's report (edgewise_compiler.report.Report) and a version's metrics, which the API hands on as they are.
// Pure; whatever is missing or of another type is left out, so that an older hub's reports can still be read.

import { number, percent, words } from "../format";

export interface BundleReport {
  /** What was measured: "accuracy", "fidelity" or the recipe's own figure. */
  metric: string;
  before: number | undefined;
  after: number | undefined;
  sizeBefore: number | undefined;
  scheme: string;
  /** Milliseconds an item of the bundle that was kept; undefined where not measured. */
  p50: number | undefined;
  p95: number | undefined;
  notMeasured: string;
  notes: string[];
}

export function readReport(report: Record<string, unknown>): BundleReport {
  const scheme = text(report.scheme);
  const latency = record(record(report.latency)[scheme]);
  return {
    metric: text(report.metric) || "accuracy",
    before: finite(report.metric_before),
    after: finite(report.metric_after),
    sizeBefore: finite(report.size_before),
    scheme,
    p50: finite(latency.p50_ms),
    p95: finite(latency.p95_ms),
    notMeasured: text(report.not_measured),
    notes: Array.isArray(report.notes) ? report.notes.map(text).filter(Boolean) : [],
  };
}

/** "97.4% → 97.3%". */
export function beforeAfter(report: BundleReport): string {
  if (report.after === undefined) return "not measured";
  const after = figure(report.metric, report.after);
  return report.before === undefined ? after : `${figure(report.metric, report.before)} → ${after}`;
}

/** The figures of a version's metrics, in words: nested ones as "slice accuracy". */
export function figures(metrics: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(metrics).flatMap(([key, value]): [string, string][] => {
    const name = words(prefix ? `${prefix} ${key}` : key).replace(/(^| )n$/, "$1samples");
    const amount = finite(value);
    if (amount !== undefined) return [[name, figure(key, amount)]];
    if (typeof value === "string" && value) return [[name, value]];
    return Object.keys(record(value)).length > 0 ? figures(record(value), name) : [];
  });
}

/** Shares (accuracy, agreement) as percent, everything else as a number. */
function figure(name: string, value: number): string {
  return value >= 0 && value <= 1 && /accuracy|fidelity|agreement/.test(name) ? percent(value) : number(value);
}

export interface Lineage {
  parent: number | undefined;
  trainingRun: string;
  strategy: string;
}

export function readLineage(lineage: Record<string, unknown>): Lineage {
  return {
    parent: finite(lineage.parent) ?? finite(lineage.parent_version),
    trainingRun: text(lineage.training_run),
    strategy: text(lineage.strategy),
  };
}

function finite(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
