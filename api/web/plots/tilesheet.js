// Many maps on one sheet and one scale: what a grid of tiles is downloaded as.

import { download, downloads } from "../base/dom.js";
import { LIGHT } from "../base/theme.js";
import { makeAxis } from "./axis.js";
import { layout, mapCSV, mapScene } from "./mapscene.js";
import { paintMap } from "./paint.js";
import { headOf, toCanvas, toSVG } from "./scene.js";

const SIDE = 150;
const LETTERS = 26;

// Buttons; make() gives {name, title, caption, scale, maps: [{name, map}]}, also of those that were not scrolled to. With `rows` and `columns`
// (texts) each map has a `cell`, [row, column], and a cell may be empty; without, maps lie one after the other.
export const sheetDownloads = (what, make) =>
  downloads(what, ["PNG", "SVG", "CSV"].map((form) => [form, async () => save(form, await make())]));

function save(form, sheet) {
  const { name, maps } = sheet;
  if (form === "CSV") return download(`${name}.csv`, maps.map((m) => `# ${m.name.replace(/[\r\n]+/g, " ")}\n${mapCSV(m.map, m.counted)}`).join("\n"), "text/csv");
  const scene = sheetScene(sheet);
  if (form === "SVG") return download(`${name}.svg`, toSVG(scene), "image/svg+xml");
  return toCanvas(scene, 2).toBlob((blob) => download(`${name}.png`, blob));
}

function sheetScene({ title, caption, scale, maps, rows, columns }) {
  const table = Boolean(rows);
  const [w, t] = table ? [SIDE + 10, SIDE + 10] : [SIDE + 24, SIDE + 34];
  const across = Math.max(1, table ? columns.length : Math.ceil(Math.sqrt(maps.length * 1.4)));
  const left = table ? 18 + 7 * Math.max(...rows.map((r) => r.length)) : 12;
  const down = table ? rows.length : Math.ceil(maps.length / across);
  const width = Math.max(left + across * w + 98, 420);
  const { shapes, height: head } = headOf({ title, caption, left: 12, width, colours: LIGHT });
  const top = head + (table ? 24 : 8);
  const height = Math.max(top + down * t, head + 240);
  shapes.unshift({ rect: [0, 0, width, height], fill: LIGHT.ground });
  const short = (text) => (text.length > LETTERS ? `…${text.slice(1 - LETTERS)}` : text);
  maps.forEach(({ name, map, cell }, i) => {
    const [row, column] = cell ?? [Math.floor(i / across), i % across];
    const [x, y] = [left + column * w, top + row * t];
    const canvas = document.createElement("canvas");
    paintMap(canvas, SIDE * 2, map, makeAxis(map.steps, "index"), scale, LIGHT);
    if (!table) shapes.push({ text: short(name), at: [x, y + 8], size: 10, fill: LIGHT.ink });
    shapes.push({ image: canvas, box: [x, table ? y : y + 14, SIDE, SIDE] });
  });
  if (table) {
    columns.forEach((text, i) => shapes.push({ text: short(text), at: [left + i * w + SIDE / 2, top - 8], size: 11, anchor: "middle", fill: LIGHT.ink }));
    rows.forEach((text, i) => shapes.push({ text, at: [left - 6, top + i * t + SIDE / 2], size: 11, anchor: "end", fill: LIGHT.ink }));
  }
  // The colour bar is that of a map, without the map.
  const bar = mapScene({ axis: makeAxis([], "index"), scale, box: { ...layout(180), left: left + across * w - 188 }, colours: LIGHT });
  const from = bar.shapes.findIndex((s) => s.image);
  shapes.push(...bar.shapes.slice(from).map((s) => shift(s, top + 6)));
  return { width, height, shapes };
}

function shift(shape, down) {
  const moved = { ...shape };
  if (shape.box) moved.box = [shape.box[0], shape.box[1] + down, shape.box[2], shape.box[3]];
  if (shape.rect) moved.rect = [shape.rect[0], shape.rect[1] + down, shape.rect[2], shape.rect[3]];
  if (shape.line) moved.line = shape.line.map(([x, y]) => [x, y + down]);
  if (shape.at) moved.at = [shape.at[0], shape.at[1] + down];
  return moved;
}
