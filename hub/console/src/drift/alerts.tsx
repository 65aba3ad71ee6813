// Alerts of a model: the open ones first.

import { useAll } from "../api/resource";
import type { Alert } from "../api/types";
import { Mark, stateWords } from "../parts/marks";
import { Trouble } from "../parts/notices";
import { Section } from "../parts/page";
import { Time } from "../parts/time";
import { pageOf } from "./calibration";
import { errorRate } from "./trust";

const MOST = 8;

export function Alerts({ model }: { model: string }) {
  const { data, error } = useAll<Alert>("/alerts", ["alert"]);
  const alerts = data?.filter((alert) => alert.model === model) ?? [];
  const open = alerts.filter((alert) => alert.closed_at === null);
  const closed = alerts.filter((alert) => alert.closed_at !== null);
  return (
    <Section title="Alerts">
      <Trouble error={error} />
      {data && open.length === 0 && <p className="muted">No open alert.</p>}
      {alerts.length > 0 && (
        <ul className="alerts" aria-label="Alerts">
          {[...open, ...closed].slice(0, MOST).map((alert) => (
            <AlertLine key={alert.id} alert={alert} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function AlertLine({ alert }: { alert: Alert }) {
  const state = alert.closed_at === null ? "open" : "closed";
  const rate = errorRate(alert);
  return (
    <li className={`alert ${state}`}>
      <Mark state={state} />
      <p>
        {alert.group && !alert.summary.includes(alert.group) && <b>{alert.group}: </b>}
        {alert.summary}
        {rate && (
          <span className="alert-rate">
            {rate}{" "}
            {alert.calibration && (
              <a href={pageOf(alert.calibration.job)} target="_blank" rel="noreferrer">
                How that was measured
              </a>
            )}
          </span>
        )}
      </p>
      <span className="muted">
        {stateWords(state)} <Time at={alert.closed_at ?? alert.opened_at} />
      </span>
    </li>
  );
}
