// Gradients at the checkpoints of a run: a measure over training beside the trajectory's own curves, by layer and step, and the map of one
// checkpoint's gradients ordered by cluster.

import { axisName, axisNames } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { choice, dropdown, fileName, fill, h, keepingFocus, unique } from "../base/dom.js";
import { dropsOf, ratesWithin } from "../base/rates.js";
import * as api from "../data/api.js";
import * as G from "../math/gram.js";
import { rangeSteps, within } from "../math/view_of.js";
import { axisText, makeAxis, suited } from "../plots/axis.js";
import { Chart } from "../plots/chart.js";
import { heatScale } from "../plots/heatscene.js";
import { HeatView } from "../plots/heatview.js";
import { MapView } from "../plots/mapview.js";
import { captionOf, groupText } from "../widgets/captions.js";
import { adjusted, axisChoice, scaleControls } from "../widgets/controls.js";
import { COMMAND, chosenGroups, clusterTables, inRange, mapOfStep, measuresOf, startingGroups, startingMeasure } from "./gradientfacts.js";
import { CURVES } from "../widgets/choices.js";
import { GradientForm } from "./gradientform.js";
import { curvesOf } from "./runcurves.js";
import { RunTab } from "./runtab.js";

const CLUSTERS = 8;

export async function gradientsView(name, params, context) {
  const [answer, groups, sets] = await Promise.all([api.run(name), api.groups(name), api.gradientSets(name)]);
  return new GradientsView(name, answer, groups, sets, params, context);
}

