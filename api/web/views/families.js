// Families: models that differ in size, seed or a hyperparameter, against size, and one row a member.

import { scaleOf } from "../base/colors.js";
import { count, csv, download, downloads, dropdown, fileName, fill, h, keepingFocus, number, sortable, unique } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { Chart } from "../plots/chart.js";
import { scaleText } from "../plots/paint.js";
import { Tiles } from "../plots/tiles.js";
import { sheetDownloads } from "../plots/tilesheet.js";
import { badge } from "../widgets/estimate.js";
import { MEASURES, againstSpec, axesOf, hyperparametersOf } from "./familycharts.js";

export async function familiesView() {
  const rows = await api.families();
  return {
    title: "Families",
    element: h(
      "div",
      {},
      h("h1", {}, "Families"),
      rows.length
        ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Families" },
            h("table", {},
              h("thead", {}, h("tr", {}, ["Family", "Title", "Members", "In the store", "Missing", "Tags"].map((t) => h("th", { scope: "col" }, t)))),
              h("tbody", {}, rows.map((r) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: href(["family", r.family]) }, r.family)), h("td", {}, r.title || "–"), h("td", {}, String(r.members)), h("td", {}, String(r.present)), h("td", {}, r.missing.map((m) => (m in r.removed ? `${m} (removed)` : m)).join(", ") || "none"), h("td", {}, r.tags.length ? h("div", { class: "tags" }, r.tags.map((t) => h("a", { class: "badge", href: href([], { tag: t }) }, t))) : "–"))))))
        : h("div", { class: "empty" }, h("p", {}, "No families yet."), h("p", {}, "Describe one in a file and run ", h("code", {}, "trajsvc batch FAMILY.toml"), ".")),
    ),
    update() {},
  };
}

export async function familyView(name, params, { change }) {
  return new FamilyView(await api.familyCompare(name, params.origin), change);
}

