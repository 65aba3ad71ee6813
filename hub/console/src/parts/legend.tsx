// What the shapes mean, with how many there are of each.

import { whole } from "../format";
import { Mark, stateWords, type StateName } from "./marks";

export function Legend({ states, counts }: { states: readonly StateName[]; counts: ReadonlyMap<StateName, number> }) {
  const shown = states.filter((state) => (counts.get(state) ?? 0) > 0);
  return (
    <ul className="legend" aria-label="States">
      {shown.map((state) => (
        <li key={state}>
          <Mark state={state} /> {stateWords(state)} <b>{whole(counts.get(state) ?? 0)}</b>
        </li>
      ))}
    </ul>
  );
}
