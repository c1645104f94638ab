// Two runs against each other: cosines or distances of their displacements at all pairs of checkpoints, and where they began.

import { axisName, axisNames } from "../base/axisname.js";
import { choice, count, dropdown, fileName, fill, h, keepingFocus, number } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { axisText, suited } from "../plots/axis.js";
import { heatScale } from "../plots/heatscene.js";
import { HeatView } from "../plots/heatview.js";
import { groupText } from "../widgets/captions.js";
import { axisChoice } from "../widgets/controls.js";
import { problemText } from "../widgets/fields.js";
import { JobLine } from "../widgets/jobline.js";

const ORIGINS = [["first", "each one's start"], ["shared", "A's start"], ["none", "zero"]];

export async function crossView(params, context) {
  return new CrossView(await api.runs(), params, context);
}

class CrossView {
  constructor(all, params, { change }) {
    Object.assign(this, { all, change });
    this.title = "Two runs against each other";
    this.heat = new HeatView({ name: () => fileName("cross", this.params.a, this.params.b, this.params.group, this.params.show) });
    this.picker = h("div", { class: "controls" });
    this.controls = h("div", { class: "controls" });
    this.status = h("div", { role: "status" });
    this.facts = h("dl", { class: "facts2 starts" });
    this.jobs = h("div", { class: "joblines" });
    this.heading = h("h2", {});
    this.note = h("p", { class: "note" });
    this.panel = h("section", { class: "panel", "aria-label": "Map of both runs", hidden: true },
      h("div", { class: "charthead" }, this.heading, this.heat.buttons()), this.note, this.heat.element, this.facts);
    this.element = h("div", { class: "cross" }, h("h1", {}, this.title), this.picker, this.controls, this.status, this.jobs, this.panel);
  }

  destroy() {
    this.gone = true;
    this.heat.destroy();
    this.line?.destroy();
  }

  async update(params) {
    this.params = params;
    const { a, b, group = "network" } = params;
    const origin = ORIGINS.some(([id]) => id === params.origin) ? params.origin : "first";
    this.#picker(a, b);
    this.panel.hidden = true;
    delete this.element.dataset.ready;
    if (!a || !b || a === b) {
      this.controls.replaceChildren();
      return fill(this.status, h("p", { class: "empty" }, "Choose two runs of one network."));
    }
    fill(this.status);
    try {
      const [answer, rows, groups] = await Promise.all([api.cross(a, b, { group, origin }), Promise.all([api.run(a), api.run(b)]), api.groups(a)]);
      if (this.gone || this.params !== params) return;
      this.#draw(answer, rows.map((r) => r.row), groups, origin);
    } catch (error) {
      if (this.gone || this.params !== params) return;
      this.controls.replaceChildren();
      const missing = error.type?.endsWith("cross-not-found");
      fill(this.status, missing
        ? h("div", { class: "empty" }, h("p", {}, "These two have not been compared yet: it takes one pass over the parameters of both."), h("button", { type: "button", class: "primary", onclick: () => this.#submit() }, "Compare them"))
        : problemText(error));
    }
    this.element.dataset.ready = "true";
  }

  async #submit() {
    const { a, b } = this.params;
    try {
      this.#follow(await api.submitCross({ a, b }));
    } catch (error) {
      fill(this.status, problemText(error));
    }
  }

  #follow(job) {
    this.line?.destroy();
    const finished = (ended) => {
      if (this.gone || ended.state !== "succeeded") return;
      fill(this.jobs);
      this.update(this.params);
    };
    this.line = new JobLine(job, { onfinal: finished, onnew: (next) => this.#follow(next) });
    fill(this.status);
    fill(this.jobs, this.line.element);
    if (job.state === "succeeded") finished(job);
  }

  #picker(a, b) {
    const options = (other) => [["", "choose a run"], ...this.all.filter((r) => r.run !== other).map((r) => [r.run, r.run])];
    const pick = (name) => (value) => this.change({ [name]: value }, { push: true });
    keepingFocus(this.picker, () => fill(this.picker,
      dropdown("Run A", options(b), a ?? "", pick("a"), { class: "group" }), dropdown("Run B", options(a), b ?? "", pick("b"), { class: "group" })));
  }

  #draw(answer, [rowA, rowB], groups, origin) {
    const { params, change } = this;
    const { runs: [a, b], steps_a: stepsA, steps_b: stepsB } = answer;
    const distances = params.show === "distances";
    const values = (distances ? answer.distances : answer.map).flat().map((v) => v ?? NaN);
    const kind = params.axis ?? suited(stepsB);
    const known = groups.map((g) => g.id).filter((id) => !id.startsWith("tensor/"));
    keepingFocus(this.controls, () => fill(this.controls,
      dropdown("Group", known.map((g) => [g, g]), answer.group, (group) => change({ group: group === "network" ? null : group }, { push: true }), { class: "group" }),
      choice("Show", [["cosines", "cosines"], ["distances", "distances"]], distances ? "distances" : "cosines", (v) => change({ show: v === "distances" ? v : null }, { push: true })),
      choice("From", ORIGINS, origin, (v) => change({ origin: v === "first" ? null : v }, { push: true })),
      axisChoice(kind, change)));
    const seen = { first: "each from its own start", shared: `both from the start of ${a}`, none: "from the zero vector" }[origin];
    const what = distances ? "Distances" : "Cosines of displacements";
    this.heading.textContent = `${what}, ${a} × ${b}`;
    this.note.textContent = `${groupText(answer.group)}, ${seen}. Down: ${axisNames(rowA)} of ${a}; across: ${axisNames(rowB)} of ${b}.`;
    this.panel.hidden = false;
    this.heat.show({
      rows: stepsA.map((s) => `${axisName(rowA)} ${s}`), steps: stepsB, values, kind, scale: heatScale(values), unit: distances ? "distance" : "cosine",
      title: `${what} of ${a} and ${b}`, caption: `${groupText(answer.group)}, ${seen}; down: ${a}, across: ${b}`, label: `${b}: ${axisText(kind, axisName(rowB))}`, counted: `${b}: ${axisName(rowB)}`,
    });
    this.#starts(answer, a, b);
  }

  #starts({ same_start: same, start, parameters, left_out: leftOut, warnings }, a, b) {
    const line = (term, ...text) => [h("dt", {}, term), h("dd", {}, ...text)];
    fill(this.facts,
      line("Began at the same point", same ? "yes" : "no", start.digests[0] === start.digests[1] ? ": every byte is equal" : `: ‖θᵇ₀ − θᵃ₀‖ is ${number(start.difference, 3)} of ‖θᵃ₀‖, at most ${number(start.largest, 3)} in ${start.block}`),
      start.branch === null ? null : line("Branch", `${b} begins with the checkpoint ${start.branch} of ${a}`),
      line("Parameters", count(parameters)),
      leftOut.length ? line("Left out", leftOut.join(", ")) : null,
      warnings.map((text) => line("Note", text)),
      line("Runs", h("a", { href: href(["compare"], { runs: `${a},${b}` }) }, "side by side")));
  }
}
