// Owns the mode: which one is in force, since when and why, and the form that switches it.

import { ask } from "./ask.js";
import { confirmed, el, facts, part, renew, toast } from "./dom.js";
import { ago, clock } from "./words.js";

const MODES = [
  ["normal", "Everybody may write."],
  ["read-only", "Nobody may write. Reads go on."],
  ["evolve-only", "Only workers of an evolve may write. Reads go on."],
];
const SPANS = [["until it is switched back", 0], ["for 10 minutes", 600e3], ["for 30 minutes", 1800e3], ["for an hour", 3600e3], ["for 4 hours", 14400e3]];

async function switched(database, form) {
  const mode = new FormData(form);
  const kind = mode.get("mode");
  const text = `${MODES.find(([name]) => name === kind)[1]} Every client is told at once; what is in flight finishes.`;
  if ((await confirmed({ title: `Switch to ${kind}?`, text, yes: "Switch", danger: kind !== "normal" })) === undefined) return;
  try {
    await ask("/api/mode", { database, mode: kind, banner: mode.get("banner"), for_ms: Number(mode.get("for")) });
    toast(`The mode is ${kind}`);
    form.reset();
    document.activeElement.blur();
  } catch (error) {
    toast(error.message);
  }
}

function form(mode, about) {
  const choice = ([name, says]) =>
    el("label", { className: "choice" },
      el("input", { type: "radio", name: "mode", value: name, defaultChecked: name === mode.mode, required: true }), `${name}`,
      el("span", { className: "muted" }, says));
  const spans = SPANS.map(([label, value]) => el("option", { value }, label));
  const made = el("form", {},
    el("fieldset", {}, el("legend", { className: "unseen" }, "Which"), ...MODES.map(choice)),
    el("label", {}, "Banner, for the users of the site", el("input", { type: "text", name: "banner", maxLength: 300, autocomplete: "off" })),
    el("label", {}, "How long ", el("select", { name: "for" }, ...spans)),
    el("button", { type: "submit" }, "Switch"));
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    switched(about.database, made);
  });
  return made;
}

export function show(state, about) {
  const { mode, unix_ms: now } = state.status;
  renew(part("mode"), [mode, about], () => {
    const pairs = [["Now", mode.mode]];
    if (mode.since_unix_ms) pairs.push(["Since", ago(mode.since_unix_ms, now)]);
    if (mode.until_unix_ms) pairs.push(["Until", clock(mode.until_unix_ms)]);
    if (mode.banner) pairs.push(["Banner", mode.banner]);
    if (mode.automatic) pairs.push(["Taken by the server", mode.automatic]);
    return [facts(pairs), about.may.mode ? el("details", {}, el("summary", {}, "Switch the mode"), form(mode, about)) : null].filter(Boolean);
  });
}
