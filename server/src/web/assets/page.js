// Owns the page: who looks, at which database, and the stream that everything shown comes from.
//
//   who? ── must log in ──> the form ──> cookie ──┐
//    └── may look ──> stream: about, sample, state <─┘     over, or the line is lost: it begins anew

import { ask } from "./ask.js";
import { $, el, say, toast } from "./dom.js";
import * as evolves from "./evolves.js";
import * as factsShown from "./facts.js";
import { level, reasons, sentence } from "./health.js";
import * as mode from "./mode.js";
import * as plots from "./plots.js";
import * as sessions from "./sessions.js";
import { clock, many, span } from "./words.js";

const AGAIN_MS = 2000;
/** The server tells something each second. */
const SILENT_MS = 15000;

let stream;
let about;
let silence;

function first(how, text, found = []) {
  $("dot").className = `dot ${how}`;
  say($("well"), text);
  $("reasons").hidden = !found.length;
  $("reasons").replaceChildren(...found.map((one) => el("li", { className: one.level }, one.text)));
}

function header({ status, evolves: jobs }) {
  const found = reasons(status);
  first(level(found), sentence(found), found);
  document.title = `${found.length ? "! " : ""}Zeolite ${about.database}`;
  $("mode-now").replaceChildren("Mode ", el("b", {}, status.mode.mode), " ·");
  const open = jobs.filter((job) => !job.is_over);
  const held = open.filter((job) => job.state === "paused" || job.state === "throttled").length;
  const runs = open.length ? `${many(open.length, "evolve")} on the way${held ? `, ${held} of them held` : ""}` : "no evolve on the way";
  say($("runs"), `${runs}${status.pack ? ", a pack" : ""} · ${many(status.sessions, "session")} · up ${span(status.uptime_ms / 1000)}`);
  const isOdd = status.mode.mode !== "normal";
  $("banner").hidden = !isOdd;
  const until = status.mode.until_unix_ms ? `until ${clock(status.mode.until_unix_ms)}` : "until it is switched back";
  if (isOdd) say($("banner"), `Mode ${status.mode.mode} ${until}${status.mode.banner ? `: “${status.mode.banner}”` : ""}`);
  databases(status.databases);
}

function databases(names) {
  $("database-label").hidden = names.length < 2;
  const select = $("database");
  if (select.dataset.names === names.join()) return;
  select.dataset.names = names.join();
  select.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === about.database }, name)));
}

const wanted = () => decodeURIComponent(location.hash.slice(1));

function lost(text) {
  stream?.close();
  clearTimeout(silence);
  first("bad", text);
  setTimeout(begin, AGAIN_MS);
}

function heard() {
  clearTimeout(silence);
  silence = setTimeout(() => lost("The server says nothing; trying again …"), SILENT_MS);
}

function watch(database) {
  stream?.close();
  const mine = new EventSource(`/api/events?database=${encodeURIComponent(database)}`);
  stream = mine;
  const on = (name, act) => mine.addEventListener(name, (event) => {
    heard();
    act(JSON.parse(event.data));
  });
  on("about", (told) => {
    about = told;
    $("login").hidden = true;
    $("shown").hidden = false;
    say($("user"), about.user ? `${about.user}, ${about.role}` : about.role === "admin" ? "" : about.role);
    $("logout").hidden = !about.user;
    say($("about"), `Zeolite ${about.version}. The same from a terminal: zeolite status, zeolite top.`);
    plots.begin(about.samples, about.history_s);
  });
  on("sample", plots.add);
  on("state", (state) => {
    header(state);
    for (const shown of [evolves, mode, sessions, factsShown]) shown.show(state, about);
  });
  on("over", ({ message }) => {
    toast(message);
    lost("The login has ended");
  });
  mine.onerror = () => lost("No connection to the server; trying again …");
}

function login() {
  first("", "Zeolite");
  for (const id of ["mode-now", "runs", "user", "about"]) say($(id), "");
  $("logout").hidden = true;
  $("shown").hidden = true;
  $("login").hidden = false;
  $("banner").hidden = true;
  $("token").focus();
}

async function begin() {
  let who;
  try {
    who = await ask("/api/who");
  } catch (error) {
    return lost(error.status ? error.message : "No connection to the server; trying again …");
  }
  if (who.login) return login();
  watch(who.databases.includes(wanted()) ? wanted() : who.databases.includes("main") ? "main" : who.databases[0] ?? "main");
}

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    await ask("/api/login", { token: $("token").value });
    begin();
  } catch (error) {
    toast(error.message);
  }
  $("token").value = "";
  button.disabled = false;
});
$("logout").addEventListener("click", async () => {
  stream?.close();
  clearTimeout(silence);
  await ask("/api/logout", {}).catch((error) => toast(error.message));
  begin();
});
$("database").addEventListener("change", (event) => {
  location.hash = encodeURIComponent(event.target.value);
  watch(event.target.value);
});
begin();
