// The time, as one shared tick: what shows a relative time redraws only when its text changes.

import { useSyncExternalStore } from "react";

import { relative } from "../format";

const TICK_MS = 5_000;
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    for (const each of listeners) each();
  }, TICK_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** "3 min ago", kept true. */
export function useRelative(at: number): string {
  return useSyncExternalStore(subscribe, () => relative(at, Date.now() / 1000));
}
