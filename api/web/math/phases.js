// Phases of a trajectory: trajsvc/measures/phases.py and segments.py again, which say why; for a range of steps in a report. No DOM.

import { oneMinusCosineOfUpdates, updateNorm } from "./gram.js";

const SPEED_SCALE = 0.2;
const DIRECTION_WEIGHT = 4;
const INDEPENDENT = 40;
const SHORTEST = 3;
const FEWEST_POINTS = 6;
const JUMP = 2;

// Rows as the API gives them; none where the trajectory is too short to say.
export function phases(g) {
  const f = features(g);
  if (!f) return [];
  const m = f.n + 1;
  const costs = f.speedCosts.map((v, i) => v + f.directionCosts[i]);
  const cuts = [0, ...bestSegments(costs, m, f.price)];
  const changes = cuts.slice(1, -1).map((at, k) => changeOf(f, cuts[k], at, cuts[k + 2]));
  const borders = [g.steps[0], ...changes.map((c) => c.step), g.steps.at(-1)];
  return cuts.slice(0, -1).map((start, k) => phaseOf(f, start, cuts[k + 1], borders[k], borders[k + 1], k ? changes[k - 1] : null));
}

// What the segmentation sees: the n updates that are not zero. Costs are (n + 1)² each, of segments [a, b).
function features(g) {
  const T = g.steps.length;
  const norms = updateNorm(g);
  const index = norms.map((_, t) => t).filter((t) => norms[t] > 0);
  const n = index.length;
  if (T < FEWEST_POINTS || n < FEWEST_POINTS - 1) return null;
  const map = oneMinusCosineOfUpdates(g);
  const cosines = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) cosines[i * n + j] = 1 - map[index[i] * (T - 1) + index[j]];
  const speed = logSpeed(g.steps, index, norms, cosines);
  const noise = (1.4826 * median(speed.slice(2).map((v, i) => Math.abs(v - 2 * speed[i + 1] + speed[i])))) / Math.sqrt(6);
  const scale = Math.max(SPEED_SCALE, noise);
  const log = Math.log(n);
  const chance = 2 * DIRECTION_WEIGHT * Math.sqrt((4 * log) / Math.max(g.parameters, 1));
  return {
    n, index, speed, scale, cosines, steps: g.steps,
    speedCosts: lineCost(index, speed.map((v) => v / scale)),
    directionCosts: scatterCost(withoutLag(cosines, n), n).map((v) => DIRECTION_WEIGHT * v),
    price: 3 * log * Math.max(1, n / INDEPENDENT) + chance,
  };
}

