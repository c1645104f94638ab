// What the curves and numbers of a run's group are.

import { axisName, axisNames } from "../base/axisname.js";
import { count, fill, h, number, step as stepText } from "../base/dom.js";
import { href } from "../base/url.js";
import * as G from "../math/gram.js";
import { updateSparsity } from "../math/sparsity.js";
import { WINDOW, forgettingTime, spectralEdge } from "../math/windows.js";

// `measures` are those of the Gram `g`; the rate is {step, rate}, or null; `row` is what the run counts;
// `logged` are charts of what the trainer logged.
export function curvesOf(g, m, rate, row, logged = []) {
  const { steps } = g;
  const walk = G.randomWalk(g, false);
  const walkToFinal = steps.map((_, t) => walk.values[t * walk.n + walk.n - 1]);
  const inner = steps.slice(1, -1);
  const after = steps.slice(1);
  const lags = m.mu_lag.map((_, k) => k);
  const edge = spectralEdge(g);
  const sparse = updateSparsity(g);
  const constant = (value, x = inner) => x.map(() => value);
  return {
    cosine: {
      title: "Cosine to the final checkpoint", unit: "cosine", follows: true,
      series: [
        { name: "cos(θₜ, θ_final)", x: steps, y: m.cosine_to_final },
        { name: "random walk", x: steps, y: walkToFinal, dash: [6, 4], faint: true },
        { name: "0.9 (settled)", x: steps, y: constant(G.SETTLED, steps), dash: [2, 4], faint: true },
      ],
    },
    angles: {
      title: "Angles", unit: "degrees", follows: true, note: "Between successive updates; of the cones with their vertex at initialisation and at the zero vector.",
      series: [
        { name: "between updates", x: inner, y: m.update_angle },
        { name: "apex at init", x: after, y: m.apex_angle_init },
        { name: "sweep from init", x: inner, y: m.sweep_angle_init },
        { name: "apex at zero", x: after, y: m.apex_angle_origin },
        { name: "sweep from zero", x: after, y: m.sweep_angle_origin },
      ],
    },
    norms: {
      title: "Norms", unit: "norm", follows: true,
      series: [
        { name: "‖θₜ‖", x: steps, y: m.norm },
        { name: "‖θₜ − θ₀‖", x: steps, y: m.distance_from_init },
      ],
    },
    updates: {
      title: "Updates and the noise floor", unit: "norm", follows: true, log: true,
      note: "An update at or below the floor may be nothing but rounding of the stored type.",
      series: [
        { name: "‖Uₜ‖", x: after, y: m.update_norm },
        { name: "noise floor", x: after, y: G.roundingNorm(g), dash: [6, 4], faint: true },
      ],
    },
    neighbours: {
      title: "Cosine of neighbouring updates", unit: "cosine", follows: true,
      series: [
        { name: "cos(Uₜ, Uₜ₊₁)", x: inner, y: m.update_cosine },
        { name: "random bound", x: inner, y: constant(m.random_bound), dash: [6, 4], faint: true },
        { name: "−bound", x: inner, y: constant(-m.random_bound), dash: [6, 4], faint: true },
      ],
    },
    forgetting: {
      title: "Forgetting time", unit: axisNames(row), follows: true, log: true,
      note: `τ of cos(θₜ, θₜ₊Δ) = e^(−Δ/τ), fitted to the next ${WINDOW} checkpoints; in equilibrium 1 / (learning rate × weight decay).`,
      series: [{ name: "τ", x: steps, y: forgettingTime(g) }],
    },
    edge: {
      title: "Spectral edge", unit: "ratio", follows: true, log: true,
      note: `Largest ratio of neighbouring singular values of the last ${WINDOW} updates, and how many are above it.`,
      series: [
        { name: "σₖ / σₖ₊₁", x: after, y: edge.edge },
        { name: "k", x: after, y: edge.rank, dash: [2, 4] },
      ],
    },
    ...(sparse && {
      sparsity: {
        title: "Unchanged values", unit: "share", follows: true,
        note: "Stored values that an update leaves as they were, bit by bit; and how alike the sets are that successive updates change.",
        series: [
          { name: "unchanged", x: after, y: sparse.kept },
          { name: "overlap", x: inner, y: sparse.overlap },
          { name: "by chance", x: inner, y: sparse.chance, dash: [6, 4], faint: true },
        ],
      },
    }),
    lags: {
      title: "Correlation by lag", unit: "cosine", xlabel: "lag (checkpoints)", lags: true, plain: true,
      series: [
        { name: "μ(k)", x: lags, y: m.mu_lag },
        { name: "α(k)", x: lags, y: m.alpha_lag },
        { name: "1/√P", x: lags, y: constant(m.inv_sqrt_parameters, lags), dash: [6, 4], faint: true },
      ],
    },
    ...Object.fromEntries(logged.map(({ id, title, series }) => [id, { title, unit: series.length > 1 ? "value" : series[0].name, follows: true, own: true, note: "As logged beside the checkpoints.", series }])),
    ...(rate && {
      rate: {
        title: "Learning rate", unit: "learning rate", follows: true, log: true, own: true,
        note: "As the log beside the checkpoints has it; a rate of 0 is not drawn.",
        series: [{ name: "learning rate", x: rate.step, y: rate.rate, join: true }],
      },
    }),
  };
}

