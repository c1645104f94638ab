// Measures of rolling windows, as trajsvc/measures/forgetting.py and spectral_edge.py define them.

import { dissimilarityMap } from "./gram.js";

export const WINDOW = 10;
const RESOLVED = 1e-4; // the least singular value that counts, as a share of the largest

// τ of cos(θ_t, θ_{t+Δ}) = e^{−Δ/τ} from every checkpoint on; NaN where there is none.
export function forgettingTime(g, window = WINDOW) {
  const { n, values } = dissimilarityMap(g);
  return g.steps.map((step, t) => {
    let squares = 0, total = 0;
    for (let k = t + 1; k < n && k <= t + window; k++) {
      const x = values[t * n + k];
      const rate = x < 1 ? -Math.log1p(-x) : NaN;
      if (!(rate <= 1) && (k > t + 1 || Number.isNaN(rate))) break;
      const apart = g.steps[k] - step;
      squares += apart * apart;
      total += apart * rate;
    }
    return total > 0 ? squares / total : NaN;
  });
}

// For every update at which a window ends: the largest σ_k/σ_{k+1}, its k, and the share of σ_1².
export function spectralEdge(g, window = WINDOW) {
  const T = g.steps.length;
  const size = Math.min(window, T - 1);
  const empty = () => new Array(Math.max(T - 1, 0)).fill(NaN);
  const found = { edge: empty(), rank: empty(), share: empty() };
  for (let last = size - 1; size > 0 && last < T - 1; last++) {
    const part = new Float64Array(size * size);
    for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) part[i * size + j] = g.gram[(last - size + 2 + i) * T + last - size + 2 + j];
    if (!part.every(Number.isFinite)) continue;
    const all = eigenvalues(part, size).map((v) => Math.sqrt(Math.max(v, 0)));
    const sigma = all.filter((s) => s > RESOLVED * all[0]);
    if (!sigma.length) continue;
    found.share[last] = sigma[0] ** 2 / sigma.reduce((a, s) => a + s * s, 0);
    for (let k = 1; k < sigma.length; k++) {
      const ratio = sigma[k - 1] / sigma[k];
      if (!(ratio <= found.edge[last])) [found.edge[last], found.rank[last]] = [ratio, k];
    }
  }
  return found;
}

// Of a small symmetric matrix, descending, by Jacobi's rotations.
export function eigenvalues(matrix, n) {
  const a = Float64Array.from(matrix);
  const trace = a.reduce((sum, v, i) => (i % (n + 1) === 0 ? sum + Math.abs(v) : sum), 0);
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off = Math.max(off, Math.abs(a[p * n + q]));
    if (off <= 1e-17 * trace) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(a, n, p, q);
  }
  return Array.from({ length: n }, (_, i) => a[i * (n + 1)]).sort((x, y) => y - x);
}

function rotate(a, n, p, q) {
  const apq = a[p * n + q];
  if (apq === 0) return;
  const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
  const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1), s = t * c;
  for (let k = 0; k < n; k++) {
    const x = a[k * n + p], y = a[k * n + q];
    a[k * n + p] = c * x - s * y;
    a[k * n + q] = s * x + c * y;
  }
  for (let k = 0; k < n; k++) {
    const x = a[p * n + k], y = a[q * n + k];
    a[p * n + k] = c * x - s * y;
    a[q * n + k] = s * x + c * y;
  }
}
