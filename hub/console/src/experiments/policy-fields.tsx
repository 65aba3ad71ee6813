// What each kind of experiment asks besides.

import { Field } from "../parts/field";
import { DEFAULT_SHARES, type Form } from "./words";

interface PolicyFieldsProps {
  form: Form;
  model: string;
  onChange: (form: Form) => void;
}

export function PolicyFields({ form, model, onChange }: PolicyFieldsProps) {
  const share = DEFAULT_SHARES[form.kind];
  return (
    <>
      {share !== undefined && (
        <Field title="The candidate's share" note={`% of ${form.kind === "ab" ? "users or devices" : "requests"}`}>
          {(id) => (
            <input
              id={id}
              type="number"
              min={1}
              max={form.kind === "shadow" ? 100 : 99}
              step="any"
              placeholder={share}
              value={form.share}
              onChange={(event) => onChange({ ...form, share: event.target.value })}
            />
          )}
        </Field>
      )}
      {form.kind === "ab" && (
        <Field title="Drawn by">
          {(id) => (
            <select
              id={id}
              value={form.by}
              onChange={(event) => onChange({ ...form, by: event.target.value === "device" ? "device" : "key" })}
            >
              <option value="key">user: the request's key</option>
              <option value="device">device</option>
            </select>
          )}
        </Field>
      )}
      {form.kind === "interleave" && (
        <Field title="Output" note="scores of the items">
          {(id) => (
            <input
              id={id}
              required
              value={form.output}
              onChange={(event) => onChange({ ...form, output: event.target.value })}
            />
          )}
        </Field>
      )}
      {form.kind === "escalate" && (
        <>
          <Field title="Server" note="up to /v2; the device's owner must allow it">
            {(id) => (
              <input
                id={id}
                type="url"
                required
                placeholder="https://server.example/v2"
                value={form.url}
                onChange={(event) => onChange({ ...form, url: event.target.value })}
              />
            )}
          </Field>
          <Field title="Its model">
            {(id) => (
              <input
                id={id}
                placeholder={model}
                value={form.serverModel}
                onChange={(event) => onChange({ ...form, serverModel: event.target.value })}
              />
            )}
          </Field>
          <Field title="Ask where less sure than" note="% confidence">
            {(id) => (
              <input
                id={id}
                type="number"
                min={0}
                max={100}
                required
                value={form.threshold}
                onChange={(event) => onChange({ ...form, threshold: event.target.value })}
              />
            )}
          </Field>
        </>
      )}
    </>
  );
}
