// Training runs: how far, and champion against challenger on each slice.

import type { SliceComparison, TrainingRun } from "../api/types";
import { percent, version, whole } from "../format";
import { ShareBar } from "../parts/bar";
import { Badge } from "../parts/marks";
import { Empty } from "../parts/notices";
import { Time } from "../parts/time";
import { to } from "../routing";

const SLICES: Record<SliceComparison["slice"], string> = {
  old: "what it was trained for",
  new: "what the drifted group sees now",
};

export function TrainingRuns({ runs }: { runs: readonly TrainingRun[] }) {
  if (runs.length === 0)
    return <Empty title="No training runs yet.">A trigger starts one when a group has drifted.</Empty>;
  return runs.map((run) => <TrainingRunCard key={run.id} run={run} />);
}

function TrainingRunCard({ run }: { run: TrainingRun }) {
  return (
    <article className="card run-card" aria-label={`Training run ${run.id.slice(0, 8)}`}>
      <header className="card-head">
        <h3>{run.strategy}</h3>
        <Badge state={run.state} />
        <span className="muted">
          <Time at={run.created_at} />
        </span>
      </header>
      <p className="muted">
        {run.parent_version === null ? "from scratch" : `from ${version(run.parent_version)}`}
        {run.trigger ? ", started by a trigger" : ", started by hand"}
        {run.version !== null && `, gave ${version(run.version)}`}
      </p>
      {run.reason && <p>{run.reason}</p>}
      {run.job && (run.job.state === "running" || run.job.state === "queued") && (
        <p className="progress">
          <ShareBar share={run.job.progress} tone="info" />
          <span>
            {Math.floor(run.job.progress * 100)}% {run.job.progress_text}
          </span>
        </p>
      )}
      {run.comparison.map((slice) => (
        <Comparison key={slice.slice} slice={slice} />
      ))}
      {run.rollout && (
        <p>
          <a href={to("rollouts", run.rollout)}>Its rollout</a>
        </p>
      )}
    </article>
  );
}

function Comparison({ slice }: { slice: SliceComparison }) {
  const better = slice.challenger >= slice.champion;
  return (
    <div className="comparison">
      <p>
        <b>{slice.slice}</b>{" "}
        <span className="muted">
          {SLICES[slice.slice]}, n = {whole(slice.n)}
        </span>
      </p>
      <p className="comparison-row">
        <span>champion</span>
        <ShareBar share={slice.champion} tone="off" />
        <span className="figure-cell">{percent(slice.champion)}</span>
      </p>
      <p className="comparison-row">
        <span>challenger</span>
        <ShareBar share={slice.challenger} tone={better ? "ok" : "info"} />
        <span className="figure-cell">{percent(slice.challenger)}</span>
      </p>
    </div>
  );
}
