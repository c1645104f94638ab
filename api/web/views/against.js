// Many runs: measures against a hyperparameter with lines and seed spread, parallel coordinates whose brushes filter, and a table.

import { csv, download, downloads, dropdown, fileName, fill, h, keepingFocus, number, sortable, unique } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { Parallel, scalesOf, within } from "../plots/parallel.js";
import { Scatter } from "../plots/scatter.js";
import { problemText } from "../widgets/fields.js";

const MOST_AXES = 16;
const USUAL = ["mds", "relative_mds", "path_length", "tortuosity"];
const titled = (name) => (name === "size" ? "parameters" : name.replaceAll("_", " ").replace("mds", "MDS"));
const listed = (text) => (text ?? "").split(",").filter(Boolean);

// brush=lr~0.2~0.7;mds~0~0.5: where runs have to cross an axis, as fractions of its length.
export function brushesOf(text) {
  const found = {};
  for (const one of (text ?? "").split(";")) {
    const [key, low, high] = one.split("~");
    if (key && Number(low) < Number(high)) found[key] = [Number(low), Number(high)];
  }
  return found;
}
const brushText = (brushes) => Object.entries(brushes).map(([key, [low, high]]) => `${key}~${Number(low.toFixed(3))}~${Number(high.toFixed(3))}`).join(";") || null;

export async function againstView(params, context) {
  const [runs, measures] = await Promise.all([api.runs(), api.measures()]);
  return new AgainstView(runs, measures.filter((m) => !m.dims.length).map((m) => m.name), context);
}

class AgainstView {
  constructor(runs, measures, { change }) {
    Object.assign(this, { runs, measures, change });
    this.title = "Many runs";
    const where = unique("where");
    this.where = h("input", { id: where, type: "search", placeholder: "lr>0.01; tag=sweep", title: "Conditions with ; between them, as in the list of runs", spellcheck: "false", onchange: (e) => change({ where: e.target.value.trim() || null, brush: null }, { push: true }) });
    this.controls = h("div", { class: "controls" });
    this.which = h("div");
    this.status = h("div", { role: "status" });
    this.charts = h("div", { class: "charts" });
    this.scatters = [];
    this.parallel = new Parallel({ name: () => fileName("runs", "parallel"), onbrush: (key, range, done) => this.#brush(key, range, done) });
    this.chips = h("div", { class: "controls chips" });
    this.table = h("div");
    this.spread = h("div");
    this.body = h("div", { hidden: true }, this.charts,
      h("div", { class: "charthead section" }, h("h2", {}, "Parallel coordinates"), this.parallel.buttons()),
      h("p", { class: "note" }, "Drag along an axis, or move its handles, to keep the runs that cross it there: points and the table follow."), this.chips, this.parallel.element,
      this.table, this.spread);
    this.element = h("div", { class: "against" },
      h("div", { class: "title" }, h("h1", {}, "Many runs"), h("a", { class: "button", href: href(["compare"]) }, "A few side by side")),
      h("div", { class: "toolbar" }, h("label", { for: where, class: "label" }, "Where"), this.where, this.controls), this.which, this.status, this.body);
  }

  destroy() {
    this.gone = true;
    for (const chart of [...this.scatters, this.parallel]) chart.destroy();
  }

  async update(params) {
    this.params = params;
    if (document.activeElement !== this.where) this.where.value = params.where ?? "";
    if (this.runs.length < 2) return fill(this.status, h("p", { class: "empty" }, "There are not two runs to compare yet."));
    const asked = { where: (params.where ?? "").split(";").map((c) => c.trim()).filter(Boolean), tag: params.tag, by: params.by, names: listed(params.names).length ? params.names : USUAL.join(), ignore: params.ignore, group: params.group };
    const key = JSON.stringify(asked);
    if (key !== this.key) {
      try {
        const answer = await api.against(asked);
        if (this.gone || this.params !== params) return;
        Object.assign(this, { key, answer });
      } catch (error) {
        if (this.gone || this.params !== params) return;
        this.key = null;
        this.body.hidden = true;
        this.#controls(null);
        fill(this.status, problemText(error));
        return;
      }
    }
    this.body.hidden = false;
    this.#draw();
  }

  #draw() {
    const { answer, params } = this;
    this.#controls(answer);
    const axes = this.#axes();
    this.rows = answer.rows.map((row) => ({ run: row.run, row, values: { ...row.hyperparameters, ...row.measures, size: row.parameters, seed: row.seed, checkpoints: row.checkpoints } }));
    this.scales = scalesOf(axes, this.rows);
    this.brushes = brushesOf(params.brush);
    const kept = within(this.rows, this.scales, this.brushes);
    const names = new Set(kept.map((r) => r.run));
    const left = answer.left_out.length ? [h("p", { class: "problem" }, `Without ${answer.group}, left out: ${answer.left_out.join(", ")}.`)] : [];
    fill(this.status, answer.findings.map((f) => h("p", { class: "problem", "data-finding": f.kind }, `Sampled differently: ${f.message.replace(/ --steps$/, " steps")}.`)), left);
    this.#scatter(names);
    this.parallel.show({ axes, rows: this.rows, scales: this.scales, kept: names, brushes: this.brushes, title: `${this.rows.length} runs`, caption: params.where ?? "" });
    this.#chips(axes);
    this.#table(kept);
    this.#spread();
    this.element.dataset.ready = `${answer.by} ${names.size}`;
  }

  #axes() {
    const { answer, params } = this;
    const known = this.#fields();
    const wanted = listed(params.axes).filter((name) => known.includes(name));
    const usual = [...answer.varying.slice(0, MOST_AXES - answer.measures.length), ...(answer.varying.length ? [] : ["size"]), ...answer.measures];
    return (wanted.length > 1 ? wanted.slice(0, MOST_AXES) : usual).map((key) => ({ key, title: titled(key) }));
  }

