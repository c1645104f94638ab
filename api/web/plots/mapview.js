// One map, large: axes with steps, colour bar with numbers, phases, a crosshair with the exact value, keys, downloads.

import { hover, onHover } from "../base/bus.js";
import { css } from "../base/colors.js";
import { add, cosine, download, downloads, h, number, say } from "../base/dom.js";
import { LIGHT, onTheme, theme } from "../base/theme.js";
import { makeAxis } from "./axis.js";
import { LEFT, describe, layout, mapCSV, mapScene, nearest, phaseEdges, right } from "./mapscene.js";
import { paintMap } from "./paint.js";
import { draw, toCanvas, toSVG } from "./scene.js";

export class MapView {
  constructor({ most = 640, bar = true, link = (s) => s, back = (s) => s, name = () => "map", ondraw = () => {}, alone = false, tips = false, what = "trajectory map" } = {}) {
    Object.assign(this, { most, bar, link, back, name, ondraw, alone, tips });
    this.state = null;
    this.cell = null;
    this.base = h("canvas", { class: "base", "aria-hidden": "true" });
    this.image = h("canvas", { class: "map" });
    this.image.view = this;
    this.over = h("canvas", { class: "over", "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.box = h(
      "div",
      { class: "mapbox", tabindex: "0", role: "application", "aria-roledescription": what },
      this.base, this.image, this.over, this.tip,
    );
    this.element = h("figure", { class: "mapfigure" }, this.box, (this.actions = h("div")));
    this.box.addEventListener("pointermove", (e) => this.#point(e));
    this.box.addEventListener("pointerleave", () => this.#leave());
    this.box.addEventListener("blur", () => this.#leave());
    this.box.addEventListener("keydown", (e) => this.#key(e));
    this.ends = [onHover((found) => this.#follow(found)), onTheme(() => this.draw())];
    this.observer = new ResizeObserver(() => this.state && this.#side() !== this.side && this.draw());
    this.observer.observe(this.element);
  }

  destroy() {
    this.observer.disconnect();
    for (const end of this.ends) end();
  }

  // With `alone` its rows are no steps: it neither follows other pictures nor is followed. With `tips` it says its value where it follows.
  // {map, scale, kind, phases, title, caption, label, unit, marks: places on the axis, edges: places of lines in the place of the phases', counted: what the steps are, in the plural,
  // extra(row, column): more lines of the tip}
  show(state) {
    this.state = state;
    this.axis = state.axis ?? makeAxis(state.map.steps, state.kind);
    this.draw();
    this.box.setAttribute("aria-label", `${state.title}. ${describe(state.map)} Arrow keys move the crosshair.`);
  }

  #side() {
    const width = this.element.clientWidth || 600;
    // The whole map and the steps under it are to be seen at once where the window allows.
    const tall = Math.max(360, innerHeight - 460);
    return Math.max(160, Math.min(this.most, tall, Math.floor(width - LEFT - right(this.bar))));
  }

  draw() {
    if (!this.state || !this.element.isConnected) return;
    const { map, scale, phases, marks, label, unit } = this.state;
    this.side = this.#side();
    const box = layout(this.side, this.bar);
    this.place = box;
    const colours = theme();
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
      canvas.style.width = `${box.width}px`;
      canvas.style.height = `${box.height}px`;
    }
    this.box.style.width = `${box.width}px`;
    this.box.style.height = `${box.height}px`;
    draw(mapScene({ axis: this.axis, scale, box, colours, label, bar: this.bar, unit, marks }), this.base.getContext("2d"), ratio);
    Object.assign(this.image.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${this.side}px`, height: `${this.side}px` });
    paintMap(this.image, Math.round(this.side * ratio), map, this.axis, scale, colours);
    this.phases = this.state.edges ?? phaseEdges(this.axis, phases ?? [], map.steps);
    if (this.cell && (this.cell[0] >= map.n || this.cell[1] >= map.n)) this.cell = null;
    this.#cross();
    this.ondraw();
  }

  #point(event) {
    if (!this.place || !this.state.map.n) return;
    const where = this.image.getBoundingClientRect();
    const x = (event.clientX - where.left) / where.width;
    const y = (event.clientY - where.top) / where.height;
    if (!this.axis.holds(x) || !this.axis.holds(y) || x >= 1 || y >= 1) return this.#leave();
    this.#look([this.axis.at(y), this.axis.at(x)]);
  }

  #key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const n = this.state?.map.n;
    if (event.key === "Escape") return this.#leave();
    if (!moves[event.key] || !n) return;
    event.preventDefault();
    const by = event.shiftKey ? Math.max(1, Math.round(n / 10)) : 1;
    const inside = (v) => Math.min(n - 1, Math.max(0, v));
    const [row, column] = this.cell ?? [0, 0];
    const next = this.cell ? [inside(row + by * moves[event.key][0]), inside(column + by * moves[event.key][1])] : [0, 0];
    this.#look(next);
    say(this.lines().join(", "));
  }

  #look(cell) {
    this.cell = cell;
    this.shown = true;
    this.#cross();
    const { map } = this.state;
    if (this.alone) return;
    hover({ row: this.link(map.steps[cell[0]]), column: this.link(map.steps[cell[1]]), from: this });
  }

  #leave() {
    if (!this.cell) return;
    this.cell = null;
    this.#cross();
    if (!this.alone) hover(null);
  }

  #follow(what) {
    if (this.alone || what?.from === this || !this.state) return;
    // A chart says a step, a map two; a value of the diagonal would say nothing.
    this.shown = this.tips && what?.row !== null;
    const inside = (v) => v === null || this.axis.holds(this.axis.place(v));
    const near = (v) => nearest(this.state.map.steps, this.back(v));
    this.cell = what && this.state.map.n && inside(what.row) && inside(what.column) ? [near(what.row ?? what.column), near(what.column)] : null;
    this.#cross();
  }

  lines() {
    const { map, unit = "cosine", counted = "steps", extra } = this.state;
    const [row, column] = this.cell;
    const value = map.values[row * map.n + column];
    const what = unit === "cosine" ? cosine(value) : number(value, 3);
    return [`${what}`, `${counted} ${map.steps[row]} × ${map.steps[column]}`, ...(extra?.(row, column) ?? [])];
  }

  value() {
    return this.cell ? this.state.map.values[this.cell[0] * this.state.map.n + this.cell[1]] : null;
  }

  #cross() {
    const context = this.over.getContext("2d");
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.over.width, this.over.height);
    const { left, top, side } = this.place;
    const line = (a, b, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(...a);
      context.lineTo(...b);
      context.stroke();
    };
    for (const edge of this.phases ?? []) {
      for (const [colour, width] of [["rgba(0,0,0,.75)", 2.4], ["rgba(255,255,255,.9)", 1]]) {
        line([left + edge * side, top], [left + edge * side, top + side], colour, width);
        line([left, top + edge * side], [left + side, top + edge * side], colour, width);
      }
    }
    this.tip.hidden = !(this.cell && this.shown);
    if (!this.cell) return;
    const { scale, map } = this.state;
    const [row, column] = this.cell;
    const x = left + this.axis.centres[column] * side;
    const y = top + this.axis.centres[row] * side;
    for (const [colour, width] of [["rgba(255,255,255,.8)", 3], [theme().cross, 1.2]]) {
      line([x, top], [x, top + side], colour, width);
      line([left, y], [left + side, y], colour, width);
    }
    const value = map.values[row * map.n + column];
    if (this.bar && Number.isFinite(value)) {
      const at = top + side * (1 - Math.min(1, Math.max(0, (value - scale.low) / (scale.high - scale.low))));
      line([left + side + 12, at], [left + side + 34, at], theme().cross, 2.5);
    }
    if (this.shown) {
      const [first, ...rest] = this.lines();
      this.tip.replaceChildren();
      add(this.tip, [
        h("div", { class: "value" }, h("span", { class: "swatch", vars: { "--swatch": css(value, scale) } }), first),
        rest.map((r) => h("div", {}, r)),
      ]);
      const wide = this.tip.offsetWidth;
      this.tip.style.left = `${x + 14 + wide > left + side ? Math.max(0, x - wide - 14) : x + 14}px`;
      const tall = this.tip.offsetHeight;
      this.tip.style.top = `${y + 14 + tall > top + side ? Math.max(0, y - tall - 12) : y + 14}px`;
    }
  }

  scene() {
    const { scale, marks, title, caption, label, unit } = this.state;
    const image = document.createElement("canvas");
    paintMap(image, this.side * 2, this.state.map, this.axis, scale, LIGHT);
    return mapScene({ axis: this.axis, scale, box: layout(this.side), colours: LIGHT, image, phases: this.phases, marks, title, caption, label, unit });
  }

  buttons() {
    return downloads("map", [
      ["PNG", () => toCanvas(this.scene(), 3).toBlob((blob) => download(`${this.name()}.png`, blob))],
      ["SVG", () => download(`${this.name()}.svg`, toSVG(this.scene()), "image/svg+xml")],
      ["CSV", () => download(`${this.name()}.csv`, mapCSV(this.state.map, this.state.each), "text/csv")],
    ]);
  }
}
