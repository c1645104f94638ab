// Points against a value, lines through what is equal in all else, bars over the range of what differs in its seed: as shapes. No DOM.

import { number, step as short } from "../base/dom.js";
import { niceTicks } from "./axis.js";
import { headOf } from "./scene.js";

export const isNumber = (v) => typeof v === "number";

// Whether numbers call for a logarithmic axis: they span ten times or more, from zero where that is one of them.
export const spansTen = (values) => Math.min(...values) >= 0 && Math.max(...values) >= 10 * (1 - 1e-12) * Math.min(...values.filter((v) => v > 0));

// A scale from values to 0 … 1: {place(value), ticks: [[fraction, text]]}. Numbers on their (log) scale, words side by side.
export function valueScale(values, most = 6) {
  const known = values.filter((v) => v !== null && v !== undefined && !Number.isNaN(v));
  if (!known.every(isNumber)) {
    const words = [...new Set(known.map(String))].sort();
    const at = new Map(words.map((w, i) => [w, words.length > 1 ? i / (words.length - 1) : 0.5]));
    return { words: true, place: (v) => (v === null || v === undefined ? NaN : (at.get(String(v)) ?? NaN)), ticks: words.map((w) => [at.get(w), w]) };
  }
  const distinct = [...new Set(known)].sort((a, b) => a - b);
  if (!distinct.length) return { place: () => NaN, ticks: [] };
  const log = spansTen(distinct);
  const unit = distinct.find((v) => v > 0) ?? 1;
  const f = !log ? (v) => v : distinct[0] > 0 ? Math.log : (v) => Math.log1p(v / unit);
  const back = !log ? (v) => v : distinct[0] > 0 ? Math.exp : (v) => unit * Math.expm1(v);
  const [low, high] = [f(distinct[0]), f(distinct.at(-1))];
  const place = (v) => (!isNumber(v) ? NaN : high > low ? (f(v) - low) / (high - low) : 0.5);
  const value = (fraction) => back(low + fraction * (high - low));
  const even = log ? Array.from({ length: most }, (_, i) => value(i / (most - 1))) : niceTicks(distinct[0], distinct.at(-1), most);
  const shown = distinct.length <= most ? distinct : even;
  return { log, place, value, ticks: shown.map((v) => [place(v), tick(v)]) };
}

const tick = (v) => (Math.abs(v) >= 1000 ? short(v) : number(v, 3)).replace("-", "−");

// spec: {title, caption, xlabel, unit, points: [{run, x, y, line, dimmed}], lines: [{line, runs}], joined}. Points have their `at` afterwards.
export function scatterScene(spec, { width, height, colours, head = false }) {
  const top = head ? headOf({ title: spec.title, caption: spec.caption, left: 16, width, colours }) : { shapes: [], height: 0 };
  const points = spec.points.filter((p) => Number.isFinite(p.y) && p.x !== null && p.x !== undefined);
  const several = spec.lines.length > 1;
  const listed = several ? spec.lines.slice(0, 12) : [];
  const legend = listed.length ? 16 * Math.ceil(listed.length / 2) + 6 : 0;
  const [left, above, right, below] = [64, top.height + 10, 18, 44 + legend];
  const [w, t] = [width - left - right, height - above - below];
  const x = valueScale(points.map((p) => p.x), Math.max(2, Math.min(6, Math.floor(w / 70))));
  const values = points.map((p) => p.y);
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const pad = (high - low || Math.abs(high) || 1) * 0.08;
  [low, high] = [low - pad, high + pad];
  const X = (v) => left + (0.05 + 0.9 * x.place(v)) * w;
  const Y = (v) => above + t * (1 - (v - low) / (high - low));
  const shapes = [...top.shapes];
  if (head) shapes.unshift({ rect: [0, 0, width, height], fill: colours.ground });
  for (const v of values.length ? niceTicks(low, high, 5) : []) {
    shapes.push({ line: [[left, Y(v)], [left + w, Y(v)]], stroke: colours.line });
    shapes.push({ text: number(v).replace("-", "−"), at: [left - 6, Y(v) + 4], size: 11, anchor: "end", fill: colours.muted });
  }
  for (const [at, text] of x.ticks) {
    const place = left + (0.05 + 0.9 * at) * w;
    shapes.push({ line: [[place, above + t], [place, above + t + 4]], stroke: colours.muted });
    shapes.push({ text: text.length > 12 ? `${text.slice(0, 11)}…` : text, at: [place, above + t + 16], size: 11, anchor: "middle", fill: colours.muted });
  }
  shapes.push({ text: x.log ? `${spec.xlabel} (log)` : spec.xlabel, at: [left + w / 2, above + t + 34], size: 12, anchor: "middle", fill: colours.muted });
  shapes.push({ text: spec.unit, at: [14, above + t / 2], size: 12, anchor: "middle", fill: colours.muted, turn: -90 });
  const colourOf = new Map(spec.lines.map((l, k) => [l.line, colours.lines[k % colours.lines.length]]));
  for (const { line } of spec.lines) {
    const mine = points.filter((p) => p.line === line && !p.dimmed);
    const places = [...new Set(mine.map((p) => X(p.x)))].sort((a, b) => a - b);
    const there = places.map((at) => mine.filter((p) => X(p.x) === at).map((p) => p.y));
    const stroke = colourOf.get(line);
    there.forEach((ys, k) => ys.length > 1 && shapes.push({ line: [[places[k], Y(Math.min(...ys))], [places[k], Y(Math.max(...ys))]], stroke, width: 6, opacity: 0.3 }));
    if (places.length > 1 && !x.words) shapes.push({ line: places.map((at, k) => [at, Y(there[k].reduce((a, b) => a + b, 0) / there[k].length)]), stroke, width: 1.6 });
  }
  for (const p of [...points].sort((a, b) => Boolean(b.dimmed) - Boolean(a.dimmed))) {
    p.at = [X(p.x), Y(p.y)];
    const [a, b] = p.at;
    shapes.push({ rect: [a - 3.5, b - 3.5, 7, 7], fill: p.dimmed ? colours.muted : (colourOf.get(p.line) ?? colours.lines[0]), opacity: p.dimmed ? 0.25 : 1 });
  }
  listed.forEach(({ line }, k) => {
    const [a, b] = [left + (k % 2) * (w / 2), above + t + 54 + 16 * Math.floor(k / 2)];
    shapes.push({ line: [[a, b - 4], [a + 18, b - 4]], stroke: colourOf.get(line), width: 2 });
    const text = k === 11 && spec.lines.length > 12 ? `and ${spec.lines.length - 11} more lines` : line;
    const most = Math.max(10, Math.floor(w / 2 / 6.4) - 5);
    shapes.push({ text: text.length > most ? `${text.slice(0, most - 1)}…` : text, at: [a + 23, b], size: 11, fill: colours.ink });
  });
  return { width, height, shapes, points };
}
