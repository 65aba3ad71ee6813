// The gates with their evidence: the sentence, and the value against its limit.

import type { GateReading } from "../api/types";
import { whole } from "../format";
import { LimitBar } from "../parts/bar";
import { State, stateWords, toneOf } from "../parts/marks";
import { GATE_TITLES, GATE_UNITS, gateFigure } from "./words";

export function Gates({ gates }: { gates: readonly GateReading[] }) {
  return (
    <ul className="gates" aria-label="Gates">
      {gates.map((gate) => (
        <li key={gate.gate} className="gate" aria-label={`${GATE_TITLES[gate.gate]}: ${stateWords(gate.state)}`}>
          <div className="gate-head">
            <h3>{GATE_TITLES[gate.gate]}</h3>
            <State state={gate.state} label={gate.state === "off" ? "not judged" : stateWords(gate.state)} />
          </div>
          {gate.state !== "off" && <Figures gate={gate} />}
          <p>{gate.words}</p>
        </li>
      ))}
    </ul>
  );
}

function Figures({ gate }: { gate: GateReading }) {
  const { value, limit } = gate;
  return (
    <div className="gate-figures" title={GATE_UNITS[gate.gate]}>
      <b>{value == null ? "–" : gateFigure(gate.gate, value)}</b>
      {limit != null && (
        <>
          <LimitBar value={value ?? 0} limit={limit} tone={toneOf(gate.state)} />
          <span className="muted">limit {gateFigure(gate.gate, limit)}</span>
        </>
      )}
      {gate.n > 0 && <span className="muted gate-n">n = {whole(gate.n)}</span>}
    </div>
  );
}

/** One line a gate: for a decision of the past. */
export function GateLines({ gates }: { gates: readonly GateReading[] }) {
  return (
    <ul className="gate-lines">
      {gates.map((gate) => (
        <li key={gate.gate}>
          <State state={gate.state} label={GATE_TITLES[gate.gate]} /> <span className="muted">{gate.words}</span>
        </li>
      ))}
    </ul>
  );
}
