// What a device says of its resources, as lines to draw and words to read. Pure.

import type { DeviceHealth, HealthSpan } from "../api/types";
import { bytes, number } from "../format";

export interface Line {
  name: string;
  title: string;
  /** The newest mean, in words. */
  now: string;
  /** The least and the most over all spans, in words. */
  range: string;
  /** Mean of each span, null where it has none, by the hub's clock. */
  points: { at: number; value: number | null }[];
}

const SHOWN: readonly [name: string, title: string, words: (value: number) => string][] = [
  ["cpu", "Processor", share],
  ["memory", "Memory used", bytes],
  ["agent_memory", "Agent's memory", bytes],
  ["disk_free", "Disk free", bytes],
  ["temperature", "Temperature", celsius],
  ["throttled", "Throttled", share],
  ["gpu", "GPU", share],
  ["gpu_memory", "GPU memory", bytes],
  ["gpu_temperature", "GPU temperature", celsius],
  ["power", "Power", (watts) => `${number(watts)} W`],
];

function share(value: number): string {
  return `${Math.round(value * 100)}%`;
}

function celsius(degrees: number): string {
  return `${Math.round(degrees)} °C`;
}

/** One line for each resource that any span tells of. */
export function lines(health: DeviceHealth): Line[] {
  return SHOWN.flatMap(([name, title, words]) => {
    const seen = health.spans.flatMap((span) => span.gauges[name] ?? []);
    const newest = seen.at(-1);
    if (!newest) return [];
    const least = words(Math.min(...seen.map((gauge) => gauge.least)));
    const most = words(Math.max(...seen.map((gauge) => gauge.most)));
    const points = health.spans.map((span) => ({ at: span.received_at, value: span.gauges[name]?.mean ?? null }));
    return [{ name, title, now: words(newest.mean), range: least === most ? least : `${least} to ${most}`, points }];
  });
}

/** What was counted over all spans: network and energy. */
export function totals(health: DeviceHealth): [string, string][] {
  const sum = (name: string) =>
    health.spans.reduce<number | null>((so, span) => (name in span.totals ? (so ?? 0) + span.totals[name]! : so), null);
  const [received, sent, energy, throttles] = ["received_bytes", "sent_bytes", "energy_mj", "throttle_events"].map(sum);
  const found: [string, string][] = [];
  if (received != null || sent != null) found.push(["Network", `${bytes(received ?? 0)} in, ${bytes(sent ?? 0)} out`]);
  if (energy != null) found.push(["Energy", `${number(energy / 3.6e6)} Wh`]);
  if (throttles) found.push(["Throttled", `${throttles} times`]);
  return found;
}

/** How sure the times of the newest span are. */
export function clockWords(span: HealthSpan): string {
  if (span.uncertainty === null) return "not known: nobody told it the time yet";
  return `right within ${span.uncertainty < 1 ? `${Math.ceil(span.uncertainty * 1000)} ms` : `${number(span.uncertainty)} s`}`;
}

/** The points as an SVG path in a box of this size; a gap where a value is missing. */
export function path(points: Line["points"], width: number, height: number): string {
  const values = points.flatMap((point) => (point.value === null ? [] : [point.value]));
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last || values.length === 0) return "";
  const least = Math.min(...values);
  const reach = Math.max(...values) - least;
  const across = (at: number) => (last.at > first.at ? ((at - first.at) / (last.at - first.at)) * width : width);
  const down = (value: number) => (reach > 0 ? height - ((value - least) / reach) * height : height / 2);
  let drawing = false;
  return points
    .map((point) => {
      if (point.value === null) {
        drawing = false;
        return "";
      }
      const place = `${across(point.at).toFixed(1)} ${down(point.value).toFixed(1)}`;
      const step = drawing ? `L${place}` : `M${place}h0`; // no way at all, yet a dot where it stays alone
      drawing = true;
      return step;
    })
    .join("");
}
