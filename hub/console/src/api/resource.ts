// What a page reads from the hub, kept fresh.
//
// Rules: one resource a path, shared by all who show it; a hint refetches it, at most once a second and never more than
// a fifth of the time; a slow poll stands in while the stream is cut; a failed refetch keeps the last good data and says
// so, and a hub that does not answer at all is told once, for the whole console.

import { useSyncExternalStore } from "react";

import { ApiError, get, getAll } from "./client";
import { live, type Hint, type Kind } from "./live";
import { reuse } from "./reuse";

const SHORTEST_GAP_MS = 1_000;
const POLL_LIVE_MS = 60_000;
const POLL_CUT_MS = 5_000;

/** Did the hub answer when it was last asked? */
const reach = {
  answers: true,
  watchers: new Set<() => void>(),
  become(answers: boolean): void {
    if (this.answers === answers) return;
    this.answers = answers;
    for (const watcher of this.watchers) watcher();
  },
};

function watchReach(watcher: () => void): () => void {
  reach.watchers.add(watcher);
  return () => reach.watchers.delete(watcher);
}

export function useHubAnswers(): boolean {
  return useSyncExternalStore(watchReach, () => reach.answers);
}

export interface Reading<T> {
  /** undefined until the first answer. */
  data: T | undefined;
  /** What the hub said against the newest fetch; `data` is then the last good one. */
  error: ApiError | undefined;
}

class Resource<T> {
  private reading: Reading<T> = { data: undefined, error: undefined };
  private readonly listeners = new Set<() => void>();
  private detach: (() => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = Infinity;
  private started = -Infinity;
  private took = 0;
  private fetching = false;
  private stale = false;

  constructor(
    private readonly load: () => Promise<T>,
    private readonly kinds: readonly Kind[],
  ) {}

  current = (): Reading<T> => this.reading;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    if (this.listeners.size === 1) this.attach();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.stop();
    };
  };

  /** Fetch soon. */
  refresh(): void {
    if (this.fetching) {
      this.stale = true;
      return;
    }
    const gap = Math.max(SHORTEST_GAP_MS, 5 * this.took);
    this.fetchIn(Math.max(0, this.started + gap - performance.now()));
  }

  private attach(): void {
    const stopReading = live.read((hint: Hint) => {
      if (hint.kind === "resync" || this.kinds.includes(hint.kind)) this.refresh();
    });
    const stopWatching = live.watch(() => this.fetchIn(this.poll()));
    this.detach = () => {
      stopReading();
      stopWatching();
    };
    this.refresh();
  }

  private stop(): void {
    this.detach?.();
    clearTimeout(this.timer);
    this.due = Infinity;
  }

  private fetchIn(wait: number): void {
    const due = performance.now() + wait;
    if (this.listeners.size === 0 || this.fetching || due >= this.due) return;
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => void this.fetch(), wait);
  }

  private async fetch(): Promise<void> {
    this.due = Infinity;
    this.fetching = true;
    this.stale = false;
    this.started = performance.now();
    try {
      const data = reuse(this.reading.data, await this.load());
      reach.become(true);
      this.become({ data, error: undefined });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      reach.become(error.status !== 0);
      this.become({ data: this.reading.data, error: error.status === 0 ? undefined : error });
    } finally {
      this.took = performance.now() - this.started;
      this.fetching = false;
      if (this.stale) this.refresh();
      this.fetchIn(this.poll());
    }
  }

  private poll(): number {
    return live.connection === "live" ? POLL_LIVE_MS : POLL_CUT_MS;
  }

  private become(reading: Reading<T>): void {
    if (Object.is(reading.data, this.reading.data) && reading.error === this.reading.error) return;
    this.reading = reading;
    for (const listener of this.listeners) listener();
  }
}

const resources = new Map<string, Resource<unknown>>();

/** Forget everything that was read: the next session may be another's. */
export function forgetAll(): void {
  resources.clear();
}

/** Fetch `path` again now, where a page shows it: after a change made here. */
export function refresh(path: string): void {
  resources.get(path)?.refresh();
}

function useLoaded<T>(path: string, load: () => Promise<T>, kinds: readonly Kind[]): Reading<T> {
  let resource = resources.get(path) as Resource<T> | undefined;
  if (!resource) {
    resource = new Resource(load, kinds);
    resources.set(path, resource as Resource<unknown>);
  }
  return useSyncExternalStore(resource.subscribe, resource.current);
}

/** One thing, refetched when a hint of one of `kinds` comes. */
export function useOne<T>(path: string, kinds: readonly Kind[]): Reading<T> {
  return useLoaded(path, () => get<T>(path), kinds);
}

/** A whole paged list, refetched when a hint of one of `kinds` comes. */
export function useAll<T>(path: string, kinds: readonly Kind[]): Reading<T[]> {
  return useLoaded(path, () => getAll<T>(path), kinds);
}
