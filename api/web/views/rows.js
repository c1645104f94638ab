// Rows (neurons, tokens of an embedding) of a group's matrices over training: which moved, and when.

import { axisName } from "../base/axisname.js";
import { choice, fileName, fill, h, keepingFocus, number } from "../base/dom.js";
import * as api from "../data/api.js";
import { axisText, suited } from "../plots/axis.js";
import { heatScale } from "../plots/heatscene.js";
import { HeatView } from "../plots/heatview.js";
import { captionOf } from "../widgets/captions.js";
import { adjusted, axisChoice, groupChoice, scaleControls } from "../widgets/controls.js";
import { RunTab } from "./runtab.js";

const BINS = 48;
const TOP = 10;
const OF = [["update", "Update"], ["ratio", "Update / row"], ["angle", "Angle"], ["displacement", "Distance from the start"], ["weights", "Norm"]];
const SAID = {
  update: ["norm of the update", "the norm of each row's update from the checkpoint before"],
  ratio: ["update / row", "the norm of each row's update over the norm of the row before it"],
  angle: ["degrees", "the angle between each row before an update and after it, in degrees"],
  displacement: ["distance", "the norm of each row's displacement from the first checkpoint"],
  weights: ["norm", "the norm of each row"],
};

export async function rowsView(name, params, context) {
  const [answer, groups] = await Promise.all([api.run(name), api.groups(name)]);
  return new RowsView(name, answer, groups, params, context);
}

class RowsView extends RunTab {
  constructor(name, answer, groups, params, context) {
    super("rows", name, answer, params, context);
    this.groups = groups;
    this.heat = new HeatView({ name: () => fileName(name, this.group, `rows-${this.of}`) });
    this.heatTitle = h("h2", {});
    this.note = h("p", { class: "note" });
    this.scale = h("div", { class: "controls" });
    this.table = h("div");
    this.pictures = h("div", { hidden: true },
      h("section", { class: "panel heatpanel", "aria-label": "Rows over training" },
        h("div", { class: "charthead" }, this.heatTitle, this.heat.buttons()), this.scale, this.note, this.heat.element),
      h("h2", { class: "section" }, "The rows with most"), this.table);
    this.element = h("div", { class: "rowsview" }, this.head, this.controls, this.status, this.pictures);
  }

  parts() {
    return [this.heat];
  }

  async update(params) {
    const current = this.begin(params);
    this.of = params.of ?? "update";
    this.group = this.groups.some((g) => g.id === params.group) ? params.group : "network";
    try {
      const asked = { group: this.group, of: this.of };
      const [all, most] = await Promise.all([api.rows(this.name, { ...asked, bins: BINS }), api.rows(this.name, { ...asked, top: TOP })]);
      if (!current()) return;
      fill(this.status);
      this.kind = params.axis ?? suited(all.steps.length ? all.steps : [0]);
      this.#controls();
      this.pictures.hidden = false;
      this.#draw(all);
      this.#most(most);
    } catch (error) {
      if (!current()) return;
      this.kind ??= "index";
      this.#controls();
      this.pictures.hidden = true;
      fill(this.status, h("div", { class: "empty" }, h("p", {}, error.message), error.hint ? h("p", { class: "hint" }, error.hint) : null));
    }
    this.element.dataset.ready = "true";
  }

  #controls() {
    const pick = this.picks("lo", "hi");
    this.drawControls(groupChoice(this.groups, this.group, pick("group")), choice("Of", OF, this.of, pick("of")), axisChoice(this.kind, this.change));
  }

  #draw({ rows, steps, total }) {
    const { row } = this.answer;
    const [unit, said] = SAID[this.of];
    const logarithmic = this.of !== "angle";
    const values = Float64Array.from(rows.flatMap((r) => r.values.map((v) => v ?? NaN)));
    const drawn = logarithmic ? values.map((v) => (v > 0 ? Math.log10(v) : NaN)) : values;
    const scale = adjusted(heatScale(drawn, { aboutZero: false }), this.params);
    const { kind } = this;
    const alone = new Set(rows.map((r) => r.tensor)).size === 1;
    keepingFocus(this.scale, () => fill(this.scale, scaleControls(scale, this.params, this.change)));
    this.heatTitle.textContent = "Rows over training";
    const binned = rows.length < total ? ` The ${total} rows in ${rows.length} bins of successive ones, each with its root mean square.` : "";
    this.note.textContent = `${said[0].toUpperCase()}${said.slice(1)}.${binned}${logarithmic ? " Colours are logarithmic; striped where it is 0." : ""}`;
    this.heat.show({
      rows: rows.map((r) => rowText(r, alone)), steps, values, drawn, scale, kind, unit, scaleUnit: logarithmic ? `log₁₀ ${unit}` : unit, what: "rows",
      title: `${this.name}: rows of ${this.group}`, label: axisText(kind, axisName(row)), counted: axisName(row), caption: captionOf({ group: this.group, steps, row }),
    });
  }

  #most({ rows, steps }) {
    const last = steps.length - 1;
    const whole = (values) => Math.sqrt(values.reduce((sum, v) => sum + (v ?? 0) ** 2, 0));
    fill(this.table, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The rows with most" }, h("table", {},
      h("thead", {}, h("tr", {}, ["tensor", "row", "root of the sum of squares", `at ${axisName(this.answer.row)} ${steps[last]}`].map((t, i) => h("th", { scope: "col", class: i ? "numeric" : undefined }, t)))),
      h("tbody", {}, rows.map((r) => h("tr", {}, h("td", {}, r.tensor), h("td", { class: "numeric" }, r.row), h("td", { class: "numeric" }, number(whole(r.values), 4)), h("td", { class: "numeric" }, r.values[last] === null ? "undefined" : number(r.values[last], 4))))))));
  }
}

const rowText = (r, alone) => `${alone ? "row" : r.tensor} ${r.count > 1 ? `${r.row}–${r.row + r.count - 1}` : r.row}`;
