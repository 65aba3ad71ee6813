// What was decided, when and why: newest first.

import type { RolloutEvent } from "../api/types";
import { Mark, type StateName } from "../parts/marks";
import { Time } from "../parts/time";
import { GateLines } from "./gates";
import { decisionWords } from "./words";

const LOOKS: Record<RolloutEvent["decision"], StateName> = {
  start: "running",
  continue: "passed",
  hold: "wait",
  stop: "failed",
  complete: "completed",
  pause: "paused",
  resume: "running",
  abort: "aborted",
};

export function Timeline({ events }: { events: readonly RolloutEvent[] }) {
  const newestFirst = [...events].sort((a, b) => b.at - a.at);
  return (
    <ol className="timeline" aria-label="Decisions">
      {newestFirst.map((event, index) => (
        <li key={`${event.at} ${event.decision} ${newestFirst.length - index}`}>
          <span className="timeline-mark">
            <Mark state={LOOKS[event.decision]} />
          </span>
          <div>
            <p className="timeline-head">
              <b>{event.decision}</b>
              <span className="muted">
                stage {event.stage + 1}, <Time at={event.at} />
              </span>
            </p>
            <p>{decisionWords(event)}</p>
            {event.gates.length > 0 && (
              <details>
                <summary>Evidence</summary>
                <GateLines gates={event.gates} />
              </details>
            )}
          </div>
        </li>
      ))}
    </ol>
  );
}
