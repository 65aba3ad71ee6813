// How a state looks: a shape and a tone, never the tone alone; and the word beside it.

import { memo } from "react";

export type Tone = "ok" | "info" | "warn" | "bad" | "off";
type Shape =
  "disc" | "check" | "half" | "ring" | "diamond" | "back" | "bar" | "dot" | "triangle" | "arrow" | "pause" | "square";

/** Every state that the API names, of devices, rollouts, stages, gates, experiments, verdicts, jobs and alerts. */
export const MARKS = {
  confirmed: ["ok", "disc"],
  trial: ["info", "half"],
  downloading: ["info", "arrow"],
  pending: ["warn", "ring"],
  failed: ["bad", "diamond"],
  "rolled-back": ["bad", "back"],
  offline: ["off", "bar"],
  revoked: ["off", "square"],
  none: ["off", "dot"],
  waiting: ["off", "dot"],
  "not-reached": ["off", "dot"],
  running: ["info", "half"],
  paused: ["warn", "pause"],
  completed: ["ok", "check"],
  aborted: ["off", "square"],
  passed: ["ok", "check"],
  pass: ["ok", "check"],
  wait: ["off", "dot"],
  fail: ["bad", "diamond"],
  off: ["off", "bar"],
  quiet: ["ok", "check"],
  "label-shift": ["warn", "ring"],
  drift: ["warn", "triangle"],
  harmful: ["bad", "diamond"],
  "data-quality": ["bad", "square"],
  "candidate-wins": ["ok", "check"],
  "control-wins": ["warn", "back"],
  "no-difference": ["ok", "ring"],
  guardrail: ["bad", "diamond"],
  broken: ["bad", "triangle"],
  stopped: ["off", "square"],
  "taking-part": ["info", "half"],
  left: ["off", "bar"],
  queued: ["off", "dot"],
  accepted: ["ok", "check"],
  rejected: ["warn", "square"],
  open: ["bad", "triangle"],
  closed: ["ok", "check"],
} as const satisfies Record<string, readonly [Tone, Shape]>;

export type StateName = keyof typeof MARKS;

const WORDS: Partial<Record<StateName, string>> = {
  none: "no model",
  "rolled-back": "rolled back",
  "not-reached": "not reached",
  "label-shift": "label shift",
  harmful: "harmful drift",
  "data-quality": "broken inputs",
  "candidate-wins": "candidate wins",
  "control-wins": "control wins",
  "no-difference": "no difference",
  guardrail: "guardrail broken",
  broken: "split broken",
  "taking-part": "taking part",
  wait: "waiting for evidence",
  quiet: "no drift",
};

/** The state in words. */
export function stateWords(state: StateName): string {
  return WORDS[state] ?? state;
}

export function toneOf(state: StateName): Tone {
  return MARKS[state][0];
}

/** The shape alone: always beside the word, or labelled by what holds it. */
export const Mark = memo(function Mark({ state }: { state: StateName }) {
  const [tone, shape] = MARKS[state];
  return (
    <svg className={`mark tone-${tone}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      {drawing(shape)}
    </svg>
  );
});

/** Shape and word. */
export function State({ state, label }: { state: StateName; label?: string }) {
  return (
    <span className="state">
      <Mark state={state} />
      {label ?? stateWords(state)}
    </span>
  );
}

/** Shape and word on a tinted ground: for the state of a whole page or card. */
export function Badge({ state, label }: { state: StateName; label?: string }) {
  return (
    <span className={`badge tone-${toneOf(state)}`}>
      <Mark state={state} />
      {label ?? stateWords(state)}
    </span>
  );
}

function drawing(shape: Shape) {
  switch (shape) {
    case "disc":
      return <circle cx="8" cy="8" r="6.5" fill="currentColor" />;
    case "check":
      return (
        <>
          <circle cx="8" cy="8" r="7" fill="currentColor" />
          <path d="m4.8 8.2 2.3 2.3 4.1-4.8" className="mark-cut" />
        </>
      );
    case "half":
      return (
        <>
          <circle cx="8" cy="8" r="6" className="mark-line" />
          <path d="M8 2a6 6 0 0 0 0 12Z" fill="currentColor" />
        </>
      );
    case "ring":
      return <circle cx="8" cy="8" r="5.8" className="mark-line" />;
    case "diamond":
      return <path d="M8 .6 15.4 8 8 15.4.6 8Z" fill="currentColor" />;
    case "back":
      return <path d="M8 2 14 8 8 14 2 8Z" className="mark-line" />;
    case "bar":
      return <rect x="2" y="6.2" width="12" height="3.6" rx="1.8" fill="currentColor" />;
    case "dot":
      return <circle cx="8" cy="8" r="3" fill="currentColor" />;
    case "triangle":
      return <path d="M8 1.4 15.2 14.4H.8Z" fill="currentColor" />;
    case "arrow":
      return <path d="M8 14.6.8 4h14.4Z" fill="currentColor" />;
    case "pause":
      return <path d="M4 2.5h3v11H4zM9 2.5h3v11H9z" fill="currentColor" />;
    case "square":
      return <rect x="2.5" y="2.5" width="11" height="11" rx="1.5" className="mark-line" />;
  }
}
