// All runs: searched, sorted, by family, each with a small map; over them what is being computed now.

import { axisName, axisNames } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { bytes, choice, count, dropdown, fileName, fill, h, keepingFocus, number, sortable, step as stepText, unique } from "../base/dom.js";
import { isFinal } from "../base/jobstates.js";
import { onTheme, theme } from "../base/theme.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import * as G from "../math/gram.js";
import { paintCells, scaleText } from "../plots/paint.js";
import { sheetDownloads } from "../plots/tilesheet.js";
import { badge } from "../widgets/estimate.js";
import { problemText } from "../widgets/fields.js";
import { JobLine, watch } from "../widgets/jobline.js";
import { columnChoice, columnsOf, hyperparameterColumn, named } from "../widgets/runcolumns.js";

export async function runsView(params, context) {
  const [runs, families, jobs] = await Promise.all([api.runs(), api.families(), api.jobs(100)]);
  const members = new Map(); // the families of a run, in the server's order and not in that in which answers come
  const found = await Promise.all(families.map((f) => api.family(f.family).catch(() => ({ runs: [] }))));
  families.forEach((f, i) => {
    for (const m of found[i].runs ?? []) {
      const run = m.name ?? runName(m.source ?? "");
      members.set(run, [...(members.get(run) ?? []), f.family]);
    }
  });
  return new RunsView(runs, members, jobs, params, context);
}

const runName = (source) => source.split("/").filter(Boolean).at(-1) ?? source;

