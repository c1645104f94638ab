// What an estimate is from and how sure it is. No DOM.

import { percent, number } from "../base/dom.js";
import * as G from "../math/gram.js";
import { mapOf, within } from "../math/view_of.js";

// The standard errors of a map's entries, as a map; null for an exact run, and where an estimate is kept without errors.
export function errorMap(gram, params) {
  if (!gram.replicates || params.view === "walk") return null;
  const maps = gram.replicates.map((r) => mapOf(within(r, params), params));
  return { n: maps[0].n, steps: maps[0].steps, values: G.standardErrors(maps.map((m) => m.values)) };
}

// Of the entries above the diagonal, the error that half of them stay below.
export function medianError(errors) {
  const { n, values } = errors;
  const found = [];
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) if (Number.isFinite(values[i * n + j])) found.push(values[i * n + j]);
  found.sort((a, b) => a - b);
  return found.length ? found[found.length >> 1] : NaN;
}

export function errorScale(errors) {
  let most = 0;
  for (const v of errors.values) if (v > most) most = v;
  return { low: 0, high: Number((most || 1e-6).toPrecision(2)), palette: "cividis" };
}

export const badge = (row) => (typeof row.fraction === "number" ? `estimate ${percent(row.fraction)}` : "estimate");

// "estimate from 12 % of the parameters, ± 0.003 (median of cells), sharpening"
export function words(row, median, sharpening) {
  const parts = [typeof row.fraction === "number" ? `estimate from ${percent(row.fraction)} of the parameters` : "estimate from a part of the parameters"];
  if (Number.isFinite(median)) parts.push(`± ${number(median, 2)} (median of cells)`);
  if (sharpening) parts.push("sharpening");
  return parts.join(", ");
}
