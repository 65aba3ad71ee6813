// Compare two versions: which, on whom, how requests are shared, what decides.

import { useState, type FormEvent } from "react";

import { ApiError, change } from "../api/client";
import { useAll } from "../api/resource";
import type { ExperimentDetail, Group, Model, Version } from "../api/types";
import { count } from "../format";
import { Field } from "../parts/field";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { go, to } from "../routing";
import { PolicyFields } from "./policy-fields";
import { EMPTY_FORM, KINDS, METRIC_TITLES, readPolicy, type Kind, type Metric } from "./words";

export function NewExperimentPage() {
  const models = useAll<Model>("/models", ["training-run"]);
  return (
    <Page title="Compare two versions" back={{ href: to("experiments"), label: "Experiments" }}>
      <Trouble error={models.error} />
      {!models.data && !models.error && <Loading />}
      {models.data?.length === 0 && (
        <Empty title="No models yet.">
          An experiment needs two versions: <Command>edgewise model --help</Command> says how to register one.
        </Empty>
      )}
      {models.data?.[0] && <ExperimentForm models={models.data} first={models.data[0].name} />}
    </Page>
  );
}

function ExperimentForm({ models, first }: { models: readonly Model[]; first: string }) {
  const groups = useAll<Group>("/groups", ["device"]);
  const [model, setModel] = useState(first);
  const [wished, setWished] = useState("");
  const [group, setGroup] = useState("");
  const [form, setForm] = useState(EMPTY_FORM);
  const [metric, setMetric] = useState<Metric>("agreement");
  const [minSamples, setMinSamples] = useState("200");
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const versions = useAll<Version>(`/models/${encodeURIComponent(model)}/versions`, ["job", "training-run"]);
  const candidate = wished || String(versions.data?.[0]?.version ?? "");
  const server = form.kind === "escalate";

  function choose(kind: Kind): void {
    setForm({ ...form, kind, share: "" });
    setMetric(KINDS[kind].metrics[0] ?? "accuracy");
  }

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const made = await change<ExperimentDetail>("POST", "/experiments", {
        model,
        policy: readPolicy({ ...form, serverModel: form.serverModel || model }),
        candidate: server ? null : Number(candidate),
        group: group || null,
        metric,
        min_samples: Number(minSamples),
      });
      go(to("experiments", made.id));
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
      setBusy(false);
    }
  }

  return (
    <form className="card form" aria-label="New experiment" onSubmit={(event) => void submit(event)}>
      <div className="fields">
        <Field title="Model">
          {(id) => (
            <select
              id={id}
              value={model}
              onChange={(event) => {
                setModel(event.target.value);
                setWished("");
              }}
            >
              {models.map((each) => (
                <option key={each.name}>{each.name}</option>
              ))}
            </select>
          )}
        </Field>
        {!server && (
          <Field title="Candidate" note="against what the devices run">
            {(id) => (
              <select id={id} value={candidate} required onChange={(event) => setWished(event.target.value)}>
                {versions.data?.map((each) => (
                  <option key={each.version} value={each.version}>
                    v{each.version}
                    {each.note && ` – ${each.note}`}
                  </option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Field title="Group">
          {(id) => (
            <select id={id} value={group} onChange={(event) => setGroup(event.target.value)}>
              <option value="">every device</option>
              {groups.data?.map((each) => (
                <option key={each.name} value={each.name}>
                  {each.name} ({count(each.devices, "device")})
                </option>
              ))}
            </select>
          )}
        </Field>
      </div>
      <fieldset className="presets">
        <legend>How requests are shared</legend>
        {(Object.keys(KINDS) as Kind[]).map((kind) => (
          <label key={kind} className="preset">
            <input type="radio" name="kind" checked={form.kind === kind} onChange={() => choose(kind)} />
            <span>
              <b>{KINDS[kind].title}</b>
              <span className="muted">{KINDS[kind].note}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <div className="fields">
        <PolicyFields form={form} model={model} onChange={setForm} />
        <Field title="Metric">
          {(id) => (
            <select id={id} value={metric} onChange={(event) => setMetric(event.target.value as Metric)}>
              {KINDS[form.kind].metrics.map((each) => (
                <option key={each} value={each}>
                  {METRIC_TITLES[each]}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field title="Evidence, at least" note="items of each arm">
          {(id) => (
            <input
              id={id}
              type="number"
              min={1}
              required
              value={minSamples}
              onChange={(event) => setMinSamples(event.target.value)}
            />
          )}
        </Field>
      </div>
      <Trouble error={error ?? versions.error} />
      <div className="form-actions">
        <a className="button" href={to("experiments")}>
          Cancel
        </a>
        <button type="submit" className="button primary" disabled={busy || (!server && candidate === "")}>
          Start the experiment
        </button>
      </div>
    </form>
  );
}
