// A group in other bases than that of its updates, where its digits are lost in that one (see trajsvc/measures/trees.py).
//
// A tree is {starts, gram}: leg t leads from station starts[t] to the point t; station 0 is the zero vector, station s + 1 the point s.
// A group is the sum of its trees. Everything is over all stored points, T of them, and N = T + 1 stations.

const TINY = 2 ** -960;

// Every station as a sum of legs, N × T zeros and ones; the Gram without legs that float64 does not hold, and which those are.
function prepared({ starts, gram }) {
  const T = starts.length;
  const legs = new Float64Array((T + 1) * T);
  const unknown = [];
  for (let t = 0; t < T; t++) {
    legs.copyWithin((t + 1) * T, starts[t] * T, (starts[t] + 1) * T);
    legs[(t + 1) * T + t] = 1;
    const square = gram[t * T + t];
    if (!Number.isFinite(square) || (square > 0 && square < TINY)) unknown.push(t);
  }
  const products = gram.slice();
  for (const k of unknown) for (let l = 0; l < T; l++) products[k * T + l] = products[l * T + k] = 0;
  const parts = (a, b) => unknown.some((k) => legs[a * T + k] !== legs[b * T + k]);
  return { T, legs, products, parts };
}

// ‖station_i − station_j‖² and the magnitude of its terms, N × N, added to `sums` and `terms`.
function addDistances(tree, sums, terms) {
  const { T, legs, products, parts } = prepared(tree);
  const N = T + 1;
  const own = new Float64Array(N * N);
  const size = new Float64Array(N * N);
  for (let t = 0; t < T; t++) {
    const start = tree.starts[t];
    const square = products[t * T + t];
    for (let i = 0; i <= t; i++) {
      let along = 0;
      let magnitude = 0;
      for (let k = 0; k < T; k++) {
        const back = legs[start * T + k] - legs[i * T + k];
        if (back !== 0) {
          along += back * products[k * T + t];
          magnitude += Math.abs(products[k * T + t]);
        }
      }
      const sum = parts(t + 1, i) ? NaN : own[i * N + start] + 2 * along + square;
      own[i * N + t + 1] = own[(t + 1) * N + i] = sum;
      size[i * N + t + 1] = size[(t + 1) * N + i] = size[i * N + start] + 2 * magnitude + Math.abs(square);
    }
  }
  for (let i = 0; i < N * N; i++) {
    sums[i] += own[i];
    terms[i] += size[i];
  }
}

export function treeDistances(trees) {
  const N = trees[0].starts.length + 1;
  const sums = new Float64Array(N * N);
  const terms = new Float64Array(N * N);
  for (const tree of trees) addDistances(tree, sums, terms);
  return { N, sums, terms };
}

// Of a_i = station_i − station_o: a_i·a_j, and (a_j − a_i)·a_i, N × N.
export function treeProducts(trees, origin) {
  const N = trees[0].starts.length + 1;
  const inner = new Float64Array(N * N);
  const gained = new Float64Array(N * N);
  for (const tree of trees) {
    const { T, legs, products } = prepared(tree);
    const along = new Float64Array(T);
    for (let i = 0; i < N; i++) {
      along.fill(0);
      for (let k = 0; k < T; k++) {
        const away = legs[i * T + k] - legs[origin * T + k];
        if (away !== 0) for (let l = 0; l < T; l++) along[l] += away * products[k * T + l];
      }
      for (let j = 0; j < N; j++) {
        for (let l = 0; l < T; l++) {
          inner[i * N + j] += along[l] * (legs[j * T + l] - legs[origin * T + l]);
          gained[i * N + j] += along[l] * (legs[j * T + l] - legs[i * T + l]);
        }
      }
    }
  }
  return { inner, gained };
}

// The Gram of the update basis of the points `at`, NaN where unknown, and the magnitude of the terms of its diagonal.
export function treeUpdates(trees, at) {
  const m = at.length;
  const gram = new Float64Array(m * m);
  const terms = new Float64Array(m);
  const stations = [0, ...at.map((t) => t + 1)];
  for (const tree of trees) {
    const { T, legs, products, parts } = prepared(tree);
    const along = new Float64Array(T);
    const size = new Float64Array(T);
    const difference = (r, k) => legs[stations[r + 1] * T + k] - legs[stations[r] * T + k];
    const lost = at.map((_, r) => parts(stations[r + 1], stations[r]));
    for (let r = 0; r < m; r++) {
      along.fill(0);
      size.fill(0);
      for (let k = 0; k < T; k++) {
        const d = difference(r, k);
        if (d === 0) continue;
        for (let l = 0; l < T; l++) {
          along[l] += d * products[k * T + l];
          size[l] += Math.abs(products[k * T + l]);
        }
      }
      for (let s = 0; s < m; s++) {
        let sum = 0;
        for (let l = 0; l < T; l++) sum += along[l] * difference(s, l);
        gram[r * m + s] += lost[r] || lost[s] ? NaN : sum;
      }
      for (let l = 0; l < T; l++) if (difference(r, l) !== 0) terms[r] += size[l];
    }
  }
  return { gram, terms };
}
