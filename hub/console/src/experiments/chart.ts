// The chart of an experiment: the effect and its confidence sequence over time, against zero and the margin.

import type uPlot from "uplot";

import type { ExperimentDetail } from "../api/types";
import { timeAxis, valueAxis } from "../drift/charts";
import type { Palette, PlotOptions } from "../drift/plot";
import type { Metric } from "./words";

export type Range = [number, number];

/** x: times; then the margin's two lines, zero, the interval's two bounds, the effect. */
export function effectData(experiment: ExperimentDetail): uPlot.AlignedData {
  const { history, margin } = experiment;
  const line = (value: number) => history.map(() => value);
  return [
    history.map((point) => point.at),
    line(margin),
    line(-margin),
    line(0),
    history.map((point) => point.high),
    history.map((point) => point.low),
    history.map((point) => point.effect),
  ];
}

/** What the newer half of the history needs: the first intervals are as wide as everything. */
export function effectRange(experiment: ExperimentDetail): Range {
  const { history, margin } = experiment;
  const newer = history.slice(Math.floor(history.length / 2));
  const low = Math.min(-margin, ...newer.map((point) => point.low));
  const high = Math.max(margin, ...newer.map((point) => point.high));
  const room = 0.08 * (high - low);
  return [low - room, high + room];
}

export function effectOptions(palette: Palette, range: Range, metric: Metric): PlotOptions {
  const tick = metric === "reward" ? signed : signedPercent;
  const dashed = { stroke: palette.muted, width: 1, dash: [4, 4], points: { show: false } };
  const bound = { stroke: palette.accent, width: 0.5, points: { show: false } };
  return {
    legend: { show: false },
    padding: [10, 10, 0, 0],
    cursor: { show: false },
    scales: { x: { time: true }, y: { range: () => range } },
    axes: [timeAxis(palette), { ...valueAxis(palette), values: (_, ticks) => ticks.map(tick) }],
    series: [
      {},
      dashed,
      dashed,
      { stroke: palette.ink, width: 1, points: { show: false } },
      bound,
      bound,
      { stroke: palette.accent, width: 2, points: { show: false } },
    ],
    bands: [{ series: [4, 5], fill: palette.accentWash }],
  };
}

function signedPercent(value: number): string {
  return `${signed(100 * value)}%`;
}

function signed(value: number): string {
  return `${value > 0 ? "+" : ""}${Number(value.toFixed(2))}`;
}
