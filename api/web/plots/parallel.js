// Parallel coordinates: an axis for every hyperparameter and measure, a line a run. A brush on an axis keeps the runs that cross it there:
// drag along the axis, or move its two handles with the pointer or the arrow keys.

import { download, downloads, h } from "../base/dom.js";
import { LIGHT, onTheme, theme } from "../base/theme.js";
import { headOf, draw, toCanvas, toSVG } from "./scene.js";
import { valueScale } from "./scatterscene.js";

const HEIGHT = 300;
const [TOP, BOTTOM, SIDE] = [34, 14, 46];
const STEP = 0.05; // of the axis, by an arrow key
const LEAST = 0.02; // of the axis: a shorter drag is a click, which takes the brush away
const APART = 104; // pixels between axes

// What an axis says of a run: 0 … 1, NaN where the run has no value.
export const scalesOf = (axes, rows) => new Map(axes.map(({ key }) => [key, valueScale(rows.map((r) => r.values[key]))]));

// The runs that cross every brush.
export function within(rows, scales, brushes) {
  const asked = Object.entries(brushes).filter(([key]) => scales.has(key));
  return rows.filter((r) => asked.every(([key, [low, high]]) => {
    const at = scales.get(key).place(r.values[key]);
    return at >= low - 1e-6 && at <= high + 1e-6;
  }));
}

export function parallelScene({ axes, rows, scales, kept, title, caption }, { width, height, colours, head = false }) {
  const top = head ? headOf({ title, caption, left: 16, width, colours }) : { shapes: [], height: 0 };
  const [y0, tall] = [top.height + TOP, height - top.height - TOP - BOTTOM];
  const X = (k) => SIDE / 2 + (axes.length > 1 ? (k / (axes.length - 1)) * (width - 2 * SIDE) : 0);
  const shapes = [...top.shapes];
  if (head) shapes.unshift({ rect: [0, 0, width, height], fill: colours.ground });
  const last = axes.at(-1)?.key;
  const through = (r) => axes.map(({ key }, k) => [X(k), y0 + tall * (1 - scales.get(key).place(r.values[key]))]);
  const colour = (r) => colours.lines[Math.min(4, Math.floor(5 * (scales.get(last).place(r.values[last]) || 0)))];
  for (const r of [...rows].sort((a, b) => kept.has(a.run) - kept.has(b.run))) {
    const inside = kept.has(r.run);
    let piece = [];
    for (const point of [...through(r), [NaN, NaN]]) {
      if (Number.isFinite(point[1])) piece.push(point);
      else {
        if (piece.length > 1) shapes.push({ line: piece, stroke: inside ? colour(r) : colours.muted, width: inside ? 1.4 : 0.8, opacity: inside ? 0.8 : 0.15 });
        piece = [];
      }
    }
  }
  axes.forEach(({ key, title: text }, k) => {
    shapes.push({ line: [[X(k), y0], [X(k), y0 + tall]], stroke: colours.ink, width: 1 });
    const most = Math.max(6, Math.floor((width / axes.length - 6) / 6.6));
    shapes.push({ text: text.length > most ? `${text.slice(0, most - 1)}…` : text, at: [X(k), y0 - 16], size: 11, anchor: k ? "middle" : "start", weight: 600, fill: colours.ink });
    for (const [at, said] of scales.get(key).ticks) {
      const y = y0 + tall * (1 - at);
      shapes.push({ line: [[X(k) - 3, y], [X(k) + 3, y]], stroke: colours.ink });
      const shown = said.length > 10 ? `${said.slice(0, 9)}…` : said;
      shapes.push({ rect: [X(k) + 6, y - 7, 5 + 6 * shown.length, 13], fill: colours.ground, opacity: 0.75 });
      shapes.push({ text: shown, at: [X(k) + 8, y + 4], size: 10, fill: colours.ink });
    }
  });
  return { width, height, shapes, X, y0, tall };
}

