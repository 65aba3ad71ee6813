// The fleet in a few numbers.

import type { ReactNode } from "react";

import { useAll, useOne } from "../api/resource";
import type { Device, Model, System } from "../api/types";
import { bytes, count, whole } from "../format";
import { to } from "../routing";
import { deviceState } from "./state";

export function Numbers({ devices }: { devices: readonly Device[] | undefined }) {
  const system = useOne<System>("/system", ["device", "judgement"]).data;
  const models = useAll<Model>("/models", ["device", "rollout", "training-run"]).data;
  const enrolled = devices?.filter((device) => !device.revoked);
  const failed = enrolled?.filter((device) => deviceState(device) === "failed").length ?? 0;
  return (
    <ul className="numbers" aria-label="The fleet in numbers">
      <Figure title="Devices" value={enrolled ? whole(enrolled.length) : "–"}>
        {failed > 0 ? <span className="tone-bad">{whole(failed)} failed</span> : "none failed"}
      </Figure>
      <Figure title="Online" value={enrolled ? whole(enrolled.filter((device) => device.online).length) : "–"}>
        {system && (system.broker_connected ? "broker connected" : <span className="tone-bad">broker cut off</span>)}
        {system && `, hub ${system.version}`}
      </Figure>
      <Figure title="Windows heard" value={system ? whole(system.windows) : "–"}>
        {system && (system.windows > 0 ? `${bytes(system.window_bytes / system.windows)} each` : "none yet")}
      </Figure>
      <Figure title="Sent in bundles" value={system ? bytes(system.blob_bytes_sent) : "–"}>
        {system && "in blocks, over MQTT"}
      </Figure>
      <li className="figure wide">
        <span className="figure-title">Versions served</span>
        {models?.length ? models.map((model) => <Served key={model.name} model={model} named />) : <b>–</b>}
      </li>
    </ul>
  );
}

function Figure({ title, value, children }: { title: string; value: string; children: ReactNode }) {
  return (
    <li className="figure">
      <span className="figure-title">{title}</span>
      <b>{value}</b>
      <span className="figure-note">{children || "\u00a0"}</span>
    </li>
  );
}

/** How many devices serve which version: newest first. `named`: with a link to the model before it. */
export function Served({ model, named = false }: { model: Model; named?: boolean }) {
  const served = Object.entries(model.serving)
    .filter(([, devices]) => devices > 0)
    .sort(([a], [b]) => Number(b) - Number(a));
  const total = served.reduce((sum, [, devices]) => sum + devices, 0);
  return (
    <span className="served">
      {named && <a href={to("models", model.name)}>{model.name}</a>}
      {served.length === 0 && <span className="muted">served nowhere yet</span>}
      {served.map(([version, devices], index) => (
        <span key={version} className="served-part" title={count(devices, "device")}>
          <span className={`served-bar shade-${Math.min(index, 3)}`} style={{ width: `${(72 * devices) / total}px` }} />
          v{version} <span className="muted">× {whole(devices)}</span>
        </span>
      ))}
    </span>
  );
}
