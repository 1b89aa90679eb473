// Owns the plots: six of them over the same minutes, told in words beside each as well.

import { $, el, say } from "./dom.js";
import { bytes, count, ms, rate } from "./words.js";

/* global uPlot */

const HEIGHT = 130;
/** A longer time between two samples is a hole. */
const HOLE_S = 3.5;

const PLOTS = [
  { title: "Commits a second", lines: [["", "commits", rate]] },
  { title: "Commit p99", lines: [["", "live_p99_ms", ms], ["quiet", "quiet_p99_ms", ms]] },
  { title: "Per second", lines: [["conflicts", "conflicts", rate], ["merges", "merges", rate]] },
  { title: "Sync of the log p99", lines: [["", "fsync_p99_ms", ms]] },
  { title: "Feed lag, batches", lines: [["", "feed_batches", count]] },
  { title: "Free disk", lines: [["", "free_percent", (value) => (value === null ? "–" : `${value.toFixed(1)} %`)]], top: 100 },
];

let samples = [];
let historyS = 900;
let shown = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(plot, width, tell) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const [first, second] = [colour("--accent"), colour("--second")];
  const lines = plot.lines.map(([label], at) => ({
    label, stroke: at ? second : first, width: 1.6, dash: at ? [5, 4] : undefined, points: { show: false },
    fill: at || plot.lines.length > 1 ? undefined : `${first}1a`,
  }));
  const top = (_, __, most) => [0, plot.top ?? Math.max(most * 1.15, 1)];
  return {
    width, height: HEIGHT, legend: { show: false }, padding: [8, 14, 0, 0],
    cursor: { sync: { key: "plots" }, y: false, drag: { x: false, y: false } },
    scales: { x: { time: true, range: () => range() }, y: { range: top } },
    axes: [{ ...axis, size: 22, space: 70, values: times }, { ...axis, size: 44, space: 30, values: (_, all) => all.map(short) }],
    series: [{}, ...lines],
    hooks: { setCursor: [(u) => tell(u.cursor.idx)] },
  };
}

/** The hour of the day, with seconds where the lines are closer than a minute. */
function times(_, all, __, ___, stepS) {
  const parts = { hour: "2-digit", minute: "2-digit", hour12: false, ...(stepS < 60 && { second: "2-digit" }) };
  return all.map((at) => new Date(at * 1000).toLocaleTimeString([], parts));
}

const short = (value) => (value >= 1000 ? `${value / 1000}k` : String(value));

function range() {
  const last = samples.length ? samples[samples.length - 1].at : Date.now() / 1000;
  return [last - Math.min(historyS, Math.max(60, last - (samples[0]?.at ?? last))), last];
}

function columns(plot) {
  const all = [[], ...plot.lines.map(() => [])];
  let before;
  for (const sample of samples) {
    if (before !== undefined && sample.at - before > HOLE_S) {
      all[0].push((before + sample.at) / 2);
      plot.lines.forEach((_, at) => all[at + 1].push(null));
    }
    all[0].push((before = sample.at));
    plot.lines.forEach(([, key], at) => all[at + 1].push(sample[key]));
  }
  return all;
}

/** Draws everything anew: at the start, and when the colours have changed. */
function draw() {
  shown.forEach(({ chart, watcher }) => (watcher.disconnect(), chart.destroy()));
  shown = PLOTS.map((plot) => {
    const values = plot.lines.map(([, ,], at) => el("b"));
    const labels = plot.lines.map(([label], at) =>
      el("span", { className: at ? "value second" : "value" }, values[at], label ? ` ${label}` : ""));
    const canvas = el("div", { className: "canvas", role: "img" });
    const figure = el("figure", { className: "plot" }, el("figcaption", {}, el("b", {}, plot.title), ...labels), canvas);
    const one = { plot, values, canvas, figure, data: columns(plot) };
    one.tell = (at) => {
      const index = at ?? one.data[0].length - 1;
      plot.lines.forEach(([, , shown], line) => say(values[line], index < 0 ? "–" : shown(one.data[line + 1][index] ?? (shown === rate ? 0 : null))));
    };
    return one;
  });
  $("plots").replaceChildren(...shown.map((one) => one.figure));
  for (const one of shown) {
    one.chart = new uPlot(options(one.plot, one.canvas.clientWidth || 300, one.tell), one.data, one.canvas);
    one.watcher = new ResizeObserver(() => one.chart.setSize({ width: one.canvas.clientWidth, height: HEIGHT }));
    one.watcher.observe(one.canvas);
  }
  tell();
}

function tell() {
  for (const one of shown) {
    one.tell(one.chart.cursor.idx);
    const said = one.plot.lines.map(([label], at) => `${label} ${one.values[at].textContent}`).join(", ");
    one.canvas.setAttribute("aria-label", `${one.plot.title}: ${said}`);
  }
}

/** The past, when a stream begins. */
export function begin(past, seconds) {
  [samples, historyS] = [past, seconds];
  draw();
}

/** What has come since. */
export function add(newer) {
  samples.push(...newer);
  const from = samples[samples.length - 1].at - historyS;
  while (samples.length && samples[0].at < from) samples.shift();
  for (const one of shown) one.chart.setData((one.data = columns(one.plot)));
  tell();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
