// Runs side by side: up to eight as maps and curves, aligned by step, tokens or the fraction of training; any number as a table.

import { axisName, axisNames, sharedAxis } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { choice, count, csv, download, downloads, dropdown, fileName, fill, h, keepingFocus, number } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import * as G from "../math/gram.js";
import { mapOf, originOf } from "../math/view_of.js";
import { axisText, makeAxis, suited } from "../plots/axis.js";
import { Chart } from "../plots/chart.js";
import { MapView } from "../plots/mapview.js";
import { captionOf, groupText } from "../widgets/captions.js";
import { VIEW_TITLES, VIEWS, adjusted, scaleControls } from "../widgets/controls.js";
import { badge } from "../widgets/estimate.js";
import { tokensLine, tokensOf } from "../widgets/tokens.js";
import { SCALARS } from "./layerfacts.js";

const MOST = 8; // as pictures
const PAUSE = 3000; // milliseconds between looks at runs that are estimates
const all = (g) => g.steps;
const after = (g) => g.steps.slice(1);
const between = (g) => g.steps.slice(1, -1);
// [measure, title, unit, the steps it is of, its values]
const CURVES = [
  ["cosine_to_final", "Cosine to the final checkpoint", "cosine", all, G.cosineToFinal],
  ["distance_from_init", "Distance from initialisation", "norm", all, G.distanceFromInit],
  ["update_angle", "Angle between updates", "degrees", between, G.updateAngle],
  ["norm", "Norm", "norm", all, G.norm],
  ["update_norm", "Norm of updates", "norm", after, G.updateNorm],
  ["update_cosine", "Cosine of neighbouring updates", "cosine", between, G.updateCosine],
  ["apex_angle_init", "Apex angle at initialisation", "degrees", after, G.apexAngleInit],
  ["sweep_angle_init", "Sweep angle from initialisation", "degrees", between, G.sweepAngleInit],
  ["apex_angle_origin", "Apex angle at the zero vector", "degrees", after, G.apexAngleOrigin],
  ["sweep_angle_origin", "Sweep angle from the zero vector", "degrees", after, G.sweepAngleOrigin],
  ["noise_floor", "Noise floor (share of the update)", "1", after, G.noiseFloor],
];
const USUAL = CURVES.slice(0, 4).map(([id]) => id);

// The curves that `params` name, in the order of the list; those that are usual where it names none that is known.
function chosenCurves(params) {
  const wanted = (params.curves ?? "").split(",");
  const found = CURVES.filter(([id]) => wanted.includes(id));
  return found.length ? found : CURVES.filter(([id]) => USUAL.includes(id));
}

export async function compareView(params, context) {
  return new CompareView(await api.runs(), params, context);
}

class CompareView {
  constructor(all, params, { change }) {
    Object.assign(this, { all, change });
    this.title = "Compare";
    this.controls = h("div", { class: "controls" });
    this.picker = h("div", { class: "controls" });
    this.maps = h("div", { class: "sidebyside" });
    this.table = h("div");
    this.crossed = h("p", { class: "note" });
    this.which = h("details", { class: "which" });
    this.curves = h("div", { class: "charts" });
    this.status = h("div", { role: "status" });
    this.layers = new Chart({ name: () => fileName("compare", "layers", this.params.y), height: 280 });
    this.layers.element.dataset.chart = "layers";
    this.layerPicker = h("div", { class: "controls" });
    this.between = h("div", { hidden: true }, h("h2", { class: "section" }, "Layers"), this.layerPicker, this.layers.element);
    this.element = h("div", { class: "compare" }, h("div", { class: "title" }, h("h1", {}, "Compare runs"), h("a", { class: "button", href: href(["against"]) }, "Many runs")), this.picker, this.controls, this.status, this.maps, this.crossed, this.table, h("h2", { class: "section" }, "Curves"), this.which, this.curves, this.between);
    this.views = [];
    this.charts = [];
    this.runs = new Map();
  }

  destroy() {
    this.gone = true;
    clearTimeout(this.timer);
    for (const view of [...this.views, ...this.charts, this.layers]) view.destroy();
  }

