// Every model.

import { useAll } from "../api/resource";
import type { Model } from "../api/types";
import { Served } from "../fleet/numbers";
import { version } from "../format";
import { Command, Empty, Loading, Trouble } from "../parts/notices";
import { Page } from "../parts/page";
import { Table, type Column } from "../parts/table";
import { Time } from "../parts/time";
import { to } from "../routing";

const COLUMNS: readonly Column<Model>[] = [
  { title: "Model", cell: (model) => <a href={to("models", model.name)}>{model.name}</a> },
  { title: "Newest", cell: (model) => version(model.latest) },
  { title: "Versions", cell: (model) => model.versions, numeric: true },
  { title: "Served", cell: (model) => <Served model={model} /> },
  {
    title: "Floor",
    cell: (model) => (model.floor > 0 ? `never below v${model.floor}` : <span className="muted">none yet</span>),
  },
  { title: "Since", cell: (model) => <Time at={model.created_at} /> },
];

export function ModelsPage() {
  const { data: models, error } = useAll<Model>("/models", ["device", "rollout", "training-run"]);
  return (
    <Page title="Models">
      <Trouble error={error} />
      {!models && !error && <Loading />}
      {models?.length === 0 && (
        <Empty title="No models yet.">
          Train one through a recipe, or register an ONNX file: <Command>edgewise model --help</Command> says how.
        </Empty>
      )}
      {models && models.length > 0 && (
        <div className="card table-card">
          <Table label="Models" columns={COLUMNS} items={models} keyOf={(model) => model.name} />
        </div>
      )}
    </Page>
  );
}
