// Owns how numbers and times are said.

const whole = new Intl.NumberFormat("en");
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export const count = (number) => whole.format(Math.round(number));

export function rate(number) {
  return number >= 100 ? count(number) : String(Math.round(number * 10) / 10);
}

export function bytes(number) {
  let unit = 0;
  while (number >= 1024 && unit + 1 < UNITS.length) [number, unit] = [number / 1024, unit + 1];
  return `${unit && number < 100 ? number.toFixed(1) : Math.round(number)} ${UNITS[unit]}`;
}

export function ms(number) {
  if (number === null || number === undefined) return "–";
  if (number >= 1000) return `${(number / 1000).toFixed(1)} s`;
  if (number < 1) return `${Math.round(number * 1000)} µs`;
  return `${number >= 100 ? Math.round(number) : number.toFixed(1)} ms`;
}

/** A span of seconds, in its two largest units at most. */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}

/** How long ago, by the server's clock. */
export const ago = (unixMs, nowMs) => (unixMs ? `${span((nowMs - unixMs) / 1000)} ago` : "never");

export const clock = (unixMs) => new Date(unixMs).toLocaleString();

/** "1 session", "2 sessions". */
export const many = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;
