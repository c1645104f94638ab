// Where checkpoints lie along an axis: by their number (index), their step (linear) or its logarithm. No DOM.

// With `common` steps the axis spans all of those, and its own checkpoints lie somewhere within.
export function makeAxis(steps, kind, common = null) {
  const n = steps.length;
  const f = scaleFunction(common ?? steps, kind);
  const raw = kind === "index" ? steps.map((_, i) => i) : steps.map(f);
  const edges = new Float64Array(n + 1);
  for (let i = 1; i < n; i++) edges[i] = (raw[i - 1] + raw[i]) / 2;
  edges[0] = n > 1 ? raw[0] - (raw[1] - raw[0]) / 2 : (raw[0] ?? 0) - 0.5;
  edges[n] = n > 1 ? raw[n - 1] + (raw[n - 1] - raw[n - 2]) / 2 : (raw[0] ?? 0) + 0.5;
  let [low, span] = [edges[0], edges[n] - edges[0] || 1];
  if (common && kind !== "index" && common.length > 1) {
    low = Math.min(low, f(common[0]));
    span = Math.max(edges[n], f(common.at(-1))) - low || 1;
  }
  for (let i = 0; i <= n; i++) edges[i] = (edges[i] - low) / span;
  const centres = raw.map((v) => (v - low) / span);
  return {
    kind,
    steps,
    edges,
    centres,
    // the fraction of the length at which any step lies, one between two checkpoints too
    place: (step) => ((kind === "index" ? between(steps, step) : f(step)) - low) / span,
    // whether there is a cell at a fraction of the length, and its index
    holds: (fraction) => n > 0 && fraction >= edges[0] && fraction <= edges[n],
    at(fraction) {
      let [a, b] = [0, n - 1];
      while (a < b) {
        const m = (a + b + 1) >> 1;
        if (edges[m] <= fraction) a = m;
        else b = m - 1;
      }
      return a;
    },
  };
}

// The index of a value among increasing ones, with a fraction where it lies between two of them.
export function between(values, value) {
  const next = values.findIndex((v) => v >= value);
  if (next < 0) return values.length - 1;
  if (next === 0 || values[next] === value) return next;
  return next - (values[next] - value) / (values[next] - values[next - 1]);
}

export function scaleFunction(steps, kind) {
  if (kind !== "log") return (s) => s;
  const unit = steps.find((s) => s > 0) ?? 1;
  return (s) => Math.sign(s) * Math.log10(1 + Math.abs(s) / unit);
}

// The axis that suits: by number where gaps grow (0, 1, 2, 4, …), else linear.
export const suited = (steps) => {
  const gaps = steps.slice(1).map((s, i) => s - steps[i]);
  return gaps.length > 2 && Math.max(...gaps) / Math.min(...gaps) > 20 ? "index" : "linear";
};

// What an axis numbers: its checkpoints one by one, or steps (or tokens) on their scale.
export function axisText(kind, unit = "step") {
  if (unit === "index") return kind === "log" ? "index of the checkpoint (log)" : "index of the checkpoint";
  if (kind === "index") return `checkpoint, by its ${unit}`;
  return kind === "log" ? `${unit} (log)` : unit;
}

// Indices to label, at least `apart` of the length from each other, the first and last among them.
export function tickPlaces(centres, apart) {
  const n = centres.length;
  if (!n) return [];
  const found = [0];
  const last = centres[n - 1];
  for (let i = 1; i < n - 1; i++) if (centres[i] - centres[found.at(-1)] >= apart && last - centres[i] >= apart) found.push(i);
  if (n > 1 && last - centres[found.at(-1)] >= apart * 0.9) found.push(n - 1);
  return found;
}

export function niceTicks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999) * power;
  const found = [];
  for (let v = Math.ceil(low / size - 1e-9) * size; v <= high + size * 1e-9; v += size) found.push(Number(v.toPrecision(12)));
  return found;
}
