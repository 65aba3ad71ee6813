// The fleet: how many, where, in which state; and every device with why it is not updated.

import { useDeferredValue, useMemo, useState } from "react";

import { useAll } from "../api/resource";
import type { Device } from "../api/types";
import { count } from "../format";
import { Dots } from "../parts/dots";
import { Legend } from "../parts/legend";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { go, to } from "../routing";
import { DeviceDrawer } from "./device";
import { Filters } from "./filters";
import { Numbers } from "./numbers";
import { byGroup, countStates, DEVICE_STATES, deviceLabel, deviceState, EVERYTHING, filtered } from "./state";
import { DeviceTable } from "./table";

export function FleetPage({ open }: { open: string | undefined }) {
  const { data: devices, error } = useAll<Device>("/devices", ["device", "rollout"]);
  const [filter, setFilter] = useState(EVERYTHING);
  const deferred = useDeferredValue(filter);
  const shown = useMemo(() => sorted(filtered(devices ?? [], deferred)), [devices, deferred]);

  return (
    <Page title="Fleet">
      <Trouble error={error} />
      <Numbers devices={devices} />
      {!devices && !error && <Loading />}
      {devices?.length === 0 && (
        <Empty title="No devices yet.">
          Make a join token with <Command>edgewise hub token</Command>, then on the device{" "}
          <Command>edgewise-agent enroll</Command>.
        </Empty>
      )}
      {devices && devices.length > 0 && (
        <>
          <Filters filter={filter} devices={devices} onChange={setFilter} />
          <p className="unseen" role="status">
            {count(shown.length, "device")} shown
          </p>
          {shown.length === 0 ? (
            <Empty title="No device fits.">
              <button type="button" className="button" onClick={() => setFilter(EVERYTHING)}>
                Clear the filter
              </button>
            </Empty>
          ) : (
            <div className="fleet">
              <FleetMap devices={shown} />
              <DeviceTable devices={shown} />
            </div>
          )}
        </>
      )}
      {open !== undefined && <DeviceDrawer id={open} onClose={() => go(to("fleet"))} />}
    </Page>
  );
}

function FleetMap({ devices }: { devices: readonly Device[] }) {
  const groups = useMemo(() => byGroup(devices), [devices]);
  const counts = useMemo(() => countStates(devices.map(deviceState)), [devices]);
  return (
    <section className="fleet-map card" aria-label="Devices by group">
      <Legend states={DEVICE_STATES} counts={counts} />
      {groups.map(([group, members]) => (
        <section key={group} className="fleet-group" aria-label={group || "in no group"}>
          <h2>
            {group || "in no group"} <span className="muted">{members.length}</span>
          </h2>
          <Dots
            label={`${group || "in no group"}: ${count(members.length, "device")}`}
            dots={members.map((device) => ({
              key: device.id,
              href: to("fleet", device.id),
              state: deviceState(device),
              label: deviceLabel(device),
            }))}
          />
        </section>
      ))}
    </section>
  );
}

function sorted(devices: readonly Device[]): Device[] {
  return [...devices].sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
}
