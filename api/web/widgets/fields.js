// The fields of a form: an input with its label, what it means, and what the server says is wrong with it.

import { h, unique } from "../base/dom.js";
import { complaints } from "../base/submission.js";

export class Fields {
  // `values`: what the fields begin with, by name; `changed` is called with a field's name whenever one is changed.
  constructor(values, changed = () => {}) {
    Object.assign(this, { given: values, changed, all: new Map() });
  }

  // The element of a field: text, one of `options` ([value, text]), or a box to tick with the words `check`.
  field({ name, label, hint, options, check, placeholder }) {
    const [id, about, wrong] = [unique(name), unique("about"), unique("wrong")];
    const value = this.given[name];
    const attributes = { id, name, "aria-describedby": `${about} ${wrong}` };
    const changed = () => {
      this.complain(name, "");
      this.changed(name);
    };
    let input;
    let shown;
    if (options) shown = input = h("select", { ...attributes, onchange: changed }, options.map(([v, t]) => h("option", { value: v, selected: v === value }, t)));
    else if (check) {
      input = h("input", { ...attributes, type: "checkbox", checked: value === "yes", onchange: changed });
      shown = h("label", { class: "check" }, input, check);
    } else shown = input = h("input", { ...attributes, type: "text", autocomplete: "off", spellcheck: "false", placeholder, value: value ?? "", oninput: changed });
    const problem = h("span", { class: "fieldproblem", id: wrong });
    this.all.set(name, { input, problem });
    return h("div", { class: "field" }, check ? h("span", {}, label) : h("label", { for: id }, label), shown, h("span", { class: "hint", id: about }, hint), problem);
  }

  // Text by field, true for a box that is ticked.
  get values() {
    return Object.fromEntries([...this.all].map(([name, { input }]) => [name, input.type === "checkbox" ? input.checked : input.value]));
  }

  complain(name, message) {
    const { input, problem } = this.all.get(name);
    problem.textContent = message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  clear() {
    for (const name of this.all.keys()) this.complain(name, "");
  }

  // Put what the server says is wrong at the fields that it is about, open `more` if one of them is in it, and go to the first.
  show(error, more) {
    const found = complaints(error, (name) => this.all.has(name));
    const names = [...this.all.keys()].filter((name) => name in found);
    for (const name of names) this.complain(name, found[name]);
    if (names.some((name) => more.contains(this.all.get(name).input))) more.open = true;
    this.all.get(names[0])?.input.focus();
  }
}

// A problem in words, above or below a form.
export const problemText = (error) => h("div", { class: "problem", role: "alert" }, h("p", {}, error.message), error.hint ? h("p", { class: "hint" }, error.hint) : null);
