// A run: the map of any group, large, and the curves of what it did. While its job is at work the map is an estimate, and sharpens.

import { axisName, axisNames } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { add, fileName, fill, h, keepingFocus, number } from "../base/dom.js";
import { dropsOf, loggedWithin, ratesWithin } from "../base/rates.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import * as G from "../math/gram.js";
import { mapOf, originOf, rangeOf, within } from "../math/view_of.js";
import { axisText, makeAxis, suited } from "../plots/axis.js";
import { Chart } from "../plots/chart.js";
import { MapView } from "../plots/mapview.js";
import { Timeline } from "../plots/timeline.js";
import { captionOf, groupText } from "../widgets/captions.js";
import { VIEW_NOTES, VIEW_TITLES, adjusted, alongChoice, axisChoice, besideChoice, groupChoice, scaleControls, valuesChoice, viewChoice } from "../widgets/controls.js";
import { errorMap, errorScale, medianError } from "../widgets/estimate.js";
import { Live } from "../widgets/live.js";
import { Said } from "../widgets/said.js";
import { tokensLine, tokensOf } from "../widgets/tokens.js";
import { averagesOf, curvesOf, fillLegend, fillPhases, numbersOf } from "./runcurves.js";
import { runHead } from "./runhead.js";

const NEAR = ["cosine", "angles"]; // curves that stand beside the map
export async function runView(name, params, context) {
  const [answer, groups] = await Promise.all([api.run(name), api.groups(name)]);
  return new RunView(name, answer, groups, params, context);
}

