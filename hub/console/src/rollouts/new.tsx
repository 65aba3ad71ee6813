// Start a rollout: what, to whom, in which stages, under which gates.

import { useState, type FormEvent } from "react";

import { ApiError, change } from "../api/client";
import { useAll } from "../api/resource";
import type { Group, Model, RolloutDetail, Version } from "../api/types";
import { count } from "../format";
import { Field } from "../parts/field";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { go, to } from "../routing";
import { GateFields } from "./gate-fields";
import { DEFAULT_GATES, readGates } from "./gate-values";
import { PRESETS } from "./words";

/** `model` and `version`: chosen beforehand by whoever linked here. */
export function NewRolloutPage({ model, version }: { model: string | null; version: string | null }) {
  const models = useAll<Model>("/models", ["training-run"]);
  return (
    <Page title="Start a rollout" back={{ href: to("rollouts"), label: "Rollouts" }}>
      <Trouble error={models.error} />
      {!models.data && !models.error && <Loading />}
      {models.data?.length === 0 && (
        <Empty title="No models yet.">
          A rollout needs a version: <Command>edgewise model --help</Command> says how to register one.
        </Empty>
      )}
      {models.data?.[0] && (
        <RolloutForm models={models.data} firstModel={model ?? models.data[0].name} firstVersion={version ?? ""} />
      )}
    </Page>
  );
}

interface RolloutFormProps {
  models: readonly Model[];
  firstModel: string;
  firstVersion: string;
}

function RolloutForm({ models, firstModel, firstVersion }: RolloutFormProps) {
  const groups = useAll<Group>("/groups", ["device"]);
  const [model, setModel] = useState(firstModel);
  const [wished, setWished] = useState(firstVersion);
  const [group, setGroup] = useState("");
  const [preset, setPreset] = useState(0);
  const [gates, setGates] = useState(DEFAULT_GATES);
  const [error, setError] = useState<ApiError>();
  const [busy, setBusy] = useState(false);
  const versions = useAll<Version>(`/models/${encodeURIComponent(model)}/versions`, ["job", "training-run"]);
  const version = wished || String(versions.data?.[0]?.version ?? "");
  const chosen = versions.data?.find((each) => String(each.version) === version);

  async function submit(event: FormEvent): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const rollout = await change<RolloutDetail>("POST", "/rollouts", {
        model,
        version: Number(version),
        group: group || null,
        stages: PRESETS[preset]?.stages,
        gates: readGates(gates),
      });
      go(to("rollouts", rollout.id));
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
      setBusy(false);
    }
  }

  return (
    <form className="card form" aria-label="New rollout" onSubmit={(event) => void submit(event)}>
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
        <Field title="Version">
          {(id) => (
            <select id={id} value={version} required onChange={(event) => setWished(event.target.value)}>
              {versions.data?.map((each) => (
                <option key={each.version} value={each.version}>
                  v{each.version}
                  {each.note && ` – ${each.note}`}
                </option>
              ))}
            </select>
          )}
        </Field>
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
      {chosen && (
        <p className="muted">
          {chosen.bundles.length === 0
            ? "This version is not compiled for any profile yet: compile it first."
            : `Compiled for ${chosen.bundles.map((bundle) => bundle.profile).join(", ")}.`}
        </p>
      )}
      <fieldset className="presets">
        <legend>Stages</legend>
        {PRESETS.map((each, index) => (
          <label key={each.name} className="preset">
            <input type="radio" name="preset" checked={preset === index} onChange={() => setPreset(index)} />
            <span>
              <b>{each.name}</b>
              <span className="muted">{each.note}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <GateFields values={gates} onChange={setGates} />
      <Trouble error={error ?? versions.error} />
      <div className="form-actions">
        <a className="button" href={to("rollouts")}>
          Cancel
        </a>
        <button type="submit" className="button primary" disabled={busy || version === ""}>
          Start the rollout
        </button>
      </div>
    </form>
  );
}
