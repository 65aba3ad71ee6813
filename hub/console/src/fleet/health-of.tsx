// A device's resources over the last day: one small chart each, and how long its models take.

import { useOne } from "../api/resource";
import type { DeviceHealth } from "../api/types";
import { number, version, whole } from "../format";
import { Trouble } from "../parts/notices";
import { Facts } from "../parts/page";
import { Time } from "../parts/time";
import { clockWords, lines, path, totals, type Line } from "./health";

const WIDTH = 120;
const HEIGHT = 28;

export function HealthOf({ id }: { id: string }) {
  const { data: health, error } = useOne<DeviceHealth>(`/devices/${encodeURIComponent(id)}/health`, ["device"]);
  if (!health) return <Trouble error={error} />;
  const newest = health.spans.at(-1);
  return (
    <>
      {!newest && <p className="muted">Nothing came in the last day.</p>}
      {newest && (
        <>
          <div className="health">
            {lines(health).map((line) => (
              <Small key={line.name} line={line} />
            ))}
          </div>
          <Facts
            items={[
              ["Heard", <Time key="heard" at={newest.received_at} />],
              ["Its clock", clockWords(newest)],
              ...totals(health),
            ]}
          />
        </>
      )}
      {health.models.map((model) => (
        <p key={`${model.model} ${model.version} ${model.duty}`} className="health-model">
          {model.model} {version(model.version)}
          {model.duty === "active" ? "" : ` (${model.duty})`}: {whole(model.inferences)} answered
          {model.latency_p50_ms !== null && model.latency_p95_ms !== null && (
            <>
              , half within {number(model.latency_p50_ms)} ms, 95% within {number(model.latency_p95_ms)} ms
            </>
          )}
          {model.energy_mj !== null && <>, at most about {number(model.energy_mj)} mJ each</>}
        </p>
      ))}
    </>
  );
}

function Small({ line }: { line: Line }) {
  return (
    <figure className="health-line">
      <figcaption>
        <span>{line.title}</span> <strong>{line.now}</strong>
      </figcaption>
      <svg viewBox={`-2 -2 ${WIDTH + 4} ${HEIGHT + 4}`} role="img" aria-label={`${line.title}: ${line.range} in the last day`}>
        <path d={path(line.points, WIDTH, HEIGHT)} />
      </svg>
      <p className="muted">{line.range}</p>
    </figure>
  );
}
