// What the parameters of an address can be. What they cannot be is left out, and said. No DOM.

import { PALETTES } from "../base/colors.js";
import { VIEWS } from "./controls.js";

export const CURVES = ["cosine", "angles", "norms", "updates", "neighbours", "forgetting", "edge", "rate"];
const NUMBERS = ["from", "to", "origin", "lo", "hi", "size", "clusters"];
const ANYWHERE = {
  view: ["map", VIEWS.map(([id]) => id)],
  axis: ["axis", ["index", "linear", "log"]],
  along: ["axis along", ["steps", "tokens"]],
  beside: ["map below", ["walk"]],
  align: ["alignment", ["step", "tokens", "fraction"]],
  palette: ["palette", PALETTES],
};
const OF_GRADIENTS = { curve: ["curve", CURVES], order: ["order", ["cluster", "given"]] };
const OF_SPECTRA = { of: ["kind of spectra", ["weights", "displacement", "updates"]] };
const OF_ROWS = { of: ["number of rows", ["update", "ratio", "angle", "displacement", "weights"]] };
const SHOWN = { run: ["values", "error"], layers: ["grid", "components", "qkv", "depth", "table"] };

// {params: those that make sense, unknown: texts about the others}
export function checked(kind, params) {
  if (!["run", "layers", "gradients", "spectra", "rows", "compare", "family"].includes(kind)) return { params, unknown: [] };
  const known = { ...params };
  const unknown = [];
  const choices = { ...ANYWHERE, ...(SHOWN[kind] && { show: ["view", SHOWN[kind]] }), ...(kind === "gradients" && OF_GRADIENTS), ...(kind === "spectra" && OF_SPECTRA), ...(kind === "rows" && OF_ROWS) };
  const drop = (name, text) => {
    delete known[name];
    unknown.push(text);
  };
  for (const [name, [what, list]] of Object.entries(choices)) {
    if (name in params && !list.includes(String(params[name]))) drop(name, `There is no ${what} “${params[name]}”; there are ${list.join(", ")}.`);
  }
  for (const name of NUMBERS) if (name in params && !(String(params[name]).trim() && Number.isFinite(Number(params[name])))) drop(name, `“${params[name]}” is no number (${name}).`);
  return { params: known, unknown };
}
