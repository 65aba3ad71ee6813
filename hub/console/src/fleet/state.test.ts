import { expect, test } from "vitest";

import type { Device, DeviceModel } from "../api/types";
import { byGroup, deviceState, EVERYTHING, filtered, versionWords, whyNotUpdated } from "./state";

function model(state: DeviceModel["state"], given: Partial<DeviceModel> = {}): DeviceModel {
  return {
    model: "digits",
    version: 3,
    bundle: null,
    running_version: 3,
    confirmed_version: 3,
    state,
    reason: "",
    ...given,
  };
}

function device(given: Partial<Device> = {}): Device {
  return {
    id: "camera-01",
    profile: "linux-x86-64",
    agent: "0.1.0",
    groups: ["district-a"],
    online: true,
    last_seen: 1,
    enrolled_at: 1,
    revoked: false,
    generation: 1,
    reported_generation: 1,
    models: [model("confirmed")],
    facts: {},
    consent: {},
    ...given,
  };
}

test("a device is as well as its worst model, and offline whatever it said last", () => {
  expect(deviceState(device())).toBe("confirmed");
  expect(deviceState(device({ models: [model("confirmed"), model("failed"), model("trial")] }))).toBe("failed");
  expect(deviceState(device({ models: [] }))).toBe("none");
  expect(deviceState(device({ online: false, models: [model("failed")] }))).toBe("offline");
  expect(deviceState(device({ online: false, revoked: true }))).toBe("revoked");
});

test("a version that is not there yet is shown with the one that is", () => {
  expect(versionWords(model("confirmed"))).toBe("v3");
  expect(versionWords(model("pending", { running_version: 1, confirmed_version: 1 }))).toBe("v1 → v3");
  expect(versionWords(model("pending", { running_version: null, confirmed_version: null }))).toBe("→ v3");
});

test("a device that is not updated says why, in its own words where it has some", () => {
  expect(whyNotUpdated(device())).toBe("");
  expect(whyNotUpdated(device({ models: [model("failed", { reason: "Smoke inference failed." })] }))).toBe(
    "Smoke inference failed.",
  );
  expect(whyNotUpdated(device({ online: false, models: [model("pending")] }))).toMatch(/^Offline\. digits v3/);
});

test("a filter looks at name, profile, groups and reason, and all its parts must fit", () => {
  const fleet = [device(), device({ id: "camera-02", groups: ["district-b"], models: [model("failed")] })];
  const ids = (filter: Partial<typeof EVERYTHING>) =>
    filtered(fleet, { ...EVERYTHING, ...filter }).map((each) => each.id);
  expect(ids({})).toEqual(["camera-01", "camera-02"]);
  expect(ids({ text: " DISTRICT-B " })).toEqual(["camera-02"]);
  expect(ids({ state: "failed" })).toEqual(["camera-02"]);
  expect(ids({ group: "district-a", state: "failed" })).toEqual([]);
});

test("a device stands in each of its groups, and last where it has none", () => {
  const groups = byGroup([device({ groups: [] }), device({ groups: ["b", "a10", "a2"] })]);
  expect(groups.map(([name]) => name)).toEqual(["a2", "a10", "b", ""]);
});