export class Parallel {
  // onbrush(key, [low, high] | null, done)
  constructor({ onbrush, name }) {
    Object.assign(this, { onbrush, name });
    this.canvas = h("canvas", { role: "img" });
    this.axes = h("div", { class: "paxes" });
    this.inner = h("div", { class: "parallel" }, this.canvas, this.axes);
    this.element = h("div", { class: "scroll plainscroll", tabindex: "0", role: "region", "aria-label": "Parallel coordinates" }, this.inner);
    this.end = onTheme(() => this.draw());
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  destroy() {
    this.end();
    this.observer.disconnect();
  }

  // {axes: [{key, title}], rows: [{run, values}], scales, kept: Set of names, brushes: {key: [low, high]}, title, caption}
  show(state) {
    const same = this.state && this.state.axes.map((a) => a.key).join() === state.axes.map((a) => a.key).join();
    this.state = state;
    if (!same) this.axes.replaceChildren(...state.axes.map((axis) => this.#axis(axis)));
    this.draw();
  }

  draw() {
    const room = this.element.clientWidth;
    if (!this.state || !room) return;
    const width = Math.max(room - 2, APART * this.state.axes.length);
    const ratio = devicePixelRatio || 1;
    this.scene = parallelScene(this.state, { width, height: HEIGHT, colours: theme() });
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${HEIGHT}px` });
    this.inner.style.width = `${width}px`;
    draw(this.scene, this.canvas.getContext("2d"), ratio);
    const { rows, kept, brushes, axes } = this.state;
    this.canvas.setAttribute("aria-label", `${kept.size} of ${rows.length} runs through ${axes.map((a) => a.title).join(", ")}`);
    axes.forEach(({ key }, k) => {
      const place = this.axes.children[k];
      place.style.left = `${this.scene.X(k) - 9}px`;
      place.style.top = `${this.scene.y0}px`;
      place.style.height = `${this.scene.tall}px`;
      const [low, high] = brushes[key] ?? [0, 1];
      place.classList.toggle("brushed", key in brushes);
      const [band, lower, upper] = place.children;
      band.style.top = `${100 * (1 - high)}%`;
      band.style.height = `${100 * (high - low)}%`;
      for (const [handle, at] of [[lower, low], [upper, high]]) {
        handle.style.top = `${100 * (1 - at)}%`;
        handle.setAttribute("aria-valuenow", at.toFixed(2));
        handle.setAttribute("aria-valuetext", this.#said(key, at));
      }
    });
  }

  #said(key, at) {
    const scale = this.state.scales.get(key);
    if (scale.value) return String(Number(scale.value(at).toPrecision(3)));
    return `${Math.round(100 * at)} % of the axis`;
  }

  #axis({ key, title }) {
    const handle = (which) => {
      const element = h("div", { class: "phandle", role: "slider", tabindex: "0", "aria-label": `${which} end of the brush on ${title}`, "aria-valuemin": "0", "aria-valuemax": "1", "aria-orientation": "vertical" });
      element.addEventListener("keydown", (e) => {
        const by = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP }[e.key];
        if (by === undefined && e.key !== "Escape") return;
        e.preventDefault();
        if (e.key === "Escape") return this.onbrush(key, null, true);
        const [low, high] = this.state.brushes[key] ?? [0, 1];
        this.#set(key, which === "Lower" ? low + by : low, which === "Upper" ? high + by : high, true);
      });
      return element;
    };
    const place = h("div", { class: "paxis", "data-axis": key }, h("div", { class: "pband" }), handle("Lower"), handle("Upper"));
    place.addEventListener("pointerdown", (e) => this.#drag(e, key, place));
    return place;
  }

  #drag(event, key, place) {
    event.preventDefault();
    const at = (e) => {
      const box = place.getBoundingClientRect();
      return Math.min(1, Math.max(0, 1 - (e.clientY - box.top) / box.height));
    };
    const [, lower, upper] = place.children;
    const [low, high] = this.state.brushes[key] ?? [0, 1];
    const begun = event.target === lower ? high : event.target === upper ? low : at(event);
    place.setPointerCapture(event.pointerId);
    const apply = (e, done) => {
      const now = at(e);
      if (Math.abs(now - begun) >= LEAST) this.#set(key, Math.min(begun, now), Math.max(begun, now), done);
      else if (done) this.onbrush(key, null, true);
    };
    const move = (e) => apply(e, false);
    place.addEventListener("pointermove", move);
    place.addEventListener("pointerup", (e) => {
      place.removeEventListener("pointermove", move);
      apply(e, true);
    }, { once: true });
  }

  #set(key, a, b, done) {
    const ends = (v) => (v < LEAST ? 0 : v > 1 - LEAST ? 1 : v); // what lies at an end is meant by a brush that comes near it
    const [low, high] = [ends(Math.min(a, b)), ends(Math.max(a, b))];
    this.onbrush(key, low <= 0 && high >= 1 ? null : [low, high], done);
  }

  buttons() {
    const picture = () => parallelScene(this.state, { width: Math.max(760, APART * this.state.axes.length), height: 400, colours: LIGHT, head: true });
    return downloads("parallel coordinates", [
      ["PNG", () => toCanvas(picture(), 3).toBlob((blob) => download(`${this.name()}.png`, blob))],
      ["SVG", () => download(`${this.name()}.svg`, toSVG(picture()), "image/svg+xml")],
    ]);
  }
}
