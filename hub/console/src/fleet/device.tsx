// One device: what it is, what its owner consented to, what it is to serve and what it serves.

import { useOne } from "../api/resource";
import type { Device, DeviceModel } from "../api/types";
import { bytes, number, version, whole, words } from "../format";
import { Dialog } from "../parts/dialog";
import { State } from "../parts/marks";
import { Empty, Loading, Trouble } from "../parts/notices";
import { Facts } from "../parts/page";
import { Time, TimeOr } from "../parts/time";
import { to } from "../routing";
import { HealthOf } from "./health-of";
import { deviceState } from "./state";

export function DeviceDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const { data: device, error } = useOne<Device>(`/devices/${encodeURIComponent(id)}`, ["device", "rollout"]);
  return (
    <Dialog title={id} onClose={onClose} drawer>
      <Trouble error={error} />
      {!device && !error && <Loading />}
      {device && <Details device={device} />}
    </Dialog>
  );
}

function Details({ device }: { device: Device }) {
  const upToDate = device.generation === device.reported_generation;
  return (
    <>
      <Facts
        items={[
          ["State", <State key="state" state={deviceState(device)} />],
          ["Profile", device.profile],
          ["Agent", device.agent || "none reported yet"],
          ["Groups", device.groups.join(", ") || "none"],
          ["Last seen", <TimeOr key="seen" at={device.last_seen} none="never" />],
          ["Enrolled", <Time key="enrolled" at={device.enrolled_at} />],
          [
            "Generation",
            upToDate ? `${device.generation}` : `${device.generation} desired, ${device.reported_generation} reported`,
          ],
        ]}
      />
      <h3>Models</h3>
      {device.models.length === 0 && (
        <Empty title="Nothing to serve yet.">
          <a href={to("rollouts", "new")}>Start a rollout</a> to a group of this device.
        </Empty>
      )}
      {device.models.map((model) => (
        <ModelOnDevice key={model.model} model={model} />
      ))}
      <h3>Health, the last day</h3>
      <HealthOf id={device.id} />
      <h3>Consent to send samples</h3>
      <ConsentOf consent={device.consent} />
      <h3>Facts, as the device measured them</h3>
      {Object.keys(device.facts).length === 0 ? (
        <p className="muted">None reported yet.</p>
      ) : (
        <Facts items={Object.entries(device.facts).map(([key, value]) => [words(key), factWords(value)])} />
      )}
    </>
  );
}

function ModelOnDevice({ model }: { model: DeviceModel }) {
  return (
    <div className="on-device">
      <p className="on-device-head">
        <a href={to("models", model.model)}>{model.model}</a> <State state={model.state} />
      </p>
      <Facts
        items={[
          ["Desired", version(model.version)],
          ["Running", version(model.running_version)],
          ["Confirmed", version(model.confirmed_version)],
        ]}
      />
      {model.reason && <p className="why">{model.reason}</p>}
      {model.bundle && (
        <p className="muted digest" title={model.bundle}>
          bundle {model.bundle.slice(0, 12)}
        </p>
      )}
    </div>
  );
}

function ConsentOf({ consent }: { consent: Device["consent"] }) {
  const models = Object.entries(consent);
  if (models.length === 0) return <p className="muted">None: no raw data leaves this device.</p>;
  return <Facts items={models.map(([model, given]) => [model, consentWords(given)])} />;
}

/** What the owner opted in to, and how much of it is spent. Consent as in edgewise.wire.control. */
function consentWords(given: unknown): string {
  const { count, bytes: budget, sent_count, sent_bytes } = given as Record<string, unknown>;
  if (typeof count !== "number" || typeof budget !== "number") return factWords(given);
  const spent = `sent ${whole(Number(sent_count ?? 0))} and ${bytes(Number(sent_bytes ?? 0))}`;
  return `at most ${whole(count)} samples and ${bytes(budget)}; ${spent}`;
}

function factWords(value: unknown): string {
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
