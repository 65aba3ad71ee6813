// A value held against its limit, as a small bar with a tick. The words beside it say the same.

import type { Tone } from "./marks";

/** Where fill and tick stand, as percent of the bar. The limit stands at two thirds, unless the value is far beyond it. */
export function barScale(value: number, limit: number): { fill: number; tick: number } {
  const end = Math.max(limit * 1.5, value * 1.05) || 1;
  return { fill: clamp((100 * value) / end), tick: clamp((100 * limit) / end) };
}

function clamp(percent: number): number {
  return Number.isFinite(percent) ? Math.min(100, Math.max(0, percent)) : 100;
}

export function LimitBar({ value, limit, tone }: { value: number; limit: number; tone: Tone }) {
  const { fill, tick } = barScale(value, limit);
  return (
    <span className={`limit-bar tone-${tone}`} aria-hidden="true">
      {fill > 0 && <span className="limit-bar-fill" style={{ width: `${fill}%` }} />}
      <span className="limit-bar-tick" style={{ left: `${tick}%` }} />
    </span>
  );
}

/** A share of a whole. */
export function ShareBar({ share, tone }: { share: number; tone: Tone }) {
  return (
    <span className={`limit-bar tone-${tone}`} aria-hidden="true">
      <span className="limit-bar-fill" style={{ width: `${clamp(share * 100)}%` }} />
    </span>
  );
}
