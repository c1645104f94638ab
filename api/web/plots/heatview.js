// One number by layer and step: colours, the exact value where one points or goes with the arrow keys, the step shared with other pictures.

import { hover, onHover } from "../base/bus.js";
import { css } from "../base/colors.js";
import { add, download, downloads, h, number, say } from "../base/dom.js";
import { LIGHT, onTheme, theme } from "../base/theme.js";
import { makeAxis } from "./axis.js";
import { heatCSV, heatLayout, heatScene, paintHeat } from "./heatscene.js";
import { nearest } from "./mapscene.js";
import { draw, toCanvas, toSVG } from "./scene.js";

export class HeatView {
  constructor({ name = () => "layers" } = {}) {
    Object.assign(this, { name, state: null, cell: null });
    this.base = h("canvas", { class: "base", "aria-hidden": "true" });
    this.image = h("canvas", { class: "map heat" });
    this.image.view = this;
    this.over = h("canvas", { class: "over", "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.box = h("div", { class: "mapbox", tabindex: "0", role: "application", "aria-roledescription": "picture by layer and step" }, this.base, this.image, this.over, this.tip);
    this.element = h("figure", { class: "mapfigure" }, this.box);
    this.box.addEventListener("pointermove", (e) => this.#point(e));
    this.box.addEventListener("pointerleave", () => this.#leave());
    this.box.addEventListener("blur", () => this.#leave());
    this.box.addEventListener("keydown", (e) => this.#key(e));
    this.ends = [onHover((what) => this.#follow(what)), onTheme(() => this.draw())];
    this.observer = new ResizeObserver(() => this.state && this.element.clientWidth !== this.width && this.draw());
    this.observer.observe(this.element);
  }

  destroy() {
    this.observer.disconnect();
    for (const end of this.ends) end();
  }

  // {rows: names, steps, values: a row after the other, drawn and scaleUnit: what colours show where that differs, scale, kind, title, caption, label: of the axis, unit, counted: what a step is}
  show(state) {
    this.state = state;
    this.axis = makeAxis(state.steps, state.kind);
    if (this.cell && (this.cell[0] >= state.rows.length || this.cell[1] >= state.steps.length)) this.cell = null;
    this.draw();
    this.box.setAttribute("aria-label", `${state.title}. ${state.rows.length} ${state.what ?? "layers"} by ${state.steps.length} checkpoints. Arrow keys move the cell.`);
  }

  draw() {
    if (!this.state || !this.element.isConnected) return;
    this.width = this.element.clientWidth;
    const box = (this.place = heatLayout(this.state.rows, this.width || 600));
    const colours = theme();
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
      Object.assign(canvas.style, { width: `${box.width}px`, height: `${box.height}px` });
    }
    Object.assign(this.box.style, { width: `${box.width}px`, height: `${box.height}px` });
    draw(heatScene({ ...this.#drawn(), axis: this.axis, box, colours }), this.base.getContext("2d"), ratio);
    Object.assign(this.image.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.wide}px`, height: `${box.high}px` });
    paintHeat(this.image, Math.round(box.wide * ratio), this.#drawn(), this.axis, this.state.scale, colours);
    this.#mark();
  }

  #point(event) {
    if (!this.place) return;
    const where = this.image.getBoundingClientRect();
    const [x, y] = [(event.clientX - where.left) / where.width, (event.clientY - where.top) / where.height];
    if (!this.axis.holds(x) || y < 0 || y >= 1) return this.#leave();
    this.#look([Math.floor(y * this.state.rows.length), this.axis.at(x)]);
  }

  #key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Escape") return this.#leave();
    if (!moves[event.key] || !this.state?.rows.length) return;
    event.preventDefault();
    const inside = (v, n) => Math.min(n - 1, Math.max(0, v));
    const [row, column] = this.cell ?? [0, 0];
    const by = this.cell ? moves[event.key] : [0, 0];
    this.#look([inside(row + by[0], this.state.rows.length), inside(column + by[1], this.state.steps.length)]);
    say(this.lines().join(", "));
  }

  #look(cell) {
    Object.assign(this, { cell, shown: true });
    this.#mark();
    hover({ row: null, column: this.state.steps[cell[1]], from: this });
  }

  #leave() {
    if (!this.cell) return;
    this.cell = null;
    this.#mark();
    hover(null);
  }

  #follow(what) {
    if (what?.from === this || !this.state?.steps.length) return;
    this.shown = false;
    this.cell = what ? [-1, nearest(this.state.steps, what.column)] : null;
    this.#mark();
  }

  // The state as colours show it: values that are drawn otherwise than they are said, and their unit.
  #drawn() {
    const { drawn, scaleUnit } = this.state;
    return drawn ? { ...this.state, values: drawn, unit: scaleUnit } : this.state;
  }

  value({ values } = this.state) {
    return this.cell && this.cell[0] >= 0 ? values[this.cell[0] * this.state.steps.length + this.cell[1]] : null;
  }

  lines() {
    const { rows, steps, unit, counted = "step" } = this.state;
    return [`${unit} ${number(this.value(), 5)}`, rows[this.cell[0]], `${counted} ${steps[this.cell[1]]}`];
  }

  #mark() {
    const context = this.over.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.over.width, this.over.height);
    this.tip.hidden = !(this.cell && this.shown);
    if (!this.cell || !this.place) return;
    const { left, top, wide, high, row } = this.place;
    const [i, j] = this.cell;
    const x = left + this.axis.centres[j] * wide;
    for (const [colour, width] of [["rgba(255,255,255,.8)", 3], [theme().cross, 1.2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, top + high);
      context.stroke();
      if (i >= 0) context.strokeRect(left + this.axis.edges[j] * wide, top + i * row, (this.axis.edges[j + 1] - this.axis.edges[j]) * wide, row);
    }
    if (!this.shown) return;
    const [first, ...rest] = this.lines();
    this.tip.replaceChildren();
    add(this.tip, [h("div", { class: "value" }, h("span", { class: "swatch", vars: { "--swatch": css(this.value(this.#drawn()), this.state.scale) } }), first), rest.map((r) => h("div", {}, r))]);
    const [w, t] = [this.tip.offsetWidth, this.tip.offsetHeight];
    this.tip.style.left = `${x + 14 + w > left + wide ? Math.max(0, x - w - 14) : x + 14}px`;
    const y = top + (i + 0.5) * row;
    this.tip.style.top = `${y + 14 + t > top + high + 40 ? Math.max(0, y - t - 12) : y + 14}px`;
  }

  scene() {
    const image = document.createElement("canvas");
    const box = heatLayout(this.state.rows, 760);
    paintHeat(image, Math.round(box.wide * 2), this.#drawn(), this.axis, this.state.scale, LIGHT);
    return heatScene({ ...this.#drawn(), axis: this.axis, box, colours: LIGHT, image });
  }

  buttons() {
    return downloads("picture by layer and step", [
      ["PNG", () => toCanvas(this.scene(), 3).toBlob((blob) => download(`${this.name()}.png`, blob))],
      ["SVG", () => download(`${this.name()}.svg`, toSVG(this.scene()), "image/svg+xml")],
      ["CSV", () => download(`${this.name()}.csv`, heatCSV(this.state), "text/csv")],
    ]);
  }
}
