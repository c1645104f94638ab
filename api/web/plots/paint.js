// Maps as pixels: one putImageData a map.

import { bin, table } from "../base/colors.js";

// One pixel a checkpoint, for maps that the browser enlarges without smoothing.
export function paintCells(canvas, map, scale, colours) {
  const { n, values } = map;
  canvas.width = canvas.height = Math.max(n, 1);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const lut = table(scale.palette);
  const factor = 256 / (scale.high - scale.low);
  for (let i = 0; i < n * n; i++) {
    const v = values[i];
    const x = (v - scale.low) * factor;
    pixels[i] = v !== v ? ((i + ((i / n) | 0)) & 1 ? colours.undefinedA : colours.undefinedB) : lut[x < 0 ? 0 : x >= 256 ? 255 : x | 0];
  }
  if (!n) pixels[0] = colours.undefinedA;
  context.putImageData(image, 0, 0);
}

// `size` pixels a side, cells as wide as the axis has them; undefined cells are hatched.
export function paintMap(canvas, size, map, axis, scale, colours) {
  const { n, values } = map;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const pixels = new Uint32Array(image.data.buffer);
  const lut = table(scale.palette);
  const cell = Int32Array.from({ length: size }, (_, x) => (axis.holds((x + 0.5) / size) ? axis.at((x + 0.5) / size) : -1));
  let whole = -1; // the row of the map that the line above shows, without undefined cells
  for (let y = 0; y < size; y++) {
    const i = cell[y];
    const start = y * size;
    if (n && i === whole) {
      pixels.copyWithin(start, start - size, start);
      continue;
    }
    whole = i;
    if (i < 0) continue; // an axis that goes on beyond the map: nothing there
    for (let x = 0; x < size; x++) {
      if (cell[x] < 0) continue;
      const v = n ? values[i * n + cell[x]] : NaN;
      if (v !== v) {
        pixels[start + x] = (x + y) % 8 < 2 ? colours.undefinedB : colours.undefinedA;
        whole = -1;
      } else pixels[start + x] = lut[bin(v, scale)];
    }
  }
  context.putImageData(image, 0, 0);
}

export const scaleText = (scale) => [scale.low, scale.high].map((v) => String(v).replace("-", "−")).join(" to ");

const bars = new Map();
export function barImage(palette) {
  if (!bars.has(palette)) {
    const canvas = document.createElement("canvas");
    canvas.width = 1;
    canvas.height = 256;
    const context = canvas.getContext("2d");
    const image = context.createImageData(1, 256);
    const pixels = new Uint32Array(image.data.buffer);
    const lut = table(palette);
    for (let i = 0; i < 256; i++) pixels[i] = lut[255 - i];
    context.putImageData(image, 0, 0);
    bars.set(palette, canvas);
  }
  return bars.get(palette);
}