// The chart of averages of the last k checkpoints, from the server's answer; none without one.
export function averagesOf(answer) {
  const rows = (answer?.averages ?? []).filter((r) => r.weights.startsWith("last "));
  if (rows.length < 2) return {};
  const x = rows.map((r) => r.checkpoints);
  const line = (name, y, more) => ({ name, x, y: y.map((v) => v ?? NaN), join: true, ...more });
  return {
    averages: {
      title: "Averages of the last checkpoints", unit: "share", xlabel: "checkpoints averaged", lags: true, plain: true,
      note: "From the Gram alone: how far the average is from the last checkpoint, as a share of the whole displacement; the variance that averaging takes away; its norm as a share of the last one's.",
      series: [
        line("distance", rows.map((r) => r.relative_distance)),
        line("variance removed", rows.map((r) => r.variance_removed), { dash: [6, 4] }),
        line("norm", rows.map((r) => r.norm / rows[0].norm), { dash: [2, 4] }),
      ],
    },
  };
}

// error(name): " ± …" of an estimate, else nothing; `mean` is that of the map in view where it has an origin of its own.
export function numbersOf(g, m, { row: of, error, mean }) {
  const { steps } = g;
  const row = (term, value, note) => [h("dt", { title: note }, term), h("dd", {}, value)];
  const settled = Number.isNaN(m.settling_step) ? "–" : `${axisName(of)} ${number(Number(m.settling_step.toPrecision(4)))}`;
  const cells = (origin, lengths) => {
    if (!g.trees && lengths.every((v) => v > 0)) return "";
    const [defined, all] = G.definedCells(g, origin);
    return defined < all ? ` over ${defined} of ${all} cells` : "";
  };
  return [
    row("MDS", number(m.mds, 5) + error("mds") + cells(null, m.norm), "mean directional similarity: mean of the trajectory map"),
    row("relative MDS", number(m.relative_mds, 5) + error("relative_mds") + cells(0, m.distance_from_init.slice(1)), "mean of the relative map at the first checkpoint of the range"),
    row("relative MDS of a random walk", number(m.random_walk_mds, 5), "what independent updates of the same norms would give"),
    mean === null ? null : row("mean of this map", number(mean, 5)),
    row("path length", number(m.path_length) + error("path_length"), "sum of the norms of the updates, in the unit of the parameters"),
    row("tortuosity", number(m.tortuosity) + error("tortuosity"), "path length over displacement, at least 1"),
    row("settling", settled, "first checkpoint from which the cosine to the final checkpoint is at least 0.9"),
    row("μ of updates", number(m.mu) + error("mu"), "mean cosine of pairs of updates"),
    row("α of updates", `${number(m.alpha)}${error("alpha")} (chance ${number(m.inv_sqrt_parameters, 2)})`, "root mean square cosine of pairs of updates; 1/√P for independent ones"),
    row("non-random updates", Number.isNaN(m.nonrandom_fraction) ? "–" : `${number(100 * m.nonrandom_fraction, 3)} %`, "share of neighbouring updates whose cosine is above the random bound"),
    row("updates that rounding explains", String(G.belowFloor(g).length), "updates no larger than rounding of the stored type"),
    row("checkpoints in range", `${steps.length}, ${axisNames(of)} ${stepText(steps[0])} to ${stepText(steps.at(-1))}`),
    row("parameters", count(g.parameters)),
  ];
}

// What began a phase, in the words of the command line.
function changeText({ kind, between: [first, last], speed_ratio: speed, evidence, strength }, row) {
  const where = first === last ? `at ${axisName(row)} ${first}` : `between ${axisNames(row)} ${first} and ${last}`;
  const faster = kind === "turn" ? "" : `, speed × ${number(speed, 3)}`;
  return `${kind} ${where}${faster} · explains ${Math.round(100 * evidence)} % of the scatter, strength ${number(strength, 3)}`;
}

// `phases` are null until they are known; `note` says which steps they are of, or why there are none.
export function fillPhases(place, name, phases, note, params, row) {
  if (!phases && !note) return fill(place);
  const found = phases ?? [];
  const link = (p) => h("a", { href: href(["run", name], { ...params, from: p.start_step, to: p.end_step }) }, `${axisNames(row)} ${stepText(p.start_step)} to ${stepText(p.end_step)}`);
  const why = (p) => (p.details?.change ? h("span", { class: "hint" }, ` ${changeText(p.details.change, row)}`) : null);
  const none = found.length ? "No change point found." : "Too few checkpoints to say.";
  return fill(
    place,
    h("h2", {}, "Phases"),
    note ? h("p", { class: "note" }, note) : null,
    found.length > 1 ? h("ol", { class: "phases" }, found.map((p) => h("li", {}, link(p), why(p)))) : phases ? h("p", { class: "hint" }, none) : null,
  );
}

const SEVERITIES = ["error", "warning", "info"];

// What the signs on the axis mean, and where they stand: for eyes and for screen readers.
export function fillLegend(place, { row, phases, drops, flags }) {
  const some = (steps) => `${steps.slice(0, 8).join(", ")}${steps.length > 8 ? " …" : ""}`;
  const item = (kind, sign, text) => h("li", { class: kind }, h("span", { class: "sign", "aria-hidden": "true" }, sign), text);
  const items = [];
  if (phases.length > 1) items.push(item("phase", "▬", `${phases.length} phases`));
  if (drops.length) items.push(item("drop", "◆", `learning rate drops after ${drops.length === 1 ? axisName(row) : axisNames(row)} ${some(drops)}`));
  for (const severity of SEVERITIES) {
    const at = [...new Set(flags.filter((f) => f.severity === severity).map((f) => f.step))].sort((a, b) => a - b);
    if (at.length) items.push(item(severity, "▲", `${severity === "info" ? "note" : severity} at ${at.length === 1 ? axisName(row) : axisNames(row)} ${some(at)}`));
  }
  fill(place, items);
  place.hidden = !items.length;
}