class GradientsView extends RunTab {
  constructor(name, answer, groups, sets, params, context) {
    super("gradients", name, answer, params, context);
    Object.assign(this, { groups, sets });
    const { change } = context;
    const range = (found, done) => change({ from: found?.[0] ?? null, to: found?.[1] ?? null }, { push: done });
    this.chart = new Chart({ name: () => this.#fileName(this.measure), onrange: range, height: 260 });
    this.chart.element.dataset.chart = "gradient";
    this.beside = new Chart({ name: () => fileName(name, this.chosen[0], this.curve), onrange: range, height: 260 });
    this.beside.element.dataset.chart = "trajectory";
    this.heat = new HeatView({ name: () => this.#fileName(this.measure, "layers") });
    this.map = new MapView({ alone: true, what: "map of gradients", name: () => this.#fileName("map", `step${this.step}`) });
    this.heatTitle = h("h2", {});
    this.heatNote = h("p", { class: "note" });
    this.heatControls = h("div", { class: "controls" });
    this.mapTitle = h("h2", {});
    this.mapNote = h("p", { class: "note" });
    this.mapControls = h("div", { class: "controls" });
    this.clusters = h("div");
    this.pictures = h("div", { hidden: true },
      h("h2", { class: "section" }, "Over training"),
      h("div", { class: "charts" }, this.chart.element, this.beside.element),
      (this.heatPanel = h("section", { class: "panel heatpanel", "aria-label": "By layer and step" },
        h("div", { class: "charthead" }, this.heatTitle, this.heat.buttons()), this.heatControls, this.heatNote, this.heat.element)),
      h("section", { class: "panel mappanel gradientmap", "aria-label": "Map of gradients" },
        h("div", { class: "charthead" }, this.mapTitle, this.map.buttons()), this.mapControls, this.mapNote,
        h("div", { class: "mapandclusters" }, this.map.element, this.clusters)));
    this.form = api.isReport ? null : new GradientForm(name, { open: !sets.length, ondone: (job) => this.#computed(job) });
    this.element = h("div", { class: "gradients" }, this.head, this.controls, this.status, this.pictures, this.form?.element);
  }

  parts() {
    return [this.form, this.chart, this.beside, this.heat, this.map];
  }

  // The curves know when the learning rate fell.
  summarised() {
    if (this.lines) this.#curves();
  }

  #fileName(...words) {
    return fileName(this.name, this.set?.set, ...words);
  }

  async update(params) {
    const current = this.begin(params);
    if (!this.sets.length) return this.#none();
    this.set = this.sets.find((s) => s.set === params.set) ?? this.sets[0];
    fill(this.status);
    try {
      const network = await api.gradientMeasures(this.name, this.set.set, { group: "network" });
      if (!current()) return;
      this.names = measuresOf(network);
      this.measure = this.names.includes(params.measure) ? params.measure : startingMeasure(this.names);
      this.chosen = chosenGroups(params.groups, this.groups) ?? startingGroups(this.groups);
      this.step = this.set.steps.find((s) => String(s) === params.step) ?? this.set.steps.at(-1);
      this.curve = CURVES.includes(params.curve) ? params.curve : "angles";
      this.kind = params.axis ?? suited((await api.gram(this.name, "network", this.answer.digest)).steps);
      if (!current()) return;
      this.#controls();
      this.pictures.hidden = false;
      await Promise.all([this.#load(current), this.#layers(current), this.#map(current)]);
      if (current()) this.element.dataset.ready = "true";
    } catch (error) {
      if (current()) this.fail(error);
    }
  }

  // A job has stored sets: look again at what there is, and show the first of its own where none was looked at.
  async #computed(job) {
    const sets = await api.gradientSets(this.name).catch(() => this.sets);
    if (this.gone) return;
    this.sets = sets;
    const made = job.result?.sets?.find((name) => sets.some((s) => s.set === name));
    if (made && made !== this.set?.set) this.change({ set: made, step: null, measure: null }, { push: true });
    else this.update(this.params);
  }

  #none() {
    this.pictures.hidden = true;
    fill(this.status, h("div", { class: "empty" }, h("p", {}, "No gradients of this run have been computed yet. Compute them here, where the server has a probe and data for them, or with"), h("pre", {}, COMMAND(this.name))));
    this.element.dataset.ready = "true";
  }

  #controls() {
    const { params, change } = this;
    const key = JSON.stringify([params, this.set.set, this.names]);
    if (key === this.controlKey) return;
    this.controlKey = key;
    const sets = this.sets.map((s) => [s.set, `${s.set} (${s.n} vectors, ${s.steps.length} checkpoints)`]);
    const kinds = [["Network", /^network$/], ["Layers", /^layer\/[^/]+$/], ["Components", /^component\//], ["Embedding", /^(un)?embedding$/], ["Parts of layers", /^layer\/[^/]+\//]];
    const options = kinds.map(([label, pattern]) => ({ label, options: this.groups.filter((g) => pattern.test(g.id) && !this.chosen.includes(g.id)).map((g) => [g.id, g.id]) })).filter((o) => o.options.length);
    const show = (groups) => {
      this.chosen = groups; // a second choice before these are loaded begins with them
      change({ groups: groups.join(",") || null }, { push: true });
    };
    const without = (id) => h("button", { type: "button", "aria-label": `Leave out ${groupText(id)}`, onclick: () => show(this.chosen.filter((g) => g !== id)) }, `${id} ×`);
    keepingFocus(this.controls, () => fill(
      this.controls,
      dropdown("Set", sets, this.set.set, (set) => change({ set, step: null, measure: null }, { push: true })),
      dropdown("Measure", this.names.map((n) => [n, n.replaceAll("_", " ")]), this.measure, (measure) => change({ measure }, { push: true })),
      h("div", { class: "choice chosen", role: "group", "aria-label": "Groups in the curves" }, h("span", { class: "label" }, "Groups"), this.chosen.length > 1 ? this.chosen.map(without) : h("span", {}, this.chosen[0]),
        this.chosen.length < 6 ? dropdown("and", [["", "add a group"], ...options], "", (id) => id && show([...this.chosen, id]), { class: "group" }) : null),
      dropdown("Beside it", this.#besides(), this.curve, (curve) => change({ curve }, { push: true })),
      axisChoice(this.kind, change),
    ));
  }

  #besides() {
    const titles = { cosine: "cosine to the final checkpoint", angles: "angles of updates", norms: "norms", updates: "norms of updates", neighbours: "cosine of updates", forgetting: "forgetting time", edge: "spectral edge", rate: "learning rate" };
    return CURVES.filter((id) => id !== "rate" || ratesWithin(this.summary, [0, Infinity])).map((id) => [id, titles[id]]);
  }

  async #load(current) {
    const [gram, ...lines] = await Promise.all([
      api.gram(this.name, this.chosen[0], this.answer.digest),
      ...this.chosen.map((group) => api.gradientMeasures(this.name, this.set.set, { group, names: this.measure })),
    ]);
    if (!current()) return;
    Object.assign(this, { gram, lines });
    this.#curves();
  }

  // Both charts have the steps of the trajectory on their axis, so that one step lies at one place.
  #curves() {
    const g = within(this.gram, this.params);
    const { row } = this.answer;
    const shared = { kind: this.kind, steps: g.steps, xlabel: axisName(row), counted: axisName(row), marks: dropsOf(this.summary) };
    const caption = (group) => captionOf({ run: this.name, group, steps: this.set.steps, row });
    this.chart.show({
      ...shared, title: `${this.measure.replaceAll("_", " ")} of the set ${this.set.set}`, unit: this.measure.replaceAll("_", " "), follows: true,
      note: this.#undefined(), caption: caption(null), empty: "Nothing is defined here.",
      series: this.lines.map((line) => ({ name: line.group, join: true, ...inRange(line.steps, line.measures[this.measure], g.steps) })),
    });
    const specs = curvesOf(g, G.measures(g), ratesWithin(this.summary, [g.steps[0], g.steps.at(-1)]), this.answer.row);
    const { own, ...spec } = specs[this.curve] ?? specs.angles;
    this.beside.show({ ...spec, ...shared, ...(own && this.kind === "index" ? { kind: "linear", steps: undefined } : {}), title: `${spec.title} of ${groupText(this.chosen[0])}`, caption: caption(this.chosen[0]) });
  }

  #undefined() {
    const at = this.lines.map((line) => [line.group, line.undefined[this.measure]]).filter(([, steps]) => steps?.length);
    const stale = this.set.stale.length ? `Computed of parameters that the run no longer has, and left out: ${axisNames(this.answer.row)} ${this.set.stale.join(", ")}. ` : "";
    return stale + at.map(([group, steps]) => `Undefined for ${groupText(group)} at ${axisNames(this.answer.row)} ${steps.join(", ")}.`).join(" ");
  }

  async #layers(current) {
    const { layers } = await api.gradientLayers(this.name, this.set.set, this.measure);
    if (!current()) return;
    this.heatPanel.hidden = !layers.length;
    if (!layers.length) return;
    const steps = this.set.steps.filter((s) => this.#shown(s));
    const at = this.set.steps.map((s, i) => (this.#shown(s) ? i : -1)).filter((i) => i >= 0);
    const values = Float64Array.from(layers.flatMap((r) => at.map((i) => r.measures[this.measure][i] ?? NaN)));
    const scale = adjusted(heatScale(values), this.params);
    const title = this.measure.replaceAll("_", " ");
    const key = JSON.stringify([scale, this.params]);
    if (key !== this.heatKey) keepingFocus(this.heatControls, () => fill(this.heatControls, scaleControls(scale, this.params, this.change)));
    this.heatKey = key;
    this.heatTitle.textContent = `${title}, by layer and ${axisName(this.answer.row)}`;
    this.heatNote.textContent = `Set ${this.set.set}: ${this.set.n} vectors at each of ${steps.length} checkpoints.`;
    this.heat.show({
      rows: layers.map((r) => (/^\d+$/.test(r.layer) ? `layer ${r.layer}` : r.layer)), steps, values, scale, kind: this.kind, unit: title,
      title: `${this.name}: ${title} of the set ${this.set.set} by layer and ${axisName(this.answer.row)}`, label: axisText(this.kind, axisName(this.answer.row)),
      caption: captionOf({ steps, row: this.answer.row }), counted: axisName(this.answer.row),
    });
  }

  #shown(step) {
    const range = rangeSteps(this.params);
    return !range || (step >= range[0] && step <= range[1]);
  }

  async #map(current) {
    const { params, change, set } = this;
    const group = this.groups.some((g) => g.id === params.group) ? params.group : "network";
    const clusters = Math.max(1, Math.min(set.n, Math.round(Number(params.clusters)) || CLUSTERS));
    const [map, found] = await Promise.all([
      api.gradientMap(this.name, set.set, { step: this.step, group }),
      api.gradientClusters(this.name, set.set, { step: this.step, group, clusters }).catch((error) => ({ error })),
    ]);
    if (!current()) return;
    const ordered = params.order !== "given" && !found.error;
    const steps = set.steps.map((s) => [String(s), String(s)]);
    const groups = this.groups.filter((g) => !g.id.startsWith("tensor/")).map((g) => [g.id, g.id]);
    const id = unique("clusters");
    const key = JSON.stringify([params, set.set, ordered, clusters]);
    if (key !== this.mapKey) keepingFocus(this.mapControls, () => fill(
      this.mapControls,
      dropdown(axisName(this.answer.row), steps, String(this.step), (step) => change({ step }, { push: true })),
      dropdown("Group of the map", groups, group, (g) => change({ group: g === "network" ? null : g }, { push: true }), { class: "group" }),
      choice("Order", [["cluster", "by cluster"], ["given", "as they are"]], ordered ? "cluster" : "given", (order) => change({ order: order === "given" ? order : null }, { push: true })),
      h("div", { class: "choice" }, h("label", { class: "label", for: id }, "Clusters"),
        h("input", { id, type: "number", min: 1, max: set.n, value: clusters, onchange: (e) => change({ clusters: e.target.valueAsNumber || null }, { push: true }) })),
    ));
    this.mapKey = key;
    const shown = mapOfStep(map, ordered ? found : null);
    this.mapTitle.textContent = `Gradients at ${axisName(this.answer.row)} ${this.step}`;
    this.mapNote.textContent = `cos(gᵢ, gⱼ) of ${groupText(group)}, set ${set.set}${ordered ? ", in order of their clusters" : ""}.${found.error ? ` No clusters: ${found.error.message}` : ""}`;
    const axis = makeAxis(shown.map.steps, "index");
    this.map.show({
      map: shown.map, axis, edges: shown.edges.map((i) => axis.edges[i]), scale: { ...scaleOf([shown.map]) }, kind: "index", phases: [], marks: [],
      title: `${this.name}: gradients of the set ${set.set} at ${axisName(this.answer.row)} ${this.step}, ${groupText(group)}`, label: "vector, by its number", counted: "vectors",
      extra: (r, c) => shown.words(r, c), caption: captionOf({ run: this.name, group, row: this.answer.row }),
    });
    fill(this.clusters, found.error ? null : clusterTables(found, axisName(this.answer.row)));
  }
}
