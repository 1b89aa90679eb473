// Owns what is only shown: schedules, what is kept from pack, the store, classes, copies.

import { $, el, facts, part, renew, table } from "./dom.js";
import { ago, bytes, clock, count, many, span } from "./words.js";

const CLASSES_SHOWN = 25;
const none = (text) => [el("p", { className: "muted" }, text)];

function schedules({ status }) {
  const now = status.unix_ms;
  renew(part("schedules"), [status.schedules, Math.floor(now / 30000)], () => {
    if (!status.schedules.length) return none("The server does none by itself ([backup], [pack] in its settings).");
    return status.schedules.flatMap((one) => {
      const pairs = [["Last success", ago(one.done_unix_ms, now)], ["Every", span(one.every_ms / 1000)]];
      pairs.push(one.running ? ["Now", "it is at it"] : ["Next", one.next_unix_ms <= now ? "now" : clock(one.next_unix_ms)]);
      if (one.failed_unix_ms > one.done_unix_ms) pairs.push(["Failed", `${ago(one.failed_unix_ms, now)}: ${one.error}`]);
      return [el("h3", {}, one.work[0].toUpperCase() + one.work.slice(1)), facts(pairs)];
    });
  });
}

function kept({ status }) {
  const pairs = [["Pins", count(status.pins)]];
  if (status.pins) pairs.push(["Oldest pin", `${span(status.oldest_pin_ms / 1000)} of history`], ["Kept from pack", bytes(status.pinned_bytes)]);
  pairs.push(["Prepared", `${count(status.prepared)} (${count(status.prepared_durable)} durable)`]);
  if (status.prepared) pairs.push(["Oldest prepared", span(status.oldest_prepared_ms / 1000)]);
  pairs.push(["Drafts waiting", `${count(status.queue_live)} live, ${count(status.queue_batch)} batch`]);
  for (const gate of status.gates) pairs.push([`Gate of ${gate.class}`, `below version ${gate.min_version}`]);
  if (!status.gates.length) pairs.push(["Gates", "none"]);
  renew(part("kept"), pairs, () => [facts(pairs)]);
}

function store({ status, memory_bytes: memory }) {
  const pairs = [
    ["Objects", count(status.objects)],
    ["Log", `${bytes(status.log_bytes)} in ${many(status.segments, "segment")}`],
    ["Index", `${status.index}, ${bytes(status.index_bytes)}`],
    ["Blobs", `${count(status.blobs)}, ${bytes(status.blob_bytes)}`],
    ["Cache", `${bytes(status.cache_bytes)}, ${hits(status)}`],
    ["Disk", `${bytes(status.free_bytes)} free of ${bytes(status.disk_bytes)}`],
    ["Commits", `${count(status.commits)} since the start`],
    ["Pack", status.pack ?? "rests"],
  ];
  if (memory) pairs.push(["Memory", bytes(memory)]);
  renew(part("store"), pairs, () => [facts(pairs)]);
}

function hits({ cache_hits: hit, cache_misses: missed }) {
  return hit + missed ? `${Math.round((hit * 100) / (hit + missed))} % found` : "not used yet";
}

function classes({ status }) {
  const all = [...status.classes].sort((one, other) => other.conflicts - one.conflicts || other.merges - one.merges);
  const columns = [
    ["Class", (one) => one.class || "all others", "text"],
    ["Conflicts", (one) => count(one.conflicts), "number"],
    ["Merges", (one) => count(one.merges), "number"],
  ];
  renew(part("classes"), all, () => {
    if (!all.length) return none("None since the start.");
    const shown = [table("Conflicts and merges by class", columns, all.slice(0, CLASSES_SHOWN))];
    if (all.length > CLASSES_SHOWN) shown.push(el("p", { className: "muted" }, `${many(all.length - CLASSES_SHOWN, "other class")}.`));
    return shown;
  });
}

/** A database among its copies; a server that knows of none says nothing worth a place. */
function copies({ status }) {
  const told = status.replication;
  const isAlone = !told || (told.seat === "primary" && !told.followers?.length && !told.problem);
  $("copies").hidden = isAlone;
  if (isAlone) return;
  const { followers = [], behind = {}, store_id: _, ...others } = told;
  const pairs = Object.entries(others).filter(([, value]) => value).map(words);
  if (told.seat === "follower") pairs.push(["behind", far(behind)]);
  const columns = [
    ["Follower", (one) => one.name || one.id, "text"],
    ["There", (one) => (one.connected ? "yes" : "no")],
    ["Behind", (one) => far(one.behind)],
    ["Heard", (one) => `${span(one.seen_ms / 1000)} ago`],
  ];
  renew(part("copies"), told, () => [facts(pairs), followers.length ? table("Followers", columns, followers) : null].filter(Boolean));
}

function far({ transactions = 0, more, bytes: length = 0 }) {
  return transactions ? `${more ? "more than " : ""}${many(transactions, "transaction")}, ${bytes(length)}` : "nothing";
}

/** Whatever else is said of copies is shown in its own words, so that nothing here has to know them. */
function words([key, value]) {
  const name = key.replace(/_(ms|bytes|s)$/, "").replaceAll("_", " ");
  if (typeof value === "number" && key.endsWith("_ms")) return [name, span(value / 1000)];
  if (typeof value === "number" && key.endsWith("_s")) return [name, span(value)];
  if (typeof value === "number" && key.endsWith("_bytes")) return [name, bytes(value)];
  return [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
}

export function show(state) {
  for (const one of [schedules, kept, store, classes, copies]) one(state);
}
