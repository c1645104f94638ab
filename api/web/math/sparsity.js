// Sparsity of updates, as trajsvc/measures/sparsity.py defines it: from counts of the values whose stored bits changed.

// The counts (T × 2) at the checkpoints `indices`, NaN where one before was left out.
export function betweenNeighbours(changes, indices) {
  const out = new Float64Array(2 * indices.length).fill(NaN);
  indices.forEach((i, r) => {
    if (r < 1 || i !== indices[r - 1] + 1) return;
    out[2 * r] = changes[2 * i];
    if (r > 1 && i === indices[r - 2] + 2) out[2 * r + 1] = changes[2 * i + 1];
  });
  return out;
}

// The share of the values that every update leaves as they were, the overlap of the sets that successive updates change, and the
// overlap of random sets of these sizes; null where nothing was counted.
export function updateSparsity({ changes, parameters, steps }) {
  if (!changes) return null;
  const changed = steps.map((_, t) => changes[2 * t]);
  const kept = changed.slice(1).map((c) => (parameters - c) / parameters);
  const overlap = [], chance = [];
  for (let t = 2; t < steps.length; t++) {
    const both = changes[2 * t + 1];
    const found = both / (changed[t - 1] + changed[t] - both);
    const [p, q] = [1 - kept[t - 2], 1 - kept[t - 1]];
    overlap.push(found);
    chance.push(Number.isNaN(found) ? NaN : (p * q) / (p + q - p * q));
  }
  return kept.some((v) => !Number.isNaN(v)) ? { kept, overlap, chance } : null;
}
