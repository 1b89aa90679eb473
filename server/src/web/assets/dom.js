// Owns how elements are made. What comes from the server is text, and becomes text: nothing here, and nothing that uses it, reads markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (or, after "aria-" and "data-", attributes) and children; texts are texts. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Writes a text only if it is another one: what is read aloud is not read twice. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes the content of a node anew when what it is made of has changed, and never under somebody's hands. */
export function renew(node, from, make) {
  const text = JSON.stringify(from);
  const active = document.activeElement;
  const isIn = active !== document.body && node.contains(active);
  if (node.dataset.from === text || (isIn && active.form)) return;
  const focused = isIn ? active.dataset.key : undefined;
  node.dataset.from = text;
  node.replaceChildren(...make());
  if (focused) [...node.querySelectorAll("button")].find((button) => button.dataset.key === focused)?.focus();
}

/** The part of a section behind its title. */
export function part(id) {
  const section = $(id);
  let inner = section.querySelector(":scope > .inner");
  if (!inner) section.append((inner = el("div", { className: "inner" })));
  return inner;
}

/** A table of columns [title, value of a row, class]. */
export function table(caption, columns, rows) {
  const head = columns.map(([title, , kind]) => el("th", { className: kind ?? "", scope: "col" }, title));
  const line = (row) => el("tr", {}, ...columns.map(([, value, kind]) => el("td", { className: kind ?? "" }, value(row))));
  const whole = el("table", { "aria-label": caption }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows.map(line)));
  return el("div", { className: "scroll" }, whole);
}

/** Pairs of a name and a value. */
export function facts(pairs) {
  return el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** Tells something that has just happened. */
export function toast(text) {
  const line = el("p", {}, text);
  $("toast").append(line);
  setTimeout(() => line.remove(), 8000);
}

/** Asks before something is done; gives undefined, or what was written as the reason (empty if none is asked for). */
export function confirmed({ title, text, yes, danger, reason }) {
  const dialog = $("dialog");
  say($("dialog-title"), title);
  say($("dialog-text"), text);
  say($("dialog-yes"), yes);
  $("dialog-yes").className = danger ? "danger" : "";
  $("dialog-reason").hidden = !reason;
  $("dialog-input").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const end = (value) => () => {
      dialog.close();
      resolve(value === undefined ? undefined : value());
    };
    $("dialog-yes").onclick = end(() => (reason ? $("dialog-input").value.trim() : ""));
    $("dialog-no").onclick = end(undefined);
    dialog.oncancel = () => resolve(undefined);
  });
}
