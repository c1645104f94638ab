// Measures of a trajectory from its Gram in the update basis [θ_0, U_1, …], float64, without a DOM.
//
// The formulas are those of trajsvc/measures: differences of points are plain sums of neighbouring updates, so that nothing large is
// subtracted, and 1 − cos is kept instead of the cosine, so that small angles have all their digits. Everything is O(T²).
//
// A Gram is {group, steps: number[], gram: Float64Array(T·T), rounding: Float64Array(T), parameters}; undefined values are NaN. Where digits
// are lost in the update basis, `trees` are the group in others, of all stored points, of which these are the numbers `at`; lengths are
// those of the Gram times 2^scale.

import { betweenNeighbours } from "./sparsity.js";
import { treeDistances, treeProducts, treeUpdates } from "./trees.js";

// How far an inner product may be off, relative to the product of the norms: of a Gram made in float64.
export const DOUBLE_ERROR = 2 ** -50;
const LARGEST_ERROR = 1e-9;
const LARGEST_SINGLE_ERROR = 2 ** -13; // of one made in float32

// A squared length and the magnitude of its terms: 0 for a return, NaN where it is lost in the way (see trajsvc/measures/base.py).
function certain(sum, terms, error, returned) {
  if (sum <= error * terms && (returned || terms === 0)) return 0;
  return error * terms > (error <= DOUBLE_ERROR ? LARGEST_ERROR : LARGEST_SINGLE_ERROR) * sum ? NaN : sum;
}
export const SETTLED = 0.9;

// The same group at some of its checkpoints (increasing indices): the new updates are sums of the old ones.
export function select(g, indices) {
  const T = g.steps.length;
  const m = indices.length;
  if (m === T) return g;
  if (g.trees) return selectInTrees(g, indices);
  const starts = indices.map((_, r) => (r === 0 ? 0 : indices[r - 1] + 1));
  const gram = new Float64Array(m * m);
  const row = new Float64Array(T);
  const size = new Float64Array(T);
  const error = g.error ?? DOUBLE_ERROR;
  const replaced = [];
  for (let r = 0; r < m; r++) {
    row.fill(0);
    size.fill(0);
    for (let k = starts[r]; k <= indices[r]; k++) {
      for (let l = 0; l < T; l++) {
        const v = g.gram[k * T + l];
        row[l] += v;
        size[l] += Math.abs(v);
      }
    }
    for (let s = 0; s < m; s++) {
      let sum = 0;
      for (let l = starts[s]; l <= indices[s]; l++) sum += row[l];
      gram[r * m + s] = sum;
    }
    let terms = 0;
    for (let l = starts[r]; l <= indices[r]; l++) terms += size[l];
    const returned = !g.same || (r > 0 && g.same[indices[r]] === g.same[indices[r - 1]]);
    const length = certain(gram[r * m + r], terms, error, returned);
    if (length === 0 || Number.isNaN(length)) replaced.push([r, length]);
  }
  return chosen(g, indices, gram, replaced);
}

// The checkpoints `indices` of a group, whose Gram is `gram` but for the rows and columns of `replaced` updates.
function chosen(g, indices, gram, replaced) {
  const m = indices.length;
  for (const undefinedToo of [false, true]) {
    for (const [r, value] of replaced) {
      if (Number.isNaN(value) === undefinedToo) for (let s = 0; s < m; s++) gram[r * m + s] = gram[s * m + r] = value;
    }
  }
  return {
    ...g,
    steps: indices.map((i) => g.steps[i]),
    gram,
    rounding: Float64Array.from(indices, (i) => g.rounding[i]),
    same: g.same && indices.map((i) => g.same[i]),
    changes: g.changes && betweenNeighbours(g.changes, indices),
  };
}