  async #load(name) {
    if (!this.runs.has(name)) {
      const [answer, groups, checkpoints] = await Promise.all([api.run(name), api.groups(name), api.checkpoints(name)]);
      this.runs.set(name, { name, answer, groups: groups.map((g) => g.id), tokens: tokensOf(checkpoints.filter((c) => c.usable)) });
    }
    return this.runs.get(name);
  }

  // Runs that are estimates are looked at again now and then: what sharpened is drawn anew, all else stays.
  #watch(runs) {
    clearTimeout(this.timer);
    const unsure = runs.filter((r) => r.answer.row.estimate);
    if (!unsure.length || api.isReport) return;
    this.timer = setTimeout(async () => {
      const answers = await Promise.all(unsure.map((r) => api.run(r.name).catch(() => r.answer)));
      if (this.gone) return;
      const moved = unsure.filter((r, k) => answers[k].digest !== r.answer.digest);
      for (const run of moved) this.runs.delete(run.name);
      if (moved.length) this.update(this.params);
      else this.#watch(runs);
    }, PAUSE);
  }

  async update(params) {
    this.params = params;
    clearTimeout(this.timer);
    const known = new Set(this.all.map((r) => r.run));
    const asked = [...new Set((params.runs ?? "").split(",").filter(Boolean))];
    this.every = asked.filter((n) => known.has(n));
    const names = this.every.slice(0, MOST);
    const left = asked.filter((n) => !known.has(n)).map((n) => `There is no run “${n}”.`);
    const more = this.every.length - names.length;
    if (more > 0) left.push(`The first ${MOST} runs have maps and curves; ${more} more ${more === 1 ? "is" : "are"} in the table.`);
    this.#picker(this.every);
    if (names.length < 2) {
      this.key = this.drawn = null;
      this.controls.replaceChildren();
      this.curves.replaceChildren();
      this.maps.replaceChildren();
      this.table.replaceChildren();
      this.crossed.replaceChildren();
      this.#showCurves(false);
      return fill(this.status, left.map((text) => h("p", { class: "problem" }, text)), h("p", { class: "empty" }, this.all.length < 2 ? "There are not two runs to compare yet." : "Choose two runs or more."));
    }
    this.#showCurves(true);
    try {
      const runs = await Promise.all(names.map((n) => this.#load(n)));
      const shared = runs[0].groups.filter((g) => runs.every((r) => r.groups.includes(g)) && !g.startsWith("tensor/"));
      const group = shared.includes(params.group) ? params.group : "network";
      if (params.group && group !== params.group) left.push(`Not all of these runs have a group ${params.group}: this is the network.`);
      const grams = await Promise.all(runs.map((r) => api.gram(r.name, group, r.answer.digest)));
      if (this.gone || this.params !== params) return;
      fill(this.status, left.map((text) => h("p", { class: "problem" }, text)));
      this.#draw(runs, shared, group, grams);
      this.#watch(runs);
    } catch (error) {
      fill(this.status, h("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  #showCurves(shown) {
    this.which.previousSibling.hidden = this.which.hidden = this.between.hidden = !shown;
  }

  // Which measures are drawn, as boxes to tick.
  #chooser(chosen) {
    const ids = chosen.map(([id]) => id);
    const pick = (id, on) => {
      const next = CURVES.map(([c]) => c).filter((c) => (c === id ? on : ids.includes(c)));
      this.change({ curves: !next.length || next.join() === USUAL.join() ? null : next.join() }, { push: true });
    };
    keepingFocus(this.which, () => fill(
      this.which,
      h("summary", {}, `${chosen.length} of ${CURVES.length} measures`),
      h("div", { class: "controls", role: "group", "aria-label": "Curves" }, CURVES.map(([id, title]) =>
        h("label", { class: "check" }, h("input", { type: "checkbox", name: id, checked: ids.includes(id), onchange: (e) => pick(id, e.target.checked) }), title))),
    ));
  }

  #picker(names) {
    const set = (list) => this.change({ runs: list.join(",") }, { push: true });
    const options = (own) => [["", "choose a run"], ...this.all.filter((r) => r.run === own || !names.includes(r.run)).map((r) => [r.run, r.run])];
    fill(
      this.picker,
      Array.from({ length: Math.max(2, names.length + (names.length >= 2 ? 1 : 0)) }, (_, i) =>
        dropdown(`Run ${i + 1}`, options(names[i]), names[i] ?? "", (v) => {
          const next = [...names];
          if (v) next[i] = v;
          else next.splice(i, 1);
          set(next.filter(Boolean));
        }, { class: "group" })),
    );
  }

  #draw(runs, shared, group, grams) {
    const { params, change } = this;
    const hasTokens = runs.every((r) => r.tokens);
    let align = params.align ?? "step";
    if (align === "tokens" && !hasTokens) align = "step";
    const to = (k) => (step) => {
      if (align === "tokens") return runs[k].tokens.along(step);
      return align === "fraction" ? step / grams[k].steps.at(-1) : step;
    };
    // back from the aligned number to the run's nearest step
    const back = (k) => (value) => {
      if (align === "fraction") return value * grams[k].steps.at(-1);
      if (align === "tokens") return grams[k].steps.reduce((a, b) => (Math.abs(runs[k].tokens.along(b) - value) < Math.abs(runs[k].tokens.along(a) - value) ? b : a));
      return value;
    };
    const view = params.view ?? "tm";
    const maps = grams.map((g) => mapOf(g, { view, origin: params.origin }));
    const scale = adjusted(scaleOf(maps), params);
    const kind = params.axis ?? (grams.some((g) => suited(g.steps) === "index") ? "log" : "linear");
    fill(
      this.controls,
      dropdown("Group", shared.map((g) => [g, g]), group, (g) => change({ group: g === "network" ? null : g }, { push: true }), { class: "group" }),
      choice("Map", VIEWS, view, (v) => change({ view: v === "tm" ? null : v }, { push: true })),
      choice("Align by", [["step", sharedAxis(runs.map((r) => r.answer.row))], ["tokens", "tokens", !hasTokens], ["fraction", "fraction"]], align, (v) => change({ align: v === "step" ? null : v }, { push: true })),
      choice("Axis", [["linear", "linear"], ["log", "log"], ["index", "index"]], kind, (axis) => change({ axis }, { push: true })),
      scaleControls(scale, params, change),
    );
    const curves = chosenCurves(params);
    this.#chooser(curves);
    const key = runs.map((r) => r.name).join();
    if (key !== this.key) {
      this.key = key;
      for (const v of this.views) v.destroy();
      this.views = [];
      this.maps.replaceChildren();
      runs.forEach((run, k) => {
        const mapView = new MapView({ most: 460, bar: true, tips: true, name: () => fileName("compare", run.name, this.params.group ?? "network", this.params.view ?? "tm") });
        const heading = h("h2", {}, h("a", { href: href(["run", run.name]), class: "longname", title: run.name }, run.name));
        this.views.push(mapView);
        mapView.badge = h("span", { class: "badge warning", hidden: true });
        mapView.note = h("p", { class: "note" });
        this.maps.append(h("section", { class: "panel", "aria-label": run.name }, h("div", { class: "charthead" }, heading, mapView.badge, mapView.buttons()), mapView.note, mapView.element));
      });
    }
    const drawn = `${key} ${curves.map(([id]) => id)}`;
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      for (const chart of this.charts) chart.destroy();
      this.charts = curves.map(([id]) => new Chart({ name: () => fileName("compare", id) }));
      this.charts.forEach((chart, i) => (chart.element.dataset.chart = curves[i][0]));
      this.curves.replaceChildren(...this.charts.map((chart) => chart.element));
    }
    const every = [...new Set(maps.flatMap((m, k) => m.steps.map(to(k))))].sort((a, b) => a - b);
    const unit = { step: sharedAxis(runs.map((r) => r.answer.row)), tokens: "tokens", fraction: "fraction of training" }[align];
    const origins = grams.map((g) => (view === "rtm" ? g.steps[originOf(g, params)] : null));
    this.views.forEach((mapView, k) => {
      mapView.link = to(k);
      mapView.back = back(k);
      const map = maps[k];
      const where = map.steps.map(to(k));
      const inner = makeAxis(where, kind, every);
      mapView.show({ map, scale, kind, axis: inner, phases: [], title: `${runs[k].name}: ${VIEW_TITLES[view]} of ${groupText(group)}`, label: axisText(kind, unit),
        caption: captionOf({ steps: grams[k].steps, origin: origins[k], row: runs[k].answer.row }), counted: axisNames(runs[k].answer.row), each: axisName(runs[k].answer.row),
        extra: runs[k].tokens && ((r, c) => [tokensLine(runs[k].tokens, map.steps[r], map.steps[c])]) });
      mapView.badge.hidden = !runs[k].answer.row.estimate;
      mapView.badge.textContent = badge(runs[k].answer.row);
      mapView.note.textContent = `${VIEW_TITLES[view]}${origins[k] === null ? "" : ` from ${axisName(runs[k].answer.row)} ${origins[k]}`}, mean ${number(G.meanDefined(map.values), 5)}`;
    });
    fill(this.crossed, runs.length === 2 ? h("a", { href: href(["cross"], { a: runs[0].name, b: runs[1].name, group: group === "network" ? null : group }) }, "Against each other: all pairs of checkpoints") : null);
    this.#table(runs, group);
    this.#depths(runs);
    curves.forEach(([, title, yUnit, at, curve], i) => {
      const series = grams.map((g, k) => ({ name: runs[k].name, x: at(g).map(to(k)), y: curve(g), join: true, colour: k }));
      this.charts[i].show({ title, unit: yUnit, xlabel: unit, caption: `${groupText(group)} of ${runs.map((r) => r.name).join(", ")}`, kind, series, follows: true, points: true });
    });
    this.element.dataset.ready = `${key} ${align}`;
    this.element.dataset.digests = runs.map((r) => r.answer.digest).join();
  }

  // A number of each layer against its depth, a line a run: layers of networks of any depth, each at its fraction.
  async #depths(runs) {
    const { params } = this;
    const [field, label, unit] = SCALARS.find(([id]) => id === params.y) ?? SCALARS[0];
    keepingFocus(this.layerPicker, () => fill(this.layerPicker, dropdown("Against depth", SCALARS.map(([id, text]) => [id, text]), field, (y) => this.change({ y: y === "mds" ? null : y }, { push: true }))));
    const rows = await Promise.all(runs.map((r) => api.layers(r.name)));
    if (this.gone || this.params !== params) return;
    const series = runs.map((r, k) => {
      const placed = rows[k].filter((row) => row.depth !== null);
      return { name: r.name, x: placed.map((row) => Number(row.depth.toFixed(4))), y: placed.map((row) => row[field] ?? NaN), join: true, colour: k };
    });
    this.layers.show({ title: `${label[0].toUpperCase()}${label.slice(1)} by depth`, unit: unit === "1" ? label : unit, xlabel: "depth, as a fraction of the network", lags: true, points: true, series, caption: runs.map((r) => r.name).join(", "), empty: "None of these runs has layers." });
  }

  async #table(runs, group) {
    const names = this.every;
    const key = `${names} ${runs.map((r) => r.answer.digest)} ${group}`;
    if (key === this.tableKey && this.table.childElementCount) return;
    this.tableKey = key;
    const { rows, findings = [] } = await api.compare(names, group);
    if (this.gone || this.tableKey !== key) return;
    const fields = [["parameters", "Parameters", count], ["checkpoints", "Checkpoints", String], ["mds", "MDS"], ["mds_by_length", "MDS by length"], ["relative_mds", "Relative MDS"], ["random_walk_mds", "The same of a random walk"], ["path_length", "Path length"], ["tortuosity", "Tortuosity"], ["mean_update_angle", "Mean update angle (°)"], ["mu", "μ of updates"], ["alpha", "α of updates"], ["settling_step", `Settling ${sharedAxis(runs.map((r) => r.answer.row))}`]];
    fill(
      this.table,
      findings.map((f) => h("p", { class: "problem", "data-finding": f.kind }, `Sampled differently: ${f.message.replace(/ --steps$/, " steps")}.`)),
      h("div", { class: "charthead" }, h("h2", {}, `Numbers of ${group === "network" ? "the network" : group}`), downloads("table", [["CSV", () => download("compare.csv", csv([["run", ...fields.map(([f]) => f)], ...rows.map((r) => [r.run, ...fields.map(([f]) => r[f])])]), "text/csv")]])),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Numbers side by side" },
        h("table", {},
          rows.length > MOST
            ? [
                h("thead", {}, h("tr", {}, h("td", {}), fields.map(([, title]) => h("th", { scope: "col", class: "numeric" }, title)))),
                h("tbody", {}, rows.map((r) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: href(["run", r.run]), class: "longname", title: r.run }, r.run)), fields.map(([f, , write]) => h("td", { class: "numeric" }, (write ?? ((v) => number(v, 5)))(r[f])))))),
              ]
            : [
                h("thead", {}, h("tr", {}, h("td", {}), rows.map((r) => h("th", { scope: "col", class: "numeric" }, h("span", { class: "longname" }, r.run))))),
                h("tbody", {}, fields.map(([f, title, write]) => h("tr", {}, h("th", { scope: "row" }, title), rows.map((r) => h("td", { class: "numeric" }, (write ?? ((v) => number(v, 5)))(r[f])))))),
              ])),
    );
  }
}
