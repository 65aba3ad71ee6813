// One group of one model: the verdict in words, the evidence over time against the alarm line, the accuracy.

import { useId, useMemo, useState } from "react";

import type { DriftGroup, Judgement } from "../api/types";
import { absolute, number, percent, probability, version, whole } from "../format";
import { Badge, State } from "../parts/marks";
import { Empty } from "../parts/notices";
import { Facts } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { accuracyData, accuracyOptions, evidenceData, evidenceOptions, sharedOptions, type Ranges } from "./charts";
import { Changes } from "./changes";
import { Devices } from "./devices";
import { Panel } from "./panel";
import { Plot } from "./plot";
import { accuracySeries, evidenceSeries } from "./series";

export function GroupCard({ group, ranges }: { group: DriftGroup; ranges: Ranges }) {
  const now = group.current;
  return (
    <article className="card drift-group" aria-label={`Drift in ${group.group}`}>
      <header className="card-head">
        <h2>{group.group}</h2>
        {now && <Badge state={now.verdict} />}
        {now && (
          <span className="muted">
            <Time at={now.at} />
          </span>
        )}
      </header>
      {now ? (
        <p className="verdict-words">{now.words}</p>
      ) : (
        <Empty title="Nothing judged yet.">The first windows of this group are still to come.</Empty>
      )}
      {group.history.length > 0 && <Charts group={group} ranges={ranges} />}
      {now && <Facts items={judgementFacts(now)} />}
      {now && now.tests.length > 0 && <Panel tests={now.tests} />}
      {now && <Changes now={now} />}
      {group.devices.length > 1 && <Devices devices={group.devices} />}
      {group.history.length > 0 && (
        <details className="as-table">
          <summary>Judgements as a table</summary>
          <Table
            label={`Judgements of ${group.group}`}
            columns={HISTORY}
            items={[...group.history].reverse().slice(0, 50)}
            keyOf={(judgement) => String(judgement.at)}
          />
        </details>
      )}
    </article>
  );
}

function Charts({ group, ranges }: { group: DriftGroup; ranges: Ranges }) {
  const sync = useId();
  const [pointed, setPointed] = useState<number | null>(null);
  const { history } = group;
  const alpha = history.at(-1)?.alpha ?? 0.001;
  const evidence = useMemo(() => evidenceData(evidenceSeries(history)), [history]);
  const accuracy = useMemo(() => accuracyData(accuracySeries(history)), [history]);
  const shared = useMemo(() => sharedOptions(setPointed), []);
  const revision = JSON.stringify([ranges, alpha, history.length]);
  const at = pointed === null ? undefined : history[pointed];
  return (
    <div>
      <h3 className="plot-title">
        Evidence of drift <span className="muted">p-value, surer upwards</span>
      </h3>
      <Plot
        label={evidenceLabel(group)}
        height={168}
        data={evidence}
        revision={revision}
        options={(palette) => evidenceOptions(palette, ranges, alpha, history.length, sync, shared)}
      />
      <h3 className="plot-title">
        Accuracy{" "}
        <span className="plot-key">
          <i className="key-line" /> estimated, 95% <i className="key-dash" /> reference <i className="key-dot" />{" "}
          labelled
        </span>
      </h3>
      <Plot
        label={accuracyLabel(group)}
        height={118}
        data={accuracy}
        revision={revision}
        options={(palette) => accuracyOptions(palette, ranges, history.length, sync, shared)}
      />
      <p className="plot-reading" aria-hidden="true">
        {at ? pointWords(at) : "Point at a chart to read a judgement."}
      </p>
    </div>
  );
}

function judgementFacts(now: Judgement): (readonly [string, string])[] {
  const estimated =
    now.estimated_accuracy === null
      ? "not estimated"
      : `${percent(now.estimated_accuracy)}${interval(now)} (reference ${share(now.reference_accuracy)})`;
  return [
    ["p-value", `${probability(now.p_value)}, false-alarm rate ${probability(now.alpha)}`],
    [
      "How large",
      `${number(now.effect)} × the reference's spread, between ${number(now.effect_low)} and ${number(now.effect_high)}`,
    ],
    ["Kind", now.kinds.length > 0 ? `${now.kinds.join(", ")} drift` : "none"],
    ["Over time", watchWords(now)],
    ["Evidence so far", `${evidenceWords(now)}; ${rateWords(now)}`],
    ["Estimated accuracy", estimated],
    [
      "Labelled accuracy",
      now.labelled > 0 ? `${share(now.labelled_accuracy)} of ${whole(now.labelled)} labelled` : "no labels",
    ],
    [
      "Judged on",
      `${whole(now.n)} inferences, ${whole(now.windows)} windows of ${now.versions.map(version).join(", ")}`,
    ],
  ];
}

function watchWords(now: Judgement): string {
  if (!now.watch) return "not watched";
  const spans = now.watch.horizon === 1 ? "the last span" : `the last ${now.watch.horizon} spans`;
  const items = `about ${whole(Math.round(now.watch.n))} inferences`;
  return `${spans}, ${items}: ${number(now.watch.score)} of ${number(now.watch.limit)}${now.watch.alarm ? ", alarm" : ""}`;
}

function evidenceWords(now: Judgement): string {
  const { evidence } = now;
  return evidence >= 1e6 ? "over 1,000,000" : evidence < 10 ? number(evidence) : whole(Math.round(evidence));
}

function rateWords(now: Judgement): string {
  const rate = now.false_alert_rate;
  return rate ? `a false alert at most once in ${whole(Math.round(1 / rate))} judgements` : "no alert rate stated";
}

function interval(now: Judgement): string {
  return now.estimated_low === null || now.estimated_high === null
    ? ""
    : `, between ${percent(now.estimated_low)} and ${percent(now.estimated_high)}`;
}

function share(value: number | null): string {
  return value === null ? "unknown" : percent(value);
}

function pointWords(at: Judgement): string {
  const words = [absolute(at.at), `p = ${probability(at.p_value)}`, `n = ${whole(at.n)}`];
  if (at.estimated_accuracy !== null) words.push(`estimated ${percent(at.estimated_accuracy)}`);
  if (at.labelled > 0 && at.labelled_accuracy !== null) words.push(`labelled ${percent(at.labelled_accuracy)}`);
  return words.join(" · ");
}

function evidenceLabel(group: DriftGroup): string {
  const alarms = group.history.filter((each) => each.p_value < each.alpha).length;
  return `Evidence of drift in ${group.group} over time: ${alarms} of ${group.history.length} judgements beyond the alarm line`;
}

function accuracyLabel(group: DriftGroup): string {
  const now = group.current;
  return `Accuracy in ${group.group} over time: now estimated ${share(now?.estimated_accuracy ?? null)}, reference ${share(now?.reference_accuracy ?? null)}`;
}

const HISTORY: readonly Column<Judgement>[] = [
  { title: "When", cell: (judgement) => <Time at={judgement.at} /> },
  { title: "Verdict", cell: (judgement) => <State state={judgement.verdict} /> },
  { title: "p-value", cell: (judgement) => probability(judgement.p_value), numeric: true },
  { title: "Effect", cell: (judgement) => number(judgement.effect), numeric: true },
  { title: "Estimated", cell: (judgement) => share(judgement.estimated_accuracy), numeric: true },
  { title: "n", cell: (judgement) => whole(judgement.n), numeric: true },
];