function logSpeed(steps, index, norms, cosines) {
  const n = index.length;
  const spans = index.map((t) => Math.log(Math.max(steps[t + 1] - steps[t], 1)));
  let sum = 0;
  return index.map((t, i) => {
    if (i) {
      const cosine = Math.min(Math.max(cosines[(i - 1) * n + i], 0), 1);
      sum += 0.5 * (1 + Math.log2(1 + cosine)) * (spans[i] - spans[i - 1]);
    }
    return Math.log(norms[t]) - sum;
  });
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function withoutLag(cosines, n) {
  const means = Array.from({ length: n }, (_, k) => {
    let sum = 0;
    for (let i = 0; i + k < n; i++) sum += cosines[i * n + i + k];
    return sum / (n - k);
  });
  return cosines.map((v, at) => v - means[Math.abs(Math.floor(at / n) - (at % n))]);
}

const sums = (values) => {
  const total = [0];
  for (const v of values) total.push(total.at(-1) + v);
  return total;
};

// Σ_t K_tt − (1/m) Σ_st K_st
function scatterCost(kernel, n) {
  const m = n + 1;
  const all = new Float64Array(m * m);
  for (let i = 1; i < m; i++) {
    let row = 0;
    for (let j = 1; j < m; j++) {
      row += kernel[(i - 1) * n + j - 1];
      all[i * m + j] = all[(i - 1) * m + j] + row;
    }
  }
  const own = sums(Array.from({ length: n }, (_, i) => kernel[i * n + i]));
  const out = new Float64Array(m * m);
  for (let a = 0; a < m; a++) {
    for (let b = a + 1; b < m; b++) {
      const inside = all[b * m + b] - all[a * m + b] - all[b * m + a] + all[a * m + a];
      out[a * m + b] = own[b] - own[a] - inside / (b - a);
    }
  }
  return out;
}

// Squared residuals of y about its own line in x
function lineCost(x, y) {
  const n = x.length;
  const m = n + 1;
  const middle = (v) => v.reduce((a, b) => a + b, 0) / n;
  const [mx, my] = [middle(x), middle(y)];
  const [u, v] = [x.map((a) => a - mx), y.map((a) => a - my)];
  const [sx, sy, sxx, sxy, syy] = [u, v, u.map((a) => a * a), u.map((a, i) => a * v[i]), v.map((a) => a * a)].map(sums);
  const out = new Float64Array(m * m);
  for (let a = 0; a < m; a++) {
    for (let b = a + 1; b < m; b++) {
      const size = b - a;
      const over = (s) => s[b] - s[a];
      const xx = over(sxx) - over(sx) ** 2 / size;
      const xy = over(sxy) - (over(sx) * over(sy)) / size;
      const yy = over(syy) - over(sy) ** 2 / size;
      out[a * m + b] = Math.max(yy - xy ** 2 / (xx > 0 ? xx : 1), 0);
    }
  }
  return out;
}

function bestSegments(costs, m, price) {
  const count = m - 1;
  if (count < 2 * SHORTEST) return [count];
  const best = new Float64Array(m).fill(Infinity);
  best[0] = -price;
  const startOf = new Int32Array(m);
  for (let end = SHORTEST; end <= count; end++) {
    for (let start = 0; start <= end - SHORTEST; start++) {
      const total = best[start] + costs[start * m + end] + price;
      if (total < best[end]) {
        best[end] = total;
        startOf[end] = start;
      }
    }
  }
  const ends = [count];
  while (startOf[ends[0]] > 0) ends.unshift(startOf[ends[0]]);
  return ends;
}

const cost = (f, costs, a, b) => costs[a * (f.n + 1) + b];
const taken = (f, costs, start, at, end) => cost(f, costs, start, end) - cost(f, costs, start, at) - cost(f, costs, at, end);
const gain = (f, start, at, end) => [taken(f, f.speedCosts, start, at, end), taken(f, f.directionCosts, start, at, end)];
const checkpoint = (f, at) => f.steps[f.index[at]];

// Slope and level of the speed's line over a segment
function line(f, start, end) {
  const x = f.index.slice(start, end);
  const y = f.speed.slice(start, end);
  const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
  const [mx, my] = [mean(x), mean(y)];
  const slope = x.reduce((s, a, i) => s + (a - mx) * (y[i] - my), 0) / x.reduce((s, a) => s + (a - mx) ** 2, 0);
  return { slope, at: (t) => my + slope * (t - mx) };
}

function changeOf(f, start, at, end) {
  const [speed, direction] = gain(f, start, at, end);
  const middle = (f.index[at - 1] + f.index[at]) / 2;
  const jump = line(f, at, end).at(middle) - line(f, start, at).at(middle);
  const step = f.speed[at] - f.speed[at - 1];
  const sudden = Math.min(Math.abs(jump), Math.abs(step)) >= JUMP * f.scale;
  const kind = direction > speed ? "turn" : sudden ? "jump" : "bend";
  return {
    step: checkpoint(f, at), between: around(f, start, at, end), kind, evidence: shareOf(f, start, at, end, kind),
    strength: (speed + direction) / f.price, speed_ratio: Math.exp(jump),
  };
}

function shareOf(f, start, at, end, kind) {
  const costs = kind === "turn" ? (f.scatter ??= scatterCost(f.cosines, f.n)) : f.speedCosts;
  const whole = cost(f, costs, start, end);
  return whole > 0 ? 1 - (cost(f, costs, start, at) + cost(f, costs, at, end)) / whole : 0;
}

function around(f, start, at, end) {
  const total = (k) => gain(f, start, k, end).reduce((a, b) => a + b);
  const enough = total(at) - 4;
  let [first, last] = [at, at];
  while (first - 1 >= start + SHORTEST && total(first - 1) >= enough) first -= 1;
  while (last + 1 <= end - SHORTEST && total(last + 1) >= enough) last += 1;
  return [checkpoint(f, first), checkpoint(f, last)];
}

function phaseOf(f, start, end, startStep, endStep, change) {
  let cosines = 0;
  for (let i = start; i < end - 1; i++) cosines += f.cosines[i * f.n + i + 1];
  const travelled = f.index[end - 1] - f.index[start];
  return {
    start_step: startStep, end_step: endStep, evidence: change?.evidence ?? null,
    details: {
      updates: end - start, growth: Math.exp(line(f, start, end).slope * travelled), neighbour_cosine: cosines / (end - 1 - start), change,
    },
  };
}
