// What changed, since when: classes, clusters and columns, as words. Nobody's example is shown.

import type { Judgement } from "../api/types";
import { percent, probability } from "../format";
import { Time } from "../parts/time";

const MOST = 4;

export function Changes({ now }: { now: Judgement }) {
  const { changed, clusters } = now;
  const columns = now.columns.filter((column) => column.named);
  const prior = now.prior.filter((each) => each.low > each.reference || each.high < each.reference);
  if (!now.since && changed.length + clusters.length + columns.length + prior.length === 0) return <div />;
  return (
    <section className="changes" aria-label="What changed">
      <h3 className="plot-title">What changed</h3>
      <ul>
        {now.since && (
          <li>
            Since <Time at={now.since.at} />, at the earliest <Time at={now.since.earliest} />.
          </li>
        )}
        {changed.slice(0, MOST).map((each) => (
          <li key={`class ${each.index}`}>
            Class {each.index} is predicted for <b>{percent(each.share)}</b>, in the reference for{" "}
            {percent(each.reference)}.
          </li>
        ))}
        {clusters.slice(0, MOST).map((each) => (
          <li key={`cluster ${each.index}`}>
            Inputs {placeWords(each.classes)}: <b>{percent(each.share)}</b>, in the reference {percent(each.reference)}.
          </li>
        ))}
        {columns.slice(0, MOST).map((each) => (
          <li key={`column ${each.name}`}>
            Column <b>{each.name}</b>: size {each.size.toFixed(2)}, p {probability(each.p_value)}.
          </li>
        ))}
        {prior.slice(0, MOST).map((each) => (
          <li key={`prior ${each.index}`}>
            Class {each.index} is estimated to come <b>{percent(each.now)}</b> ({percent(each.low)} to{" "}
            {percent(each.high)}), in the reference {percent(each.reference)}: an estimate from predictions.
          </li>
        ))}
      </ul>
    </section>
  );
}

function placeWords(classes: readonly (readonly [number, number])[]): string {
  if (classes.length === 0) return "where the reference has none";
  return `near the reference's ${classes.map(([kind, share]) => `class ${kind} (${percent(share)})`).join(", ")}`;
}
