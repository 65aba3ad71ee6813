// The limits of a new rollout: closed until somebody wants other ones than the hub's own.

import { Field } from "../parts/field";
import type { GateValues } from "./gate-values";

interface Limit {
  key: keyof GateValues;
  title: string;
  unit: string;
  min: number;
  max?: number;
  required?: boolean;
}

const LIMITS: readonly Limit[] = [
  {
    key: "install_failures",
    title: "Failed installs, at most",
    unit: "% of the stage",
    min: 0,
    max: 100,
    required: true,
  },
  { key: "errors", title: "Errors, at most", unit: "% of requests", min: 0, max: 100 },
  { key: "latency_ratio", title: "Latency, at most", unit: "× the version before", min: 0.01 },
  { key: "mix_distance", title: "Prediction mix, at most", unit: "total variation, 0 to 1", min: 0.0001, max: 1 },
  { key: "min_inferences", title: "Evidence, at least", unit: "inferences", min: 0, required: true },
  { key: "soak", title: "Soak, at least", unit: "seconds a stage", min: 0, required: true },
  { key: "deadline", title: "Deadline", unit: "seconds a stage", min: 1, required: true },
];

export function GateFields({ values, onChange }: { values: GateValues; onChange: (values: GateValues) => void }) {
  return (
    <details className="gate-fields">
      <summary>Gates</summary>
      <p className="muted">They hold in every stage. An empty limit leaves its gate out.</p>
      <div className="fields">
        {LIMITS.map((limit) => (
          <Field key={limit.key} title={limit.title} note={limit.unit}>
            {(id) => (
              <input
                id={id}
                type="number"
                step="any"
                min={limit.min}
                max={limit.max}
                required={limit.required}
                value={values[limit.key]}
                onChange={(event) => onChange({ ...values, [limit.key]: event.target.value })}
              />
            )}
          </Field>
        ))}
      </div>
    </details>
  );
}
