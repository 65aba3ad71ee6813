// A time: relative to read, absolute on hover and for machines.

import { absolute } from "../format";
import { useRelative } from "./clock";

export function Time({ at }: { at: number }) {
  const text = useRelative(at);
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={absolute(at)}>
      {text}
    </time>
  );
}

/** A time that may not have come yet. */
export function TimeOr({ at, none }: { at: number | null; none: string }) {
  return at === null ? <span className="muted">{none}</span> : <Time at={at} />;
}