class RunView {
  constructor(name, answer, groups, params, { change }) {
    Object.assign(this, { name, answer, groups, change, params });
    this.title = name;
    this.range = (range, done) => change({ from: range?.[0] ?? null, to: range?.[1] ?? null }, { push: done });
    this.map = new MapView({ name: () => this.#fileName(), ondraw: () => this.timeline?.widen(this.map.side) });
    this.null = new MapView({ bar: true, name: () => fileName(this.name, this.group, "walk") });
    this.timeline = new Timeline({
      onrange: this.range,
      onorigin: (step, done) => change({ view: "rtm", origin: step }, { push: done }),
    });
    this.live = new Live(name, answer, { onanswer: (next) => this.#sharpen(next) });
    this.controls = h("div", { class: "controls", onfocusout: () => this.late && setTimeout(() => this.#draw()) });
    this.numbers = h("dl", { class: "numbers" });
    this.mapTitle = h("h2", {});
    this.mapNote = h("p", { class: "note" });
    this.legend = h("ul", { class: "legend", "aria-label": "Signs on the axis" });
    this.charts = new Map();
    this.curves = h("div", { class: "charts" });
    this.near = h("section", { class: "charts near", "aria-label": "Main curves" });
    this.status = h("div", { class: "inlinestatus", role: "status" });
    this.element = h(
      "div",
      { class: "run" },
      (this.head = h("div")),
      new Said(name, answer).element,
      this.controls,
      this.status,
      this.live.element,
      (this.pictures = h("div", { hidden: true },
        h("div", { class: "mapandnumbers" },
          h("section", { class: "panel mappanel", "aria-label": "Map" },
            h("div", { class: "charthead" }, this.mapTitle, this.map.buttons()), this.mapNote, this.map.element, this.timeline.element, this.legend,
            h("p", { class: "note" }, "Brush the strip, drag its ends or a stretch of any curve to choose a range; click the strip for all checkpoints.")),
          this.near,
          h("section", { class: "panel", "aria-label": "Numbers" }, h("h2", {}, "Numbers"), this.numbers, (this.phaseList = h("div")))),
        (this.nullPanel = h("section", { class: "panel nullpanel", "aria-label": "Random walk", hidden: true })),
        h("h2", { class: "section" }, "More curves"),
        this.curves)),
    );
    api.summary(name).then((s) => this.answer === answer && this.#summary(s), (e) => this.#fail(e));
    api.checkpoints(name).then((found) => {
      this.tokens = tokensOf(found.filter((c) => c.usable));
      if (this.tokens) this.#draw();
    }, () => {});
  }

  destroy() {
    this.gone = true;
    this.live.destroy();
    this.map.destroy();
    this.null.destroy();
    this.timeline.destroy();
    for (const chart of this.charts.values()) chart.destroy();
  }

  #fileName() {
    const shown = this.params.show === "error" ? "error" : "";
    return fileName(this.name, this.group, this.params.view ?? "tm", this.params.view === "rtm" ? `origin${this.params.origin ?? this.gram.steps[0]}` : "", shown);
  }

  #fail(error) {
    const instead = this.gram || this.group === "network" ? null : h("p", {}, h("a", { href: href(["run", this.name], { ...this.params, group: null }) }, "The network instead"));
    fill(this.status, h("div", { class: "problem", role: "alert" }, error.message, error.hint ? h("span", { class: "hint" }, ` ${error.hint}`) : null, instead));
  }

  #head() {
    keepingFocus(this.head, () => fill(this.head, runHead(this.name, this.answer, this.summary, "map", this.params)));
  }

  #summary(summary) {
    this.summary = summary;
    this.#head();
    this.#draw();
  }

  async update(params) {
    this.params = params;
    const group = params.group ?? "network";
    this.#head();
    if (group !== this.group || !this.gram) {
      this.group = group;
      this.gram = null;
      this.controlKey = null;
      try {
        const { digest } = this.answer;
        const found = await api.gram(this.name, group, digest);
        if (this.gone || this.group !== group || this.gram) return;
        this.gram = found;
        this.shown = digest;
        fill(this.status);
      } catch (error) {
        if (this.gone || this.group !== group) return;
        this.pictures.hidden = true;
        this.controls.replaceChildren();
        return this.#fail(error);
      }
      this.phases = null;
    }
    this.#phases();
    this.#draw();
  }

  // The run under the same name is another one now: a sharper estimate, or the run itself. What is looked at stays as it is.
  async #sharpen(answer) {
    this.answer = answer;
    const { group } = this;
    try {
      const [gram, summary] = await Promise.all([api.gram(this.name, group, answer.digest), api.summary(this.name)]);
      if (this.gone || this.answer !== answer || this.group !== group) return;
      Object.assign(this, { gram, summary, shown: answer.digest, phaseKey: null });
      this.#head();
      this.#phases();
      this.#draw();
    } catch (error) {
      if (error.status !== 404) this.#fail(error);
    }
  }

  // The server finds the phases: those of all steps of the group; for a range they are asked for again, when it rests.
  #phases() {
    const { from, to } = this.params;
    const key = `${this.group} ${from} ${to}`;
    if (this.phaseKey === key) return;
    this.phaseKey = key;
    clearTimeout(this.phaseTimer);
    const all = from === undefined && to === undefined;
    const indices = rangeOf(this.params, this.gram.steps);
    const range = all ? null : [this.gram.steps[indices[0]], this.gram.steps[indices.at(-1)]];
    this.phaseTimer = setTimeout(() => {
      this.#averages(key, range);
      api.phases(this.name, this.group, range).then(
        ({ phases, whole }) => {
          if (this.gone || this.phaseKey !== key) return;
          Object.assign(this, { phases, phaseNote: whole && range ? "Of the whole run: this file holds no phases of a range." : "" });
          this.#draw();
        },
        (error) => {
          if (this.gone || this.phaseKey !== key) return;
          Object.assign(this, { phases: null, phaseNote: `Phases: ${error.message}` });
          this.#draw();
        },
      );
    }, all ? 0 : 250);
  }

  // The server knows which averages are worth a look; without its answer there is no such curve.
  async #averages(key, range) {
    const found = await api.averages(this.name, this.group, range).catch(() => null);
    if (this.gone || this.phaseKey !== key) return;
    this.averages = found;
    this.#draw();
  }

  #draw() {
    if (!this.gram || this.gone) return;
    this.pictures.hidden = false;
    const begun = performance.now();
    const { params } = this;
    const view = params.view ?? "tm";
    const g = within(this.gram, params);
    const kind = params.axis ?? suited(this.gram.steps);
    const along = this.tokens && params.along === "tokens" ? this.tokens.along : null;
    const map = mapOf(g, params);
    const origin = view === "rtm" ? g.steps[originOf(g, params)] : null;
    let found = null;
    const errors = this.gram.replicates && view !== "walk" ? () => (found ??= errorMap(this.gram, params)) : null;
    const unsure = Boolean(errors) && params.show === "error";
    const shown = unsure ? errors() : map;
    const scale = unsure ? errorScale(shown) : adjusted(scaleOf([map]), params);
    this.#controls(scale, kind, { unsure, errors });
    const where = groupText(this.group);
    const what = `${unsure ? "Standard errors: " : ""}${VIEW_TITLES[view]}`;
    const { row } = this.answer;
    this.mapTitle.textContent = `${what}${origin === null ? "" : ` from ${axisName(row)} ${origin}`}`;
    this.mapNote.textContent = `${where}: ${VIEW_NOTES[view]}${this.gram.rounded ? " This file holds it with five digits." : ""}`;
    const counted = axisName(row);
    const unit = along ? "tokens" : counted;
    const label = axisText(kind, view === "updates" ? `${unit} at which the update ends` : unit);
    const axis = makeAxis(along ? map.steps.map(along) : map.steps, kind);
    const drops = dropsOf(this.summary).filter((s) => s >= map.steps[0] && s <= map.steps.at(-1));
    const marks = drops.map((s) => axis.place(along ? along(s) : s));
    const more = (r, c) => [
      this.tokens ? tokensLine(this.tokens, map.steps[r], map.steps[c]) : null,
      unsure ? `of ${number(map.values[r * map.n + c], 5)} (estimate)` : errors ? `± ${number(errors().values[r * map.n + c], 2)} (estimate)` : null,
    ].filter(Boolean);
    this.map.show({
      map: shown, axis, scale, kind, phases: this.phases ?? [], marks, title: `${this.name}: ${what} of ${where}${origin === null ? "" : ` from ${axisName(row)} ${origin}`}`, label, extra: more,
      caption: captionOf({ steps: g.steps, origin, row }),
      counted: axisNames(row), each: axisName(row),
      unit: unsure ? "standard error" : "cosine",
    });
    this.#null(g, view, { kind, along, unit, row });
    const mean = G.meanDefined(map.values);
    const flags = this.#flags();
    this.timeline.show({
      steps: this.gram.steps, along, kind, side: this.map.side ?? 560, origin, drops: dropsOf(this.summary),
      range: params.from === undefined && params.to === undefined ? null : [g.steps[0], g.steps.at(-1)],
      phases: this.phases ?? [], flags, counted,
    });
    fillLegend(this.legend, { row, phases: this.phases ?? [], drops: dropsOf(this.summary), flags });
    this.element.dataset.ms = String(performance.now() - begun);
    this.element.dataset.mean = String(mean);
    this.element.dataset.digest = this.shown;
    clearTimeout(this.curveTimer);
    // The map follows the hand; the numbers and curves as soon as there is time.
    this.curveTimer = setTimeout(() => {
      if (this.gone) return;
      this.#curves(g, kind, mean, along);
      this.live.show(errors ? medianError(errors()) : NaN);
    }, this.drawnCurves ? 60 : 0);
    this.drawnCurves = true;
  }

