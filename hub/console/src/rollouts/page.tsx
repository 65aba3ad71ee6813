// One rollout: its stages, the gates' evidence, every device, every decision, and the hand on it.

import { refresh, useOne } from "../api/resource";
import type { RolloutDetail, RolloutDevice } from "../api/types";
import { count } from "../format";
import { countStates } from "../fleet/state";
import { Dots } from "../parts/dots";
import { Legend } from "../parts/legend";
import { Badge, State, stateWords, type StateName } from "../parts/marks";
import { Empty, Loading, Trouble } from "../parts/notices";
import { Page, Section } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { to } from "../routing";
import { Actions } from "./actions";
import { Gates } from "./gates";
import { Rail } from "./rail";
import { Timeline } from "./timeline";
import { DEVICE_STATES, reachedWords, shownState, targetWords, versionsWords, whyWords } from "./words";

export function RolloutPage({ id }: { id: string }) {
  const path = `/rollouts/${encodeURIComponent(id)}`;
  const { data: rollout, error } = useOne<RolloutDetail>(path, ["rollout", "device"]);
  return (
    <Page
      title={rollout ? `${rollout.model} ${versionsWords(rollout)}` : "Rollout"}
      back={{ href: to("rollouts"), label: "Rollouts" }}
      beside={rollout && <Badge state={rollout.state} />}
      actions={rollout && <Actions rollout={rollout} onChanged={() => refresh(path)} />}
    >
      <Trouble error={error} />
      {!rollout && !error && <Loading />}
      {rollout && <Details rollout={rollout} />}
    </Page>
  );
}

function Details({ rollout }: { rollout: RolloutDetail }) {
  return (
    <>
      <div className={`card verdict tone-${rollout.state === "rolled-back" ? "bad" : "plain"}`}>
        <p className="verdict-words" role="status" aria-label="Why">
          {whyWords(rollout)}
        </p>
        <p className="muted">
          To {targetWords(rollout.group)}: {reachedWords(rollout)}. Started <Time at={rollout.created_at} />
          {rollout.deadline_at !== null && rollout.state === "running" && (
            <>
              , this stage's deadline is <Time at={rollout.deadline_at} />
            </>
          )}
          .
        </p>
        <Rail rollout={rollout} />
      </div>
      <div className="columns wide-left">
        <div>
          <Section title="Gates" note={gatesNote(rollout)}>
            {rollout.gates.length === 0 ? <Empty title="No evidence yet." /> : <Gates gates={rollout.gates} />}
          </Section>
          <Section title="Devices" note="Drawn by a hash of device and rollout.">
            <Devices rollout={rollout} />
          </Section>
        </div>
        <Section title="Decisions">
          <Timeline events={rollout.events} />
        </Section>
      </div>
    </>
  );
}

function gatesNote(rollout: RolloutDetail): string {
  return rollout.state === "running" || rollout.state === "paused"
    ? `Stage ${rollout.stage + 1} goes on when every gate passes, and back when one fails.`
    : "As they stood at the last decision.";
}

/** A device, its state as it is shown. */
type Shown = Omit<RolloutDevice, "state"> & { state: StateName };

const COLUMNS: readonly Column<Shown>[] = [
  { title: "Device", cell: (device) => <a href={to("fleet", device.device)}>{device.device}</a> },
  { title: "State", cell: (device) => <State state={device.state} /> },
  { title: "Stage", cell: (device) => device.stage + 1, numeric: true },
  { title: "Groups", cell: (device) => device.groups.join(", ") || <span className="muted">none</span> },
  { title: "Why", cell: (device) => (device.reason ? <span className="why">{device.reason}</span> : "–") },
];

function Devices({ rollout }: { rollout: RolloutDetail }) {
  const devices = rollout.devices
    .map((device): Shown => ({ ...device, state: shownState(device.state, rollout.state) }))
    .sort((a, b) => a.stage - b.stage || a.draw - b.draw);
  const stages = rollout.stages.map((stage) => ({
    stage,
    drawn: devices.filter((each) => each.stage === stage.index),
  }));
  return (
    <div className="card">
      <Legend states={DEVICE_STATES} counts={countStates(devices.map((device) => device.state))} />
      <div className="stage-dots">
        {stages.map(({ stage, drawn }) => (
          <div key={stage.index}>
            <h3>
              {stage.title} <span className="muted">+{drawn.length}</span>
            </h3>
            <Dots
              label={`Stage ${stage.index + 1}, ${stage.title}: ${count(drawn.length, "device")}`}
              dots={drawn.map((device) => ({
                key: device.device,
                href: to("fleet", device.device),
                state: device.state,
                label: `${device.device}: ${stateWords(device.state)}`,
              }))}
            />
          </div>
        ))}
      </div>
      <details className="as-table">
        <summary>As a table</summary>
        <Table label="Devices of the rollout" columns={COLUMNS} items={devices} keyOf={(device) => device.device} />
      </details>
    </div>
  );
}
