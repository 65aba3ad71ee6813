// What devices do with inputs that fit a model's signature and do not look right: seen, and set.

import { useState } from "react";

import { ApiError, change } from "../api/client";
import { refresh } from "../api/resource";
import type { Model, QualityRules as Rules } from "../api/types";
import { Field } from "../parts/field";
import { Trouble } from "../parts/notices";

type Rule = NonNullable<Rules["missing"]>;

const PROBLEMS: readonly (readonly [keyof Rules, string, Rule])[] = [
  ["out_of_bounds", "Outside the range of the reference", "count"],
  ["not_finite", "NaN or infinity", "refuse"],
  ["missing", "A feature is missing (NaN)", "refuse"],
  ["unknown_inputs", "An input that the model does not have", "refuse"],
];

const WORDS: Record<Rule, string> = {
  count: "let through",
  flag: "let through, and say so in the answer",
  refuse: "do not run it",
};

export function QualityRules({ model }: { model: Model }) {
  const [changed, setChanged] = useState<Rules>({});
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError>();
  const rules: Rules = { ...model.quality, ...changed };

  async function save(): Promise<void> {
    const path = `/models/${encodeURIComponent(model.name)}`;
    setBusy(true);
    setError(undefined);
    try {
      await change<Model>("PATCH", path, { quality: rules });
      refresh(path);
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    } finally {
      setBusy(false);
    }
  }

  return (
    <form
      className="card form"
      aria-label="Inputs that do not look right"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <div className="fields">
      {PROBLEMS.map(([problem, title, usual]) => (
        <Field key={problem} title={title}>
          {(id) => (
            <select
              id={id}
              value={rules[problem] ?? ""}
              onChange={(event) => setChanged({ ...changed, [problem]: (event.target.value || null) as Rule | null })}
            >
              <option value="">default: {WORDS[usual]}</option>
              {Object.entries(WORDS).map(([rule, words]) => (
                <option key={rule} value={rule}>
                  {words}
                </option>
              ))}
            </select>
          )}
        </Field>
      ))}
      </div>
      <Trouble error={error} />
      <div className="form-actions">
        <button type="submit" className="button" disabled={busy || same(rules, model.quality)}>
          Tell the devices
        </button>
      </div>
    </form>
  );
}

function same(rules: Rules, others: Rules): boolean {
  return PROBLEMS.every(([problem]) => (rules[problem] ?? null) === (others[problem] ?? null));
}
