// What is known of the layers of a run, as columns of a table and as charts against depth.

import { count, csv, h, number } from "../base/dom.js";

export const COMPONENTS = [["attention.q", "Q"], ["attention.k", "K"], ["attention.v", "V"], ["attention.out", "out"], ["mlp.gate", "MLP gate"], ["mlp.in", "MLP in"], ["mlp.out", "MLP out"], ["norm", "norm"]];
export const SCALARS = [
  ["mds", "MDS", "1"], ["relative_mds", "relative MDS", "1"], ["path_length", "path length", "norm"], ["tortuosity", "tortuosity", "1"],
  ["largest_update_angle", "largest update angle", "degrees"], ["mean_update_cosine", "mean update cosine", "1"],
  ["nonrandom_fraction", "share of non-random updates", "1"], ["settling_step", "settling", "step"],
  ["below_noise_floor", "updates that rounding explains", "updates"], ["parameters", "parameters", "parameters"],
];


// `seen`: from where the maps are seen, in words.
export function qkvSpecs(rows, seen, axis = "step") {
  const depth = rows.map((_, i) => i);
  const line = (name, field, more = {}) => ({ name, x: depth, y: rows.map((r) => r[field] ?? NaN), join: true, ...more });
  const base = { xlabel: "layer", points: true, labels: rows.map((r) => r.layer) };
  return [
    {
      ...base, title: "Distance of Q, K and V: shape", unit: "shape", min: 0, note: `1 − centred alignment of the maps ${seen}: 0 for the same pattern, whatever its level.`,
      series: [line("Q–K", "distance_qk"), line("Q–V", "distance_qv"), line("K–V", "distance_kv"), line("mean", "heterogeneity", { faint: true, dash: [6, 4] })],
    },
    {
      ...base, title: "Distance of Q, K and V: rms", unit: "rms (cosine)", min: 0, note: `Root mean square difference of the maps ${seen}, in units of cosine: their level counts too.`,
      series: [line("Q–K", "rms_qk"), line("Q–V", "rms_qv"), line("K–V", "rms_kv"), line("mean", "rms", { faint: true, dash: [6, 4] })],
    },
    {
      ...base, title: "Where Q, K and V come to rest", unit: `settling ${axis}`, note: "First checkpoint from which the cosine to the final checkpoint is at least 0.9.",
      series: [line("Q", "settling_step_q"), line("K", "settling_step_k"), line("V", "settling_step_v")],
    },
    { ...base, title: "MDS of Q, K and V", unit: "MDS", series: [line("Q", "mds_q"), line("K", "mds_k"), line("V", "mds_v")] },
  ];
}

// What stands around the layers, such as the norm after the last, is at no depth.
export function depthSpec(all, field, axis = "step") {
  const [, label, unit] = SCALARS.find(([id]) => id === field);
  const rows = all.filter((r) => r.depth !== null);
  const around = all.filter((r) => r.depth === null).map((r) => r.layer);
  return {
    note: around.length ? `At no depth, so not among them: ${around.join(", ")}.` : "",
    title: `${label} by depth`, unit: unit === "1" ? label : unit === "step" ? axis : unit, xlabel: "layer, in order of depth", points: true,
    labels: rows.map((r) => r.layer),
    series: [{ name: label, x: rows.map((_, i) => i), y: rows.map((r) => r[field] ?? NaN), join: true }],
  };
}

export function layersTable(rows, link, axis = "step") {
  const digits = (field) => ({ key: field, numeric: true, value: (r) => r[field] });
  return [
    { key: "layer", title: "Layer", value: (r) => rows.indexOf(r), cell: (r) => h("a", { href: link(r.group), class: "longname", title: r.group }, r.layer) },
    { ...digits("parameters"), title: "Parameters", cell: (r) => count(r.parameters) },
    { ...digits("mds"), title: "MDS", cell: (r) => number(r.mds, 5) },
    { ...digits("relative_mds"), title: "Relative MDS", cell: (r) => number(r.relative_mds, 5) },
    { ...digits("path_length"), title: "Path length", cell: (r) => number(r.path_length) },
    { ...digits("tortuosity"), title: "Tortuosity", cell: (r) => number(r.tortuosity) },
    { ...digits("largest_update_angle"), title: "Largest update angle (°)", cell: (r) => number(r.largest_update_angle) },
    { ...digits("mean_update_cosine"), title: "Mean update cosine", cell: (r) => number(r.mean_update_cosine, 3) },
    { ...digits("nonrandom_fraction"), title: "Non-random updates", note: "share of neighbouring updates whose cosine is beyond that of random ones", cell: (r) => (r.nonrandom_fraction === null ? "–" : `${number(100 * r.nonrandom_fraction, 3)} %`) },
    { ...digits("settling_step"), title: `Settling ${axis}`, cell: (r) => number(r.settling_step) },
    { ...digits("below_noise_floor"), title: "Below noise floor", note: "updates that rounding of the stored type could explain", cell: (r) => String(r.below_noise_floor) },
  ];
}

export function layersCSV(rows) {
  const fields = Object.keys(rows[0] ?? {});
  return csv([fields, ...rows.map((r) => fields.map((f) => r[f]))]);
}