  #fields() {
    const own = [...new Set(this.answer.rows.flatMap((r) => Object.keys(r.hyperparameters)))];
    return [...new Set([...own, "size", "seed", "checkpoints", ...this.answer.measures])];
  }

  #controls(answer) {
    const { params, change } = this;
    const own = [...new Set(this.runs.flatMap((r) => Object.keys(r.hyperparameters)))].sort();
    const tags = [...new Set(this.runs.flatMap((r) => r.tags))].sort();
    const options = (names) => names.map((n) => [n, titled(n)]);
    const by = answer?.by ?? params.by ?? "size";
    const axes = [{ label: "Of a run", options: options(["size", "seed", "checkpoints", "steps"]) }, ...(own.length ? [{ label: "Hyperparameters", options: options(own.filter((n) => n !== "seed")) }] : []), { label: "Measures", options: options(this.measures) }];
    keepingFocus(this.controls, () => fill(
      this.controls,
      tags.length ? dropdown("Tag", [["", "any"], ...tags.map((t) => [t, t])], params.tag ?? "", (tag) => change({ tag: tag || null, brush: null }, { push: true })) : null,
      dropdown("Against", axes, by, (next) => change({ by: next }, { push: true }), { class: "group" }),
    ));
    if (!answer) return this.which.replaceChildren();
    const chosen = (name, all, title, ids) => {
      const open = this.which.querySelector(`details[data-of=${name}]`)?.open;
      const pick = (id, on) => change({ [name]: all.filter((n) => (n === id ? on : ids.includes(n))).join() || null }, { push: true });
      return h("details", { class: "which", "data-of": name, open }, h("summary", {}, title),
        h("div", { class: "controls", role: "group", "aria-label": title }, all.map((id) => h("label", { class: "check" }, h("input", { type: "checkbox", name: `${name}-${id}`, checked: ids.includes(id), onchange: (e) => pick(id, e.target.checked) }), titled(id)))));
    };
    const parted = [...new Set([...answer.parting, ...listed(params.ignore)])];
    const axesNow = this.#axes().map((a) => a.key);
    keepingFocus(this.which, () => {
      const parts = [chosen("names", this.measures, `${answer.measures.length} of ${this.measures.length} measures`, answer.measures), chosen("axes", this.#fields(), `${axesNow.length} axes`, axesNow)];
      if (parted.length) parts.push(chosen("ignore", parted, `Hyperparameters that part no lines: ${listed(params.ignore).length} of ${parted.length}`, listed(params.ignore)));
      fill(this.which, parts);
    });
  }

  #scatter(names) {
    const { answer } = this;
    if (this.scatters.length !== answer.measures.length) {
      for (const chart of this.scatters) chart.destroy();
      this.scatters = answer.measures.map((_, i) => new Scatter({ level: 2, name: () => fileName("runs", this.answer.measures[i], this.answer.by) }));
      this.charts.replaceChildren(...this.scatters.map((s) => s.element));
    }
    const joined = answer.lines.some((l) => new Set(answer.rows.filter((r) => l.runs.includes(r.run)).map((r) => String(r.place))).size > 1);
    const note = !answer.lines.length ? undefined : joined ? "A line joins runs that are equal in all else but their seed; a bar is the range over seeds." : `No line: no two runs are equal in all but ${titled(answer.by)} and their seed. They differ in ${answer.parting.map(titled).join(", ")}.`;
    this.scatters.forEach((chart, i) => {
      const measure = answer.measures[i];
      chart.element.dataset.chart = measure;
      const title = titled(measure);
      const points = answer.rows.filter((r) => r.place !== null).map((r) => ({ run: r.run, x: r.place, y: r.measures[measure] ?? NaN, line: r.line, dimmed: !names.has(r.run) }));
      chart.show({ title: `${title[0].toUpperCase()}${title.slice(1)} against ${titled(answer.by)}`, caption: this.params.where ?? "", xlabel: titled(answer.by), unit: title, points, lines: answer.lines, note });
    });
  }

  #brush(key, range, done) {
    const brushes = { ...this.brushes };
    if (range) brushes[key] = range;
    else delete brushes[key];
    this.change({ brush: brushText(brushes) }, { push: done });
  }

  #chips(axes) {
    const given = axes.filter((a) => a.key in this.brushes);
    const said = ({ key, title }) => {
      const [low, high] = this.brushes[key];
      const scale = this.scales.get(key);
      const words = scale.ticks.filter(([at]) => at >= low - 1e-6 && at <= high + 1e-6).map(([, text]) => text);
      return `${title} ${scale.value ? `${number(scale.value(low), 3)} … ${number(scale.value(high), 3)}` : words.join(", ") || "none"}`;
    };
    keepingFocus(this.chips, () => fill(this.chips, given.map((axis) => h("button", { type: "button", class: "quiet", "aria-label": `Remove the brush on ${axis.title}`, onclick: () => this.#brush(axis.key, null, true) }, said(axis), " ×"))));
  }

  #table(kept) {
    const { answer, params, change } = this;
    const [key = "place", down] = (params.sort ?? "place").split(":");
    const plain = (v) => (v === null || v === undefined ? "–" : String(v));
    const others = answer.varying.filter((n) => n !== answer.by).slice(0, 12);
    const columns = [
      { key: "run", title: "Run", value: (r) => r.run, cell: (r) => h("a", { href: href(["run", r.run]), class: "longname", title: r.run }, r.run) },
      { key: "place", title: titled(answer.by), numeric: true, value: (r) => r.row.place, cell: (r) => plain(r.row.place) },
      ...others.map((n) => ({ key: `h.${n}`, title: n, numeric: true, value: (r) => r.row.hyperparameters[n], cell: (r) => plain(r.row.hyperparameters[n]) })),
      ...(answer.by === "seed" ? [] : [{ key: "seed", title: "Seed", numeric: true, value: (r) => r.row.seed, cell: (r) => plain(r.row.seed) }]),
      ...answer.measures.map((n) => ({ key: `m.${n}`, title: titled(n), numeric: true, value: (r) => r.row.measures[n], cell: (r) => number(r.row.measures[n], 5) })),
    ];
    const every = kept.length === this.rows.length;
    const names = kept.map((r) => r.run);
    const beside = names.length > 1 ? h("a", { class: "button", href: href(["compare"], { runs: names.slice(0, 64).join(",") }) }, `Compare ${Math.min(64, names.length)} side by side`) : null;
    const save = () => download("runs-against.csv", csv([["run", answer.by, ...others, "seed", ...answer.measures], ...kept.map((r) => [r.run, r.row.place, ...others.map((n) => r.row.hyperparameters[n]), r.row.seed, ...answer.measures.map((n) => r.row.measures[n])])]), "text/csv");
    keepingFocus(this.table, () => fill(
      this.table,
      h("div", { class: "charthead section" }, h("h2", {}, every ? `${kept.length} runs` : `${kept.length} of ${this.rows.length} runs`), beside, downloads("table", [["CSV", save]])),
      kept.length ? sortable({ caption: "Runs", columns, rows: kept, sort: [key, down === "down"], onsort: ([k, d]) => change({ sort: `${k}${d ? ":down" : ""}` }, { push: true }) }) : h("p", { class: "empty" }, "No run crosses all brushes."),
    ));
  }

  // Mean and range of what differs in its seed alone; of all runs of the answer, since a brush may hide a seed.
  #spread() {
    const { answer } = this;
    if (!answer.spreads.length) return this.spread.replaceChildren();
    const several = new Set(answer.spreads.map((s) => s.line)).size > 1;
    const range = (s) => (s.mean === null ? "–" : `${number(s.mean, 4)} (${number(s.low, 3)} … ${number(s.high, 3)})`);
    fill(
      this.spread,
      h("h2", { class: "section" }, "Spread over seeds: mean (least … largest)"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Spread over seeds" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "numeric" }, titled(answer.by)), several ? h("th", { scope: "col" }, "Line") : null, h("th", { scope: "col", class: "numeric" }, "Runs"), answer.measures.map((n) => h("th", { scope: "col", class: "numeric" }, titled(n))))),
        h("tbody", {}, answer.spreads.map((s) => h("tr", {}, h("th", { scope: "row", class: "numeric" }, String(s.place)), several ? h("td", {}, s.line) : null, h("td", { class: "numeric" }, String(s.runs.length)), answer.measures.map((n) => h("td", { class: "numeric" }, range(s.measures[n])))))))),
    );
  }
}
