// A chart as numbers on its axes, as a table, and as shapes for downloads.

import { csv, number, step as stepText } from "../base/dom.js";
import { LIGHT } from "../base/theme.js";
import { axisText, between, makeAxis, niceTicks, scaleFunction, tickPlaces } from "./axis.js";
import { diamond } from "./mapscene.js";
import { headOf } from "./scene.js";

// spec: {title, caption: what a downloaded picture is of, note, unit, steps (of the whole axis), kind, log, xlabel, follows: whether x is a step that other pictures share,
// along: what stands on the axis in the place of a step (its tokens), marks: [step, …] with a line each,
// series: [{name, x, y, dash, faint, points, colour}], min, max}
export function prepared(spec) {
  const where = spec.along ?? ((x) => x);
  // A place that a series has several values at (models of one size) stands there several times.
  const places = spec.series.map((s) => {
    const at = new Map();
    s.x.forEach((x, i) => (at.has(x) ? at.get(x).push(s.y[i]) : at.set(x, [s.y[i]])));
    return at;
  });
  const distinct = [...new Set([...(spec.steps ?? []), ...spec.series.flatMap((s) => s.x)])].sort((a, b) => a - b);
  const every = distinct.flatMap((x) => Array(Math.max(1, ...places.map((at) => at.get(x)?.length ?? 0))).fill(x));
  const first = new Map();
  every.forEach((x, i) => first.has(x) || first.set(x, i));
  const turn = every.map((x, i) => i - first.get(x));
  const kind = spec.kind ?? "linear";
  const scaled = scaleFunction(every.map(where), kind);
  const f = kind === "index" ? (s) => first.get(s) ?? between(every, s) : (s) => scaled(where(s));
  const data = [every.map(f)];
  for (const at of places) {
    data.push(every.map((x, i) => {
      const y = at.get(x)?.[turn[i]];
      return Number.isFinite(y) && !(spec.log && y <= 0) ? y : null;
    }));
  }
  return { every, f, data, kind };
}

// The words at the axis of values.
export const unitOf = (spec) => (spec.log ? `${spec.unit ?? ""} (log)`.trim() : (spec.unit ?? ""));

export const LONGEST = 14;
export const labelOf = (spec, x) => {
  const text = spec.labels?.[x] ?? stepText(spec.along ? spec.along(x) : x);
  return text.length > LONGEST ? `…${text.slice(1 - LONGEST)}` : text;
};

// Marks that lie on the axis.
export const marksOf = (spec, every) => (spec.marks ?? []).filter((m) => m >= every[0] && m <= every.at(-1));

export function chartCSV(spec) {
  const { every, data } = prepared({ ...spec, log: false });
  const names = spec.along ? [spec.counted ?? "step", spec.xlabel] : [spec.xlabel ?? "step"];
  const rows = every.map((x, i) => [x, ...(spec.along ? [spec.along(x)] : []), ...data.slice(1).map((d) => d[i])]);
  return csv([[...names, ...spec.series.map((s) => s.name)], ...rows]);
}

export function chartScene(spec, { width = 640, height = 360 } = {}) {
  const colours = LIGHT;
  const { every, data, kind, f: along } = prepared(spec);
  const { shapes, height: head } = headOf({ title: spec.title, caption: spec.caption, left: 16, width, colours });
  const [left, top, right, bottom] = [68, head + 10, 16, 48 + 16 * Math.ceil(spec.series.length / 3)];
  const [w, t] = [width - left - right, height - top - bottom];
  shapes.unshift({ rect: [0, 0, width, height], fill: colours.ground });
  const values = data.slice(1).flat().filter((v) => v !== null);
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const f = spec.log ? Math.log10 : (v) => v;
  [low, high] = [f(low), f(high)];
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [spec.log ? low - pad : (spec.min ?? low - pad), spec.log ? high + pad : (spec.max ?? high + pad)];
  const [x0, span] = [data[0][0], data[0].at(-1) - data[0][0] || 1];
  const X = (v) => left + ((v - x0) / span) * w;
  const Y = (v) => top + t * (1 - (f(v) - low) / (high - low));
  const ticks = spec.log ? Array.from({ length: 40 }, (_, i) => i - 25).filter((p) => p >= low && p <= high).map((p) => 10 ** p) : niceTicks(low, high, 6);
  for (const v of ticks) {
    shapes.push({ line: [[left, Y(v)], [left + w, Y(v)]], stroke: colours.line });
    shapes.push({ text: number(v).replace("-", "−"), at: [left - 6, Y(v) + 4], size: 11, anchor: "end", fill: colours.ink });
  }
  const centres = kind === "index" ? makeAxis(every, "index").centres : data[0].map((v) => (v - x0) / span);
  const longest = Math.max(4, ...(spec.labels ?? []).map((l) => Math.min(l.length, LONGEST)));
  for (const i of tickPlaces(centres, Math.max(44, 7 * longest) / w)) {
    shapes.push({ line: [[X(data[0][i]), top + t], [X(data[0][i]), top + t + 4]], stroke: colours.muted });
    shapes.push({ text: labelOf(spec, every[i]), at: [X(data[0][i]), top + t + 16], size: 11, anchor: "middle", fill: colours.ink });
  }
  shapes.push({ rect: [left, top, w, t], stroke: colours.muted });
  shapes.push({ text: axisText(kind, spec.xlabel), at: [left + w / 2, top + t + 33], size: 12, anchor: "middle", fill: colours.muted });
  shapes.push({ text: unitOf(spec), at: [16, top + t / 2], size: 12, anchor: "middle", fill: colours.muted, turn: -90 });
  for (const mark of marksOf(spec, every)) {
    const x = X(along(mark));
    shapes.push({ line: [[x, top], [x, top + t]], stroke: colours.drop, width: 1.2, dash: [2, 3] }, { path: diamond(x, top + 5, 4.5), fill: colours.drop });
  }
  spec.series.forEach((s, i) => {
    const stroke = s.faint ? colours.muted : colours.lines[(s.colour ?? i) % colours.lines.length];
    let piece = [];
    const pieces = [piece];
    data[i + 1].forEach((v, k) => {
      if (v !== null) piece.push([X(data[0][k]), Y(v)]);
      else if (!s.join && piece.length) pieces.push((piece = []));
    });
    if (s.dots) for (const [x, y] of pieces.flat()) shapes.push({ rect: [x - 3, y - 3, 6, 6], fill: stroke });
    else for (const line of pieces) if (line.length) shapes.push({ line: line.length > 1 ? line : [line[0], [line[0][0] + 1, line[0][1]]], stroke, width: 1.6, dash: s.dash });
    const [lx, ly] = [left + (i % 3) * (w / 3), top + t + 50 + 16 * Math.floor(i / 3)];
    shapes.push({ line: [[lx, ly - 4], [lx + 18, ly - 4]], stroke, width: 2, dash: s.dash });
    shapes.push({ text: s.name, at: [lx + 23, ly], size: 11, fill: colours.ink });
  });
  return { width, height, shapes };
}
