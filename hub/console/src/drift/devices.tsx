// Small multiples: each device's score over time against where it alone would alarm.

import type { DeviceHistory } from "../api/types";
import { number } from "../format";
import { Mark } from "../parts/marks";
import { devicePath } from "./series";

const WIDTH = 120;
const HEIGHT = 32;

export function Devices({ devices }: { devices: readonly DeviceHistory[] }) {
  const top = Math.max(...devices.flatMap((each) => [each.limit * 1.2, ...each.score]));
  return (
    <section aria-label="Devices">
      <h3 className="plot-title">
        Devices <span className="muted">evidence over time, alarm at the line</span>
      </h3>
      <ul className="device-multiples">
        {devices.map((each) => (
          <Device key={each.device} history={each} top={top} />
        ))}
      </ul>
    </section>
  );
}

function Device({ history, top }: { history: DeviceHistory; top: number }) {
  const now = history.score.at(-1) ?? 0;
  const y = HEIGHT - (HEIGHT * history.limit) / top;
  const words = `${history.device}: ${number(now)} of ${number(history.limit)}${history.named ? ", differs" : ""}`;
  return (
    <li>
      <span className="device-name">
        <Mark state={history.named ? "drift" : "quiet"} /> {history.device}
      </span>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={words}>
        <line x1="0" x2={WIDTH} y1={y} y2={y} className="device-limit" />
        <path d={devicePath(history.score, top, WIDTH, HEIGHT)} className={history.named ? "device-line bad" : "device-line"} />
      </svg>
    </li>
  );
}
