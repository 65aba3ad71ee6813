// Reads a bundle's report (edgewise_compiler.report.Report) and a version's metrics, which the API hands on as they are.
// Pure; whatever is missing or of another type is left out, so that an older hub's reports can still be read.

import { number, percent, words } from "../format";

export interface BundleReport {
  /** What was measured: "accuracy", "fidelity" or the recipe's own figure. */
  metric: string;
  before: number | undefined;
  after: number | undefined;
  sizeBefore: number | undefined;
  /** The chosen candidate. */
  scheme: string;
  /** What it was compiled for, and which rung of the ladder gave it. */
  target: string;
  rung: string;
  /** Milliseconds an item of the chosen candidate; undefined where not measured. */
  p50: number | undefined;
  p95: number | undefined;
  /** Times the source in fp32, in the same run. */
  speed: number | undefined;
  notMeasured: string;
  /** Undefined where the report says nothing of a budget. */
  meets: boolean | undefined;
  missing: string[];
  notes: string[];
  candidates: Candidate[];
}

export interface Candidate {
  name: string;
  target: string;
  rung: string;
  /** The metric, in words. */
  figure: string;
  size: number | undefined;
  p50: number | undefined;
  standing: "chosen" | "front" | "beaten";
  /** What it lacks to meet the budget. */
  lacks: string[];
}

export function readReport(report: Record<string, unknown>): BundleReport {
  const scheme = text(report.scheme);
  const metric = text(report.metric) || "accuracy";
  const latencies = record(report.latency);
  const latency = record(latencies[scheme]);
  const p50 = finite(latency.p50_ms);
  const source = finite(record(latencies.source).p50_ms);
  const front = texts(report.front);
  return {
    metric,
    before: finite(report.metric_before),
    after: finite(report.metric_after),
    sizeBefore: finite(report.size_before),
    scheme,
    target: text(report.target),
    rung: text(report.rung),
    p50,
    p95: finite(latency.p95_ms),
    speed: p50 !== undefined && source ? p50 / source : undefined,
    notMeasured: text(report.not_measured),
    meets: typeof report.meets === "boolean" ? report.meets : undefined,
    missing: texts(report.missing),
    notes: texts(report.notes),
    candidates: list(report.candidates).map((each) => readCandidate(record(each), metric, scheme, front)),
  };
}

function readCandidate(one: Record<string, unknown>, metric: string, scheme: string, front: string[]): Candidate {
  const name = text(one.name);
  const value = finite(one.metric);
  return {
    name,
    target: text(one.target),
    rung: text(one.rung),
    figure: value === undefined ? "not measured" : figure(metric, value),
    size: finite(one.size),
    p50: finite(record(one.latency).p50_ms),
    standing: name === scheme ? "chosen" : front.includes(name) ? "front" : "beaten",
    lacks: texts(one.lacks),
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

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function texts(value: unknown): string[] {
  return list(value).map(text).filter(Boolean);
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
