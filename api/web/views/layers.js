// The layers of a run: all maps on one scale, by component, Q/K/V, any scalar against depth, and a table instead of pictures.

import { axisName, axisNames } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { choice, download, downloads, dropdown, fileName, fill, h, keepingFocus, number, sortable, step as stepText, unique } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { originOf, rangeOf, rangeSteps } from "../math/view_of.js";
import { Chart } from "../plots/chart.js";
import { barImage } from "../plots/paint.js";
import { Tiles } from "../plots/tiles.js";
import { sheetDownloads } from "../plots/tilesheet.js";
import { captionOf } from "../widgets/captions.js";
import { VIEW_NOTES, VIEW_TITLES, adjusted, scaleControls, viewChoice } from "../widgets/controls.js";
import { medianError, errorMap } from "../widgets/estimate.js";
import { Live } from "../widgets/live.js";
import { tokensLine, tokensOf } from "../widgets/tokens.js";
import { COMPONENTS, SCALARS, depthSpec, layersCSV, layersTable, qkvSpecs } from "./layerfacts.js";
import { runHead } from "./runhead.js";

const OF = { grid: "layers", components: "parts", qkv: "attention" };
const SHOWS = [["grid", "Grid"], ["components", "Components"], ["qkv", "Q, K, V"], ["depth", "Against depth"], ["table", "Table"]];
export async function layersView(name, params, context) {
  const [answer, groups] = await Promise.all([api.run(name), api.groups(name)]);
  return new LayersView(name, answer, groups, params, context);
}

class LayersView {
  constructor(name, answer, groups, params, { change }) {
    Object.assign(this, { name, answer, groups, change, params });
    this.title = `${name}: layers`;
    const ids = groups.map((g) => g.id);
    this.known = new Set(ids);
    this.layers = ids.filter((id) => /^layer\/[^/]+$/.test(id));
    this.head = h("div");
    this.controls = h("div", { class: "controls" });
    this.readout = h("p", { class: "readout hint", role: "status" });
    this.body = h("div");
    this.live = new Live(name, answer, { onanswer: (next) => this.#sharpen(next) });
    this.element = h("div", { class: "layers" }, this.head, this.controls, this.live.element, this.body);
    this.charts = [];
    this.#summary();
    this.#error();
    this.usable = api.checkpoints(name).then((found) => found.filter((c) => c.usable));
    this.usable.then((found) => (this.tokens = tokensOf(found)), () => {});
  }

  destroy() {
    this.gone = true;
    this.live.destroy();
    this.#clear();
  }

  #clear() {
    this.tiles?.destroy();
    this.tiles = null;
    for (const chart of this.charts) chart.destroy();
    this.charts = [];
  }

  #head() {
    keepingFocus(this.head, () => fill(this.head, runHead(this.name, this.answer, this.summary, "layers", this.params)));
  }