function selectInTrees(g, indices) {
  const at = indices.map((i) => g.at[i]);
  const { gram, terms } = treeUpdates(g.trees, at);
  const m = indices.length;
  const replaced = [];
  for (let r = 0; r < m; r++) {
    const returned = !g.same || (r > 0 && g.same[indices[r]] === g.same[indices[r - 1]]);
    const length = certain(gram[r * m + r], terms[r], g.error ?? DOUBLE_ERROR, returned);
    if (length === 0 || Number.isNaN(length)) replaced.push([r, length]);
  }
  return { ...chosen(g, indices, gram, replaced), at };
}

// ‖station_i − station_j‖², (T + 1)², station 0 the zero vector and station t + 1 the point θ_t.
export function squaredDistances(gram, T, error = DOUBLE_ERROR, same = null) {
  const N = T + 1;
  const out = new Float64Array(N * N);
  const column = new Float64Array(T); // Σ_{k ≤ m ≤ l} G_ml for the current k
  const columnSize = new Float64Array(T);
  for (let k = T - 1; k >= 0; k--) {
    let sum = 0;
    let size = 0;
    for (let l = k; l < T; l++) {
      const v = gram[k * T + l];
      const d = gram[l * T + l];
      column[l] += v;
      columnSize[l] += Math.abs(v);
      sum += 2 * column[l] - d;
      size += 2 * columnSize[l] - Math.abs(d);
      out[k * N + l + 1] = out[(l + 1) * N + k] = certain(sum, size, error, !same || (k > 0 && same[k - 1] === same[l]));
    }
  }
  return out;
}

// The same of a group, in the unit of its Gram.
function distancesOf(g) {
  const T = g.steps.length;
  if (!g.trees) return squaredDistances(g.gram, T, g.error, g.same);
  return inStations(g, certainInTrees(g));
}

// ‖station_i − station_j‖² of all stored points.
function certainInTrees(g) {
  const { N, sums, terms } = treeDistances(g.trees);
  const same = new Array(N).fill(-1);
  if (g.same) g.at.forEach((t, i) => (same[t + 1] = g.same[i]));
  const returned = (i, j) => !g.same || (same[i] >= 0 && same[i] === same[j]);
  return sums.map((sum, k) => certain(sum, terms[k], g.error, returned(Math.floor(k / N), k % N)));
}

// The entries of an N × N array of all stored points that are of the group's own.
function inStations(g, values) {
  const N = g.trees[0].starts.length + 1;
  const stations = [0, ...g.at.map((t) => t + 1)];
  const out = new Float64Array(stations.length ** 2);
  stations.forEach((i, a) => stations.forEach((j, b) => (out[a * stations.length + b] = values[i * N + j])));
  return out;
}

// 1 − cos(station_i − station_o, station_j − station_o) of a group, (T + 1)².
function oneMinusCosinesOf(g, origin) {
  const T = g.steps.length;
  if (!g.trees) return oneMinusCosineMap(g.gram, T, origin, distancesOf(g));
  const station = origin === 0 ? 0 : g.at[origin - 1] + 1;
  const distances = certainInTrees(g);
  const { inner, gained } = treeProducts(g.trees, station);
  const N = g.trees[0].starts.length + 1;
  const out = new Float64Array(N * N);
  for (let i = 0; i < N; i++) {
    const aa = distances[i * N + station];
    for (let j = 0; j < N; j++) {
      const bb = distances[j * N + station];
      const excess = gained[j * N + i] - gained[i * N + j];
      out[i * N + j] = i === j ? (aa > 0 ? 0 : NaN) : oneMinusCosine(aa, bb, inner[i * N + j], distances[i * N + j], excess);
    }
  }
  return inStations(g, out);
}

function oneMinusCosine(aa, bb, ab, dd, excess) {
  const a = Math.sqrt(Math.max(aa, 0));
  const b = Math.sqrt(Math.max(bb, 0));
  if (!(a > 0 && b > 0) || Number.isNaN(dd)) return NaN;
  const longer = (excess / (a + b)) ** 2;
  let x = 1 - ab / (a * b);
  const together = aa + bb + 2 * ab;
  if (dd < a * b) x = (dd - longer) / (2 * a * b);
  else if (together < a * b) x = 2 - Math.max(together - longer, 0) / (2 * a * b);
  return Math.min(Math.max(x, 0), 2);
}

