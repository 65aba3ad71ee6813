import "./styles/base.css";
import "./styles/parts.css";
import "./styles/forms.css";
import "./styles/marks.css";
import "./styles/table.css";
import "./styles/dialog.css";
import "./styles/shell.css";
import "./styles/fleet.css";
import "./styles/models.css";
import "./styles/rollouts.css";
import "./styles/drift.css";

import { createRoot } from "react-dom/client";

import { App } from "./shell/app";

const root = document.getElementById("root");
if (!root) throw new Error('index.html: expected an element with id "root"');
createRoot(root).render(<App />);
