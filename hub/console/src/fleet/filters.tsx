// Which devices are shown.

import type { Device } from "../api/types";
import { Field } from "../parts/field";
import { stateWords } from "../parts/marks";
import { DEVICE_STATES, type DeviceState, type Filter } from "./state";

interface FiltersProps {
  filter: Filter;
  devices: readonly Device[];
  onChange: (filter: Filter) => void;
}

export function Filters({ filter, devices, onChange }: FiltersProps) {
  const groups = [...new Set(devices.flatMap((device) => device.groups))].sort();
  return (
    <form className="filters" role="search" aria-label="Filter devices" onSubmit={(event) => event.preventDefault()}>
      <Field title="Search">
        {(id) => (
          <input
            id={id}
            type="search"
            value={filter.text}
            placeholder="name, profile, reason"
            onChange={(event) => onChange({ ...filter, text: event.target.value })}
          />
        )}
      </Field>
      <Field title="Group">
        {(id) => (
          <select id={id} value={filter.group} onChange={(event) => onChange({ ...filter, group: event.target.value })}>
            <option value="">every group</option>
            {groups.map((group) => (
              <option key={group}>{group}</option>
            ))}
          </select>
        )}
      </Field>
      <Field title="State">
        {(id) => (
          <select
            id={id}
            value={filter.state}
            onChange={(event) => onChange({ ...filter, state: event.target.value as DeviceState | "" })}
          >
            <option value="">every state</option>
            {DEVICE_STATES.map((state) => (
              <option key={state} value={state}>
                {stateWords(state)}
              </option>
            ))}
          </select>
        )}
      </Field>
    </form>
  );
}
