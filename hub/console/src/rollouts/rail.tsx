// The stages of a rollout, in order, with what became of each.

import type { Rollout } from "../api/types";
import { count } from "../format";
import { Mark, stateWords } from "../parts/marks";
import { shownState } from "./words";

interface RailProps {
  rollout: Rollout;
  /** Shapes alone, for a row of a table. */
  small?: boolean;
}

export function Rail({ rollout, small = false }: RailProps) {
  return (
    <ol className={small ? "rail small" : "rail"} aria-label="Stages">
      {rollout.stages.map((stage) => {
        const state = shownState(stage.state, rollout.state);
        return (
          <li
            key={stage.index}
            className={`rail-stage ${stage.state}`}
            aria-current={stage.state === "running" ? "step" : undefined}
            title={small ? `${stage.title}: ${stateWords(state)}` : undefined}
          >
            <span className="rail-mark">
              <Mark state={state} />
            </span>
            {small ? (
              <span className="unseen">
                {stage.title}: {stateWords(state)}
              </span>
            ) : (
              <span className="rail-words">
                <b>{stage.title}</b>
                <span className="muted">
                  {count(stage.devices, "device")}, {stateWords(state)}
                </span>
              </span>
            )}
          </li>
        );
      })}
    </ol>
  );
}
