// A scatter plot of runs: the same shapes on the screen and in downloads; points are named where they are pointed at, and lead to their run.

import { csv, download, downloads, h } from "../base/dom.js";
import { LIGHT, onTheme, theme } from "../base/theme.js";
import { href } from "../base/url.js";
import { draw, toCanvas, toSVG } from "./scene.js";
import { scatterScene } from "./scatterscene.js";

const HEIGHT = 280;
const NEAR = 14; // pixels from a point that still mean it

export class Scatter {
  constructor({ name = () => "scatter", level = 3 } = {}) {
    this.name = name;
    this.head = h(`h${level}`, { hidden: true }); // until it says something
    this.canvas = h("canvas", { role: "img" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.box = h("div", { class: "scatterbox" }, this.canvas, this.tip);
    this.note = h("p", { class: "note" });
    this.element = h("section", { class: "chart" }, h("div", { class: "charthead" }, this.head, this.#buttons()), this.box, this.note);
    this.canvas.addEventListener("pointermove", (e) => this.#point(this.#at(e)));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.canvas.addEventListener("click", (e) => {
      const found = this.#at(e);
      if (found) location.hash = href(["run", found.run]);
    });
    this.end = onTheme(() => this.draw());
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.box);
  }

  destroy() {
    this.end();
    this.observer.disconnect();
  }

  show(spec) {
    this.spec = spec;
    this.head.textContent = spec.title;
    this.head.hidden = false;
    this.note.textContent = spec.note ?? "";
    this.note.hidden = !spec.note;
    this.draw();
  }

  draw() {
    const width = this.box.clientWidth;
    if (!this.spec || !width) return;
    const ratio = devicePixelRatio || 1;
    const height = this.#height();
    this.scene = scatterScene(this.spec, { width, height, colours: theme() });
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    draw(this.scene, this.canvas.getContext("2d"), ratio);
    const shown = this.scene.points.filter((p) => !p.dimmed).length;
    this.canvas.setAttribute("aria-label", `${this.spec.title}: ${shown} ${shown === 1 ? "run" : "runs"}${this.spec.lines.length > 1 ? ` on ${this.spec.lines.length} lines` : ""}. The table has the numbers.`);
    this.element.dataset.points = shown;
  }

  #height() {
    const lines = this.spec.lines.length;
    return HEIGHT + (lines > 1 ? 16 * Math.ceil(Math.min(12, lines) / 2) : 0);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = (p) => Math.hypot(p.at[0] - x, p.at[1] - y);
    const found = (this.scene?.points ?? []).filter((p) => !p.dimmed && far(p) < NEAR).sort((a, b) => far(a) - far(b));
    return found[0] ?? null;
  }

  #point(found) {
    this.canvas.style.cursor = found ? "pointer" : "";
    this.tip.hidden = !found;
    if (!found) return;
    this.tip.replaceChildren(h("div", { class: "value" }, found.run), `${this.spec.xlabel} ${found.x}, ${this.spec.unit} ${Number(found.y.toPrecision(5))}`);
    const [x, y] = found.at;
    const left = x > this.box.clientWidth / 2;
    Object.assign(this.tip.style, { left: left ? "" : `${x + 10}px`, right: left ? `${this.box.clientWidth - x + 10}px` : "", top: `${Math.max(0, y - 40)}px` });
  }

  #picture() {
    return scatterScene({ ...this.spec, points: this.spec.points.map((p) => ({ ...p })) }, { width: 640, height: this.#height() + 90, colours: LIGHT, head: true });
  }

  #buttons() {
    const name = () => this.name();
    return downloads("chart", [
      ["PNG", () => toCanvas(this.#picture(), 3).toBlob((blob) => download(`${name()}.png`, blob))],
      ["SVG", () => download(`${name()}.svg`, toSVG(this.#picture()), "image/svg+xml")],
      ["CSV", () => download(`${name()}.csv`, csv([["run", this.spec.xlabel, this.spec.unit, "line"], ...this.spec.points.map((p) => [p.run, p.x, p.y, p.line])]), "text/csv")],
    ]);
  }
}
