// The hub's server-sent events.
//
// Rules: an event is a hint that something changed, never the truth; after every (re)connect a "resync" tells the
// readers that they may have missed some; a stream that ends is opened again after a growing, bounded wait.

const KINDS = ["device", "rollout", "experiment", "judgement", "alert", "job", "training-run", "sample-request"] as const;

export type Kind = (typeof KINDS)[number];
export type Connection = "connecting" | "live" | "reconnecting";
export interface Hint {
  kind: Kind | "resync";
  id: string;
}

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

/** One stream for the whole console. */
class Live {
  connection: Connection = "connecting";
  private source: EventSource | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wait = FIRST_WAIT_MS;
  private readonly readers = new Set<(hint: Hint) => void>();
  private readonly watchers = new Set<() => void>();

  start(): void {
    if (this.source || this.timer) return;
    const source = new EventSource("/api/v1/events");
    this.source = source;
    source.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      this.become("live");
      this.tell({ kind: "resync", id: "" });
    };
    source.onerror = () => {
      source.close();
      this.source = undefined;
      this.become("reconnecting");
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.start();
      }, this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT_MS);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (event: MessageEvent<string>) => this.tell({ kind, id: identifier(event.data) }));
    }
  }

  stop(): void {
    this.source?.close();
    this.source = undefined;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.wait = FIRST_WAIT_MS;
    this.become("connecting");
  }

  /** Call `reader` with every hint; returns what ends that. */
  read(reader: (hint: Hint) => void): () => void {
    this.readers.add(reader);
    return () => this.readers.delete(reader);
  }

  /** Call `watcher` whenever `connection` changes; returns what ends that. */
  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  private tell(hint: Hint): void {
    for (const reader of this.readers) reader(hint);
  }

  private become(connection: Connection): void {
    if (this.connection === connection) return;
    this.connection = connection;
    for (const watcher of this.watchers) watcher();
  }
}

function identifier(data: string): string {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" && value !== null && "id" in value ? String(value.id) : "";
  } catch {
    return ""; // a hint without an id still says that something of its kind changed
  }
}

export const live = new Live();
