// How far the model's alarms can be trusted: the newest calibration on its own reference, bundle by bundle.

import { useOne } from "../api/resource";
import type { Calibration } from "../api/types";
import { version } from "../format";
import { Badge } from "../parts/marks";
import { Command, Trouble } from "../parts/notices";
import { Facts, Section } from "../parts/page";
import { Time } from "../parts/time";
import { newest, trustFacts } from "./trust";

/** The page with plots, made by the hub. */
export function pageOf(job: string): string {
  return `/api/v1/drift/calibrations/${encodeURIComponent(job)}/page`;
}

export function CalibrationOf({ model }: { model: string }) {
  const { data, error } = useOne<Calibration[]>(`/drift/calibrations?model=${encodeURIComponent(model)}`, ["job"]);
  const found = newest(data);
  return (
    <Section title="How far alarms can be trusted">
      <Trouble error={error} />
      {data && !found && (
        <p className="muted">
          Not measured yet: <Command>{`edgewise drift calibrate ${model}`}</Command>
        </p>
      )}
      {found && (
        <>
          <p className="muted">
            Measured on the reference of {version(found.version)}, <Time at={found.at} />.{" "}
            <a href={pageOf(found.job)} target="_blank" rel="noreferrer">
              The page with plots
            </a>
          </p>
          {found.bundles.map((one) => (
            <article key={one.digest} className="card" aria-label={`Calibration on ${one.profile}`}>
              <header className="card-head">
                <h3>{one.profile}</h3>
                {!one.error && !one.enough && <Badge state="harmful" label="reference too small" />}
              </header>
              {one.error ? <p className="trouble">{one.error}</p> : <Facts items={trustFacts(one)} />}
            </article>
          ))}
        </>
      )}
    </Section>
  );
}
