// Every experiment, newest first.

import { useAll } from "../api/resource";
import type { Experiment } from "../api/types";
import { State } from "../parts/marks";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { targetWords } from "../rollouts/words";
import { to } from "../routing";
import { itemsWords, KINDS, knownWords, METRIC_TITLES, shownState, versionsWords } from "./words";

const COLUMNS: readonly Column<Experiment>[] = [
  {
    title: "Experiment",
    cell: (experiment) => (
      <a href={to("experiments", experiment.id)}>
        {experiment.model} {versionsWords(experiment)}
      </a>
    ),
  },
  { title: "State", cell: (experiment) => <State state={shownState(experiment)} /> },
  { title: "Kind", cell: (experiment) => KINDS[experiment.kind].title },
  { title: "On", cell: (experiment) => targetWords(experiment.group) },
  {
    title: "Known",
    cell: (experiment) => (
      <span className="why">
        {METRIC_TITLES[experiment.metric]}: {knownWords(experiment)}
      </span>
    ),
  },
  { title: "Evidence", cell: itemsWords },
  { title: "Changed", cell: (experiment) => <Time at={experiment.updated_at} /> },
];

export function ExperimentsPage() {
  const { data: experiments, error } = useAll<Experiment>("/experiments", ["experiment"]);
  return (
    <Page
      title="Experiments"
      actions={
        <a className="button primary" href={to("experiments", "new")}>
          Compare two versions
        </a>
      }
    >
      <Trouble error={error} />
      {!experiments && !error && <Loading />}
      {experiments?.length === 0 && (
        <Empty title="No experiments yet.">
          <a href={to("experiments", "new")}>Start one</a>, or type <Command>edgewise experiment create</Command>.
        </Empty>
      )}
      {experiments && experiments.length > 0 && (
        <div className="card table-card">
          <Table label="Experiments" columns={COLUMNS} items={experiments} keyOf={(experiment) => experiment.id} />
        </div>
      )}
    </Page>
  );
}
