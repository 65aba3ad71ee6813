// What the two charts of a group look like: the evidence of drift, and the accuracy.

import type uPlot from "uplot";

import { percent, probability } from "../format";
import type { Palette, PlotOptions } from "./plot";
import type { AccuracySeries, EvidenceSeries } from "./series";

const FONT = "11px -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const CLOCK_SECONDS = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export interface Ranges {
  time: [number, number];
  evidenceTop: number;
  accuracy: [number, number];
}

/** Diameter of a point in CSS pixels: many judgements get small ones, so that they stay points. */
function pointSize(judgements: number): number {
  return judgements > 120 ? 3.5 : judgements > 60 ? 5 : 7;
}

export function evidenceData(series: EvidenceSeries): uPlot.AlignedData {
  return [series.at, series.evidence, series.line, series.alarm];
}

export function evidenceOptions(
  palette: Palette,
  ranges: Ranges,
  alpha: number,
  judgements: number,
  sync: string,
  shared: Shared,
): PlotOptions {
  const size = pointSize(judgements);
  return {
    ...shared(palette, sync, ranges),
    scales: { x: { time: true, range: () => ranges.time }, y: { range: () => [0, ranges.evidenceTop] } },
    axes: [
      timeAxis(palette),
      { ...valueAxis(palette), values: (_, ticks) => ticks.map(powerOfTen), splits: () => powers(ranges.evidenceTop) },
    ],
    series: [
      {},
      { stroke: palette.accent, width: 2, points: { show: true, size: Math.min(4, size - 1), fill: palette.accent } },
      { stroke: palette.bad, width: 1.5, dash: [6, 4], points: { show: false } },
      { stroke: palette.bad, width: 0, points: { show: true, size, fill: palette.bad } },
    ],
    hooks: {
      drawAxes: [(plot) => washAbove(plot, palette, alpha)],
      draw: [(plot) => nameLine(plot, palette, `alarm below p = ${probability(alpha)}`, alpha)],
    },
  };
}

export function accuracyData(series: AccuracySeries): uPlot.AlignedData {
  return [series.at, series.labelled, series.reference, series.high, series.low, series.estimated];
}

/** The labelled accuracy lies undermost, so that its points hide no line. */
export function accuracyOptions(
  palette: Palette,
  ranges: Ranges,
  judgements: number,
  sync: string,
  shared: Shared,
): PlotOptions {
  return {
    ...shared(palette, sync, ranges),
    scales: { x: { time: true, range: () => ranges.time }, y: { range: () => ranges.accuracy } },
    axes: [timeAxis(palette), { ...valueAxis(palette), values: (_, ticks) => ticks.map(wholePercent) }],
    series: [
      {},
      { stroke: palette.ink, width: 0, points: { show: true, size: pointSize(judgements), fill: palette.ink } },
      { stroke: palette.muted, width: 1.5, dash: [6, 4], points: { show: false } },
      { stroke: palette.accent, width: 0.5, points: { show: false } },
      { stroke: palette.accent, width: 0.5, points: { show: false } },
      { stroke: palette.accent, width: 2, points: { show: false } },
    ],
    bands: [{ series: [3, 4], fill: palette.accentWash }],
  };
}

type Shared = (palette: Palette, sync: string, ranges: Ranges) => Pick<PlotOptions, "legend" | "cursor" | "padding">;

/** Hovering one chart marks the same moment in its sibling, and tells `onPoint` which judgement that is. */
export function sharedOptions(onPoint: (index: number | null) => void): Shared {
  return (_palette, sync) => ({
    legend: { show: false },
    padding: [10, 10, 0, 0],
    cursor: {
      sync: { key: sync },
      drag: { x: false, y: false },
      y: false,
      points: { show: false },
      dataIdx: (_plot, series, index) => {
        if (series === 0) onPoint(index);
        return index;
      },
    },
  });
}

export function timeAxis(palette: Palette): uPlot.Axis {
  return {
    stroke: palette.muted,
    font: FONT,
    grid: { show: false },
    ticks: { stroke: palette.line, width: 1, size: 4 },
    size: 26,
    space: 72,
    values: (_plot, ticks, _axis, _space, step) => timeLabels(ticks, step),
  };
}

/** Days where the ticks are days apart, else the time, with seconds where minutes would repeat. */
function timeLabels(ticks: number[], step: number): string[] {
  const format = step >= 86_400 ? DAY : step >= 60 ? CLOCK : CLOCK_SECONDS;
  return ticks.map((tick) => format.format(tick * 1000));
}

export function valueAxis(palette: Palette): uPlot.Axis {
  return {
    stroke: palette.muted,
    font: FONT,
    grid: { stroke: palette.line, width: 1 },
    ticks: { show: false },
    size: 46,
    space: 28,
  };
}

/** Ticks of the evidence's axis: 0, 2, 4... powers of ten. */
function powers(top: number): number[] {
  return Array.from({ length: Math.floor(top / 2) + 1 }, (_, index) => index * 2);
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function powerOfTen(power: number): string {
  if (power === 0) return "1";
  const digits = [...String(power)].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
  return `10⁻${digits}`;
}

function wholePercent(share: number): string {
  return percent(Math.round(share * 1000) / 1000).replace(".0%", "%");
}

/** Where the alarm is: a wash over everything above the line. */
function washAbove(plot: uPlot, palette: Palette, alpha: number): void {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(-Math.log10(alpha), "y", true);
  ctx.save();
  ctx.fillStyle = palette.badWash;
  ctx.fillRect(bbox.left, bbox.top, bbox.width, Math.max(0, y - bbox.top));
  ctx.restore();
}

function nameLine(plot: uPlot, palette: Palette, text: string, alpha: number): void {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const y = plot.valToPos(-Math.log10(alpha), "y", true);
  ctx.save();
  ctx.font = FONT.replace("11px", `${11 * ratio}px`);
  ctx.fillStyle = palette.bad;
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  ctx.fillText(text, bbox.left + 6 * ratio, y - 3 * ratio);
  ctx.restore();
}