class RunsView {
  constructor(runs, members, jobs, params, { change }) {
    Object.assign(this, { change, members });
    this.title = "Runs";
    this.rows = runs.map((row) => ({ ...row, families: members.get(row.run) ?? [] }));
    this.thumbs = new Map();
    const id = unique("search");
    this.search = h("input", { id, type: "search", placeholder: "name, source, architecture", value: params.q ?? "", oninput: (e) => change({ q: e.target.value }) });
    const where = unique("where");
    this.where = h("input", { id: where, type: "search", placeholder: "lr>0.01; optimizer=adamw", title: "Conditions with ; between them: a fact, measure or hyperparameter, one of = != < <= > >= ~, a value", value: params.where ?? "", spellcheck: "false", onchange: (e) => change({ where: e.target.value.trim() || null }, { push: true }) });
    this.columns = h("details", { class: "columns" }, h("summary", {}, "Columns"));
    this.problem = h("div");
    this.grouping = h("span");
    this.tagging = h("span");
    this.selected = h("span");
    this.jobs = h("section", { class: "panel joblist", "aria-label": "Being computed" });
    this.table = h("div");
    this.element = h(
      "div",
      { class: "runs" },
      h("div", { class: "title" }, h("h1", {}, "Runs")),
      this.jobs,
      (this.toolbar = h("div", { class: "toolbar" }, h("label", { for: id, class: "label" }, "Search"), this.search, h("label", { for: where, class: "label" }, "Where"), this.where, this.grouping, this.tagging,
        h("span", { class: "end" }, (this.saves = h("span", { class: "saves" }, h("span", { class: "label" }, "Maps "), sheetDownloads("maps", () => this.#sheet()))), this.selected, (this.many = h("a", { class: "button", href: href(["against"]) }, "Plot against")), h("a", { class: "button primary", href: href(["submit"]) }, "Submit a run")))),
      this.columns,
      this.problem,
      this.table,
    );
    this.lines = [];
    this.jobs.hidden = true;
    for (const job of jobs.filter((j) => !isFinal(j.state))) this.#follow(job);
    this.failed = new Map();
    for (const job of [...jobs].reverse()) this.failed.set(job.run, job.state === "failed" ? job : null);
    this.chosen = new Set();
    this.observer = new IntersectionObserver((entries) => {
      for (const e of entries) if (e.isIntersecting) this.#thumb(e.target);
    }, { rootMargin: "300px" });
    const seen = new Set(jobs.map((j) => j.id));
    this.ends = [
      onTheme(() => this.#draw()),
      watch((job) => seen.has(job.id), (job) => {
        seen.add(job.id);
        if (isFinal(job.state)) this.#reload();
        else this.#follow(job);
      }),
    ];
  }

  destroy() {
    this.observer.disconnect();
    for (const end of this.ends) end();
    for (const line of this.lines) line.destroy();
  }

  #follow(job) {
    if (this.jobs.hidden) fill(this.jobs, h("h2", {}, "Being computed"));
    this.jobs.hidden = false;
    const line = new JobLine(job, { onfinal: () => this.#reload(), onnew: (next) => this.#follow(next), onestimate: () => this.#reload() });
    this.lines.push(line);
    this.jobs.append(line.element);
  }

  async #reload() {
    const runs = await api.runs().catch(() => null);
    if (!runs) return;
    this.filtered = null;
    this.#filter();
    // The map of what has changed stays until the new one is there.
    this.rows = runs.map((row) => {
      const old = this.rows.find((r) => r.run === row.run);
      const same = old && version(old) === version(row);
      return { ...(same ? old : { map: old?.map, mds: old?.mds, error: old?.error, stale: true }), ...row, families: this.members.get(row.run) ?? [] };
    });
    this.#draw();
  }

  update(params) {
    this.params = params;
    if (document.activeElement !== this.search) this.search.value = params.q ?? "";
    if (document.activeElement !== this.where) this.where.value = params.where ?? "";
    this.#filter();
    const group = params.group === "family" ? "family" : "none";
    fill(this.grouping, choice("Group by", [["none", "nothing"], ["family", "family"]], group, (v) => this.change({ group: v === "none" ? null : v }, { push: true })));
    const tags = [...new Set(this.rows.flatMap((r) => r.tags))].sort();
    if (params.tag && !tags.includes(params.tag)) tags.push(params.tag);
    this.tagging.hidden = !tags.length;
    fill(this.tagging, dropdown("Tag", [["", "any"], ...tags.map((t) => [t, t])], params.tag ?? "", (v) => this.change({ tag: v || null }, { push: true })));
    this.#draw();
  }

  // The server says for which runs the conditions hold, so that they mean the same as on the command line.
  async #filter() {
    const where = this.params.where ?? "";
    if (where === this.filtered) return;
    this.filtered = where;
    const conditions = where.split(";").map((c) => c.trim()).filter(Boolean);
    try {
      const matching = conditions.length ? await api.runsWhere(conditions) : null;
      if (this.filtered !== where) return;
      this.matching = matching;
      fill(this.problem);
    } catch (error) {
      if (this.filtered !== where) return;
      this.matching = null;
      fill(this.problem, problemText(error));
    }
    this.#draw();
  }

  // MDS and the small map of a run come from its network's Gram, as the run comes into view.
  async #thumb(canvas) {
    this.observer.unobserve(canvas);
    const { row } = canvas;
    try {
      const g = await api.gram(row.run, "network", version(row));
      if (row.stale || !row.map) row.map = G.trajectoryMap(g);
      row.stale = false;
      row.mds = G.meanDefined(row.map.values);
      row.error = g.replicates ? G.standardErrors(g.replicates.map((r) => [G.mds(r)]))[0] : null;
      paintThumb(canvas, row);
      const cell = canvas.closest("tr")?.querySelector(".mds");
      if (cell) cell.textContent = mdsText(row);
      if (this.params.sort?.startsWith("mds")) {
        clearTimeout(this.sorting);
        this.sorting = setTimeout(() => this.#draw(), 150);
      }
    } catch (error) {
      canvas.title = error.message;
    }
  }

  #draw() {
    keepingFocus(this.table, () => this.#fill());
  }

  #found() {
    const words = (this.params.q ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const { tag } = this.params;
    return this.rows.filter((r) => (!this.matching || this.matching.has(r.run)) && (!tag || r.tags.includes(tag)) && words.every((w) => `${r.run} ${r.source} ${r.architecture} ${r.families.join(" ")} ${r.tags.join(" ")} ${r.notes}`.toLowerCase().includes(w)));
  }

  async #sheet() {
    const rows = this.#found();
    const maps = await Promise.all(rows.map(async (r) => ({ name: r.run, counted: axisName(r), map: G.trajectoryMap(await api.gram(r.run, "network", version(r))) })));
    return { name: fileName("runs", this.params.q), title: "Trajectory maps of the networks", caption: "axes: checkpoints in their order", maps, scale: scaleOf(maps.map((m) => m.map)) };
  }

  #fill() {
    const { params, change } = this;
    const rows = this.#found();
    this.saves.hidden = !rows.length;
    this.#selection();
    this.toolbar.hidden = this.columns.hidden = !this.rows.length;
    if (!this.rows.length) return fill(this.table, firstSteps());
    if (!rows.length) return fill(this.table, h("p", { class: "empty" }, `No run matches ${[params.q && `“${params.q}”`, params.where && `“${params.where}”`, params.tag && `the tag “${params.tag}”`].filter(Boolean).join(" and ")}.`));
    const [key, down] = (params.sort ?? "run").split(":");
    const every = [
      { key: "run", title: "Run", value: (r) => r.run, cell: (r) => [
        h("a", { href: href(["run", r.run]), class: "longname", title: r.run }, r.run),
        h("div", { class: "hint longname", title: r.source }, r.source),
        r.notes ? h("div", { class: "hint longname", title: r.notes }, r.notes.split("\n")[0]) : null,
        r.tags.length ? h("div", { class: "tags" }, r.tags.map((t) => h("a", { class: "badge", href: href([], { ...this.params, tag: t }) }, t))) : null] },
      { key: "map", title: "Map", cell: (r) => this.#canvas(r) },
      { key: "state", title: "State", value: (r) => (r.estimate ? "estimate" : "exact"), cell: (r) => [
        h("span", { class: `badge ${r.estimate ? "warning" : "stored"}` }, r.estimate ? badge(r) : "exact"),
        this.failed.get(r.run) ? [" ", h("a", { href: href(["job", this.failed.get(r.run).id]), class: "badge failed" }, "last job failed")] : null] },
      { key: "family", title: "Family", value: (r) => r.families.join(", "), cell: (r) => (r.families.length ? r.families.flatMap((f, i) => [i ? ", " : null, h("a", { href: href(["family", f]) }, f)]) : "–") },
      { key: "architecture", title: "Architecture", value: (r) => r.architecture, cell: (r) => r.architecture },
      { key: "parameters", title: "Parameters", numeric: true, value: (r) => r.parameters, cell: (r) => count(r.parameters) },
      { key: "checkpoints", title: "Checkpoints", numeric: true, value: (r) => r.checkpoints, cell: (r) => String(r.checkpoints) },
      { key: "last_step", title: "Range", numeric: true, value: (r) => r.last_step, cell: (r) => (r.last_step === null ? "–" : `${stepText(r.first_step)}–${stepText(r.last_step)}${axisName(r) === "step" ? "" : ` ${axisNames(r)}`}`) },
      { key: "bytes", title: "Size", numeric: true, value: (r) => r.bytes, cell: (r) => bytes(r.bytes) },
      { key: "mds", title: "MDS", numeric: true, value: (r) => r.mds, note: "mean directional similarity: mean of the trajectory map", cell: (r) => h("span", { class: "mds" }, mdsText(r)) },
      { key: "updated", title: "Updated", value: (r) => r.updated, cell: (r) => (r.updated ? new Date(r.updated).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" }) : "–") },
      { key: "compare", title: "Compare", cell: (r) => h("input", { type: "checkbox", "aria-label": `Compare ${r.run}`, checked: this.chosen.has(r.run), onchange: (e) => {
        if (e.target.checked) this.chosen.add(r.run);
        else this.chosen.delete(r.run);
        this.#selection();
      } }) },
    ];
    const shown = columnsOf(params);
    const columns = [every[0], ...every.filter((c) => shown.includes(c.key)), ...shown.map(named).filter(Boolean).map(hyperparameterColumn)];
    this.#choice(every.slice(1));
    const onsort = ([k, d]) => change({ sort: `${k}${d ? ":down" : ""}` }, { push: true });
    const table = (some, caption) => sortable({ caption, columns, rows: some, sort: [key, down === "down"], onsort });
    if (params.group === "family") {
      const names = [...new Set(rows.flatMap((r) => r.families))].sort((a, b) => a.localeCompare(b));
      if (rows.some((r) => !r.families.length)) names.push("");
      fill(this.table, names.map((f) => {
        const some = rows.filter((r) => (f ? r.families.includes(f) : !r.families.length));
        return [h("h2", { class: "section" }, f ? h("a", { href: href(["family", f]) }, f) : "No family", h("span", { class: "hint" }, ` ${some.length} ${some.length === 1 ? "run" : "runs"}`)), table(some, f ? `Runs of ${f}` : "Runs without a family")];
      }));
    } else fill(this.table, table(rows, "Runs"));
  }

  #choice(known) {
    keepingFocus(this.columns, () => fill(this.columns, h("summary", {}, "Columns"), columnChoice(known, this.rows, this.params, (keys) => this.change({ cols: keys?.join(",") ?? null }, { push: true }))));
  }

  #selection() {
    const names = [...this.chosen];
    const { where, tag } = this.params;
    this.many.href = href(["against"], { where, tag });
    this.many.hidden = this.rows.length < 2;
    fill(this.selected, names.length >= 2 ? h("a", { class: "button", href: href(["compare"], { runs: names.join(",") }) }, `Compare ${names.length} runs`) : null);
  }

  #canvas(row) {
    const canvas = h("canvas", { class: "thumb", role: "img", "aria-label": `Trajectory map of ${row.run}` });
    canvas.width = canvas.height = 1;
    canvas.row = row;
    canvas.said = h("span", { class: "hint" });
    if (row.map) paintThumb(canvas, row);
    if (row.stale || !row.map) this.observer.observe(canvas);
    return h("a", { href: href(["run", row.run]), class: "thumblink", tabindex: "-1", "aria-hidden": "true" }, canvas, canvas.said);
  }
}

// What to do where there is nothing to search or sort yet.
const firstSteps = () => h("div", { class: "empty first" },
  h("p", {}, h("strong", {}, "No runs yet."), " A run is the sequence of checkpoints of one training, read once: how its parameters moved, layer by layer."),
  h("dl", { class: "facts2" },
    h("dt", {}, h("a", { class: "button primary", href: href(["submit"]) }, "Submit a run")), h("dd", {}, "a repository of the Hub, or a folder of this server; its job is shown here"),
    h("dt", {}, h("code", {}, "trajsvc demo")), h("dd", {}, "in a terminal, in this store: trains something small in seconds and analyses it"),
    h("dt", {}, h("code", {}, "trajsvc analyze FOLDER")), h("dd", {}, "the same for checkpoints of your own; reload to see what came")));

// Runs are far apart: every small map has a scale of its own, and says it.
function paintThumb(canvas, row) {
  const scale = scaleOf([row.map]);
  paintCells(canvas, row.map, scale, theme());
  canvas.said.textContent = scaleText(scale);
}

// What tells one state of a run from another.
const version = (row) => `${row.updated} ${row.fraction ?? ""}`;

const mdsText = (r) => (r.mds === undefined ? "" : `${number(r.mds, 4)}${r.error ? ` ± ${number(r.error, 2)}` : ""}`);