  #summary() {
    const { answer } = this;
    return api.summary(this.name).then((summary) => {
      if (this.gone || this.answer !== answer) return;
      this.summary = summary;
      this.#head();
    }, () => {});
  }

  // How sure the network's map is: what the strip says of an estimate.
  async #error() {
    const { digest, row } = this.answer;
    if (!row.estimate) return;
    const gram = await api.gram(this.name, "network", digest).catch(() => null);
    const errors = gram && errorMap(gram, {});
    if (!this.gone && this.answer.digest === digest) this.live.show(errors ? medianError(errors) : NaN);
  }

  // A sharper estimate, or the run itself, in the place of what is shown.
  async #sharpen(answer) {
    this.answer = answer;
    this.tiles?.renew(answer.digest);
    this.#summary();
    this.#error();
    try {
      if (this.show === "qkv") await this.#qkvCharts();
      if (this.show === "depth") await this.#depth();
      if (this.show === "table") await this.#table();
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }

  async update(params) {
    this.params = params;
    this.#head();
    const hasQkv = this.layers.some((l) => this.known.has(`${l}/attention.q`));
    const shows = SHOWS.filter(([id]) => id !== "qkv" || hasQkv);
    const show = shows.some(([id]) => id === params.show) ? params.show : "grid";
    const redo = show !== this.show || !this.body.childElementCount;
    this.show = show;
    const pictures = ["grid", "components", "qkv"].includes(show);
    this.shows = shows;
    this.pictures = pictures;
    if (redo) {
      this.#clear();
      this.body.replaceChildren();
      if (pictures) this.#pictures(show);
    }
    this.#controls(this.tiles?.scale);
    if (this.root) this.root.style.setProperty("--tile", `${Number(params.size) || (show === "grid" ? 150 : 110)}px`);
    if (this.tiles) this.tiles.show(params, (scale) => adjusted(scale, params));
    if (show === "qkv") await this.#qkvCharts();
    if (show === "depth") await this.#depth();
    if (show === "table") await this.#table();
  }

  #controls(scale) {
    const { params, change } = this;
    const view = params.view ?? "tm";
    const range = rangeSteps(params);
    const { activeElement } = document;
    // What somebody is typing into is left alone: nothing but the scale of an estimate can have changed.
    if (this.drawnFor === params && this.controls.contains(activeElement) && activeElement.matches("input, select")) return;
    this.drawnFor = params;
    keepingFocus(this.controls, () => fill(
      this.controls,
      choice("Show", this.shows, this.show, (v) => change({ show: v === "grid" ? null : v }, { push: true })),
      this.pictures ? viewChoice(params, change) : null,
      this.pictures && view === "rtm" ? this.#origin() : null,
      this.pictures ? this.#size() : null,
      this.pictures && scale ? scaleControls(scale, params, change) : null,
      this.pictures && scale ? this.#bar(scale) : null,
      this.pictures ? sheetDownloads("all maps", () => this.#sheet()) : null,
      range ? h("span", { class: "hint" }, `${axisNames(this.answer.row)} ${stepText(range[0])} to ${stepText(range[1])} `, h("button", { type: "button", class: "quiet", onclick: () => change({ from: null, to: null }, { push: true }) }, `All ${axisNames(this.answer.row)}`)) : null,
    ));
    const missing = params.show === "qkv" && this.show !== "qkv" ? "No layer of this run has Q, K and V. " : "";
    if (this.pictures && this.noteOf) this.noteOf.textContent = `${missing}${VIEW_TITLES[view]}, ${VIEW_NOTES[view].split(". ")[0].replace(/\.$/, "")}. One scale for all; the number is the mean.`;
  }

  #origin() {
    const id = unique("origin");
    return h("div", { class: "choice" }, h("label", { class: "label", for: id }, "Origin"),
      h("input", { id, type: "number", value: this.params.origin ?? this.answer.row.first_step, onchange: (e) => this.change({ origin: e.target.value === "" ? null : e.target.value }, { push: true }) }));
  }

  #size() {
    return dropdown("Size", [["90", "small"], ["", "medium"], ["240", "large"]], this.params.size ?? "", (size) => this.change({ size }, { push: true }));
  }

  #bar(scale) {
    const canvas = h("canvas", { "aria-hidden": "true" });
    canvas.width = 256;
    canvas.height = 1;
    const context = canvas.getContext("2d");
    const bar = barImage(scale.palette);
    for (let i = 0; i < 256; i++) context.drawImage(bar, 0, 255 - i, 1, 1, i, 0, 1, 1);
    return h("div", { class: "barrow", role: "img", "aria-label": `Colours from ${scale.low} to ${scale.high}` }, h("span", {}, number(scale.low).replace("-", "−")), canvas, h("span", {}, number(scale.high)), h("span", {}, "cosine"));
  }

  #pictures(show) {
    this.root = h("div", { class: show === "grid" ? "grid" : "" });
    this.noteOf = h("p", { class: "note" });
    this.body.append(this.noteOf, this.readout, this.root);
    this.tiles = new Tiles({
      root: this.root,
      counted: axisNames(this.answer.row),
      words: (row, column) => (this.tokens ? `, ${tokensLine(this.tokens, row, column)}` : ""),
      onscale: (scale) => this.#controls(scale),
      bulk: (params) => this.#bulk(show, params),
      range: (params) => this.#range(show, params),
      onread: (text) => (this.readout.textContent = text ?? (this.pictures ? "Move over a map: the same checkpoints are marked in all of them. Click opens one." : "")),
    });
    this.readout.textContent = "Move over a map: the same checkpoints are marked in all of them. Click opens one.";
    const { name } = this;
    const link = (group) => href(["run", name], { ...this.#shared(), group });
    const tile = (group, text) => this.tiles.tile({ run: name, group, digest: this.answer.digest, name: text, title: group, link: link(group) });
    if (show === "grid") {
      const others = ["embedding", "unembedding"].filter((g) => this.known.has(g));
      const ordered = [...others.slice(0, 1), ...this.layers, ...others.slice(1)];
      if (!ordered.length) this.root.replaceWith(h("p", { class: "empty" }, "This run has no layers."));
      this.root.append(...ordered.map((g) => tile(g, g.replace(/^layer\//, /^layer\/\d+$/.test(g) ? "layer " : ""))));
    } else {
      this.#matrix(show, tile);
    }
  }

  async #bulk(show, params) {
    const steps = await this.#steps(params);
    return api.maps(this.name, OF[show], {
      kind: params.view ?? "tm", origin: await this.#originStep(params), range: rangeSteps(params) && [steps[0], steps.at(-1)],
      count: this.tiles.tiles.size, checkpoints: steps.length,
    });
  }

  // Of all maps of a view: what the server says that they span.
  async #range(show, params) {
    const steps = await this.#steps(params);
    return api.mapRange(this.name, OF[show], {
      kind: params.view ?? "tm", origin: await this.#originStep(params), range: rangeSteps(params) && [steps[0], steps.at(-1)],
    });
  }

  async #steps(params = this.params) {
    const all = (await this.usable).map((c) => c.step);
    return rangeOf(params, all).map((i) => all[i]);
  }

  async #originStep(params = this.params) {
    const steps = await this.#steps(params);
    return params.view === "rtm" ? steps[originOf({ steps }, params)] : null;
  }

  #shared() {
    return Object.fromEntries(["from", "to", "view", "origin"].filter((k) => this.params[k] !== undefined).map((k) => [k, this.params[k]]));
  }

  // Components by layers. A layer that is nothing but a norm, such as the one after the last, has no components.
  #cells(show) {
    const parts = new Set(this.groups.map((g) => /^layer\/[^/]+\/(.+)$/.exec(g.id)?.[1]).filter(Boolean));
    const named = COMPONENTS.map(([part]) => part);
    const listed = show === "qkv" ? COMPONENTS.slice(0, 3) : [...COMPONENTS, ...[...parts].filter((p) => !named.includes(p)).map((p) => [p, p])];
    const having = (layer, part) => this.known.has(`${layer}/${part}`);
    const columns = this.layers.filter((l) => listed.some(([part]) => part !== "norm" && having(l, part)));
    return { rows: listed.filter(([part]) => columns.some((l) => having(l, part))), columns };
  }

  #matrix(show, tile) {
    const { rows, columns } = this.#cells(show);
    if (!rows.length) {
      // A network without known components: its tensors by layer would only repeat the grid.
      this.root.append(h("p", { class: "empty" }, "The parts of these layers are not known (no attention, no MLP), so there is nothing to lay out by component. ",
        h("a", { href: href(["run", this.name, "layers"]) }, "All layers")));
      return;
    }
    this.root.className = "matrixscroll";
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "region");
    this.root.setAttribute("aria-label", "Maps by component and depth");
    this.root.append(
      h("table", { class: "matrix" },
        h("thead", {}, h("tr", {}, h("td", {}), columns.map((l) => h("th", { scope: "col" }, h("span", { class: "columnname", title: l }, l.replace(/^layer\//, "")))))),
        h("tbody", {}, rows.map(([part, label]) =>
          h("tr", {}, h("th", { scope: "row" }, label),
            columns.map((l) => h("td", {}, this.known.has(`${l}/${part}`) ? tile(`${l}/${part}`, "") : null)))))),
    );
    this.root.querySelector("thead td").style.minWidth = "0";
    this.root.querySelector("thead td").style.width = "auto";
  }

  #chart(id, height = 240) {
    const chart = new Chart({ name: () => fileName(this.name, id), height, level: 2 });
    chart.element.dataset.chart = id;
    this.charts.push(chart);
    return chart;
  }

  async #qkvCharts() {
    const origin = await this.#originStep();
    const key = JSON.stringify([rangeSteps(this.params), origin, this.answer.digest]);
    if (this.charts.length && key === this.qkvKey) return;
    this.qkvKey = key;
    const rows = await api.qkv(this.name, rangeSteps(this.params), origin);
    if (this.gone || this.show !== "qkv" || this.qkvKey !== key) return;
    if (!this.charts.length) {
      const place = h("div", { class: "charts" });
      this.body.prepend(place);
      for (const id of ["qkv-distances", "qkv-rms", "qkv-settling", "qkv-mds"]) place.append(this.#chart(id).element);
    }
    const caption = captionOf({ run: this.name, steps: await this.#steps(), origin, row: this.answer.row });
    qkvSpecs(rows, origin === null ? "seen from zero" : `seen from ${axisName(this.answer.row)} ${origin}`, axisName(this.answer.row)).forEach((spec, i) => this.charts[i].show({ ...spec, caption }));
  }

  #rows() {
    return api.layers(this.name, rangeSteps(this.params));
  }

  async #depth() {
    const rows = await this.#rows();
    if (this.gone || this.show !== "depth") return;
    const field = SCALARS.some(([id]) => id === this.params.y) ? this.params.y : "mds";
    if (!this.charts.length) {
      this.picker = h("div");
      fill(this.body, h("div", { class: "controls" }, this.picker), this.#chart("depth", 380).element);
    }
    const pick = dropdown("Against depth", SCALARS.map(([id, text]) => [id, text]), field, (y) => this.change({ y: y === "mds" ? null : y }, { push: true }));
    keepingFocus(this.picker, () => fill(this.picker, pick));
    this.charts[0].name = () => fileName(this.name, "layers", field);
    this.charts[0].show({ ...depthSpec(rows, field, axisName(this.answer.row)), caption: captionOf({ run: this.name, steps: await this.#steps(), row: this.answer.row }) });
  }

  async #table() {
    const rows = await this.#rows();
    if (this.gone || this.show !== "table") return;
    const [key = "", down] = (this.params.sort ?? "").split(":");
    const link = (group) => href(["run", this.name], { ...this.#shared(), group });
    keepingFocus(this.body, () => fill(
      this.body,
      h("div", { class: "charthead" }, h("span"), downloads("table", [["CSV", () => download(`${fileName(this.name, "layers")}.csv`, layersCSV(rows), "text/csv")]])),
      sortable({ caption: `Layers of ${this.name}`, columns: layersTable(rows, link, axisName(this.answer.row)), rows, sort: [key, down === "down"], onsort: ([k, d]) => this.change({ sort: `${k}${d ? ":down" : ""}` }, { push: true }) }),
    ));
  }

  async #sheet() {
    const { params } = this;
    const { row } = this.answer;
    const maps = (await this.tiles.maps()).map((m) => ({ ...m, counted: axisName(row), name: m.name.replace(/^layer\//, "") }));
    const sheet = {
      name: fileName(this.name, this.show, params.view ?? "tm"), title: `${this.name}: ${VIEW_TITLES[params.view ?? "tm"]}`, maps,
      caption: `${captionOf({ steps: await this.#steps(), origin: await this.#originStep(), row })} · axes: checkpoints in their order`,
      scale: adjusted(scaleOf(maps.map((m) => m.map)), params),
    };
    if (this.show === "grid") return sheet;
    const { rows, columns } = this.#cells(this.show);
    for (const m of maps) m.cell = [rows.findIndex(([part]) => m.group.endsWith(`/${part}`)), columns.findIndex((l) => m.group.startsWith(`${l}/`))];
    return { ...sheet, rows: rows.map(([, label]) => label), columns: columns.map((l) => l.replace(/^layer\//, "")) };
  }
}
