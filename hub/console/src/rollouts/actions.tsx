// The hand on a rollout: pause and resume at once, abort after a question, since it takes devices back.

import { useState } from "react";

import { ApiError, change } from "../api/client";
import type { RolloutDetail } from "../api/types";
import { version } from "../format";
import { Dialog } from "../parts/dialog";
import { Trouble } from "../parts/notices";

type Action = "pause" | "resume" | "abort";

export function Actions({ rollout, onChanged }: { rollout: RolloutDetail; onChanged: () => void }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  if (rollout.state !== "running" && rollout.state !== "paused") return null;

  async function act(action: Action): Promise<void> {
    setBusy(true);
    setError(undefined);
    try {
      await change<RolloutDetail>("POST", `/rollouts/${encodeURIComponent(rollout.id)}/${action}`);
      setAsking(false);
      onChanged();
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    } finally {
      setBusy(false);
    }
  }

  return (
    <>
      {!asking && <Trouble error={error} />}
      {rollout.state === "running" ? (
        <button type="button" className="button" disabled={busy} onClick={() => void act("pause")}>
          Pause
        </button>
      ) : (
        <button type="button" className="button primary" disabled={busy} onClick={() => void act("resume")}>
          Resume
        </button>
      )}
      <button type="button" className="button danger" disabled={busy} onClick={() => setAsking(true)}>
        Abort
      </button>
      {asking && (
        <Dialog title="Abort this rollout?" onClose={() => setAsking(false)}>
          <p>
            {rollout.from_version === null
              ? `Devices stop taking ${rollout.model} ${version(rollout.to_version)}. There is no version before to go back to.`
              : `Every device that this rollout reached goes back to ${rollout.model} ${version(rollout.from_version)}.`}{" "}
            An aborted rollout cannot be resumed.
          </p>
          <Trouble error={error} />
          <div className="dialog-actions">
            <button type="button" className="button" onClick={() => setAsking(false)}>
              Keep it going
            </button>
            <button type="button" className="button danger" disabled={busy} onClick={() => void act("abort")}>
              Abort the rollout
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
