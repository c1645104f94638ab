// Controls that pictures share: what the map shows, the axis, the scale of colours.

import { PALETTES } from "../base/colors.js";
import { choice, dropdown, h, number, unique } from "../base/dom.js";

export const VIEWS = [
  ["tm", "TM"],
  ["rtm", "RTM"],
  ["updates", "Updates"],
  ["walk", "Random walk"],
];
export const VIEW_TITLES = {
  tm: "Trajectory map",
  rtm: "Relative trajectory map",
  updates: "Cosines of updates",
  walk: "Map of a random walk with the same update norms",
};
export const VIEW_NOTES = {
  tm: "cos(θᵢ, θⱼ): how far checkpoints point the same way, seen from the zero vector.",
  rtm: "cos(θᵢ − θₒ, θⱼ − θₒ): the same, seen from the origin o, which is left out. Drag the origin along the checkpoints below.",
  updates: "cos(Uᵢ, Uⱼ), Uₜ = θₜ − θₜ₋₁: whether updates agree. A number stands for the update that ends there.",
  walk: "What the relative map at the first checkpoint would be if updates were independent directions.",
};

const GROUPS = [["Network", /^network/], ["Layers", /^layer\/[^/]+$/], ["Components", /^component\//], ["Embedding", /^(un)?embedding$/], ["Parts of layers", /^layer\/[^/]+\//], ["Tensors", /^tensor\//]];

// The group of a view among all of a run, by their kinds.
export function groupChoice(groups, chosen, pick) {
  const options = GROUPS
    .map(([label, pattern]) => ({ label, options: groups.filter((g) => pattern.test(g.id)).map((g) => [g.id, g.id]) }))
    .filter((o) => o.options.length);
  return dropdown("Group", options, chosen, (group) => pick(group === "network" ? null : group), { class: "group" });
}

export const viewChoice = (params, change) =>
  choice("Map", VIEWS, params.view ?? "tm", (view) => change({ view: view === "tm" ? null : view }, { push: true }));

export const besideChoice = (params, change) =>
  choice("Below it", [["none", "nothing"], ["walk", "random walk"]], params.beside === "walk" ? "walk" : "none", (v) => change({ beside: v === "walk" ? v : null }, { push: true }));

export const axisChoice = (chosen, change, options = ["index", "linear", "log"]) =>
  choice("Axis", options.map((v) => [v, v]), chosen, (axis) => change({ axis }, { push: true }));

export const alongChoice = (params, change, counted) =>
  choice("Along", [["steps", counted], ["tokens", "tokens"]], params.along === "tokens" ? "tokens" : "steps", (v) => change({ along: v === "tokens" ? v : null }, { push: true }));

// Of an estimate, its values or their standard errors; limits of colours that were chosen for one do not suit the other.
export const valuesChoice = (params, change) =>
  choice("Show", [["values", "values"], ["error", "± error"]], params.show === "error" ? "error" : "values", (v) => change({ show: v === "error" ? v : null }, { push: true }));

export function scaleControls(scale, params, change) {
  const field = (name, label, value) => {
    const id = unique(name);
    return [
      h("label", { for: id, class: "label" }, label),
      h("input", {
        id, type: "number", step: "any", value: params[name] ?? number(value, 6), "data-scale": name,
        onchange: (e) => {
          const v = e.target.valueAsNumber;
          const other = name === "lo" ? Number(params.hi ?? scale.high) : Number(params.lo ?? scale.low);
          if (Number.isFinite(v) && (name === "lo" ? v < other : v > other)) change({ [name]: v }, { push: true });
          else e.target.value = params[name] ?? number(value, 6);
        },
      }),
    ];
  };
  const own = params.lo !== undefined || params.hi !== undefined || params.palette !== undefined;
  return h(
    "div",
    { class: "choice scale", role: "group", "aria-label": "Colour scale" },
    field("lo", "Colours from", scale.low),
    field("hi", "to", scale.high),
    dropdown("Palette", [["", "automatic"], ...PALETTES.map((p) => [p, p])], params.palette ?? "", (palette) => change({ palette }, { push: true })),
    own ? h("button", { type: "button", class: "quiet", onclick: () => change({ lo: null, hi: null, palette: null }, { push: true }) }, "Reset") : null,
  );
}

export function adjusted(scale, params) {
  const found = { ...scale };
  if (params.lo !== undefined && Number.isFinite(Number(params.lo))) found.low = Number(params.lo);
  if (params.hi !== undefined && Number.isFinite(Number(params.hi))) found.high = Number(params.hi);
  if (!(found.high > found.low)) return scale;
  if (PALETTES.includes(params.palette)) found.palette = params.palette;
  else if (found.palette === "RdBu_r" && found.low >= 0) found.palette = "viridis";
  else if (found.low < 0 && found.palette === "viridis" && found.low === -found.high) found.palette = "RdBu_r";
  return found;
}
