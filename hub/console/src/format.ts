// Numbers and times as people read them. Pure: the time is an argument. Times are Unix seconds.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "now", "12 s ago", "in 3 min", "2 d ago". */
export function relative(at: number, now: number): string {
  const gap = Math.abs(now - at);
  if (gap < 5) return "now";
  const words = duration(gap);
  return at > now ? `in ${words}` : `${words} ago`;
}

/** One unit, rounded down: "40 s", "3 min", "5 h", "2 d". */
export function duration(seconds: number): string {
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h`;
  return `${Math.floor(seconds / DAY)} d`;
}

const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** The date and time of the reader's zone. */
export function absolute(at: number): string {
  return ABSOLUTE.format(at * 1000);
}

/** "812 B", "1.4 KB", "3.0 MB": powers of 1,000. */
export function bytes(count: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const WHOLE = new Intl.NumberFormat("en");

export function whole(count: number): string {
  return WHOLE.format(count);
}

/** A share as percent: "97.3%", "100%", "0.05%". Never rounds a share below one up to 100%, nor one above zero down to 0%. */
export function percent(share: number): string {
  const value = share * 100;
  if (value === 0 || value === 100) return `${value}%`;
  const digits = Math.abs(value) < 0.095 ? 2 : 1;
  const text = value.toFixed(digits);
  if (Number(text) === 0) return "< 0.01%";
  if (Number(text) === 100 && value < 100) return "> 99.9%";
  return `${text}%`;
}

/** A probability: "0.34", "0.0021", "2e-7", "< 1e-10". */
export function probability(p: number): string {
  if (p < 1e-10) return "< 1e-10";
  if (p >= 0.095) return p.toFixed(2);
  if (p >= 0.0001) return String(Number(p.toPrecision(2)));
  return p.toExponential(0);
}

/** Three significant digits at most: "0.034", "1.12", "1,204". */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "not finite";
  if (Math.abs(value) >= 1000) return WHOLE.format(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

/** "1 device", "3 devices". */
export function count(n: number, thing: string): string {
  return `${whole(n)} ${thing}${n === 1 ? "" : "s"}`;
}

export function version(number: number | null): string {
  return number === null ? "none" : `v${number}`;
}

/** "clean_accuracy" as "clean accuracy". */
export function words(key: string): string {
  return key.replace(/[_-]+/g, " ");
}
