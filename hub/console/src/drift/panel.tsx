// The tests of the panel, each against the value at which it alone would raise the alarm: a group is held against the
// reference, and against the rest of the fleet.

import type { PanelReading } from "../api/types";
import { number, probability } from "../format";
import { LimitBar } from "../parts/bar";
import { Mark } from "../parts/marks";

const TITLES: Record<PanelReading["test"], string> = {
  embedding: "Embedding",
  mmd: "Embedding, by distance",
  classes: "Predicted classes",
  confidence: "Confidence",
  columns: "Columns of the inputs",
  "embedding-vs-rest": "Embedding, against the rest",
  "classes-vs-rest": "Predicted classes, against the rest",
};

export function Panel({ tests }: { tests: readonly PanelReading[] }) {
  return (
    <ul className="panel" aria-label="Tests">
      {tests.map((test) => (
        <li key={test.test}>
          <span className="panel-title">
            <Mark state={test.alarm ? "harmful" : "quiet"} /> {TITLES[test.test]}
            <span className="unseen">{test.alarm ? ": alarm" : ": no alarm"}</span>
          </span>
          <LimitBar value={test.statistic} limit={test.threshold} tone={test.alarm ? "bad" : "ok"} />
          <span className="muted panel-figures">
            {number(test.statistic)} of {number(test.threshold)}, p {pWords(test.p_value)}
          </span>
        </li>
      ))}
    </ul>
  );
}

function pWords(p: number): string {
  const text = probability(p);
  return text.startsWith("<") ? text : `= ${text}`;
}
