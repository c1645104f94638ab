// Many small maps on one scale: fetched and drawn when they come into view, one crosshair through all of them. The scale is that of all
// the maps, of those too that nobody has looked at yet, so that it does not depend on what is in view.

import { hover, onHover } from "../base/bus.js";
import { scaleFrom, scaleOf } from "../base/colors.js";
import { cosine, h, number } from "../base/dom.js";
import { onTheme, theme } from "../base/theme.js";
import * as api from "../data/api.js";
import * as G from "../math/gram.js";
import { mapOf, within } from "../math/view_of.js";
import { nearest } from "./mapscene.js";
import { paintCells } from "./paint.js";

export class Tiles {
  // onscale(scale): when the common scale has changed; own: a scale that was chosen by hand, or null
  // words(row, column): what else is said of two steps; counted: what the numbers of checkpoints are
  // bulk(params): Map of group → map, of all tiles in one answer and rounded, or null; a tile that is pointed at fetches its own exactly
  // range(params): {least} of all maps, if somebody knows it; else all of them are fetched to find it
  constructor({ root, onscale = () => {}, onread = () => {}, words = () => "", bulk = async () => null, range = async () => null, counted = "steps" }) {
    Object.assign(this, { root, onscale, onread, words, bulk, range, counted });
    this.tiles = new Map();
    root.tiles = this;
    this.observer = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const tile = entry.target.tile;
          tile.visible = entry.isIntersecting;
          if (tile.visible) this.#want(tile);
        }
      },
      { rootMargin: "200px" },
    );
    this.ends = [onHover((what) => this.#follow(what)), onTheme(() => this.#paintAll())];
    root.addEventListener("pointermove", (e) => this.#point(e));
    root.addEventListener("pointerleave", () => hover(null));
  }

  destroy() {
    this.observer.disconnect();
    for (const end of this.ends) end();
  }

  // A link with a map; `run`, `group`, `digest` say whose.
  tile({ run, group, digest, name, title, link, label = title ?? group }) {
    const canvas = h("canvas", { "aria-hidden": "true" });
    const value = h("span", { class: "v" });
    const element = h(
      "a",
      { class: "tile", href: link, title: title ?? group, "data-group": group },
      h("div", { class: "frame" }, canvas),
      h("div", { class: "name" }, h("span", {}, name), value),
    );
    const tile = { run, group, digest, canvas, value, element, visible: false, name, label };
    element.tile = tile;
    this.tiles.set(element, tile);
    this.observer.observe(element);
    return element;
  }

  // Another digest of the same run: what is drawn stays until its successor is there.
  renew(digest) {
    for (const tile of this.tiles.values()) Object.assign(tile, { digest, asked: false, gram: null, map: null });
    this.#measure();
    for (const tile of this.tiles.values()) if (tile.visible) this.#want(tile);
  }

  // The maps of all tiles, of those too that were never in view.
  maps() {
    return Promise.all([...this.tiles.values()].map(async (t) => ({
      name: t.label, group: t.group, map: mapOf(within(await api.gram(t.run, t.group, t.digest), this.params), this.params),
    })));
  }

  // What all maps have in common, before those are drawn that can be seen. Another one that was asked for meanwhile goes before.
  async #measure() {
    const { params } = this;
    const mine = (this.measuring = {});
    let least = Infinity;
    this.answered = this.bulk(params).catch(() => null);
    const maps = await this.answered;
    if (this.measuring !== mine) return;
    if (maps) {
      for (const map of maps.values()) for (const v of map.values) if (v < least) least = v;
      for (const tile of this.tiles.values()) if (!tile.gram && maps.has(tile.group)) this.#take(tile, maps.get(tile.group));
      this.common = scaleFrom(least);
      this.#rescale();
      this.#paintAll();
      return;
    }
    try {
      const found = (await this.range(params)) ?? (await this.#least(params));
      least = found.least ?? Infinity;
    } catch {
      for (const tile of this.tiles.values()) if (tile.map) least = Math.min(least, scaleOf([tile.map]).low);
    }
    if (this.measuring !== mine) return;
    this.common = scaleFrom(least);
    this.#rescale();
    this.#paintAll();
  }

  async #least(params) {
    let least = Infinity;
    let pause = performance.now();
    for (const tile of this.tiles.values()) {
      const gram = await api.gram(tile.run, tile.group, tile.digest).catch(() => null);
      if (gram) for (const v of mapOf(within(gram, params), params).values) if (v < least) least = v;
      // The page goes on answering meanwhile.
      if (performance.now() - pause > 30) {
        await new Promise((go) => setTimeout(go));
        pause = performance.now();
      }
    }
    return { least };
  }

  show(params, own) {
    this.params = params;
    this.own = own;
    const key = JSON.stringify(["view", "origin", "from", "to"].map((name) => params[name]));
    if (key === this.measured) {
      this.#rescale();
      this.#paintAll();
      return;
    }
    this.measured = key;
    // What is drawn stays until the scale of its successors is known.
    this.common = null;
    this.#measure();
    for (const tile of this.tiles.values()) {
      tile.map = null;
      if (tile.gram) this.#compute(tile);
      else if (tile.visible) this.#want(tile);
    }
  }

  #take(tile, map) {
    tile.map = map;
    tile.mean = G.meanDefined(map.values);
    tile.element.dataset.digest = tile.digest ?? "";
  }

  #compute(tile) {
    tile.map = mapOf(within(tile.gram, this.params), this.params);
    tile.mean = G.meanDefined(tile.map.values);
  }

  async #want(tile) {
    if (tile.asked || tile.map || !this.params) return this.#paint(tile);
    tile.asked = true;
    const { answered } = this;
    const maps = await answered;
    if (answered !== this.answered) {
      tile.asked = false;
      return this.#want(tile);
    }
    // It was drawn with all others when the answer came.
    if (maps?.has(tile.group)) {
      tile.asked = false;
      return;
    }
    return this.#fetch(tile);
  }

  async #fetch(tile) {
    const { digest } = tile;
    try {
      const gram = await api.gram(tile.run, tile.group, digest);
      if (tile.digest !== digest) return;
      tile.gram = gram;
    } catch (error) {
      tile.value.textContent = "–";
      tile.element.title = error.message;
      tile.asked = error.status === 404;
      return;
    }
    if (!this.tiles.has(tile.element)) return;
    this.#compute(tile);
    tile.element.dataset.digest = digest ?? "";
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.#paintAll();
    });
  }

  #rescale() {
    if (!this.common) return;
    const scale = this.own ? this.own(this.common) : this.common;
    if (JSON.stringify(scale) === JSON.stringify(this.scale)) return;
    this.scale = scale;
    this.onscale(scale);
  }

  #paintAll() {
    const begun = performance.now();
    let count = 0;
    for (const tile of this.tiles.values()) if (tile.visible && this.#paint(tile)) count += 1;
    this.lastPaint = { maps: count, ms: performance.now() - begun };
    this.root.dataset.painted = String(this.common ? [...this.tiles.values()].filter((t) => t.map).length : 0);
  }

  #paint(tile) {
    if (!tile.map || !this.common) return false;
    paintCells(tile.canvas, tile.map, this.scale, theme());
    if (!this.crossing) tile.value.textContent = Number.isNaN(tile.mean) ? "undefined" : number(tile.mean, 3);
    tile.element.setAttribute("aria-label", `${tile.label}: mean cosine ${number(tile.mean, 3)}`);
    return true;
  }

  #point(event) {
    const frame = event.target.closest?.(".frame");
    const tile = frame?.closest(".tile")?.tile;
    if (!tile?.map?.n) return;
    const box = frame.getBoundingClientRect();
    const cell = (p, low, size) => Math.min(tile.map.n - 1, Math.max(0, Math.floor(((p - low) / size) * tile.map.n)));
    const column = cell(event.clientX, box.left, box.width);
    const row = cell(event.clientY, box.top, box.height);
    hover({ row: tile.map.steps[row], column: tile.map.steps[column], from: this, tile });
    if (tile.gram || tile.exact === tile.digest) return;
    tile.exact = tile.digest;
    this.#fetch(tile).then(() => this.crossing?.tile === tile && this.#follow(this.crossing));
  }

  #follow(what) {
    this.crossing = what;
    const drawn = [...this.tiles.values()].filter((t) => t.map?.n);
    this.root.classList.toggle("crossed", Boolean(what && drawn.length));
    if (!what || !drawn.length) {
      for (const tile of drawn) tile.value.textContent = Number.isNaN(tile.mean) ? "undefined" : number(tile.mean, 3);
      this.onread(null);
      return;
    }
    const { map } = what.tile ?? drawn[0];
    const [row, column] = [nearest(map.steps, what.row ?? what.column), nearest(map.steps, what.column)];
    this.root.style.setProperty("--cx", (column + 0.5) / map.n);
    this.root.style.setProperty("--cy", (row + 0.5) / map.n);
    for (const tile of drawn) {
      if (!tile.visible) continue;
      const m = tile.map;
      const [r, c] = m === map ? [row, column] : [nearest(m.steps, what.row ?? what.column), nearest(m.steps, what.column)];
      const v = m.values[r * m.n + c];
      tile.value.textContent = Number.isNaN(v) ? "undef." : v.toFixed(3).replace("-", "−");
    }
    const v = map.values[row * map.n + column];
    this.onread(what.tile ? `${what.tile.label}: ${cosine(v)} at ${this.counted} ${map.steps[row]} × ${map.steps[column]}${this.words(map.steps[row], map.steps[column])}` : null);
  }
}
