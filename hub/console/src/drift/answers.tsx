// What was done about drift: samples asked for, under the owners' consent, and the training runs that followed.

import { useAll } from "../api/resource";
import type { SampleRequest, TrainingRun, Trigger } from "../api/types";
import { bytes, count, whole } from "../format";
import { TrainingRuns } from "../models/training-runs";
import { ShareBar } from "../parts/bar";
import { Badge } from "../parts/marks";
import { Empty, Trouble } from "../parts/notices";
import { Section } from "../parts/page";
import { TimeOr } from "../parts/time";

export function Answers({ model }: { model: string }) {
  const samples = useAll<SampleRequest>("/sample-requests", ["sample-request"]);
  const triggers = useAll<Trigger>("/triggers", ["training-run", "alert"]);
  const runs = useAll<TrainingRun>("/training-runs", ["training-run", "job", "rollout"]);
  const asked = samples.data?.filter((request) => request.model === model);
  const set = triggers.data?.filter((trigger) => trigger.model === model);
  const triggered = runs.data?.filter((run) => run.model === model && run.trigger !== null);
  return (
    <div className="columns">
      <Section title="Samples" note="Raw data leaves a device only where its owner opted in, within both budgets.">
        <Trouble error={samples.error} />
        {asked?.length === 0 && <Empty title="No samples were asked for." />}
        {asked?.map((request) => (
          <SampleCard key={request.id} request={request} />
        ))}
      </Section>
      <Section title="Learning">
        <Trouble error={triggers.error ?? runs.error} />
        {set?.length === 0 && <p className="muted">No trigger is set: drift raises an alert and nothing else.</p>}
        {set?.map((trigger) => (
          <p key={trigger.id} className="trigger">
            <b>Trigger:</b> on {trigger.on} with {whole(trigger.min_samples)} labelled samples, train with{" "}
            {trigger.strategy}. Fired: <TimeOr at={trigger.fired_at} none="not yet" />.
          </p>
        ))}
        {triggered && triggered.length > 0 && <TrainingRuns runs={triggered} />}
      </Section>
    </div>
  );
}

function SampleCard({ request }: { request: SampleRequest }) {
  const most = request.count * request.consented;
  const devices = Object.entries(request.devices);
  return (
    <article className="card" aria-label={`Samples of ${request.group}`}>
      <header className="card-head">
        <h3>{request.group}</h3>
        <Badge state={request.state === "open" ? "running" : "closed"} label={request.state} />
      </header>
      <p>
        Asked for {count(request.count, "sample")} and {bytes(request.bytes)} of each device;{" "}
        <b>{count(request.consented, "device")} consented</b>.
      </p>
      <p className="progress">
        <ShareBar share={most > 0 ? request.received / most : 0} tone="info" />
        <span>
          {whole(request.received)} received, {whole(request.labelled)} labelled, {bytes(request.received_bytes)}
        </span>
      </p>
      {devices.length > 0 && (
        <p className="muted">{devices.map(([device, received]) => `${device} ${whole(received)}`).join(", ")}</p>
      )}
    </article>
  );
}
