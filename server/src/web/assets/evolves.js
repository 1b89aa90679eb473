// Owns the list of evolves: how far each is, what it waits for, and its buttons.

import { ask } from "./ask.js";
import { $, confirmed, el, renew, toast } from "./dom.js";
import { clock, count, many, rate, span } from "./words.js";

const LEVEL = { running: "ok", throttled: "warn", paused: "warn", failed: "bad", "catching-up": "ok", verifying: "ok", undoing: "warn" };
/** Older ones are told by their number. */
const OVER_SHOWN = 5;

async function steer(database, name, verb, reason) {
  try {
    await ask("/api/evolve", { database, name, verb, reason });
    toast(`${verb[0].toUpperCase()}${verb.slice(1)}: ${name} was told`);
  } catch (error) {
    toast(`${name}: ${error.message}`);
  }
}

function button(label, key, kind, act) {
  const made = el("button", { type: "button", className: kind, "data-key": key, onclick: () => act() }, label);
  return made;
}

function buttons(job, database) {
  const { name } = job;
  const pause = async () => {
    const text = "Its workers finish their chunk and wait until it is resumed.";
    const reason = await confirmed({ title: `Pause ${name}?`, text, yes: "Pause it", reason: true });
    if (reason !== undefined) steer(database, name, "pause", reason);
  };
  const cancel = async () => {
    const text = "It ends for good. What it has done stays, and can be undone with zeolite evolve undo.";
    const reason = await confirmed({ title: `Cancel ${name}?`, text, yes: "Cancel it", danger: true, reason: true });
    if (reason !== undefined) steer(database, name, "cancel", reason);
  };
  const resume = () => steer(database, name, "resume", "");
  const goesOn = job.state === "paused" || job.state === "failed";
  return el("div", { className: "buttons" },
    goesOn ? button("Resume", `resume ${name}`, "", resume) : button("Pause", `pause ${name}`, "quiet", pause),
    job.state === "failed" ? null : button("Cancel", `cancel ${name}`, "danger", cancel));
}

function told(job) {
  if (!job.in_full) return "its ranges are not read: there are too many evolves";
  const said = [`${count(job.done)} of ${many(job.total, "object")}`];
  if (job.per_second > 0) said.push(`${rate(job.per_second)} a second`);
  if (job.left_s !== null) said.push(`about ${span(job.left_s)} left`);
  if (!job.is_over) said.push(many(job.workers, "worker"));
  if (job.changed) said.push(`${count(job.changed)} changed`);
  if (job.stepped_again) said.push(`${count(job.stepped_again)} stepped again for live writes`);
  if (job.bad) said.push(`${count(job.bad)} in quarantine`);
  if (job.owed) said.push(`${count(job.owed)} owed`);
  return said.join(" · ");
}

function card(job, about) {
  const until = job.until_unix_ms ? ` until ${clock(job.until_unix_ms)}` : "";
  const why = job.why || until ? el("p", { className: "why" }, `${job.why}${until}`) : null;
  const bar = el("progress", { max: Math.max(job.total, 1), value: job.total ? job.done : 0, "aria-label": `How far ${job.name} is` });
  const steered = about.may.evolves && (!job.is_over || job.state === "failed") ? buttons(job, about.database) : null;
  return el("div", { className: "job" },
    el("div", { className: "head" },
      el("span", { className: "name" }, job.name), el("span", { className: `chip ${LEVEL[job.state] ?? ""}` }, job.state), steered),
    job.in_full && !job.is_over ? bar : null, why, el("p", { className: "facts" }, told(job)));
}

export function show(state, about) {
  const open = state.evolves.filter((job) => !job.is_over || job.state === "failed");
  const over = state.evolves.filter((job) => job.is_over && job.state !== "failed");
  renew($("evolves"), [state.evolves, state.evolves_left_out, about], () => {
    const cards = [...open, ...over.slice(-OVER_SHOWN)].map((job) => card(job, about));
    const left = over.length - Math.min(over.length, OVER_SHOWN) + state.evolves_left_out;
    if (left) cards.push(el("p", { className: "muted" }, `${many(left, "other")}, not shown here; zeolite evolve list has them.`));
    return cards.length ? cards : [el("p", { className: "muted" }, "No evolve has been planned.")];
  });
}