// 1 − cos(station_i − station_o, station_j − station_o), (T + 1)².
export function oneMinusCosineMap(gram, T, origin, distances = squaredDistances(gram, T)) {
  const N = T + 1;
  const out = new Float64Array(N * N).fill(NaN);
  // legs[i] = (station_i − station_o) · U_k for every k: sums from the origin outwards.
  const legs = new Float64Array(N * T);
  for (let i = origin; i < T; i++) for (let k = 0; k < T; k++) legs[(i + 1) * T + k] = legs[i * T + k] + gram[i * T + k];
  for (let i = origin; i > 0; i--) for (let k = 0; k < T; k++) legs[(i - 1) * T + k] = legs[i * T + k] - gram[(i - 1) * T + k];
  const inner = new Float64Array(N);
  for (let i = 0; i < N; i++) {
    const own = i * T;
    inner[origin] = 0;
    for (let j = origin; j < T; j++) inner[j + 1] = inner[j] + legs[own + j];
    for (let j = origin; j > 0; j--) inner[j - 1] = inner[j] - legs[own + j - 1];
    const aa = distances[i * N + origin];
    if (aa > 0) out[i * N + i] = 0;
    let along = 0;
    for (let j = i + 1; j < N; j++) {
      along += legs[own + j - 1];
      const dd = distances[i * N + j];
      out[i * N + j] = out[j * N + i] = oneMinusCosine(aa, distances[j * N + origin], inner[j], dd, 2 * along + dd);
    }
  }
  return out;
}

// 1 − cos of all pairs of updates, (T − 1)².
export function oneMinusCosineOfUpdates(g) {
  const T = g.steps.length;
  const m = T - 1;
  const out = new Float64Array(m * m).fill(NaN);
  for (let i = 0; i < m; i++) {
    const aa = g.gram[(i + 1) * T + i + 1];
    if (aa > 0) out[i * m + i] = 0;
    for (let j = i + 1; j < m; j++) {
      const bb = g.gram[(j + 1) * T + j + 1];
      const ab = g.gram[(i + 1) * T + j + 1];
      out[i * m + j] = out[j * m + i] = oneMinusCosine(aa, bb, ab, aa + bb - 2 * ab, aa - bb);
    }
  }
  return out;
}

// A map is {n, steps, values: Float64Array(n·n)}; dissimilarity is 1 − the trajectory map. `origin` is an index, or null.
export function dissimilarityMap(g, origin = null) {
  const T = g.steps.length;
  const N = T + 1;
  const x = oneMinusCosinesOf(g, origin === null ? 0 : origin + 1);
  const kept = [];
  for (let t = 0; t < T; t++) if (t !== origin) kept.push(t + 1);
  const n = kept.length;
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) values[i * n + j] = x[kept[i] * N + kept[j]];
  return { n, steps: kept.map((k) => g.steps[k - 1]), values };
}

function complement(map) {
  return { ...map, values: map.values.map((v) => 1 - v) };
}

export const trajectoryMap = (g, origin = null) => complement(dissimilarityMap(g, origin));

// Cosines of updates; row t is the update that ends at step t of `steps`.
export function updateMap(g) {
  return complement({ n: g.steps.length - 1, steps: g.steps.slice(1), values: oneMinusCosineOfUpdates(g) });
}

// The map expected of a random walk with the same update norms: relative to the first step, or from θ_0 on.
export function randomWalk(g, relative = true) {
  const T = g.steps.length;
  const skipped = relative ? 1 : 0;
  const n = T - skipped;
  const travelled = new Float64Array(n);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const t = i + skipped;
    sum += Math.max(g.gram[t * T + t], 0);
    travelled[i] = sum;
  }
  const values = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const less = Math.min(travelled[i], travelled[j]);
      values[i * n + j] = less > 0 ? Math.sqrt(less / Math.max(travelled[i], travelled[j])) : NaN;
    }
  }
  return { n, steps: g.steps.slice(skipped), values };
}

