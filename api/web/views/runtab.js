// What tabs of a run share: the run's head, places for controls and for what is said, and that only what was asked for last is drawn.

import { fill, h, keepingFocus } from "../base/dom.js";
import * as api from "../data/api.js";
import { runHead } from "./runhead.js";

export class RunTab {
  constructor(tab, name, answer, params, { change }) {
    Object.assign(this, { tab, name, answer, params, change });
    this.title = `${name}: ${tab}`;
    this.head = h("div");
    this.controls = h("div", { class: "controls" });
    this.status = h("div", { class: "inlinestatus", role: "status" });
    api.summary(name).then((summary) => {
      if (this.gone) return;
      this.summary = summary;
      this.drawHead();
      this.summarised?.();
    }, () => {});
  }

  // What is drawn and must be undone with the view.
  parts() {
    return [];
  }

  destroy() {
    this.gone = true;
    for (const part of this.parts()) part?.destroy();
  }

  drawHead() {
    keepingFocus(this.head, () => fill(this.head, runHead(this.name, this.answer, this.summary, this.tab, this.params)));
  }

  // Begins to draw what the address says; the answer tells whether that is still what is wanted.
  begin(params) {
    this.params = params;
    this.drawHead();
    const mine = (this.turn = (this.turn ?? 0) + 1);
    return () => !this.gone && this.turn === mine;
  }

  picks(...cleared) {
    const empty = Object.fromEntries(cleared.map((name) => [name, null]));
    return (name) => (value) => this.change({ ...empty, [name]: value }, { push: true });
  }

  drawControls(...controls) {
    keepingFocus(this.controls, () => fill(this.controls, controls));
  }

  fail(error) {
    fill(this.status, h("div", { class: "problem", role: "alert" }, error.message, error.hint ? h("span", { class: "hint" }, ` ${error.hint}`) : null));
  }
}
