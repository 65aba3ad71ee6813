// What a device is, in one state and one sentence. Pure.

import type { Device, DeviceModel } from "../api/types";
import { version } from "../format";
import { stateWords, type StateName } from "../parts/marks";

export const DEVICE_STATES = ["confirmed", "trial", "pending", "failed", "none", "offline", "revoked"] as const;
export type DeviceState = (typeof DEVICE_STATES)[number];

const WORST_FIRST: readonly DeviceModel["state"][] = ["failed", "trial", "pending", "confirmed"];

/** What is known now: a device that cannot be heard is offline, whatever it said last; else the worst of its models. */
export function deviceState(device: Device): DeviceState {
  if (device.revoked) return "revoked";
  if (!device.online) return "offline";
  return WORST_FIRST.find((state) => device.models.some((model) => model.state === state)) ?? "none";
}

/** "v3", or "v1 → v3" where the wished version is not the confirmed one yet. */
export function versionWords(model: DeviceModel): string {
  const there = model.confirmed_version ?? model.running_version;
  if (there === model.version || model.version === null) return version(there);
  return there === null ? `→ v${model.version}` : `v${there} → v${model.version}`;
}

/** Why a device is not where it should be; "" where it is. */
export function whyNotUpdated(device: Device): string {
  if (device.revoked) return "Its identity was revoked.";
  const behind = device.models.filter((model) => model.state !== "confirmed" && model.state !== "none");
  const reasons = behind.map((model) => model.reason || behindWords(model));
  if (!device.online && behind.length > 0) return ["Offline.", ...reasons].join(" ");
  return reasons.join(" ");
}

function behindWords(model: DeviceModel): string {
  switch (model.state) {
    case "pending":
      return `${model.model} ${version(model.version)} is wished for and not installed yet.`;
    case "trial":
      return `${model.model} ${version(model.version)} is on trial.`;
    default:
      return `${model.model} ${version(model.version)} failed.`;
  }
}

/** The name, state and versions of a device, as one line. */
export function deviceLabel(device: Device): string {
  const models = device.models.map((model) => `${model.model} ${versionWords(model)}`);
  return [`${device.id}: ${stateWords(deviceState(device))}`, ...models].join(", ");
}

export interface Filter {
  text: string;
  group: string;
  state: DeviceState | "";
}

export const EVERYTHING: Filter = { text: "", group: "", state: "" };

/** The devices that fit: `text` is looked for in the id, the profile, the groups and the reason. */
export function filtered(devices: readonly Device[], filter: Filter): Device[] {
  const text = filter.text.trim().toLowerCase();
  return devices.filter((device) => {
    if (filter.group && !device.groups.includes(filter.group)) return false;
    if (filter.state && deviceState(device) !== filter.state) return false;
    const about = [device.id, device.profile, ...device.groups, whyNotUpdated(device)].join(" ").toLowerCase();
    return about.includes(text);
  });
}

/** Devices by group, groups by name; one in several groups stands in each, one in none under "". */
export function byGroup(devices: readonly Device[]): [string, Device[]][] {
  const groups = new Map<string, Device[]>();
  for (const device of devices) {
    for (const group of device.groups.length > 0 ? device.groups : [""]) {
      const members = groups.get(group);
      if (members) members.push(device);
      else groups.set(group, [device]);
    }
  }
  return [...groups].sort(([a], [b]) => (a === "" ? 1 : b === "" ? -1 : a.localeCompare(b, "en", { numeric: true })));
}

export function countStates(states: Iterable<StateName>): Map<StateName, number> {
  const counts = new Map<StateName, number>();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}
