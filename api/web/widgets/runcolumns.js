// Which columns a table of runs has: those of every run, and hyperparameters; the choice is in the address.

import { h } from "../base/dom.js";

export const FIXED = ["map", "state", "family", "architecture", "parameters", "checkpoints", "last_step", "bytes", "mds", "updated", "compare"];
const HIDDEN = ["bytes"]; // until it is chosen
const PREFIX = "hp.";

// The keys of the columns that are shown, in order.
export const columnsOf = (params) => (params.cols ? params.cols.split(",") : FIXED.filter((k) => !HIDDEN.includes(k)));

export const hyperparameterColumn = (name) => ({
  key: PREFIX + name,
  title: name,
  value: (r) => r.hyperparameters[name],
  cell: (r) => {
    const value = r.hyperparameters[name];
    return value === undefined ? "–" : String(value);
  },
});

// `known` are the columns with their titles; `change` is called with the keys that are chosen, or null for the usual ones.
export function columnChoice(known, rows, params, change) {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r.hyperparameters)))].sort();
  const shown = columnsOf(params);
  const all = [...known.map((c) => [c.key, c.title]), ...names.map((n) => [PREFIX + n, n])];
  const box = ([key, title]) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", "data-value": key, checked: shown.includes(key), onchange: (e) => change(e.target.checked ? all.map(([k]) => k).filter((k) => shown.includes(k) || k === key) : shown.filter((k) => k !== key)) }), title);
  return h("div", { class: "columnchoice" },
    h("fieldset", {}, h("legend", {}, "Of every run"), known.map((c) => box([c.key, c.title]))),
    names.length ? h("fieldset", {}, h("legend", {}, "Hyperparameters"), names.map((n) => box([PREFIX + n, n]))) : null,
    h("button", { type: "button", class: "quiet", onclick: () => change(null) }, "The usual columns"));
}

export const named = (key) => (key.startsWith(PREFIX) ? key.slice(PREFIX.length) : null);
