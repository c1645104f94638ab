// Have the server compute gradients of a run: with a probe and data that its operator registered, followed while it is computed.

import { fill, h } from "../base/dom.js";
import { FIRST, MORE, bodyOf } from "../base/gradientform.js";
import * as api from "../data/api.js";
import { Fields, problemText } from "../widgets/fields.js";
import { JobLine } from "../widgets/jobline.js";

const REGISTER = "trajsvc serve --probe NAME=causal-lm --data NAME=FILE";

export class GradientForm {
  // `open`: whether it stands open at first; `ondone` is called with a job that succeeded.
  constructor(name, { open, ondone }) {
    Object.assign(this, { name, ondone });
    this.jobs = h("div", { class: "joblines" });
    this.body = h("div");
    this.element = h("details", { class: "panel gradientform", open }, h("summary", {}, "Compute gradients"), this.body, this.jobs);
    this.element.addEventListener("toggle", () => this.element.open && this.#load());
    if (open) this.#load();
  }

  destroy() {
    this.gone = true;
    this.line?.destroy();
  }

  #load() {
    this.loaded ??= api.registered().then((found) => !this.gone && this.#draw(found), (error) => {
      this.loaded = null;
      fill(this.body, problemText(error));
    });
  }

  #draw({ probes, data }) {
    if (!probes.length || !data.length) {
      return fill(this.body, h("p", { class: "note" }, "This server has no probes or no data registered. Who runs it does so:"), h("pre", {}, REGISTER));
    }
    const fields = (this.fields = new Fields({}));
    const choices = { probe: probes, data };
    const shown = (field) => fields.field(choices[field.name] ? { ...field, options: choices[field.name].map((id) => [id, id]) } : field);
    this.problem = h("div", { "aria-live": "polite" });
    return fill(this.body, h(
      "form",
      { class: "submit", novalidate: true, onsubmit: (e) => { e.preventDefault(); this.#submit(); } },
      FIRST.map(shown),
      (this.more = h("details", {}, h("summary", {}, "More options"), MORE.map(([title, some]) => h("fieldset", {}, h("legend", {}, title), some.map(shown))))),
      h("div", { class: "actions" }, (this.button = h("button", { class: "primary", type: "submit" }, "Compute"))),
      this.problem,
    ));
  }

  async #submit() {
    this.fields.clear();
    fill(this.problem);
    this.button.disabled = true;
    try {
      this.#follow(await api.submitGradients(this.name, bodyOf(this.fields.values)));
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
