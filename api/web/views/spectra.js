// Singular values of a run's matrices: of one over training, its ranks, the ranks of all by depth, and σ₁ of Q, K and V.

import { axisName } from "../base/axisname.js";
import { choice, dropdown, fileName, fill, h } from "../base/dom.js";
import * as api from "../data/api.js";
import { suited } from "../plots/axis.js";
import { Chart } from "../plots/chart.js";
import { axisChoice } from "../widgets/controls.js";
import { RunTab } from "./runtab.js";
import { SpectrumForm } from "./spectrumform.js";
import { COMMAND, depthSpecs, qkvSpecs, rankSpec, valuesSpec } from "./spectrumfacts.js";

const inRange = (steps, { from, to }) => steps.filter((s) => (from === undefined || s >= Number(from)) && (to === undefined || s <= Number(to)));
const TEXT = { weights: "Weights", displacement: "Distance from the start", updates: "Updates" };

export async function spectraView(name, params, context) {
  const [answer, rows] = await Promise.all([api.run(name), api.spectra(name)]);
  return new SpectraView(name, answer, rows, params, context);
}

class SpectraView extends RunTab {
  constructor(name, answer, rows, params, context) {
    super("spectra", name, answer, params, context);
    this.rows = rows;
    const { change } = context;
    const range = (found, done) => change({ from: found?.[0] ?? null, to: found?.[1] ?? null }, { push: done });
    const made = (what, onrange, height = 260) => {
      const chart = new Chart({ name: () => fileName(name, this.of, what), onrange, height });
      chart.element.dataset.chart = what;
      return chart;
    };
    this.values = made("singular-values", range, 320);
    this.ranks = made("ranks", range, 320);
    this.depth = ["stable_rank", "effective_rank"].map((n) => made(n, null));
    this.heads = ["Q", "K", "V"].map((n) => made(n, range, 220));
    this.partsHead = h("h2", { class: "section" }, "σ₁ of Q, K and V");
    this.pictures = h("div", { hidden: true },
      h("h2", { class: "section" }, "One matrix over training"), h("div", { class: "charts" }, this.values.element, this.ranks.element),
      h("h2", { class: "section" }, "By depth"), h("div", { class: "charts" }, this.depth.map((c) => c.element)),
      this.partsHead, (this.partsPlace = h("div", { class: "charts" }, this.heads.map((c) => c.element))));
    this.form = new SpectrumForm(name, { open: !rows.length, ondone: () => this.#again() });
    this.element = h("div", { class: "spectra" }, this.head, this.controls, this.status, this.form.element, this.pictures);
  }

  parts() {
    return [this.form, this.values, this.ranks, ...this.depth, ...this.heads];
  }

  async #again() {
    this.rows = await api.spectra(this.name);
    if (!this.gone) this.update(this.params);
  }

  async update(params) {
    const current = this.begin(params);
    if (!this.rows.length) {
      fill(this.status, h("div", { class: "empty" }, h("p", {}, "No matrix of this run has been decomposed yet. Fill in the form, or compute spectra with"), h("pre", {}, COMMAND(this.name))));
      this.element.dataset.ready = "true";
      return;
    }
    fill(this.status);
    try {
      this.of = this.rows.find((r) => r.of === params.of)?.of ?? this.rows[0].of;
      const [{ matrix_table: table }, layers] = await Promise.all([api.spectrumMatrices(this.name, this.of), api.spectrumLayers(this.name, this.of)]);
      const tensor = (table.find((m) => m.name === params.tensor) ?? table.find((m) => m.layer !== "") ?? table[0]).name;
      const [values, measures] = await Promise.all([api.singularValues(this.name, this.of, tensor), api.spectrumMeasures(this.name, this.of, tensor)]);
      if (!current()) return;
      this.kind = params.axis ?? suited(values.steps.length ? values.steps : [0]);
      this.#controls(table, tensor);
      this.pictures.hidden = false;
      this.#draw(values, measures, layers);
      this.element.dataset.ready = "true";
    } catch (error) {
      if (current()) this.fail(error);
    }
  }

  #controls(table, tensor) {
    const layers = [...new Set(table.map((m) => m.layer))];
    const options = layers.map((layer) => ({ label: layer === "" ? "Around the layers" : `Layer ${layer}`, options: table.filter((m) => m.layer === layer).map((m) => [m.name, `${m.name} (${m.rows} × ${m.columns})`]) }));
    const pick = this.picks();
    this.drawControls(
      choice("Of", this.rows.map((r) => [r.of, TEXT[r.of]]), this.of, pick("of")),
      dropdown("Matrix", options, tensor, pick("tensor")),
      axisChoice(this.kind, this.change));
  }

  #draw(values, measures, layers) {
    const row = this.answer.row;
    const steps = inRange(values.steps, this.params);
    const shared = { kind: this.kind, xlabel: axisName(row), counted: axisName(row), follows: true, steps };
    this.values.show({ ...shared, ...valuesSpec(values, steps) });
    this.ranks.show({ ...shared, ...rankSpec(measures, steps) });
    depthSpecs(layers).forEach((spec, i) => this.depth[i].show(spec));
    const parts = qkvSpecs(layers, inRange(layers.steps, this.params));
    this.partsHead.hidden = this.partsPlace.hidden = !parts.length;
    parts.forEach((spec, i) => this.heads[i].show({ ...shared, ...spec }));
  }
}
