// A family's measures against size, seed or a hyperparameter. Which members a line joins is the server's answer: those equal in all else.

import { spansTen } from "../plots/scatterscene.js";

export const MEASURES = [["mds", "MDS"], ["mds_by_length", "MDS by length"], ["relative_mds", "relative MDS"], ["heterogeneity", "Q/K/V distance in shape"], ["rms", "Q/K/V rms (cosine)"], ["settling_depth_slope", "settling slope by depth"]];

export const hyperparametersOf = (rows) => [...new Set(rows.flatMap((r) => Object.keys(r.hyperparameters)))];

// What members can be set against, with its name.
export function axesOf(rows) {
  const seeds = new Set(rows.map((r) => r.seed).filter((s) => s !== null));
  return [["size", "size"], ...(seeds.size ? [["seed", "seed"]] : []), ...hyperparametersOf(rows).map((k) => [k, k.replaceAll("_", " ")])];
}

const valueOf = (row, by) => (by === "size" ? (row.size ?? row.parameters) : by === "seed" ? row.seed : row.hyperparameters[by]);

// Numbers stand at themselves, words and truth values side by side in their order.
function placed(rows, by) {
  const known = rows.filter((r) => valueOf(r, by) !== undefined && valueOf(r, by) !== null);
  const values = known.map((r) => valueOf(r, by));
  if (values.every((v) => typeof v === "number")) return { at: new Map(known.map((r, i) => [r.member, values[i]])) };
  const labels = [...new Set(values.map(String))];
  return { at: new Map(known.map((r, i) => [r.member, labels.indexOf(String(values[i]))])), labels };
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// A point a member; through the means of the places a line, where the places are numbers.
function seriesOf({ line, members }, k, { rows, at, field, joined, alone }) {
  const mine = rows.filter((r) => members.includes(r.member) && at.has(r.member) && Number.isFinite(r[field]));
  const points = { x: mine.map((r) => at.get(r.member)), y: mine.map((r) => r[field]) };
  const places = [...new Set(points.x)].sort((a, b) => a - b);
  const name = alone ? "members" : line;
  const dots = { name, ...points, dots: true, colour: k };
  if (!joined || places.length < 2) return [dots];
  const means = places.map((x) => mean(points.y.filter((_, i) => points.x[i] === x)));
  if (places.length === points.x.length) return [{ name, x: places, y: means, join: true, colour: k }];
  return [{ name: alone ? "mean" : `${line}, mean`, x: places, y: means, join: true, colour: k }, dots];
}

// The chart of one measure; `by` is size, seed or a hyperparameter of the answer.
export function againstSpec(answer, by, [field, title]) {
  const rows = answer.rows.filter((r) => r.state === "present");
  const { at, labels } = placed(rows, by);
  const lines = answer.lines[by] ?? [];
  const joined = lines.length > 0 && !labels;
  const shown = lines.length ? lines : [{ line: "members", members: rows.map((r) => r.member) }];
  const values = [...at.values()];
  const wide = !labels && spansTen(values);
  const what = by === "size" ? "parameters" : by.replaceAll("_", " ");
  return {
    title: `${title[0].toUpperCase()}${title.slice(1)} against ${by.replaceAll("_", " ")}`, unit: title, xlabel: what, kind: wide ? "log" : "linear", points: true, labels, caption: answer.family,
    note: joined && lines.length > 1 ? "A line joins members that are equal in all else but their seed." : undefined,
    series: shown.flatMap((line, k) => seriesOf(line, k, { rows, at, field, joined, alone: shown.length === 1 })),
    empty: "No member present has this value.",
  };
}
