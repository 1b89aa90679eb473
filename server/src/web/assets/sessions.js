// Owns the sessions: who works with the database now, and the button that ends one.

import { ask } from "./ask.js";
import { confirmed, el, part, renew, table, toast } from "./dom.js";
import { ago, bytes, count, many } from "./words.js";

const SHOWN = 200;

async function cut(database, session) {
  const text = `${session.client || "a program without a name"}, ${session.principal ?? "anonymous"}, ${session.address}. ` +
    "It is told, and may come again by itself; who shall not is removed as a user first.";
  if ((await confirmed({ title: `Cut session ${session.id}?`, text, yes: "Cut it", danger: true })) === undefined) return;
  try {
    await ask("/api/session/cut", { database, id: session.id });
    toast(`Session ${session.id} was cut`);
  } catch (error) {
    toast(error.message);
  }
}

export function show(state, about) {
  const { sessions, status } = state;
  const inner = part("sessions");
  if (sessions === null) {
    return renew(inner, ["hidden", status.sessions], () => [
      el("p", { className: "muted" }, `${many(status.sessions, "session")}. The role admin sees who they are.`)]);
  }
  const columns = [
    ["No.", (s) => String(s.id), "number"],
    ["Program", (s) => s.client || "–", "text"],
    ["User", (s) => s.principal ?? "anonymous", "text"],
    ["Role", (s) => s.role ?? "–"],
    ["Address", (s) => s.address],
    ["Since", (s) => ago(s.since_unix_ms, status.unix_ms)],
    ["In flight", (s) => count(s.in_flight), "number"],
    ["Not read", (s) => bytes(s.reply_bytes + s.feed_bytes), "number"],
    ["", (s) => el("button", {
      type: "button", className: "danger", "data-key": `cut ${s.id}`, "aria-label": `Cut session ${s.id}`, onclick: () => cut(about.database, s),
    }, "Cut")],
  ];
  // A clock that moves is no news: the list is made anew when somebody comes or goes, or every half minute.
  const news = sessions.map(({ since_unix_ms, ...other }) => other);
  renew(inner, [news, Math.floor(status.unix_ms / 30000)], () => {
    if (!sessions.length) return [el("p", { className: "muted" }, "Nobody is connected.")];
    const shown = [table("Sessions", columns, sessions.slice(0, SHOWN))];
    if (sessions.length > SHOWN) shown.push(el("p", { className: "muted" }, `${many(sessions.length - SHOWN, "other")}; zeolite sessions list has them.`));
    return shown;
  });
}