  // Below the run's own map that of a random walk with the same update norms, in the colours of its own map of that kind.
  #null(g, view, { kind, along, unit, row }) {
    this.nullPanel.hidden = this.params.beside !== "walk" || !["tm", "rtm"].includes(view);
    if (this.nullPanel.hidden) return this.nullPanel.replaceChildren();
    if (!this.nullPanel.childElementCount) {
      this.nullNote = h("p", { class: "note" });
      add(this.nullPanel, [h("div", { class: "charthead" }, h("h2", {}, VIEW_TITLES.walk), this.null.buttons()), this.nullNote, this.null.element]);
    }
    const map = G.randomWalk(g, view === "rtm");
    const own = view === "rtm" ? G.trajectoryMap(g, 0) : G.trajectoryMap(g);
    const scale = adjusted(scaleOf([own, map]), this.params);
    const axis = makeAxis(along ? map.steps.map(along) : map.steps, kind);
    const from = view === "rtm" ? `from ${axisName(row)} ${g.steps[0]}` : "from the zero vector";
    this.nullNote.textContent = `${groupText(this.group)}, ${from}: mean ${number(G.meanDefined(map.values), 5)}, of the run's own map ${number(G.meanDefined(own.values), 5)}`;
    this.null.show({
      map, axis, scale, kind, phases: [], title: `${VIEW_TITLES.walk}, ${from}: ${this.name}, ${groupText(this.group)}`, label: axisText(kind, unit),
      caption: captionOf({ steps: g.steps, origin: view === "rtm" ? g.steps[0] : null, row }), counted: axisNames(row), each: axisName(row),
    });
  }

  #flags() {
    const found = [];
    for (const finding of this.summary?.integrity ?? []) for (const step of finding.steps) found.push({ step, severity: finding.severity, text: `${finding.kind}: ${finding.message}` });
    return found;
  }

  #controls(scale, kind, { unsure, errors }) {
    const { params, change } = this;
    const key = JSON.stringify([this.group, params.view, params.beside, params.axis, params.along, params.lo, params.hi, params.palette, unsure, Boolean(errors), Boolean(this.tokens), scale, kind]);
    const asked = this.drawnFor !== params;
    Object.assign(this, { late: false, drawnFor: params });
    if (key === this.controlKey) return;
    // What somebody is typing into is left alone until they are done.
    if (!asked && this.controls.contains(document.activeElement) && document.activeElement.matches("input, select")) {
      this.late = true;
      return;
    }
    this.controlKey = key;
    keepingFocus(this.controls, () => fill(
      this.controls,
      groupChoice(this.groups, this.group, (group) => change({ group }, { push: true })),
      viewChoice(params, change),
      ["tm", "rtm"].includes(params.view ?? "tm") ? besideChoice(params, change) : null,
      errors ? valuesChoice(params, change) : null,
      axisChoice(kind, change),
      this.tokens ? alongChoice(params, change, axisNames(this.answer.row)) : null,
      unsure ? null : scaleControls(scale, params, change),
    ));
  }

  #curves(g, kind, mean, along) {
    const m = G.measures(g);
    const { steps } = g;
    const error = (name) => {
      const e = this.group === "network" && steps.length === this.gram.steps.length ? this.summary?.network_errors?.[name] : null;
      return e ? ` ± ${number(e, 2)}` : "";
    };
    fill(this.numbers, numbersOf(g, m, { row: this.answer.row, error, mean: this.params.view === "rtm" && this.params.origin !== undefined ? mean : null }));
    fillPhases(this.phaseList, this.name, this.phases, this.phaseNote, this.params, this.answer.row);
    const range = [steps[0], steps.at(-1)];
    const specs = { ...curvesOf(g, m, ratesWithin(this.summary, range), this.answer.row, loggedWithin(this.summary, range)), ...averagesOf(this.averages) };
    for (const [id, chart] of this.charts) if (!specs[id]) {
      chart.destroy();
      chart.element.remove();
      this.charts.delete(id);
    }
    for (const [id, { plain, own, ...spec }] of Object.entries(specs)) {
      let chart = this.charts.get(id);
      if (!chart) {
        chart = new Chart({ name: () => fileName(this.name, this.group, id), onrange: plain ? null : this.range });
        chart.element.dataset.chart = id;
        this.charts.set(id, chart);
        (NEAR.includes(id) ? this.near : this.curves).append(chart.element);
      }
      // The rate is known at steps of its own: numbered by them its axis would be another one than that of the checkpoints.
      const shown = plain || (own && kind === "index") ? "linear" : kind;
      const caption = captionOf({ run: this.name, group: this.group, steps, row: this.answer.row });
      chart.show({ ...spec, caption, kind: shown, steps: plain || own ? undefined : steps, along: plain ? null : along, xlabel: spec.xlabel ?? (along ? "tokens" : axisName(this.answer.row)), counted: axisName(this.answer.row), marks: plain ? [] : dropsOf(this.summary) });
    }
    this.element.dataset.ready = "true";
  }
}
