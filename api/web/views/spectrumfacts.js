// What the answers about spectra come to in pictures. No DOM.

export const COMMAND = (run) => `trajsvc spectra compute ${run}`;
const SHOWN = 24;
const PARTS = { "attention.q": "Q", "attention.k": "K", "attention.v": "V" };

const at = (steps, all, values) => steps.map((s) => values[all.indexOf(s)] ?? NaN);

// Which of `count` singular values are drawn: the first eight, and others at even distances.
export function shownOf(count) {
  if (count <= SHOWN) return Array.from({ length: count }, (_, k) => k);
  const rest = Array.from({ length: SHOWN - 8 }, (_, i) => Math.round(8 + (i * (count - 9)) / (SHOWN - 9)));
  return [...new Set([0, 1, 2, 3, 4, 5, 6, 7, ...rest])];
}

export function valuesSpec({ tensor, values, steps: all, rows, columns }, steps) {
  const count = Math.max(0, ...values.map((v) => v.length));
  const largest = Math.max(0, ...values.map((v) => v[0] ?? 0));
  const floor = Math.max(rows, columns) * 2 ** -52 * largest; // below it is rounding
  const line = (k) => ({ name: `σ${k + 1}`, x: steps, y: at(steps, all, values.map((v) => (v[k] > floor ? v[k] : NaN))), faint: k >= 6, join: true, colour: k });
  return {
    title: "Singular values", unit: "σ", log: true, series: shownOf(count).map(line),
    note: `${tensor}, ${rows} × ${columns}`, empty: "All singular values are zero or undefined here.",
  };
}

export function rankSpec({ measures, steps: all, method }, steps) {
  const line = (name, text) => ({ name: text, x: steps, y: at(steps, all, measures[name].map((v) => v ?? NaN)), join: true });
  const note = method.includes("lanczos") ? "Beyond the budget only the largest singular values are known; then only the stable rank is." : "";
  return {
    title: "Ranks", unit: "rank", min: 0, note, empty: "Of a zero matrix no rank is defined.",
    series: [line("stable_rank", "stable rank"), line("effective_rank", "effective rank"), line("participation_ratio", "participation ratio")],
  };
}

// A chart for each of two ranks, at the last step: a line a component, by layer.
export function depthSpecs({ matrices, steps }) {
  const placed = matrices.filter((m) => m.depth !== null);
  const layers = [...new Set(placed.map((m) => m.layer))];
  const components = [...new Set(placed.map((m) => m.component || "weight"))].slice(0, 6);
  const of = (component, layer) => placed.find((m) => (m.component || "weight") === component && m.layer === layer);
  return ["stable_rank", "effective_rank"].map((name) => ({
    title: `${name.replaceAll("_", " ")} by depth, at ${steps.at(-1) ?? "no step"}`, unit: "rank", min: 0, xlabel: "layer, in order of depth", points: true, labels: layers,
    empty: "No matrix lies in a layer.",
    series: components.map((c) => ({ name: c, x: layers.map((_, i) => i), y: layers.map((l) => of(c, l)?.measures[name].at(-1) ?? NaN), join: true })),
  }));
}

// Charts of Q, K and V, a line a layer; none for a network without them.
export function qkvSpecs({ matrices, steps: all }, steps) {
  return Object.entries(PARTS).map(([component, letter]) => ({
    title: letter, unit: "σ₁",
    series: matrices.filter((m) => m.component === component).map((m) => ({ name: `layer ${m.layer}`, x: steps, y: at(steps, all, m.measures.sigma_1.map((v) => v ?? NaN)), join: true })),
  })).filter((spec) => spec.series.length);
}
