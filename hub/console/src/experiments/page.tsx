// One experiment: what is known and how sure, both arms, every device, and the hand on it.

import { useMemo } from "react";

import { refresh, useOne } from "../api/resource";
import type { ExperimentArm, ExperimentDetail, ExperimentDevice } from "../api/types";
import { Plot } from "../drift/plot";
import { bytes, count, number, percent, probability, version, whole } from "../format";
import { Badge, State } from "../parts/marks";
import { Empty, Loading, Trouble } from "../parts/notices";
import { Facts, Page, Section } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { targetWords } from "../rollouts/words";
import { to } from "../routing";
import { Actions } from "./actions";
import { effectData, effectOptions, effectRange } from "./chart";
import { itemsWords, KINDS, knownWords, marginWords, METRIC_TITLES, shownState, versionsWords } from "./words";

export function ExperimentPage({ id }: { id: string }) {
  const path = `/experiments/${encodeURIComponent(id)}`;
  const { data: experiment, error } = useOne<ExperimentDetail>(path, ["experiment", "device"]);
  return (
    <Page
      title={experiment ? `${experiment.model} ${versionsWords(experiment)}` : "Experiment"}
      back={{ href: to("experiments"), label: "Experiments" }}
      beside={experiment && <Badge state={shownState(experiment)} />}
      actions={experiment && <Actions experiment={experiment} onChanged={() => refresh(path)} />}
    >
      <Trouble error={error} />
      {!experiment && !error && <Loading />}
      {experiment && <Details experiment={experiment} />}
    </Page>
  );
}

function Details({ experiment }: { experiment: ExperimentDetail }) {
  const bad = experiment.decision === "guardrail" || experiment.decision === "broken";
  return (
    <>
      <div className={`card verdict tone-${bad ? "bad" : "plain"}`}>
        <p className="verdict-words" role="status" aria-label="Why">
          {experiment.reason}
        </p>
        <p className="muted">
          {KINDS[experiment.kind].title} on {targetWords(experiment.group)}:{" "}
          {count(experiment.devices_total, "device")} take part
          {experiment.devices_left_out > 0 && `, ${whole(experiment.devices_left_out)} cannot`}. Started{" "}
          <Time at={experiment.created_at} />
          {experiment.ended_at !== null && (
            <>
              , ended <Time at={experiment.ended_at} />
            </>
          )}
          .
        </p>
      </div>
      <Section title={METRIC_TITLES[experiment.metric]} note="The shaded interval holds at every look.">
        <div className="card">
          {experiment.history.length > 0 ? (
            <Effect experiment={experiment} />
          ) : (
            <Empty title={experiment.decision === "broken" ? "The result is withheld." : "Nothing measured yet."} />
          )}
          <Facts items={facts(experiment)} />
        </div>
      </Section>
      <Section title="Arms">
        <div className="card table-card">
          <Table label="Arms" columns={experiment.kind === "interleave" ? RANKING_ARMS : ARMS} items={experiment.arms} keyOf={(arm) => arm.role} />
        </div>
      </Section>
      <Section title="Devices" note="One device gives a bounded number of values: a busy one has no more to say.">
        <div className="card table-card">
          <Table label="Devices" columns={experiment.state === "ended" ? PAST_DEVICES : DEVICES} items={experiment.devices} keyOf={(device) => device.device} />
        </div>
      </Section>
    </>
  );
}

function Effect({ experiment }: { experiment: ExperimentDetail }) {
  const data = useMemo(() => effectData(experiment), [experiment]);
  const range = effectRange(experiment);
  return (
    <>
      <h3 className="plot-title">
        The candidate's lead{" "}
        <span className="plot-key">
          <i className="key-line" /> with its confidence sequence <i className="key-dash" /> margin
        </span>
      </h3>
      <Plot
        label={`The candidate's lead over time: now ${knownWords(experiment)}`}
        height={180}
        data={data}
        revision={JSON.stringify(range)}
        options={(palette) => effectOptions(palette, range, experiment.metric)}
      />
    </>
  );
}

function facts(experiment: ExperimentDetail): (readonly [string, string])[] {
  const { escalated } = experiment;
  const known: (readonly [string, string])[] = [
    ["Known", knownWords(experiment)],
    ["Evidence", `${itemsWords(experiment)}, ${count(experiment.n, "value")} of devices`],
    ["No difference", marginWords(experiment)],
    ["Error", `a winner is named by chance at most ${probability(experiment.alpha)} of the time`],
  ];
  if (experiment.compared > 0) {
    known.push(["Compared", `${whole(experiment.agreed)} of ${whole(experiment.compared)} answers agree`]);
    if (experiment.dropped > 0) known.push(["Left out", `${count(experiment.dropped, "request")}: too many waited`]);
  }
  if (experiment.ties > 0) known.push(["Ties", whole(experiment.ties)]);
  if (experiment.kind === "escalate") {
    known.push([
      "Escalated",
      `${whole(escalated.answered)} of ${whole(escalated.asked)} answered by the server, ${whole(escalated.changed)} changed, ${whole(escalated.fallbacks)} answered here, ${bytes(escalated.bytes)}`,
    ]);
  }
  return known;
}

const ARMS: readonly Column<ExperimentArm>[] = [
  { title: "Arm", cell: (arm) => `${arm.role} ${version(arm.version)}` },
  { title: "Requests", cell: (arm) => whole(arm.requests), numeric: true },
  { title: "Errors", cell: (arm) => whole(arm.errors), numeric: true },
  { title: "Labelled", cell: (arm) => whole(arm.labelled), numeric: true },
  { title: "Accuracy", cell: (arm) => (arm.accuracy === null ? "–" : percent(arm.accuracy)), numeric: true },
  { title: "p50", cell: (arm) => milliseconds(arm.latency_p50_ms), numeric: true },
  { title: "p95", cell: (arm) => milliseconds(arm.latency_p95_ms), numeric: true },
];

const RANKING_ARMS: readonly Column<ExperimentArm>[] = [
  ...ARMS,
  { title: "Clicks", cell: (arm) => whole(arm.clicks), numeric: true },
  { title: "Wins", cell: (arm) => whole(arm.wins), numeric: true },
];

function milliseconds(value: number | null): string {
  return value === null ? "–" : `${number(value)} ms`;
}

const DEVICES: readonly Column<ExperimentDevice>[] = [
  { title: "Device", cell: (device) => <a href={to("fleet", device.device)}>{device.device}</a> },
  { title: "State", cell: (device) => <State state={device.state} /> },
  { title: "Requests", cell: (device) => whole(device.requests), numeric: true },
  { title: "Values", cell: (device) => whole(device.values), numeric: true },
  { title: "Why", cell: (device) => (device.reason ? <span className="why">{device.reason}</span> : "–") },
];

/** Of an experiment that is over: nobody waits for it any more. */
const PAST_DEVICES: readonly Column<ExperimentDevice>[] = DEVICES.map((column) =>
  column.title === "State"
    ? {
        ...column,
        cell: (device) =>
          device.state === "failed" ? (
            <State state="failed" />
          ) : (
            <State state="left" label={device.requests > 0 ? "took part" : "never began"} />
          ),
      }
    : column,
);
