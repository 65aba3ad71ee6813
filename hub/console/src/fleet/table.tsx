// Every device in words: for the keyboard, for screen readers, and for who wants to know why.

import type { Device } from "../api/types";
import { Mark, stateWords } from "../parts/marks";
import { Table, type Column } from "../parts/table";
import { TimeOr } from "../parts/time";
import { to } from "../routing";
import { deviceState, versionWords, whyNotUpdated } from "./state";

const COLUMNS: readonly Column<Device>[] = [
  { title: "Device", cell: (device) => <a href={to("fleet", device.id)}>{device.id}</a> },
  { title: "State", cell: (device) => <StateOf device={device} /> },
  { title: "Version", cell: (device) => <Versions device={device} /> },
  { title: "Groups", cell: (device) => device.groups.join(", ") || <span className="muted">none</span> },
  { title: "Profile", cell: (device) => device.profile },
  { title: "Last seen", cell: (device) => <TimeOr at={device.last_seen} none="never" /> },
  { title: "Why not updated", cell: (device) => <Why device={device} /> },
];

export function DeviceTable({ devices }: { devices: readonly Device[] }) {
  return (
    <div className="card table-card">
      <Table label="Devices" columns={COLUMNS} items={devices} keyOf={(device) => device.id} />
    </div>
  );
}

function StateOf({ device }: { device: Device }) {
  const state = deviceState(device);
  return (
    <span className="state">
      <Mark state={state} /> {stateWords(state)}
    </span>
  );
}

function Versions({ device }: { device: Device }) {
  if (device.models.length === 0) return <span className="muted">none</span>;
  return device.models.map((model) => (
    <span key={model.model} className="version">
      {model.model} <b>{versionWords(model)}</b>
    </span>
  ));
}

function Why({ device }: { device: Device }) {
  const why = whyNotUpdated(device);
  return why ? <span className="why">{why}</span> : <span className="muted">–</span>;
}