export function meanDefined(values) {
  let sum = 0;
  let count = 0;
  for (const v of values) {
    if (!Number.isNaN(v)) {
      sum += v;
      count += 1;
    }
  }
  return count ? sum / count : NaN;
}

// [cells with a value, all cells] of the trajectory map, or of the relative one.
export function definedCells(g, origin = null) {
  const { values } = dissimilarityMap(g, origin);
  return [values.reduce((count, v) => count + !Number.isNaN(v), 0), values.length];
}

export const mds = (g, origin = null) => 1 - meanDefined(dissimilarityMap(g, origin).values);
export const relativeMds = (g) => mds(g, 0);
export const randomWalkMds = (g, relative = true) => meanDefined(randomWalk(g, relative).values);

export const degrees = (x) => (2 * Math.atan2(Math.sqrt(x), Math.sqrt(2 - x)) * 180) / Math.PI;

function offDiagonal(map, k = 1) {
  const out = [];
  for (let i = 0; i + k < map.n; i++) out.push(map.values[i * map.n + i + k]);
  return out;
}

export const updateAngle = (g) => offDiagonal({ n: g.steps.length - 1, values: oneMinusCosineOfUpdates(g) }).map(degrees);
export const sweepAngleOrigin = (g) => offDiagonal(dissimilarityMap(g)).map(degrees);
export const apexAngleOrigin = (g) => Array.from(dissimilarityMap(g).values.subarray(1, g.steps.length), degrees);

export function apexAngleInit(g) {
  const map = dissimilarityMap(g, 0);
  return Array.from(map.values.subarray(0, map.n), degrees);
}

export const sweepAngleInit = (g) => offDiagonal(dissimilarityMap(g, 0)).map(degrees);

function rowOf(g, row) {
  const T = g.steps.length;
  return Array.from(distancesOf(g).subarray(row * (T + 1) + 1, (row + 1) * (T + 1)), (d) => unit(g) * Math.sqrt(d));
}

const unit = (g) => 2 ** (g.scale ?? 0);

export const norm = (g) => rowOf(g, 0);
export const distanceFromInit = (g) => rowOf(g, 1);

export function updateNorm(g) {
  const T = g.steps.length;
  return Array.from({ length: T - 1 }, (_, t) => unit(g) * Math.sqrt(Math.max(g.gram[(t + 1) * T + t + 1], 0)));
}

export const pathLength = (g) => updateNorm(g).reduce((a, b) => a + b, 0);

export function tortuosity(g) {
  const displacement = distanceFromInit(g).at(-1);
  return displacement > 0 ? pathLength(g) / displacement : NaN;
}

export function cosineToFinal(g) {
  const map = dissimilarityMap(g);
  return Array.from({ length: map.n }, (_, t) => 1 - map.values[t * map.n + map.n - 1]);
}

// First step from which a curve of cosines is at least the threshold and stays so, interpolated.
export function settling(cosine, steps, threshold = SETTLED) {
  const at = [];
  const values = [];
  cosine.forEach((c, i) => {
    if (!Number.isNaN(c)) {
      at.push(steps[i]);
      values.push(c);
    }
  });
  if (!values.length) return NaN;
  let last = -1;
  values.forEach((v, i) => {
    if (v < threshold) last = i;
  });
  if (last < 0) return at[0];
  if (last + 1 === values.length) return NaN;
  const share = (threshold - values[last]) / (values[last + 1] - values[last]);
  return at[last] + share * (at[last + 1] - at[last]);
}

export const settlingStep = (g) => settling(cosineToFinal(g), g.steps);

function byLag(g, power) {
  const map = updateMap(g);
  return Array.from({ length: map.n }, (_, k) => meanDefined(offDiagonal(map, k).map((v) => v ** power)));
}

