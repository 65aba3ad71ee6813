// How far an alarm can be trusted, in words: its stated error rate, and what a calibration measured. Pure.

import type { Alert, BundleCalibration } from "../api/types";
import { number, percent, whole } from "../format";

/** The newest version's calibration of a list that is sorted by version. */
export function newest<T extends { version: number }>(found: readonly T[] | undefined): T | undefined {
  return found?.reduce<T | undefined>((best, one) => (best && best.version > one.version ? best : one), undefined);
}

/** What an alert says of its own kind: the rate it states, and the rate that was measured. */
export function errorRate(alert: Alert): string | undefined {
  const stated = alert.details["false_alert_rate"];
  const said: string[] = [];
  if (alert.kind === "data-quality") return undefined; // broken inputs are counted, not tested
  if (typeof stated === "number" && stated > 0) {
    const rate = whole(Math.round(1 / stated));
    said.push(`An alert takes one alarm that is all but certain, or several: it is false at most once in ${rate} judgements.`);
  }
  const measured = alert.calibration;
  if (measured) {
    const { alarms, trials, rate } = measured.false_alarms;
    said.push(`Measured on its reference: ${alarms} of ${whole(trials)} undrifted spans alarm at 5% (${percent(rate)}).`);
    if (!measured.enough) said.push("The reference is too small for the promise.");
  }
  return said.length > 0 ? said.join(" ") : undefined;
}

/** Terms and values of one bundle's calibration. */
export function trustFacts(one: BundleCalibration): (readonly [string, string])[] {
  const facts: [string, string][] = [["Reference", reference(one)]];
  if (one.false_alarms) {
    const { alarms, trials, rate, low, high } = one.false_alarms;
    facts.push([
      "False alarms, due 5%",
      `${percent(rate)} (${alarms} of ${whole(trials)} undrifted spans), between ${percent(low)} and ${percent(high)}`,
    ]);
  }
  if (one.run_length != null) facts.push([`Spans to a false alarm of the watch, due ${one.promise}`, runLength(one)]);
  for (const each of one.smallest) {
    const size = each.size === null ? "none of those tried" : `a move of ${number(each.size)} × its spread`;
    facts.push([`Smallest shift that a ${each.who} shows in a day`, `${size}, of ${whole(each.per_day)} inferences`]);
  }
  return facts;
}

function reference(one: BundleCalibration): string {
  const size = one.enough ? "large enough" : `too small: ${whole(one.needed)} are needed`;
  const known = one.independent < one.m ? `, as good as ${whole(one.independent)} drawn alone` : "";
  return `${whole(one.m)} items${known}; ${size}`;
}

function runLength(one: BundleCalibration): string {
  const low = one.run_length_low == null ? "" : `, between ${whole(Math.round(one.run_length_low))}`;
  const high = one.run_length_high == null ? " and more" : ` and ${whole(Math.round(one.run_length_high))}`;
  const back = one.horizon === 1 ? "1 span" : `${one.horizon} spans`;
  return `${whole(Math.round(one.run_length ?? 0))}${low && low + high}; looks back over ${back} at most`;
}
