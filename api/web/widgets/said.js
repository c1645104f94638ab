// What people say of a run: its notes and hyperparameters, and a form that changes them where the token permits it.

import { fill, h, keepingFocus, say, unique } from "../base/dom.js";
import * as api from "../data/api.js";
import { problemText } from "./fields.js";

const BY_HAND = "by hand";
const SHOWN = 6;

export class Said {
  constructor(name, answer) {
    Object.assign(this, { name, answer });
    this.line = h("summary", {});
    this.body = h("div", { class: "saidbody" });
    this.problem = h("div", { role: "status" });
    this.element = h("details", { class: "said" }, this.line, this.body, this.problem);
    this.#draw();
  }

  #draw() {
    const { row, hyperparameters } = this.answer;
    // What was set by hand or by a family first: the shape of the network is in many runs' files.
    const first = [...hyperparameters].sort((a, b) => (a.origin === "config.json") - (b.origin === "config.json") || (a.origin !== BY_HAND) - (b.origin !== BY_HAND));
    const told = first.filter((one) => one.origin !== "config.json").slice(0, SHOWN);
    const values = told.map((one) => `${one.name} = ${one.value}`);
    const more = first.length > told.length ? ` and ${first.length - told.length} more` : "";
    fill(this.line,
      first.length ? `Hyperparameters: ${values.join(", ")}${values.length ? more : `${first.length} of the network`}` : "No hyperparameters",
      row.notes ? h("span", { class: "noteline" }, ` · Notes: ${row.notes.split("\n")[0]}`) : " · no notes");
    keepingFocus(this.body, () => fill(this.body, this.#table(first), api.isReport ? h("p", { class: "notes" }, row.notes) : this.#notes(row.notes)));
  }

  #table(rows) {
    const id = unique("set");
    const input = h("input", { id, type: "text", placeholder: "lr=0.1", autocomplete: "off", spellcheck: "false" });
    const set = (e) => {
      e.preventDefault();
      const [name, ...rest] = input.value.split("=");
      if (!rest.length) return fill(this.problem, problemText(new Error("Write a name, =, and a value: lr=0.1")));
      this.#change({ hyperparameters: { [name.trim()]: valueOf(rest.join("=").trim()) } }, `${name.trim()} is set`).then((done) => done && (input.value = ""));
    };
    const forget = (one) => h("button", { type: "button", class: "quiet", "aria-label": `Forget ${one.name}`, onclick: () => this.#change({ hyperparameters: { [one.name]: null } }, `${one.name} is forgotten`) }, "forget");
    return h("section", { "aria-label": "Hyperparameters" },
      rows.length
        ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hyperparameters of the run" },
          h("table", {},
            h("thead", {}, h("tr", {}, ["Hyperparameter", "Value", "From"].map((t) => h("th", { scope: "col" }, t)))),
            h("tbody", {}, rows.map((one) =>
              h("tr", {}, h("th", { scope: "row" }, one.name), h("td", {}, String(one.value)), h("td", {}, one.origin, one.origin === BY_HAND && !api.isReport ? [" ", forget(one)] : null))))))
        : null,
      api.isReport ? null : h("form", { class: "saidform", onsubmit: set }, h("label", { for: id, class: "label" }, "Set"), input, h("button", { type: "submit" }, "Set")));
  }

  #notes(text) {
    const id = unique("notes");
    const area = h("textarea", { id, rows: 4, maxlength: 10000 });
    area.value = text;
    const save = (e) => {
      e.preventDefault();
      this.#change({ notes: area.value }, "the notes are saved");
    };
    return h("form", { class: "saidform notesform", onsubmit: save }, h("label", { for: id, class: "label" }, "Notes"), area, h("button", { type: "submit" }, "Save notes"));
  }

  // Change it if nobody else has since; return whether that was done.
  async #change(body, done) {
    try {
      await api.describe(this.name, body, this.answer.etag);
      fill(this.problem);
      say(done);
    } catch (error) {
      fill(this.problem, problemText(error));
      if (error.status !== 412) return false;
    }
    const answer = await api.run(this.name).catch(() => null);
    if (answer) {
      this.answer = answer;
      this.#draw();
    }
    return !this.problem.childNodes.length;
  }
}

// true, false, a number, or text; quotes make text of anything.
function valueOf(text) {
  if (/^(['"]).*\1$/.test(text) && text.length >= 2) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(Number(text)) ? Number(text) : text;
}
