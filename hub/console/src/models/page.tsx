// One model: its versions with where they came from, their bundles, and the training runs.

import { useAll, useOne } from "../api/resource";
import type { Model, TrainingRun, Version } from "../api/types";
import { Served } from "../fleet/numbers";
import { words } from "../format";
import { Empty, Loading, Trouble } from "../parts/notices";
import { Facts, Page, Section } from "../parts/page";
import { Time } from "../parts/time";
import { to } from "../routing";
import { Bundles } from "./bundles";
import { QualityRules } from "./quality";
import { figures, readLineage } from "./report";
import { TrainingRuns } from "./training-runs";

/** Releases of the agent itself: no inputs. */
const AGENT = "edgewise-agent";

const KINDS = ["training-run", "job", "rollout"] as const;

export function ModelPage({ name }: { name: string }) {
  const path = `/models/${encodeURIComponent(name)}`;
  const model = useOne<Model>(path, ["device", ...KINDS]);
  const versions = useAll<Version>(`${path}/versions`, KINDS);
  const runs = useAll<TrainingRun>("/training-runs", KINDS);
  const error = model.error ?? versions.error ?? runs.error;
  const ours = runs.data?.filter((run) => run.model === name);
  return (
    <Page
      title={name}
      back={{ href: to("models"), label: "Models" }}
      beside={model.data && <Served model={model.data} />}
      actions={
        <>
          <a className="button" href={to("drift", name)}>
            Drift
          </a>
          <a className="button" href={`${to("rollouts", "new")}?model=${encodeURIComponent(name)}`}>
            Start a rollout
          </a>
        </>
      }
    >
      <Trouble error={error} />
      {!versions.data && !error && <Loading />}
      <div className="columns">
        <Section title="Versions" note="Newest first. A bundle is a version compiled for one device profile.">
          {versions.data?.length === 0 && <Empty title="No version yet: its first training run is under way." />}
          {versions.data?.map((each) => (
            <VersionCard key={each.version} version={each} serving={model.data?.serving[String(each.version)] ?? 0} />
          ))}
        </Section>
        <div>
          <Section
            title="Training runs"
            note="A challenger replaces the champion only where it is better on the new slice and loses next to nothing on the old."
          >
            {ours && <TrainingRuns runs={ours} />}
          </Section>
          {model.data && name !== AGENT && (
            <Section
              title="Inputs that do not look right"
              note="What devices do with them; each is counted all the same. A device's owner has the last word."
            >
              <QualityRules model={model.data} />
            </Section>
          )}
        </div>
      </div>
    </Page>
  );
}

function VersionCard({ version, serving }: { version: Version; serving: number }) {
  const lineage = readLineage(version.lineage);
  const measured = figures(version.metrics);
  return (
    <article className="card version-card" aria-label={`Version ${version.version}`}>
      <header className="card-head">
        <h3>v{version.version}</h3>
        {serving > 0 && <span className="chip">on {serving === 1 ? "1 device" : `${serving} devices`}</span>}
        <span className="muted">
          <Time at={version.created_at} />
        </span>
      </header>
      {version.note && <p>{version.note}</p>}
      <p className="muted lineage">
        {lineage.parent === undefined ? "no parent" : `from v${lineage.parent}`}
        {lineage.strategy && `, strategy ${lineage.strategy}`}
        {lineage.trainingRun && `, training run ${lineage.trainingRun.slice(0, 8)}`}
        {typeof version.source.kind === "string" && `, source ${words(version.source.kind)}`}
      </p>
      {measured.length > 0 && <Facts items={measured} />}
      {version.bundles.length === 0 ? (
        <p className="muted">Not compiled for any profile yet.</p>
      ) : (
        <Bundles bundles={version.bundles} version={version.version} />
      )}
    </article>
  );
}
