// Drift of one model: a card a group, the alerts, what was asked of whom about it, and what was served.

import { useMemo } from "react";

import { useOne } from "../api/resource";
import type { DriftGroup, GroupAccuracy } from "../api/types";
import { bytes, number, percent, version, whole } from "../format";
import { Empty, Loading, Trouble } from "../parts/notices";
import { Page, Section } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { to } from "../routing";
import { Alerts } from "./alerts";
import type { Ranges } from "./charts";
import { GroupCard } from "./group";
import { Answers } from "./answers";
import { CalibrationOf } from "./calibration";
import { accuracyRange, evidenceTop, timeRange } from "./series";

const HISTORY = 240;

export function DriftPage({ model }: { model: string | undefined }) {
  const { data: groups, error } = useOne<DriftGroup[]>(`/drift?history=${HISTORY}`, ["judgement"]);
  const models = [...new Set(groups?.map((group) => group.model))].sort();
  const shown = model ?? models[0];
  return (
    <Page title="Drift" beside={models.length > 1 && <ModelTabs models={models} shown={shown} />}>
      <Trouble error={error} />
      {!groups && !error && <Loading />}
      {groups && groups.length === 0 && (
        <Empty title="Nothing to judge yet.">
          A device sends its first window a while after its first inference.{" "}
          <a href={to("rollouts")}>Roll a version out</a> and let the applications call the agent.
        </Empty>
      )}
      {groups && groups.length > 0 && shown !== undefined && <ModelDrift model={shown} groups={groups} />}
    </Page>
  );
}

function ModelTabs({ models, shown }: { models: readonly string[]; shown: string | undefined }) {
  return (
    <nav className="tabs" aria-label="Model">
      {models.map((model) => (
        <a key={model} href={to("drift", model)} aria-current={model === shown ? "page" : undefined}>
          {model}
        </a>
      ))}
    </nav>
  );
}

function ModelDrift({ model, groups }: { model: string; groups: readonly DriftGroup[] }) {
  const ours = useMemo(
    () =>
      groups
        .filter((group) => group.model === model)
        .sort((a, b) => a.group.localeCompare(b.group, "en", { numeric: true })),
    [groups, model],
  );
  const ranges = useMemo(() => rangesOf(ours), [ours]);
  return (
    <>
      <Alerts model={model} />
      {ours.length === 0 && <Empty title={`Nothing was judged for ${model} yet.`} />}
      <div className="drift-groups">
        {ours.map((group) => (
          <GroupCard key={group.group} group={group} ranges={ranges} />
        ))}
      </div>
      <CalibrationOf model={model} />
      <Answers model={model} />
      <Section title="Served, by group and version">
        <Served model={model} />
      </Section>
    </>
  );
}

function rangesOf(groups: readonly DriftGroup[]): Ranges {
  const histories = groups.map((group) => group.history);
  return {
    time: timeRange(histories) ?? [0, 1],
    evidenceTop: evidenceTop(histories),
    accuracy: accuracyRange(histories),
  };
}

const SERVED: readonly Column<GroupAccuracy>[] = [
  { title: "Group", cell: (row) => row.group },
  { title: "Version", cell: (row) => version(row.version) },
  { title: "Inferences", cell: (row) => whole(row.inferences), numeric: true },
  { title: "Errors", cell: (row) => whole(row.errors), numeric: true },
  { title: "Not finite", cell: (row) => whole(row.nonfinite_outputs), numeric: true },
  {
    title: "Labelled accuracy",
    cell: (row) => (row.labelled > 0 ? `${percent(row.correct / row.labelled)} of ${whole(row.labelled)}` : "–"),
    numeric: true,
  },
  { title: "Latency p50 / p95", cell: (row) => latencyWords(row), numeric: true },
  { title: "Windows", cell: (row) => `${whole(row.windows)}, ${bytes(row.window_bytes)}`, numeric: true },
];

function latencyWords(row: GroupAccuracy): string {
  if (row.latency_p50_ms === null || row.latency_p95_ms === null) return "–";
  return `${number(row.latency_p50_ms)} / ${number(row.latency_p95_ms)} ms`;
}

function Served({ model }: { model: string }) {
  const { data: rows, error } = useOne<GroupAccuracy[]>(`/accuracy?model=${encodeURIComponent(model)}`, ["judgement"]);
  return (
    <>
      <Trouble error={error} />
      {rows?.length === 0 && <Empty title="Nothing served yet." />}
      {rows && rows.length > 0 && (
        <div className="card table-card">
          <Table label="Served" columns={SERVED} items={rows} keyOf={(row) => `${row.group} ${row.version}`} />
        </div>
      )}
    </>
  );
}
