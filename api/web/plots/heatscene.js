// A picture of one number by layer and step, as shapes: rows with names, an axis of steps, a colour bar. And as a table.

import { bin, table } from "../base/colors.js";
import { csv } from "../base/dom.js";
import { niceTicks, tickPlaces } from "./axis.js";
import { tickText } from "./mapscene.js";
import { barImage } from "./paint.js";
import { headOf } from "./scene.js";

const TOP = 8;
const BOTTOM = 40;
const BAR = 92;
const ROW = [9, 26];
const LONGEST = 18;

export const shortName = (name) => (name.length > LONGEST ? `…${name.slice(1 - LONGEST)}` : name);

// `width` is all that there is; rows are as high as suits their number.
export function heatLayout(rows, width) {
  const left = Math.min(150, 20 + 6.6 * Math.max(4, ...rows.map((r) => shortName(r).length)));
  const row = Math.max(ROW[0], Math.min(ROW[1], 420 / Math.max(1, rows.length)));
  const wide = Math.max(120, width - left - BAR);
  const high = row * rows.length;
  return { left, top: TOP, wide, high, row, width: left + wide + BAR, height: TOP + high + BOTTOM };
}

// One line of pixels a row, cells as wide as the axis has them; undefined cells are striped.
export function paintHeat(canvas, width, { rows, steps, values }, axis, scale, colours) {
  canvas.width = width;
  canvas.height = Math.max(1, rows.length);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const lut = table(scale.palette);
  const cell = Int32Array.from({ length: width }, (_, x) => (axis.holds((x + 0.5) / width) ? axis.at((x + 0.5) / width) : -1));
  for (let i = 0; i < rows.length; i++) {
    for (let x = 0; x < width; x++) {
      if (cell[x] < 0) continue;
      const v = values[i * steps.length + cell[x]];
      pixels[i * width + x] = v !== v ? (x % 8 < 2 ? colours.undefinedB : colours.undefinedA) : lut[bin(v, scale)];
    }
  }
  context.putImageData(image, 0, 0);
}

// A scale for any numbers: from the least to the greatest; about 0 where some are below it, unless that means nothing (logarithms).
export function heatScale(values, { aboutZero = true } = {}) {
  let [least, greatest] = [Infinity, -Infinity];
  for (const v of values) {
    if (v < least) least = v;
    if (v > greatest) greatest = v;
  }
  if (least > greatest) return { low: 0, high: 1, palette: "viridis" };
  if (aboutZero && least < 0) {
    const most = Math.max(-least, greatest);
    return { low: -most, high: most, palette: "RdBu_r" };
  }
  return greatest > least ? { low: least, high: greatest, palette: "viridis" } : { low: Math.min(0, least), high: Math.max(0, greatest) || 1, palette: "viridis" };
}

export function heatScene({ rows, axis, scale, box, colours, image, title, caption, label, unit }) {
  const { left, top, wide, high, row, width } = box;
  const { shapes, height: head } = headOf({ title: image && title, caption: image && caption, left: 12, width, colours });
  const y0 = top + head;
  if (image) shapes.unshift({ rect: [0, 0, width, box.height + head], fill: colours.ground });
  if (image) shapes.push({ image, box: [left, y0, wide, high] });
  shapes.push({ rect: [left - 0.5, y0 - 0.5, wide + 1, high + 1], stroke: colours.muted });
  for (const i of tickPlaces(axis.centres, 44 / wide)) {
    const x = left + axis.centres[i] * wide;
    shapes.push({ line: [[x, y0 + high], [x, y0 + high + 4]], stroke: colours.muted });
    shapes.push({ text: tickText(axis.steps[i]), at: [x, y0 + high + 16], size: 11, anchor: "middle", fill: colours.ink });
  }
  const every = Math.max(1, Math.ceil(13 / row));
  rows.forEach((name, i) => {
    if (i % every === 0) shapes.push({ text: shortName(name), at: [left - 7, y0 + (i + 0.5) * row + 4], size: 11, anchor: "end", fill: colours.ink });
  });
  shapes.push({ text: label, at: [left + wide / 2, y0 + high + 33], size: 12, anchor: "middle", fill: colours.muted });
  const bx = left + wide + 16;
  shapes.push({ image: barImage(scale.palette), box: [bx, y0, 14, high] });
  shapes.push({ rect: [bx - 0.5, y0 - 0.5, 15, high + 1], stroke: colours.muted });
  for (const v of niceTicks(scale.low, scale.high, Math.max(2, Math.min(6, high / 40)))) {
    const y = y0 + high * (1 - (v - scale.low) / (scale.high - scale.low));
    shapes.push({ line: [[bx + 14, y], [bx + 18, y]], stroke: colours.muted });
    shapes.push({ text: String(Number(v.toPrecision(3))).replace("-", "−"), at: [bx + 21, y + 4], size: 11, fill: colours.ink });
  }
  shapes.push({ text: unit, at: [width - 8, y0 + high / 2], size: 12, anchor: "middle", fill: colours.muted, turn: -90 });
  return { width, height: box.height + head, shapes };
}

export function heatCSV({ rows, steps, values }) {
  return csv([["group", ...steps], ...rows.map((name, i) => [name, ...values.slice(i * steps.length, (i + 1) * steps.length)])]);
}
