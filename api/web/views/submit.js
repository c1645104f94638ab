// A new run: what to read and how; the plan is shown before anything starts.

import { axisNames } from "../base/axisname.js";
import { bytes, count, duration, fill, h, number, step as stepText } from "../base/dom.js";
import { FIRST, MORE, bodyOf } from "../base/submission.js";
import { go } from "../base/url.js";
import * as api from "../data/api.js";
import { Fields, problemText } from "../widgets/fields.js";
import { auditPanel } from "./auditfacts.js";

export async function submitView(params, { change }) {
  return new SubmitView(params, change);
}

class SubmitView {
  constructor(params, change) {
    Object.assign(this, { params, change });
    this.title = "Submit";
    this.fields = new Fields(params, () => {
      this.asked = null;
      this.plan.replaceChildren();
      change(Object.fromEntries(Object.entries(this.fields.values).map(([k, v]) => [k, typeof v === "string" ? v.trim() || null : v ? "yes" : null])));
    });
    this.plan = h("div", { class: "plan", "aria-live": "polite" });
    const more = MORE.flatMap(([, fields]) => fields);
    this.element = h(
      "div",
      { class: "submitview" },
      h("h1", {}, "Submit a run"),
      h("p", { class: "note" }, "First the plan: what would be read and kept. Nothing starts before you say so."),
      h(
        "form",
        // The server says what is wrong with a field, so that there is one truth.
        { class: "submit panel", novalidate: true, onsubmit: (e) => { e.preventDefault(); this.#plan(); } },
        FIRST.map((field) => this.fields.field(field)),
        (this.more = h("details", { open: more.some((f) => params[f.name] !== undefined) }, h("summary", {}, "More options"),
          MORE.map(([title, fields]) => h("fieldset", {}, h("legend", {}, title), fields.map((field) => this.fields.field(field)))))),
        h("div", { class: "actions" },
          h("button", { class: "primary", type: "submit" }, "Show the plan"),
          h("button", { type: "button", title: "What is wrong with the source, from listings and headers alone", onclick: () => this.#audit() }, "Audit"),
        ),
      ),
      this.plan,
    );
  }

  update() {}

  // What the server says is wrong stands at the field that it is about, and over all of them.
  #problem(error) {
    this.fields.show(error, this.more);
    fill(this.plan, problemText(error));
  }

  #plan() {
    return this.#ask("Reading headers…", api.plan, (plan, body) => this.#show(plan, body));
  }

  #audit() {
    return this.#ask("Reading listings and headers…", api.audit, (found) => {
      fill(this.plan, auditPanel(found));
      this.plan.firstElementChild.scrollIntoView?.({ block: "nearest" });
    });
  }

  // Ask the server about what the form says, and show its answer, unless the form has changed or something else was asked since.
  async #ask(meanwhile, question, show) {
    const body = bodyOf(this.fields.values);
    const asked = (this.asked = {});
    this.fields.clear();
    fill(this.plan, h("p", { class: "empty" }, meanwhile));
    try {
      const answer = await question(body);
      if (this.asked === asked) show(answer, body);
    } catch (error) {
      if (this.asked === asked) this.#problem(error);
    }
  }

  #show(plan, body) {
    const row = (term, value) => [h("dt", {}, term), h("dd", {}, value)];
    const list = (found, words) => (found.length ? h("details", {}, h("summary", {}, `${found.length} ${words}`), h("ul", {}, found.slice(0, 200).map((t) => h("li", {}, t)))) : null);
    const steps = plan.steps ?? [];
    const excluded = (plan.excluded ?? []).map((e) => Object.values(e).map(String).join(": "));
    const left = Object.entries(plan.left_out ?? {}).map(([k, v]) => `${k}: ${v}`);
    const start = h("button", { type: "button", class: "primary", onclick: async () => {
      start.disabled = true;
      try {
        go(["job", (await api.submit(body)).id]);
      } catch (error) {
        this.#problem(error);
      }
    } }, "Start");
    fill(
      this.plan,
      h("section", { class: "panel", "aria-label": "Plan" }, h("h2", {}, `Plan of ${plan.name}`),
        h(
          "dl",
          { class: "facts2" },
          row("checkpoints", steps.length ? `${steps.length}, ${axisNames(plan)} ${stepText(steps[0])} to ${stepText(steps.at(-1))}` : "none"),
          row("stored as", [...Object.keys(plan.dtypes ?? {}), ...Object.keys(plan.formats ?? {})].join(", ")),
          row("architecture", `${plan.architecture}, ${count(plan.parameters)} parameters in ${plan.tensors} tensors`),
          row("groups", String(plan.groups)),
          row("to read", `${bytes(plan.bytes)}, taking ${duration(Math.max(plan.seconds ?? 0, plan.seconds_from_disk ?? 0))}`),
          row("memory", bytes(plan.memory)),
          row("kept in the store", `${bytes(plan.store_bytes)}, of it Grams ${bytes(plan.gram_bytes)}${body.copy ? `, and ${bytes(plan.copy_bytes)} of parameters` : ""}`),
          plan.components ? row("parameters by part", Object.entries(plan.components).map(([k, v]) => `${k} ${count(v)}`).join(", ")) : null,
        ),
        list(left, "tensors left out"),
        list(excluded, "checkpoints left out"),
        (plan.findings ?? []).length ? h("ul", {}, plan.findings.map((f) => h("li", {}, h("span", { class: `badge ${f.severity ?? "warning"}` }, f.kind ?? "note"), " ", f.message ?? String(f)))) : null,
        h("div", { class: "actions" }, start, h("span", { class: "hint" }, number(plan.slabs) === "–" ? "" : `${plan.slabs} ${plan.slabs === 1 ? "step" : "steps"} of work`))),
    );
    start.scrollIntoView?.({ block: "nearest" });
  }
}
