// Owns the first line: is it well, and if not, why. Pure. The bounds are those of `zeolite check` where nobody has set others.

import { bytes, span } from "./words.js";

const DAY_MS = 86400000;

/** What is wrong, worst first: [{ level: "bad" | "warn", text }]. */
export function reasons(status) {
  const found = [];
  const add = (level, is, text) => is && found.push({ level, text });
  const free = status.disk_bytes ? (status.free_bytes * 100) / status.disk_bytes : 100;
  const certificate = status.certificate_expires_unix_ms - status.unix_ms;
  add("bad", status.poisoned, `Nothing is written any more: ${status.poisoned}`);
  add("bad", status.index_down, `The index has failed and is made ready again: ${status.index_down}`);
  add("bad", status.mode.automatic, `The server took its mode by itself: ${status.mode.automatic}`);
  add("bad", free < 5, `The disk has ${free.toFixed(1)} % left (${bytes(status.free_bytes)})`);
  add("warn", free >= 5 && free < 15, `The disk has ${free.toFixed(1)} % left (${bytes(status.free_bytes)}); evolves wait below 15 %`);
  add("warn", status.security_problem, `Files of certificates or users do not count as they are: ${status.security_problem}`);
  if (status.certificate_expires_unix_ms) {
    const text = certificate < 0 ? "The certificate has expired" : `The certificate ends in ${span(certificate / 1000)}`;
    add("bad", certificate < 3 * DAY_MS, text);
    add("warn", certificate >= 3 * DAY_MS && certificate < 14 * DAY_MS, text);
  }
  add("warn", status.ahead_ms > 60000, `The newest commit is ${span(status.ahead_ms / 1000)} ahead of the server's clock`);
  const copies = status.replication;
  const followers = copies?.followers ?? [];
  const there = followers.filter((one) => one.connected).length;
  const isFenced = copies?.seat === "fenced";
  add("bad", isFenced, `Another server took its place: ${copies?.problem || copies?.primary}`);
  add("bad", !isFenced && copies?.problem, `It does not follow: ${copies?.problem}`);
  add("bad", copies?.seat === "follower" && !copies.connected && !copies.problem, `It does not hear its primary ${copies?.primary}`);
  add("bad", copies?.seat === "primary" && there < copies.sync, `Commits wait for ${copies?.sync} followers, and ${there} are there`);
  for (const one of followers) add("warn", !one.connected, `The follower ${one.name || one.id} is not there`);
  for (const one of status.schedules) {
    const since = status.unix_ms - (one.done_unix_ms || one.since_unix_ms);
    add("bad", since > 4 * one.every_ms, `The last ${one.work} is ${span(since / 1000)} old`);
    add("warn", since > 2 * one.every_ms && since <= 4 * one.every_ms, `The last ${one.work} is ${span(since / 1000)} old`);
    add("warn", one.failed_unix_ms > one.done_unix_ms, `The last ${one.work} has failed: ${one.error}`);
  }
  add("warn", status.oldest_prepared_ms > 300000, `A prepared transaction has waited for ${span(status.oldest_prepared_ms / 1000)}`);
  return found.sort((one, other) => (one.level === other.level ? 0 : one.level === "bad" ? -1 : 1));
}

export function level(found) {
  return found.some((one) => one.level === "bad") ? "bad" : found.length ? "warn" : "ok";
}

/** The sentence. */
export function sentence(found) {
  if (!found.length) return "All is well";
  return found.length === 1 ? "Look at this" : `Look at these ${found.length} things`;
}
