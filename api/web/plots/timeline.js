// The checkpoints along the step axis under a map: phases, drops of the learning rate, integrity flags, a range by brushing, an origin by
// dragging.

import { h, step as stepText } from "../base/dom.js";
import { onTheme, theme } from "../base/theme.js";
import { makeAxis } from "./axis.js";
import { LEFT, diamond, nearest } from "./mapscene.js";

const HEIGHT = 64;
const BAND = [22, 16]; // top and height of the strip

export class Timeline {
  // onrange([from, to] | null, done), onorigin(step, done)
  constructor({ onrange, onorigin }) {
    Object.assign(this, { onrange, onorigin });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    const handle = (name, label, act) => {
      const element = h("div", { class: `handle ${name}`, role: "slider", tabindex: "0", "aria-label": label });
      element.addEventListener("pointerdown", (e) => this.#drag(e, act, element));
      element.addEventListener("keydown", (e) => this.#key(e, element, act));
      return element;
    };
    this.origin = handle("origin", "Origin of the relative map", (i, done) => this.onorigin(this.steps[i], done));
    this.from = handle("from", "First checkpoint of the range", (i, done) => this.#range(Math.min(i, this.to.at - 2), this.to.at, done));
    this.to = handle("to", "Last checkpoint of the range", (i, done) => this.#range(this.from.at, Math.max(i, this.from.at + 2), done));
    this.element = h("div", { class: "timeline" }, this.canvas, this.from, this.to, this.origin);
    this.canvas.addEventListener("pointerdown", (e) => this.#brush(e));
    this.canvas.addEventListener("pointermove", (e) => this.#title(e));
    this.ends = [onTheme(() => this.draw())];
  }

  destroy() {
    for (const end of this.ends) end();
  }

  // {steps: all of them, along: what stands on the axis in their place | null, kind, range: [from, to] | null, origin: step | null, phases,
  // drops: [step, …], flags: [{step, severity, text}], side, counted: what a step is}
  show(state) {
    this.state = state;
    this.steps = state.steps;
    this.axis = makeAxis(state.along ? state.steps.map(state.along) : state.steps, state.kind);
    this.draw();
  }

  widen(side) {
    if (!this.state || this.state.side === side) return;
    this.state.side = side;
    this.draw();
  }

  #range(a, b, done) {
    if (a < 0 || b >= this.steps.length) return;
    const whole = a === 0 && b === this.steps.length - 1;
    this.onrange(whole ? null : [this.steps[a], this.steps[b]], done);
  }

  #index(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - LEFT) / this.state.side;
    let best = 0;
    this.axis.centres.forEach((c, i) => {
      if (Math.abs(c - x) < Math.abs(this.axis.centres[best] - x)) best = i;
    });
    return best;
  }

  #drag(event, act, element) {
    event.preventDefault();
    element.focus();
    element.setPointerCapture(event.pointerId);
    const move = (e) => act(this.#index(e), false);
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerup", (e) => {
      element.removeEventListener("pointermove", move);
      act(this.#index(e), true);
    }, { once: true });
  }

  #key(event, element, act) {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    const end = { Home: 0, End: this.steps.length - 1 }[event.key];
    if (by === undefined && end === undefined) return;
    event.preventDefault();
    act(Math.min(this.steps.length - 1, Math.max(0, end ?? element.at + by)), true);
  }

  #brush(event) {
    const begun = this.#index(event);
    this.canvas.setPointerCapture(event.pointerId);
    const apply = (e, done) => {
      const now = this.#index(e);
      if (Math.abs(now - begun) >= 2) this.#range(Math.min(begun, now), Math.max(begun, now), done);
      else if (done) this.onrange(null, true);
    };
    const move = (e) => apply(e, false);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", (e) => {
      this.canvas.removeEventListener("pointermove", move);
      apply(e, true);
    }, { once: true });
  }

  #title(event) {
    const i = this.#index(event);
    const here = this.state.flags.filter((f) => nearest(this.steps, f.step) === i);
    const flags = here.map((f) => `${f.severity}: ${f.text}`);
    const drops = this.state.drops.filter((s) => nearest(this.steps, s) === i).map((s) => `learning rate drops after ${this.state.counted ?? "step"} ${s}`);
    this.canvas.title = [this.#said(i), ...drops, ...flags.slice(0, 4)].join("\n");
  }

  #said(i) {
    const { along } = this.state;
    return `${this.state.counted ?? "step"} ${this.steps[i]}${along ? `, ${stepText(along(this.steps[i]))} tokens` : ""}`;
  }

  draw() {
    if (!this.state || !this.element.isConnected) return;
    const { side, range, origin, phases, flags, drops, along } = this.state;
    const colours = theme();
    const ratio = devicePixelRatio || 1;
    const width = LEFT + side + 20;
    this.element.style.width = `${width}px`;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${HEIGHT}px` });
    const c = this.canvas.getContext("2d");
    c.scale(ratio, ratio);
    const n = this.steps.length;
    const x = (fraction) => LEFT + fraction * side;
    const [top, tall] = BAND;
    c.fillStyle = colours.dark ? "#262b34" : "#eceff4";
    c.fillRect(LEFT, top, side, tall);
    const a = range ? nearest(this.steps, range[0]) : 0;
    const b = range ? nearest(this.steps, range[1]) : n - 1;
    c.fillStyle = colours.dark ? "#27486e" : "#c6dcf5";
    c.fillRect(x(this.axis.edges[a]), top, (this.axis.edges[b + 1] - this.axis.edges[a]) * side, tall);
    c.strokeStyle = colours.muted;
    c.lineWidth = 1;
    for (const centre of this.axis.centres) {
      c.beginPath();
      c.moveTo(x(centre), top + 4);
      c.lineTo(x(centre), top + tall - 4);
      c.stroke();
    }
    // phases: brackets over the strip
    c.font = "11px system-ui, sans-serif";
    phases.forEach((phase, k) => {
      const i = this.steps.findIndex((s) => s >= phase.start_step);
      const j = this.steps.findLastIndex((s) => s <= phase.end_step);
      if (i < 0 || j < 0) return;
      const [left, right] = [x(this.axis.edges[i]), x(this.axis.edges[k + 1 < phases.length ? j : j + 1])];
      c.fillStyle = colours.lines[k % colours.lines.length];
      c.fillRect(left + 1, top - 6, right - left - 2, 4);
      const text = `phase ${k + 1}`;
      if (c.measureText(text).width < right - left - 4) {
        c.fillStyle = colours.muted;
        c.fillText(text, left + 3, top - 9);
      }
    });
    // drops of the learning rate: a line through the strip, a diamond on it
    c.fillStyle = c.strokeStyle = colours.drop;
    for (const drop of drops) {
      if (drop < this.steps[0] || drop > this.steps.at(-1)) continue;
      const at = x(this.axis.place(along ? along(drop) : drop));
      c.beginPath();
      c.moveTo(at, top);
      c.lineTo(at, top + tall);
      c.stroke();
      c.beginPath();
      diamond(at, top + tall / 2, 5).forEach(([a, b], i) => (i ? c.lineTo(a, b) : c.moveTo(a, b)));
      c.fill();
    }
    // integrity flags: triangles below
    const marks = { error: "#d01c3f", warning: colours.dark ? "#f2c14e" : "#b26a00", info: colours.muted };
    for (const severity of ["info", "warning", "error"]) {
      for (const flag of flags.filter((f) => f.severity === severity)) {
        // A checkpoint that was left out is not on the axis: its flag stands at the next one.
        const i = nearest(this.steps, flag.step);
        const at = x(this.axis.centres[i]);
        c.fillStyle = marks[severity];
        c.beginPath();
        c.moveTo(at, top + tall + 2);
        c.lineTo(at - 4, top + tall + 9);
        c.lineTo(at + 4, top + tall + 9);
        c.fill();
      }
    }
    c.fillStyle = colours.muted;
    c.textAlign = "end";
    c.fillText("range", LEFT - 7, top + tall - 4);
    if (flags.length) c.fillText("flags", LEFT - 7, top + tall + 11);
    const put = (element, index, fraction) => {
      element.at = index;
      element.style.left = `${x(fraction)}px`;
      element.setAttribute("aria-valuemin", this.steps[0]);
      element.setAttribute("aria-valuemax", this.steps.at(-1));
      element.setAttribute("aria-valuenow", this.steps[index]);
      element.setAttribute("aria-valuetext", this.#said(index));
    };
    put(this.from, a, this.axis.edges[a]);
    put(this.to, b, this.axis.edges[b + 1]);
    this.origin.hidden = origin === null;
    if (origin !== null) {
      const i = nearest(this.steps, origin);
      put(this.origin, i, this.axis.centres[i]);
      this.origin.dataset.text = `origin ${stepText(this.steps[i])}`;
    }
  }
}
