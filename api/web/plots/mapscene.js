// What stands around a map, as shapes: axes with steps, colour bar with numbers, phases, marks. And the map's numbers as a table.

import { csv, step as stepText } from "../base/dom.js";
import { niceTicks, tickPlaces } from "./axis.js";
import { barImage } from "./paint.js";
import { headOf } from "./scene.js";

export const LEFT = 58;
const TOP = 8;
const BOTTOM = 40;
const BAR = 92;

// What lies right of the map: the bar of colours with its numbers, or nothing.
export const right = (bar) => (bar ? BAR : 12);

export function layout(side, bar = true) {
  return { left: LEFT, top: TOP, side, width: LEFT + side + right(bar), height: TOP + side + BOTTOM };
}

// Fractions of training have two digits at the axis, so that they stay clear of its title.
export const tickText = (step) => (step > 0 && step < 1 ? String(Number(step.toPrecision(2))) : stepText(step));

// With `image` the map itself is among the shapes, under its title and caption. `phases` are edges and `marks` places, both fractions of
// the axis.
export function mapScene({ axis, scale, box, colours, image, phases = [], marks = [], title, caption, label = "step", bar = true, unit = "cosine" }) {
  const { left, top, side, width } = box;
  const { shapes, height: head } = headOf({ title, caption, left: image ? 12 : left, width, colours });
  const y0 = top + head;
  const ink = colours.ink;
  if (image) shapes.unshift({ rect: [0, 0, width, box.height + head], fill: colours.ground });
  if (image) shapes.push({ image, box: [left, y0, side, side] });
  shapes.push({ rect: [left - 0.5, y0 - 0.5, side + 1, side + 1], stroke: colours.muted });
  const places = tickPlaces(axis.centres, 44 / side);
  const upright = tickPlaces(axis.centres, 18 / side);
  for (const i of places) {
    const x = left + axis.centres[i] * side;
    shapes.push({ line: [[x, y0 + side], [x, y0 + side + 4]], stroke: colours.muted });
    shapes.push({ text: tickText(axis.steps[i]), at: [x, y0 + side + 16], size: 11, anchor: "middle", fill: ink });
  }
  for (const i of upright) {
    const y = y0 + axis.centres[i] * side;
    shapes.push({ line: [[left - 4, y], [left, y]], stroke: colours.muted });
    shapes.push({ text: tickText(axis.steps[i]), at: [left - 7, y + 4], size: 11, anchor: "end", fill: ink });
  }
  shapes.push({ text: label, at: [left + side / 2, y0 + side + 33], size: 12, anchor: "middle", fill: colours.muted });
  shapes.push({ text: label, at: [13, y0 + side / 2], size: 12, anchor: "middle", fill: colours.muted, turn: -90 });
  if (bar) {
    const [bx, bh] = [left + side + 16, side];
    shapes.push({ image: barImage(scale.palette), box: [bx, y0, 14, bh] });
    shapes.push({ rect: [bx - 0.5, y0 - 0.5, 15, bh + 1], stroke: colours.muted });
    const ticks = niceTicks(scale.low, scale.high, Math.max(3, Math.min(8, side / 60)));
    for (const v of ticks) {
      const y = y0 + bh * (1 - (v - scale.low) / (scale.high - scale.low));
      shapes.push({ line: [[bx + 14, y], [bx + 18, y]], stroke: colours.muted });
      shapes.push({ text: String(v).replace("-", "−"), at: [bx + 21, y + 4], size: 11, fill: ink });
    }
    const longest = Math.max(...ticks.map((v) => String(v).length));
    shapes.push({ text: unit, at: [bx + Math.max(60, 30 + 6.3 * longest), y0 + bh / 2], size: 12, anchor: "middle", fill: colours.muted, turn: -90 });
  }
  for (const edge of phases) {
    const p = edge * side;
    for (const [stroke, wide] of [["#000000", 2.4], ["#ffffff", 1]]) {
      shapes.push({ line: [[left + p, y0], [left + p, y0 + side]], stroke, width: wide, opacity: 0.75 });
      shapes.push({ line: [[left, y0 + p], [left + side, y0 + p]], stroke, width: wide, opacity: 0.75 });
    }
  }
  for (const mark of marks) {
    for (const [x, y] of [[left + mark * side, y0 + side + 5], [left - 5, y0 + mark * side]]) shapes.push({ path: diamond(x, y, 4.5), fill: colours.drop });
  }
  return { width, height: box.height + head, shapes };
}

export const diamond = (x, y, r) => [[x - r, y], [x, y - r], [x + r, y], [x, y + r]];

// Phases begin before their first checkpoint. `steps` are those of the axis, which may number tokens.
export function phaseEdges(axis, phases, steps) {
  const found = [];
  for (const phase of phases.slice(1)) {
    const i = steps.findIndex((s) => s >= phase.start_step);
    if (i > 0 && i < steps.length - 1) found.push(axis.edges[i]);
  }
  return found;
}

export function mapCSV(map, counted = "step") {
  const rows = map.steps.map((s, i) => [s, ...map.values.subarray(i * map.n, (i + 1) * map.n)]);
  return csv([[counted, ...map.steps], ...rows]);
}

export function nearest(steps, value) {
  let best = 0;
  for (let i = 1; i < steps.length; i++) if (Math.abs(steps[i] - value) < Math.abs(steps[best] - value)) best = i;
  return best;
}

export function describe(map) {
  let [least, greatest, holes] = [Infinity, -Infinity, 0];
  for (const v of map.values) {
    if (v !== v) holes += 1;
    else {
      if (v < least) least = v;
      if (v > greatest) greatest = v;
    }
  }
  if (!map.n || least === Infinity) return "No entry is defined.";
  const missing = holes ? ` ${holes} entries are undefined.` : "";
  return `${map.n} by ${map.n} values from ${least.toFixed(4)} to ${greatest.toFixed(4)}.${missing}`;
}
