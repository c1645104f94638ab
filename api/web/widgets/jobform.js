// A form that has the server compute something about a run, followed while it does.

import { fill, h } from "../base/dom.js";
import { Fields, problemText } from "./fields.js";
import { JobLine } from "./jobline.js";

export class JobForm {
  // `open`: whether it stands open at first; `ondone` is called with a job that succeeded; `submit(values)` posts it and returns the job.
  constructor({ title, open, ondone, submit }) {
    Object.assign(this, { ondone, submit });
    this.body = h("div");
    this.jobs = h("div", { class: "joblines" });
    this.element = h("details", { class: "panel gradientform", open }, h("summary", {}, title), this.body, this.jobs);
  }

  destroy() {
    this.gone = true;
    this.line?.destroy();
  }

  // `first` are fields, `more` groups of fields, [title or null, fields], that stand closed.
  draw(first, more) {
    const fields = (this.fields = new Fields({}));
    const shown = (some) => some.map((field) => fields.field(field));
    this.problem = h("div", { "aria-live": "polite" });
    fill(this.body, h(
      "form",
      { class: "submit", novalidate: true, onsubmit: (e) => { e.preventDefault(); this.#submit(); } },
      shown(first),
      (this.more = h("details", {}, h("summary", {}, "More options"), more.map(([title, some]) => h("fieldset", {}, title && h("legend", {}, title), shown(some))))),
      h("div", { class: "actions" }, (this.button = h("button", { class: "primary", type: "submit" }, "Compute"))),
      this.problem,
    ));
  }

  async #submit() {
    this.fields.clear();
    fill(this.problem);
    this.button.disabled = true;
    try {
      this.#follow(await this.submit(this.fields.values));
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
