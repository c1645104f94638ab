// A picture as a list of shapes, drawn on a canvas or written as SVG: what is on the screen and what is downloaded are the same.
//
// Shapes: {rect: [x, y, w, h], fill, stroke, width, opacity}, {line: [[x, y], …], stroke, width, dash, opacity}, {text, at: [x, y], size,
// anchor, fill, turn, weight}, {image: canvas, box: [x, y, w, h]}, {path: [[x, y], …], fill}.

const FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif";

// A text in lines that are not wider than `width` pixels, as far as that can be known without drawing it.
export function wrapped(text, width, size) {
  const most = Math.max(8, Math.floor(width / (0.56 * size)));
  const lines = [""];
  for (const word of text.split(" ").flatMap((w) => w.match(new RegExp(`.{1,${most}}`, "gsu")) ?? [])) {
    const last = lines.at(-1);
    if (last && last.length + 1 + word.length > most) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

// The head of a downloaded picture: its title, and under it what it is of. {shapes, height}
export function headOf({ title, caption, left, width, colours }) {
  const shapes = [];
  let y = 4;
  for (const [text, size, weight, fill] of [[title, 14, 600, colours.ink], [caption, 11, 400, colours.muted]]) {
    for (const line of text ? wrapped(text, width - left - 8, size) : []) {
      y += size + 4;
      shapes.push({ text: line, at: [left, y], size, weight, fill });
    }
  }
  return { shapes, height: shapes.length ? y + 6 : 0 };
}

export function draw(scene, context, scale = 1) {
  context.save();
  context.scale(scale, scale);
  context.imageSmoothingEnabled = false;
  for (const s of scene.shapes) {
    context.globalAlpha = s.opacity ?? 1;
    if (s.image) context.drawImage(s.image, ...s.box);
    else if (s.rect) {
      if (s.fill) {
        context.fillStyle = s.fill;
        context.fillRect(...s.rect);
      }
      if (s.stroke) {
        context.strokeStyle = s.stroke;
        context.lineWidth = s.width ?? 1;
        context.setLineDash([]);
        context.strokeRect(...s.rect);
      }
    } else if (s.line || s.path) {
      context.beginPath();
      (s.line ?? s.path).forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (s.path) {
        context.fillStyle = s.fill;
        context.fill();
      } else {
        context.strokeStyle = s.stroke;
        context.lineWidth = s.width ?? 1;
        context.setLineDash(s.dash ?? []);
        context.stroke();
      }
    } else if (s.text !== undefined) {
      context.save();
      context.translate(...s.at);
      if (s.turn) context.rotate((s.turn * Math.PI) / 180);
      context.font = `${s.weight ?? 400} ${s.size ?? 12}px ${FONT}`;
      context.fillStyle = s.fill;
      context.textAlign = { start: "left", middle: "center", end: "right" }[s.anchor ?? "start"];
      context.fillText(s.text, 0, 0);
      context.restore();
    }
  }
  context.restore();
}

export function toCanvas(scene, scale = 2) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(scene.width * scale);
  canvas.height = Math.round(scene.height * scale);
  draw(scene, canvas.getContext("2d"), scale);
  return canvas;
}

const XML = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text) => String(text).replace(/[&<>"]/g, (c) => XML[c]);
const round = (v) => Math.round(v * 100) / 100;

export function toSVG(scene) {
  const attributes = (pairs) =>
    Object.entries(pairs)
      .filter(([, v]) => v !== undefined && v !== null)
      .map(([k, v]) => ` ${k}="${escape(v)}"`)
      .join("");
  const points = (list) => list.map(([x, y]) => `${round(x)},${round(y)}`).join(" ");
  const body = scene.shapes.map((s) => {
    if (s.image) {
      const [x, y, width, height] = s.box;
      const href = s.image.toDataURL("image/png");
      return `<image${attributes({ x, y, width, height, preserveAspectRatio: "none", "image-rendering": "pixelated", href })}/>`;
    }
    if (s.rect) {
      const [x, y, width, height] = s.rect.map(round);
      return `<rect${attributes({ x, y, width, height, fill: s.fill ?? "none", stroke: s.stroke, "stroke-width": s.width, opacity: s.opacity })}/>`;
    }
    if (s.path) return `<polygon${attributes({ points: points(s.path), fill: s.fill, opacity: s.opacity })}/>`;
    if (s.line) {
      const dash = s.dash?.join(" ");
      return `<polyline${attributes({ points: points(s.line), fill: "none", stroke: s.stroke, "stroke-width": s.width ?? 1, "stroke-dasharray": dash, opacity: s.opacity })}/>`;
    }
    const [x, y] = s.at.map(round);
    const turned = s.turn ? `rotate(${s.turn} ${x} ${y})` : undefined;
    return `<text${attributes({ x, y, "font-size": s.size ?? 12, "text-anchor": s.anchor ?? "start", fill: s.fill, "font-weight": s.weight, transform: turned })}>${escape(s.text)}</text>`;
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${scene.width}" height="${scene.height}" ` +
    `viewBox="0 0 ${scene.width} ${scene.height}" font-family="${escape(FONT)}">${body.join("")}</svg>`
  );
}
