// Structural sharing, so that a refetch which brought nothing new redraws nothing.

/** `next`, with every part that equals its part of `previous` taken from `previous` (arrays of things: by `id`). JSON values only. */
export function reuse<T>(previous: unknown, next: T): T {
  return merge(previous, next) as T;
}

function merge(previous: unknown, next: unknown): unknown {
  if (Object.is(previous, next)) return previous;
  if (Array.isArray(previous) && Array.isArray(next)) return mergeArrays(previous, next);
  if (isRecord(previous) && isRecord(next)) return mergeRecords(previous, next);
  return next;
}

function mergeArrays(previous: unknown[], next: unknown[]): unknown[] {
  const byId = new Map<unknown, unknown>();
  for (const item of previous) if (isRecord(item) && "id" in item) byId.set(item.id, item);
  const merged = next.map((item, index) =>
    merge(isRecord(item) && "id" in item ? byId.get(item.id) : previous[index], item),
  );
  const same = previous.length === merged.length && merged.every((item, index) => Object.is(item, previous[index]));
  return same ? previous : merged;
}

function mergeRecords(previous: Record<string, unknown>, next: Record<string, unknown>): Record<string, unknown> {
  const keys = Object.keys(next);
  let same = Object.keys(previous).length === keys.length;
  const merged: Record<string, unknown> = {};
  for (const key of keys) {
    merged[key] = merge(previous[key], next[key]);
    same &&= key in previous && Object.is(merged[key], previous[key]);
  }
  return same ? previous : merged;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