export const muLag = (g) => byLag(g, 1);
export const alphaLag = (g) => byLag(g, 2).map(Math.sqrt);
export const updateCosine = (g) => offDiagonal(updateMap(g));

function pairs(g) {
  const map = updateMap(g);
  const out = [];
  for (let i = 0; i < map.n; i++) for (let j = i + 1; j < map.n; j++) out.push(map.values[i * map.n + j]);
  return out;
}

export const mu = (g) => meanDefined(pairs(g));
export const alpha = (g) => Math.sqrt(meanDefined(pairs(g).map((v) => v * v)));
export const invSqrtParameters = (g) => (g.parameters > 0 ? 1 / Math.sqrt(g.parameters) : NaN);
export const randomBound = (g) => (g.parameters > 0 ? Math.sqrt(Math.log(g.parameters) / g.parameters) : NaN);

export function nonrandomFraction(g) {
  const bound = randomBound(g);
  const defined = updateCosine(g).filter((v) => !Number.isNaN(v));
  return defined.length && !Number.isNaN(bound) ? defined.filter((v) => v > bound).length / defined.length : NaN;
}

// sqrt(r_t + r_{t+1}): the norm that rounding of the stored type gives an update.
export const roundingNorm = (g) =>
  Array.from({ length: g.steps.length - 1 }, (_, t) => unit(g) * Math.sqrt(g.rounding[t] + g.rounding[t + 1]));

export function noiseFloor(g) {
  const norms = updateNorm(g);
  return roundingNorm(g).map((r, t) => (norms[t] > 0 ? r / norms[t] : NaN));
}

// The steps of the updates that rounding could explain.
export function belowFloor(g) {
  const norms = updateNorm(g);
  const floor = roundingNorm(g);
  return g.steps.slice(1).filter((_, t) => floor[t] > 0 && norms[t] <= floor[t]);
}

// 1 − alignment of the off-diagonal parts of two maps, centred without bias (see trajsvc/measures/heterogeneity.py).
export function mapDistance(a, b, n) {
  if (n < 4) return NaN;
  const first = centred(a, n);
  const second = centred(b, n);
  let ab = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < n * n; i++) {
    ab += first[i] * second[i];
    aa += first[i] ** 2;
    bb += second[i] ** 2;
  }
  const norms = Math.sqrt(aa) * Math.sqrt(bb);
  return norms > 0 ? Math.min(Math.max(1 - ab / norms, 0), 2) : NaN;
}

// sqrt(mean over i ≠ j of (a_ij − b_ij)²): in units of the maps' entries.
export function mapRms(a, b, n) {
  if (n < 2) return NaN;
  let sum = 0;
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) if (i !== j) sum += (a[i * n + j] - b[i * n + j]) ** 2;
  return Math.sqrt(sum / (n * (n - 1)));
}

// Share of a map's largest entry below which a pattern is rounding.
const PATTERN = 1e-10;

function centred(a, n) {
  const rows = new Float64Array(n);
  let total = 0;
  let largest = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (i !== j) {
        rows[i] += a[i * n + j];
        largest = Math.max(largest, Math.abs(a[i * n + j]));
      }
    }
    total += rows[i];
  }
  const out = new Float64Array(n * n);
  let left = 0;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (i === j) continue;
      const v = a[i * n + j] - (rows[i] + rows[j]) / (n - 2) + total / ((n - 1) * (n - 2));
      out[i * n + j] = v;
      left = Math.max(left, Math.abs(v));
    }
  }
  if (left <= PATTERN * largest) out.fill(0);
  return out;
}

const nullable = (v) => (Number.isFinite(v) ? v : null);

