// Judgements as series to draw. Pure.

import type { Judgement } from "../api/types";

/** Nobody can tell 1e-10 from 1e-300 by looking: what is surer is drawn at the top. */
export const SUREST = 10;

/** How surprising: -log10 of a p-value, at most SUREST. */
export function surprise(p: number): number {
  return p <= 0 ? SUREST : Math.min(SUREST, Math.max(0, -Math.log10(p)));
}

export type Column = (number | null)[];

/** x: the time of the judgement. `alarm` repeats the evidence only where it crossed the line. */
export interface EvidenceSeries {
  at: number[];
  evidence: Column;
  line: Column;
  alarm: Column;
}

export function evidenceSeries(history: readonly Judgement[]): EvidenceSeries {
  const judged = history.map((each) => each.verdict !== "wait");
  const evidence = history.map((each, index) => (judged[index] ? surprise(each.p_value) : null));
  return {
    at: history.map((each) => each.at),
    evidence,
    line: history.map((each) => surprise(each.alpha)),
    alarm: history.map((each, index) => (each.p_value < each.alpha ? (evidence[index] ?? null) : null)),
  };
}

export interface AccuracySeries {
  at: number[];
  reference: Column;
  low: Column;
  high: Column;
  estimated: Column;
  labelled: Column;
}

export function accuracySeries(history: readonly Judgement[]): AccuracySeries {
  return {
    at: history.map((each) => each.at),
    reference: history.map((each) => each.reference_accuracy),
    low: history.map((each) => each.estimated_low),
    high: history.map((each) => each.estimated_high),
    estimated: history.map((each) => each.estimated_accuracy),
    labelled: history.map((each) => (each.labelled > 0 ? each.labelled_accuracy : null)),
  };
}

/** One range for the small multiples of a model, so that they can be compared: from the earliest to the latest. */
export function timeRange(histories: readonly (readonly Judgement[])[]): [number, number] | undefined {
  const times = histories.flatMap((history) => history.map((each) => each.at));
  if (times.length === 0) return undefined;
  const from = Math.min(...times);
  const to = Math.max(...times);
  const margin = Math.max(1, (to - from) * 0.02);
  return [from - margin, to + margin];
}

/** The top of the evidence's axis: room above the line and above what was seen. */
export function evidenceTop(histories: readonly (readonly Judgement[])[]): number {
  const all = histories.flatMap((history) =>
    history.map((each) => Math.max(surprise(each.p_value), surprise(each.alpha) * 1.5)),
  );
  return Math.max(4, ...all) * 1.06;
}

/** The range of the accuracies' axis: what is there, with a margin, within 0 and 1. */
export function accuracyRange(histories: readonly (readonly Judgement[])[]): [number, number] {
  const values = histories
    .flatMap((history) =>
      history.flatMap((each) => [
        each.reference_accuracy,
        each.estimated_low,
        each.estimated_high,
        each.labelled > 0 ? each.labelled_accuracy : null,
      ]),
    )
    .filter((value) => value !== null);
  if (values.length === 0) return [0, 1];
  const low = Math.min(...values);
  const high = Math.max(...values);
  const margin = Math.max(0.01, (high - low) * 0.1);
  return [Math.max(0, low - margin), Math.min(1, high + margin)];
}

/** A sparkline: scores from left to right, 0 at the bottom, `top` at the top; one score is a level line. */
export function devicePath(scores: readonly number[], top: number, width: number, height: number): string {
  const points = scores.length === 1 ? [...scores, ...scores] : scores;
  const step = width / Math.max(1, points.length - 1);
  return points
    .map((score, index) => {
      const y = height - (height * Math.min(Math.max(score, 0), top)) / (top || 1);
      return `${index === 0 ? "M" : "L"}${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}
