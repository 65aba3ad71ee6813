// The stages of a rollout, in order, with what became of each.

import type { RolloutStage } from "../api/types";
import { count } from "../format";
import { Mark, stateWords, type StateName } from "../parts/marks";

interface RailProps {
  stages: readonly RolloutStage[];
  /** Shapes alone, for a row of a table. */
  small?: boolean;
  /** The rollout is paused: its running stage says so. */
  paused?: boolean;
}

export function Rail({ stages, small = false, paused = false }: RailProps) {
  return (
    <ol className={small ? "rail small" : "rail"} aria-label="Stages">
      {stages.map((stage) => {
        const state: StateName = paused && stage.state === "running" ? "paused" : stage.state;
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
