// A version's bundles: what the compiler chose for each profile, and what it chose from.

import type { Bundle } from "../api/types";
import { bytes, number, words } from "../format";
import { Table, type Column } from "../parts/table";
import { beforeAfter, readReport, type Candidate } from "./report";

export function Bundles({ bundles, version }: { bundles: readonly Bundle[]; version: number }) {
  const chosenFrom = bundles.filter((bundle) => readReport(bundle.report).candidates.length > 0);
  return (
    <>
      <Table
        label={`Bundles of v${version}`}
        columns={BUNDLES}
        items={bundles}
        keyOf={(bundle) => bundle.digest}
      />
      {chosenFrom.map((bundle) => (
        <details key={bundle.digest} className="as-table candidates">
          <summary>Candidates for {bundle.profile}</summary>
          <Table
            label={`Candidates of v${version} for ${bundle.profile}`}
            columns={CANDIDATES}
            items={readReport(bundle.report).candidates}
            keyOf={(candidate) => candidate.name}
          />
        </details>
      ))}
    </>
  );
}

const BUNDLES: readonly Column<Bundle>[] = [
  { title: "Profile", cell: (bundle) => bundle.profile },
  { title: "Chosen", cell: (bundle) => <Chosen bundle={bundle} /> },
  {
    title: "Accuracy before → after",
    cell: (bundle) => {
      const report = readReport(bundle.report);
      return (
        <div>
          {beforeAfter(report)}
          {report.metric !== "accuracy" && <span className="muted"> ({words(report.metric)})</span>}
        </div>
      );
    },
    numeric: true,
  },
  { title: "Size", cell: (bundle) => bytes(bundle.total_size), numeric: true },
  { title: "Latency p50 / p95", cell: (bundle) => <Latency bundle={bundle} />, numeric: true },
];

function Chosen({ bundle }: { bundle: Bundle }) {
  const report = readReport(bundle.report);
  return (
    <div>
      {report.scheme || "–"}
      {report.target && <span className="muted"> on {report.target}</span>}
      {report.meets === false && <p className="over-budget">over budget: {report.missing.join("; ")}</p>}
    </div>
  );
}

function Latency({ bundle }: { bundle: Bundle }) {
  const report = readReport(bundle.report);
  if (report.p50 === undefined || report.p95 === undefined) {
    return (
      <span className="muted" title={report.notMeasured}>
        not measured
      </span>
    );
  }
  return (
    <div>
      {number(report.p50)} / {number(report.p95)} ms
      {report.speed !== undefined && <span className="muted"> ({report.speed.toFixed(2)}× fp32)</span>}
    </div>
  );
}

const STANDING: Record<Candidate["standing"], string> = { chosen: "chosen", front: "on the front", beaten: "beaten" };

const CANDIDATES: readonly Column<Candidate>[] = [
  {
    title: "Candidate",
    cell: (one) => (
      <div>
        {one.standing === "chosen" ? <b>{one.name}</b> : one.name}
        <span className="muted"> {one.target}</span>
      </div>
    ),
  },
  { title: "Metric", cell: (one) => one.figure, numeric: true },
  { title: "Model file", cell: (one) => (one.size === undefined ? "–" : bytes(one.size)), numeric: true },
  { title: "p50", cell: (one) => (one.p50 === undefined ? "–" : `${number(one.p50)} ms`), numeric: true },
  {
    title: "Standing",
    cell: (one) => (
      <div>
        {STANDING[one.standing]}
        {one.lacks.length > 0 && <span className="muted">: {one.lacks.join("; ")}</span>}
      </div>
    ),
  },
];
