// The hand on an experiment: stop it, or roll its candidate out; against what was decided only after a question.

import { useState } from "react";

import { ApiError, change } from "../api/client";
import type { ExperimentDetail } from "../api/types";
import { version } from "../format";
import { Dialog } from "../parts/dialog";
import { Trouble } from "../parts/notices";
import { targetWords } from "../rollouts/words";
import { go, to } from "../routing";

interface ActionsProps {
  experiment: ExperimentDetail;
  onChanged: () => void;
}

export function Actions({ experiment, onChanged }: ActionsProps) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const proved = experiment.decision === "candidate-wins" || experiment.decision === "no-difference";

  async function act(action: "stop" | "promote"): Promise<void> {
    setBusy(true);
    setError(undefined);
    try {
      const path = `/experiments/${encodeURIComponent(experiment.id)}/${action}`;
      const body = action === "promote" ? { force: !proved } : undefined;
      const changed = await change<ExperimentDetail>("POST", path, body);
      setAsking(false);
      onChanged();
      if (changed.rollout !== null) go(to("rollouts", changed.rollout));
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    } finally {
      setBusy(false);
    }
  }

  if (experiment.rollout !== null) {
    return (
      <a className="button" href={to("rollouts", experiment.rollout)}>
        See its rollout
      </a>
    );
  }
  return (
    <>
      {!asking && <Trouble error={error} />}
      {experiment.candidate !== null && (
        <button
          type="button"
          className={proved ? "button primary" : "button"}
          disabled={busy}
          onClick={() => setAsking(true)}
        >
          Roll {version(experiment.candidate)} out
        </button>
      )}
      {experiment.state === "running" && (
        <button type="button" className="button danger" disabled={busy} onClick={() => void act("stop")}>
          Stop
        </button>
      )}
      {asking && (
        <Dialog title={`Roll ${version(experiment.candidate)} out?`} onClose={() => setAsking(false)}>
          <p>
            To {targetWords(experiment.group)}, by canary: 1 device, then 25%, then all, under the usual gates.{" "}
            {!proved && "The candidate has not won: this rolls it out all the same."}
            {experiment.state === "running" && " The experiment ends."}
          </p>
          <Trouble error={error} />
          <div className="dialog-actions">
            <button type="button" className="button" onClick={() => setAsking(false)}>
              Not now
            </button>
            <button
              type="button"
              className={proved ? "button primary" : "button danger"}
              disabled={busy}
              onClick={() => void act("promote")}
            >
              Roll it out
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