class FamilyView {
  constructor(answer, change) {
    Object.assign(this, { answer, change });
    this.title = answer.family;
    const present = answer.rows.filter((r) => r.state === "present");
    this.table = h("div");
    this.charts = [];
    this.root = h("div", { class: "grid" });
    this.readout = h("p", { class: "readout hint" });
    this.tiles = new Tiles({ root: this.root, counted: "checkpoints", onscale: (scale) => (this.mapsTitle.textContent = `Maps, on one scale: ${scaleText(scale)}`), onread: (t) => (this.readout.textContent = t ?? "") });
    this.root.append(...present.map((r) => this.tiles.tile({ run: r.run, group: "network", name: r.member, title: r.member, link: href(["run", r.run]) })));
    const grid = h("div", { class: "charts" });
    this.against = h("div", { class: "controls" });
    for (const id of [...MEASURES.map(([field]) => `${field}-by`), "heterogeneity-depth", "rms-depth", "settling-depth"]) {
      const chart = new Chart({ name: () => fileName(answer.family, id.endsWith("-by") ? `${id}-${this.by}` : id) });
      chart.element.dataset.chart = id;
      this.charts.push(chart);
      grid.append(chart.element);
    }
    const names = present.map((r) => r.run).slice(0, 8);
    this.element = h(
      "div",
      { class: "family" },
      h("div", { class: "title" }, h("h1", {}, answer.family), names.length > 1 ? h("a", { class: "button", href: href(["compare"], { runs: names.join(",") }) }, `Compare ${names.length} side by side`) : null),
      answer.title ? h("p", { class: "facts" }, answer.title) : null,
      this.table,
      h("div", { class: "charthead section" }, (this.mapsTitle = h("h2", {}, "Maps, on one scale")), present.length ? sheetDownloads("all maps", () => this.#sheet()) : null), this.readout, this.root,
      h("h2", { class: "section" }, "Members against each other"), this.against, grid,
    );
  }

  destroy() {
    this.tiles.destroy();
    for (const chart of this.charts) chart.destroy();
  }

  async #sheet() {
    const maps = await this.tiles.maps();
    const { family } = this.answer;
    return { name: fileName(family, "maps"), title: `${family}: trajectory maps of the networks`, caption: "axes: checkpoints in their order", maps, scale: scaleOf(maps.map((m) => m.map)) };
  }

  async update(params) {
    const origin = params.origin === undefined ? null : Number(params.origin);
    this.problem = null;
    if (origin !== (this.answer.origin ?? null)) {
      try {
        this.answer = await api.familyCompare(this.answer.family, params.origin);
      } catch (error) {
        if (error.status !== 404) throw error;
        this.problem = error.message;
      }
    }
    const { answer, change } = this;
    const { rows } = answer;
    const [key = "size", down] = (params.sort ?? "size").split(":");
    const size = (r) => r.size ?? r.parameters;
    const hyper = hyperparametersOf(rows);
    const columns = [
      { key: "member", title: "Member", value: (r) => r.member, cell: (r) => (r.run ? h("a", { href: href(["run", r.run]), class: "longname" }, r.member) : h("span", { class: "longname" }, r.member)) },
      { key: "state", title: "State", value: (r) => r.state, cell: (r) => h("span", { class: `badge ${r.state === "present" ? "stored" : "warning"}` }, r.state === "present" ? (r.estimate ? badge(r) : "exact") : r.removed ? "removed, in the trash" : "not in the store") },
      { key: "size", title: "Size", numeric: true, value: size, cell: (r) => count(size(r)) },
      { key: "seed", title: "Seed", numeric: true, value: (r) => r.seed, cell: (r) => r.seed ?? "–" },
      ...hyper.map((k) => ({ key: `h.${k}`, title: k, numeric: true, value: (r) => r.hyperparameters[k], cell: (r) => String(r.hyperparameters[k] ?? "–") })),
      { key: "checkpoints", title: "Checkpoints", numeric: true, value: (r) => r.checkpoints, cell: (r) => r.checkpoints ?? "–" },
      { key: "mds", title: "MDS", numeric: true, value: (r) => r.mds, cell: (r) => number(r.mds, 5) },
      { key: "mds_by_length", title: "MDS by length", numeric: true, value: (r) => r.mds_by_length, cell: (r) => number(r.mds_by_length, 5) },
      { key: "relative_mds", title: "Relative MDS", numeric: true, value: (r) => r.relative_mds, cell: (r) => number(r.relative_mds, 5) },
      { key: "random_walk_mds", title: "A random walk's", note: "relative MDS of a random walk with the same update norms", numeric: true, value: (r) => r.random_walk_mds, cell: (r) => number(r.random_walk_mds, 5) },
      { key: "heterogeneity", title: "Q/K/V shape", note: "distance of the maps of Q, K and V in shape, mean over the layers", numeric: true, value: (r) => r.heterogeneity, cell: (r) => number(r.heterogeneity) },
      { key: "rms", title: "Q/K/V rms", note: "root mean square difference of the maps of Q, K and V, in cosines, mean over the layers", numeric: true, value: (r) => r.rms, cell: (r) => number(r.rms) },
      { key: "settling_depth_slope", title: "Settling over depth", note: "slope of the layers' settling (fraction of the run) against relative depth", numeric: true, value: (r) => r.settling_depth_slope, cell: (r) => number(r.settling_depth_slope) },
    ];
    fill(
      this.table,
      this.problem ? h("p", { class: "problem", role: "alert" }, this.problem) : null,
      answer.findings.map((f) => h("p", { class: "problem", "data-finding": f.kind }, `Sampled differently: ${f.message.replace(/; MDS.*/s, "")}; compare MDS by length, which hardly depends on it.`)),
      h("div", { class: "charthead" }, h("span"), downloads("table", [["CSV", () => {
        const fields = ["member", "run", "state", "size", "seed", "parameters", "checkpoints", "mds", "mds_by_length", "relative_mds", "random_walk_mds", "heterogeneity", "rms", "settling_depth_slope"];
        download(`${fileName(answer.family)}.csv`, csv([[...fields, ...hyper], ...rows.map((r) => [...fields.map((f) => r[f]), ...hyper.map((k) => r.hyperparameters[k])])]), "text/csv");
      }]])),
      sortable({ caption: `Members of ${answer.family}`, columns, rows, sort: [key, down === "down"], onsort: ([k, d]) => change({ sort: `${k}${d ? ":down" : ""}` }, { push: true }) }),
    );
    this.tiles.show({}, null);
    this.#against(params);
    const byDepth = (list, field) => rows.filter((r) => r[list].length).map((r) => ({ name: r.member, x: r[list].map((d) => Number(d.depth.toFixed(4))), y: r[list].map((d) => d[field] ?? NaN), join: true }));
    const seen = answer.origin === null ? "seen from zero" : `seen from ${answer.axis} ${answer.origin}`;
    this.charts.at(-3).show({ caption: answer.family, title: "Q/K/V distance in shape over depth", unit: "shape", note: `1 − centred alignment of the maps ${seen}, mean of the three pairs.`, xlabel: "relative depth", lags: true, points: true, series: byDepth("heterogeneity_by_depth", "heterogeneity"), empty: "No member has layers with Q, K and V." });
    this.charts.at(-2).show({ caption: answer.family, title: "Q/K/V rms over depth", unit: "rms (cosine)", note: `Root mean square difference of the maps ${seen}, mean of the three pairs.`, xlabel: "relative depth", lags: true, points: true, series: byDepth("heterogeneity_by_depth", "rms"), empty: "No member has layers with Q, K and V." });
    this.charts.at(-1).show({ caption: answer.family, title: "Settling over depth", unit: "fraction of the run", xlabel: "relative depth", lags: true, points: true, series: byDepth("settling_depth", "settling_step") });
  }

  // Where the maps of Q, K and V are seen from: zero where the field is empty.
  #origin() {
    const { answer, change } = this;
    const id = unique("origin");
    return h("div", { class: "choice" }, h("label", { for: id, class: "label" }, `Q, K and V from ${answer.axis}`),
      h("input", { id, type: "number", placeholder: "zero", value: answer.origin ?? "", onchange: (e) => change({ origin: e.target.value === "" ? null : e.target.value }, { push: true }) }));
  }

  // Measures against the size or what else the members differ in.
  #against(params) {
    const { answer, change } = this;
    const axes = axesOf(answer.rows);
    this.by = axes.some(([id]) => id === params.by) ? params.by : "size";
    keepingFocus(this.against, () => fill(this.against, dropdown("Against", axes, this.by, (by) => change({ by: by === "size" ? null : by }, { push: true })), answer.rows.some((r) => r.heterogeneity_by_depth.length) ? this.#origin() : null));
    MEASURES.forEach((measure, i) => {
      const none = answer.rows.every((r) => r[measure[0]] === null);
      this.charts[i].element.hidden = none;
      if (!none) this.charts[i].show(againstSpec(answer, this.by, measure));
    });
  }
}
