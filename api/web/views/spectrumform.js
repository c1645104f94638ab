// Have the server decompose the matrices of a run, followed while it does.

import { fill, h } from "../base/dom.js";
import { bytesOf, numberOf, several, wordsOf } from "../base/submission.js";
import * as api from "../data/api.js";
import { Fields, problemText } from "../widgets/fields.js";
import { JobLine } from "../widgets/jobline.js";

const FIRST = [
  { name: "groups", label: "Groups", placeholder: "network", hint: "Whose matrices, with commas between them: layer/0, component/attention.q" },
  { name: "steps", label: "Steps", placeholder: "all", hint: "0,1,2 · 1000..5000 · every:4 · last:5" },
];
const MORE = [
  { name: "of", label: "Of", placeholder: "weights, displacement, updates", hint: "What is decomposed: the weights, their distance from the start, their updates." },
  { name: "heads", label: "Heads", check: "Those of Q, K and V too", hint: "Each head's part as a matrix of its own." },
  { name: "device", label: "Device", options: [["", "CPU"], ["cuda", "GPU"]], hint: "Where matrices are decomposed." },
  { name: "budget", label: "Budget", placeholder: "as the server allows", hint: "What one decomposition may take, such as 2 GiB; beyond it the largest values are found with bounds." },
  { name: "priority", label: "Priority", placeholder: "0", hint: "−100 to 100; jobs of higher priority run first." },
];
const READ = { groups: several, of: several, budget: bytesOf, priority: numberOf };

export class SpectrumForm {
  // `open`: whether it stands open at first; `ondone` is called with a job that succeeded.
  constructor(name, { open, ondone }) {
    Object.assign(this, { name, ondone });
    const fields = (this.fields = new Fields({}));
    this.jobs = h("div", { class: "joblines" });
    this.problem = h("div", { "aria-live": "polite" });
    this.element = h("details", { class: "panel gradientform", open }, h("summary", {}, "Compute spectra"), h(
      "form",
      { class: "submit", novalidate: true, onsubmit: (e) => { e.preventDefault(); this.#submit(); } },
      FIRST.map((f) => fields.field(f)),
      (this.more = h("details", {}, h("summary", {}, "More options"), h("fieldset", {}, MORE.map((f) => fields.field(f))))),
      h("div", { class: "actions" }, (this.button = h("button", { class: "primary", type: "submit" }, "Compute"))),
      this.problem,
    ), this.jobs);
  }

  destroy() {
    this.gone = true;
    this.line?.destroy();
  }

  async #submit() {
    this.fields.clear();
    fill(this.problem);
    this.button.disabled = true;
    try {
      this.#follow(await api.submitSpectra(this.name, wordsOf(this.fields.values, READ)));
    } catch (error) {
      this.fields.show(error, this.more);
      fill(this.problem, problemText(error));
    } finally {
      this.button.disabled = false;
    }
  }

  #follow(job) {
    this.line?.destroy();
    const finished = (ended) => !this.gone && ended.state === "succeeded" && this.ondone(ended);
    this.line = new JobLine(job, { onfinal: finished, onnew: (next) => this.#follow(next) });
    fill(this.jobs, this.line.element);
    if (job.state === "succeeded") finished(job);
  }
}
