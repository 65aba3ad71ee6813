// Every rollout, newest first.

import { useAll } from "../api/resource";
import type { Rollout } from "../api/types";
import { State } from "../parts/marks";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { to } from "../routing";
import { Rail } from "./rail";
import { reachedWords, targetWords, versionsWords, whyWords } from "./words";

const COLUMNS: readonly Column<Rollout>[] = [
  {
    title: "Rollout",
    cell: (rollout) => (
      <a href={to("rollouts", rollout.id)}>
        {rollout.model} {versionsWords(rollout)}
      </a>
    ),
  },
  { title: "State", cell: (rollout) => <State state={rollout.state} /> },
  { title: "To", cell: (rollout) => targetWords(rollout.group) },
  { title: "Stages", cell: (rollout) => <Rail rollout={rollout} small /> },
  { title: "Devices", cell: reachedWords },
  { title: "Why", cell: (rollout) => <span className="why">{whyWords(rollout)}</span> },
  { title: "Changed", cell: (rollout) => <Time at={rollout.updated_at} /> },
];

export function RolloutsPage() {
  const { data: rollouts, error } = useAll<Rollout>("/rollouts", ["rollout"]);
  return (
    <Page
      title="Rollouts"
      actions={
        <a className="button primary" href={to("rollouts", "new")}>
          Start a rollout
        </a>
      }
    >
      <Trouble error={error} />
      {!rollouts && !error && <Loading />}
      {rollouts?.length === 0 && (
        <Empty title="No rollouts yet.">
          <a href={to("rollouts", "new")}>Start one</a>, or type <Command>edgewise rollout create</Command>.
        </Empty>
      )}
      {rollouts && rollouts.length > 0 && (
        <div className="card table-card">
          <Table label="Rollouts" columns={COLUMNS} items={rollouts} keyOf={(rollout) => rollout.id} />
        </div>
      )}
    </Page>
  );
}
