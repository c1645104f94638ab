// What the answers about gradients come to in pictures and tables.

import { h, number } from "../base/dom.js";

export const COMMAND = (run) => `trajsvc gradients compute ${run} --probe causal-lm --data FILE --sets example,batch --steps every:4`;

const MOST = 6;
const LAYERS = 4;

// Names of the measures that are one number a step.
export const measuresOf = (answer) => Object.entries(answer.measures).filter(([, values]) => Array.isArray(values) && values.every((v) => v === null || typeof v === "number")).map(([name]) => name).sort();

export const startingMeasure = (names) => ["coherence", "gradient_cosine", "mu"].find((n) => names.includes(n)) ?? names[0];

// The groups that an address names, those that there are; null where it names none of them.
export function chosenGroups(text, groups) {
  const known = new Set(groups.map((g) => g.id));
  const found = [...new Set((text ?? "").split(","))].filter((id) => known.has(id)).slice(0, MOST);
  return found.length ? found : null;
}

// The network, and layers from the first to the last.
export function startingGroups(groups) {
  const ids = groups.map((g) => g.id);
  const all = ids.filter((id) => /^layer\/[^/]+$/.test(id));
  // A layer that is nothing but a norm, such as the one after the last, is none of those that are begun with.
  const having = all.filter((id) => ids.some((other) => other.startsWith(`${id}/`) && !other.endsWith("/norm")));
  const layers = having.length ? having : all;
  const places = [...new Set(Array.from({ length: LAYERS }, (_, i) => Math.round((i * (layers.length - 1)) / (LAYERS - 1))))];
  return ["network", ...places.map((i) => layers[i]).filter(Boolean)];
}

// Values at the steps within the range that `steps` span.
export function inRange(at, values, steps) {
  const kept = at.map((s, i) => (s >= steps[0] && s <= steps.at(-1) ? i : -1)).filter((i) => i >= 0);
  return { x: kept.map((i) => at[i]), y: kept.map((i) => values[i] ?? NaN) };
}

// {map: {n, values, steps: numbers of the vectors in their order}, edges: where another cluster begins, words(row, column)}
export function mapOfStep(answer, clusters) {
  const n = answer.map.length;
  const order = clusters ? clusters.order : Array.from({ length: n }, (_, i) => i);
  const values = new Float64Array(n * n);
  order.forEach((i, r) => order.forEach((j, c) => (values[r * n + c] = answer.map[i][j] ?? NaN)));
  const edges = clusters ? order.map((_, i) => i).filter((i) => i && clusters.assignment[order[i]] !== clusters.assignment[order[i - 1]]) : [];
  const words = (r, c) => [
    answer.labels?.length ? `${answer.labels[order[r]]} × ${answer.labels[order[c]]}` : null,
    `norms ${number(answer.norms[order[r]], 4)} × ${number(answer.norms[order[c]], 4)}`,
    clusters ? `clusters ${clusters.assignment[order[r]]} × ${clusters.assignment[order[c]]}` : null,
  ].filter(Boolean);
  return { map: { n, values, steps: order }, edges, words };
}

const table = (caption, columns, rows) =>
  h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, note]) => h("th", { scope: "col", class: "numeric", title: note }, title)))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row", class: "numeric" }, first), rest.map((v) => h("td", { class: "numeric" }, v)))))));

// The clusters at the step, and what they are worth there and later beside other estimators of as many examples.
export function clusterTables(found, axis) {
  const clusters = found.sizes.map((size, k) => [String(k), String(size), number(found.traces[k], 5)]).filter(([, size]) => size !== "0");
  const worth = found.variance.map((v) => [String(v.step), ...[v.gc, v.sg_b, v.sg_2b, v.svrg].map((x) => number(x, 4))]);
  const [here] = found.variance;
  return h("div", { class: "clusters" },
    h("div", {}, h("h3", {}, "Clusters"),
      h("p", { class: "note" }, `J = ${number(here.objective, 5)}; the paper's iteration comes to ${number(found.iteration_objective, 5)}. ${found.duplicates} vectors are equal to one before them.`),
      table("Clusters of the gradients", [["Cluster"], ["Vectors"], ["Trace of the covariance"]], clusters)),
    h("div", {}, h("h3", {}, "Average variance of estimators"),
      h("p", { class: "note" }, `Of ${found.clusters} examples: one from each cluster (GC, clusters of ${axis} ${found.step} kept), drawn from all (SG-B), twice as many (SG-2B), SVRG.`),
      table("Average variance of estimators", [[axis], ["GC"], ["SG-B"], ["SG-2B"], ["SVRG", "needs the set anchored"]], worth)));
}
