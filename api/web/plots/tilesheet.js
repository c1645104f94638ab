// Many maps on one sheet and one scale: what a grid of tiles is downloaded as.

import { download, downloads } from "../base/dom.js";
import { LIGHT } from "../base/theme.js";
import { makeAxis } from "./axis.js";
import { layout, mapCSV, mapScene } from "./mapscene.js";
import { paintMap } from "./paint.js";
import { toCanvas, toSVG } from "./scene.js";

const SIDE = 150;
const LETTERS = 26;

// Buttons; make() gives {name, title, scale, columns, maps: [{name, map}]}, also of those that were not scrolled to.
export const sheetDownloads = (what, make) =>
  downloads(what, ["PNG", "SVG", "CSV"].map((form) => [form, async () => save(form, await make())]));

function save(form, sheet) {
  const { name, maps } = sheet;
  if (form === "CSV") return download(`${name}.csv`, maps.map((m) => `# ${m.name.replace(/[\r\n]+/g, " ")}\n${mapCSV(m.map)}`).join("\n"), "text/csv");
  const scene = sheetScene(sheet);
  if (form === "SVG") return download(`${name}.svg`, toSVG(scene), "image/svg+xml");
  return toCanvas(scene, 2).toBlob((blob) => download(`${name}.png`, blob));
}

function sheetScene({ title, scale, maps, columns = Math.ceil(Math.sqrt(maps.length * 1.4)) }) {
  const [w, t] = [SIDE + 24, SIDE + 34];
  const across = Math.max(1, columns);
  const width = across * w + 110;
  const height = Math.max(Math.ceil(maps.length / across) * t + 40, 260);
  const shapes = [
    { rect: [0, 0, width, height], fill: LIGHT.ground },
    { text: title, at: [12, 20], size: 14, weight: 600, fill: LIGHT.ink },
  ];
  maps.forEach(({ name, map }, i) => {
    const [x, y] = [12 + (i % across) * w, 40 + Math.floor(i / across) * t];
    const canvas = document.createElement("canvas");
    paintMap(canvas, SIDE * 2, map, makeAxis(map.steps, "index"), scale, LIGHT);
    const text = name.length > LETTERS ? `…${name.slice(1 - LETTERS)}` : name;
    shapes.push({ text, at: [x, y + 8], size: 10, fill: LIGHT.ink }, { image: canvas, box: [x, y + 14, SIDE, SIDE] });
  });
  // The colour bar is that of a map, without the map.
  const bar = mapScene({ axis: makeAxis([], "index"), scale, box: { ...layout(180), left: across * w + 10 - 180 - 6 }, colours: LIGHT });
  const from = bar.shapes.findIndex((s) => s.image);
  shapes.push(...bar.shapes.slice(from).map((s) => shift(s, 46)));
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