// Q, K and V of one layer: the fields of the API's row. `origin` is an index, or null.
export function qkvRow(layer, q, k, v, origin = null) {
  const maps = [q, k, v].map((part) => dissimilarityMap(part, origin));
  const n = maps[0].n;
  const kept = [];
  for (let i = 0; i < n; i++) if (maps.every((m) => !Number.isNaN(m.values[i * n + i]))) kept.push(i);
  const common = maps.map((m) => {
    const out = new Float64Array(kept.length ** 2);
    kept.forEach((i, a) => kept.forEach((j, b) => (out[a * kept.length + b] = m.values[i * n + j])));
    return out;
  });
  const distance = (a, b) => mapDistance(common[a], common[b], kept.length);
  const [qk, qv, kv] = [distance(0, 1), distance(0, 2), distance(1, 2)];
  const rms = (a, b) => mapRms(common[a], common[b], kept.length);
  const [rqk, rqv, rkv] = [rms(0, 1), rms(0, 2), rms(1, 2)];
  const [mq, mk, mv] = maps.map((m) => 1 - meanDefined(m.values));
  const [sq, sk, sv] = [q, k, v].map(settlingStep);
  return {
    layer: layer.replace(/^layer\//, ""),
    group: layer,
    mds_q: nullable(mq),
    mds_k: nullable(mk),
    mds_v: nullable(mv),
    distance_qk: nullable(qk),
    distance_qv: nullable(qv),
    distance_kv: nullable(kv),
    heterogeneity: nullable((qk + qv + kv) / 3),
    rms_qk: nullable(rqk),
    rms_qv: nullable(rqv),
    rms_kv: nullable(rkv),
    rms: nullable((rqk + rqv + rkv) / 3),
    settling_step_q: nullable(sq),
    settling_step_k: nullable(sk),
    settling_step_v: nullable(sv),
  };
}

// One line of the table of layers: the fields of the API's row.
export function layerRow(g) {
  const angles = updateAngle(g).filter((a) => !Number.isNaN(a));
  const cosines = [...updateCosine(g)].filter((c) => !Number.isNaN(c));
  return {
    layer: g.group.replace(/^layer\//, ""),
    group: g.group,
    parameters: g.parameters,
    mds: nullable(mds(g)),
    relative_mds: nullable(relativeMds(g)),
    path_length: nullable(pathLength(g)),
    tortuosity: nullable(tortuosity(g)),
    nonrandom_fraction: nullable(nonrandomFraction(g)),
    largest_update_angle: angles.length ? Math.max(...angles) : null,
    mean_update_cosine: cosines.length ? cosines.reduce((a, b) => a + b, 0) / cosines.length : null,
    settling_step: nullable(settlingStep(g)),
    below_noise_floor: belowFloor(g).length,
  };
}

// Everything the curves show, under the names of the registry.
export function measures(g) {
  return {
    update_angle: updateAngle(g),
    apex_angle_init: apexAngleInit(g),
    sweep_angle_init: sweepAngleInit(g),
    apex_angle_origin: apexAngleOrigin(g),
    sweep_angle_origin: sweepAngleOrigin(g),
    norm: norm(g),
    distance_from_init: distanceFromInit(g),
    update_norm: updateNorm(g),
    cosine_to_final: cosineToFinal(g),
    settling_step: settlingStep(g),
    path_length: pathLength(g),
    tortuosity: tortuosity(g),
    mds: mds(g),
    relative_mds: relativeMds(g),
    random_walk_mds: randomWalkMds(g),
    mu: mu(g),
    alpha: alpha(g),
    mu_lag: muLag(g),
    alpha_lag: alphaLag(g),
    update_cosine: updateCosine(g),
    inv_sqrt_parameters: invSqrtParameters(g),
    random_bound: randomBound(g),
    nonrandom_fraction: nonrandomFraction(g),
    noise_floor: noiseFloor(g),
  };
}

// Jackknife standard error of every entry, from values with each replicate left out (see trajsvc/gram/jackknife.py).
export function standardErrors(replicates) {
  const R = replicates.length;
  if (!R) return null;
  return replicates[0].map((_, i) => {
    const values = replicates.map((r) => r[i]);
    const mean = values.reduce((a, b) => a + b, 0) / R;
    return Math.sqrt(((R - 1) / R) * values.reduce((a, b) => a + (b - mean) ** 2, 0));
  });
}
