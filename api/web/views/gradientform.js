// Have the server compute gradients of a run: with a probe and data that its operator registered.

import { fill, h } from "../base/dom.js";
import { FIRST, MORE, bodyOf } from "../base/gradientform.js";
import * as api from "../data/api.js";
import { problemText } from "../widgets/fields.js";
import { JobForm } from "../widgets/jobform.js";

const REGISTER = "trajsvc serve --probe NAME=causal-lm --data NAME=FILE";

export class GradientForm extends JobForm {
  constructor(name, { open, ondone }) {
    super({ title: "Compute gradients", open, ondone, submit: (values) => api.submitGradients(name, bodyOf(values)) });
    this.element.addEventListener("toggle", () => this.element.open && this.#load());
    if (open) this.#load();
  }

  #load() {
    this.loaded ??= api.registered().then((found) => !this.gone && this.#show(found), (error) => {
      this.loaded = null;
      fill(this.body, problemText(error));
    });
  }

  #show({ probes, data }) {
    if (!probes.length || !data.length) {
      return fill(this.body, h("p", { class: "note" }, "This server has no probes or no data registered. Who runs it does so:"), h("pre", {}, REGISTER));
    }
    const choices = { probe: probes, data };
    const chosen = (field) => (choices[field.name] ? { ...field, options: choices[field.name].map((id) => [id, id]) } : field);
    return this.draw(FIRST.map(chosen), MORE.map(([title, some]) => [title, some.map(chosen)]));
  }
}
