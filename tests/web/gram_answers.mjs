// Reads Grams as JSON on stdin and writes what gram.js makes of them: a bridge for test_web_gram.py.
import * as G from "../../api/web/math/gram.js";
import { updateSparsity } from "../../api/web/math/sparsity.js";
import { forgettingTime, spectralEdge } from "../../api/web/math/windows.js";

let text = "";
for await (const chunk of process.stdin) text += chunk;
const plain = (v) => (typeof v === "number" ? (Number.isNaN(v) ? null : v) : Array.from(v, plain));
// The same with longer, still orthogonal parts of every update: another map.
const doubled = (g) => ({ ...g, gram: g.gram.map((v, i) => (i % (g.steps.length + 1) ? v : 2 * v)) });
const answers = JSON.parse(text).map(({ gram, steps, parameters, rounding, changes, chosen, trees, scale }) => {
  const number = (v) => (v === null ? NaN : v);
  const whole = { group: "g", steps, parameters, gram: Float64Array.from(gram.flat(), number), rounding: Float64Array.from(rounding, number) };
  whole.changes = Float64Array.from(changes.flat(), number);
  if (trees) Object.assign(whole, { trees: trees.map((t) => ({ starts: t.starts, gram: Float64Array.from(t.gram.flat(), number) })), at: steps.map((_, i) => i), scale });
  const g = G.select(whole, chosen);
  const origins = [null, 0, Math.floor(g.steps.length / 2), g.steps.length - 1];
  return {
    steps: g.steps,
    gram: plain(g.gram),
    measures: Object.fromEntries(Object.entries(G.measures(g)).map(([k, v]) => [k, plain(v)])),
    maps: origins.map((o) => plain(G.trajectoryMap(g, o).values)),
    dissimilarity: plain(G.dissimilarityMap(g).values),
    updates: plain(G.updateMap(g).values),
    walk: plain(G.randomWalk(g).values),
    walkFromZero: plain(G.randomWalk(g, false).values),
    windows: [3, 10].map((window) => ({ forgetting_time: forgettingTime(g, window), ...spectralEdge(g, window) })).map((w) => Object.fromEntries(Object.entries(w).map(([k, v]) => [k, plain(v)]))),
    sparsity: Object.fromEntries(Object.entries(updateSparsity(g) ?? {}).map(([k, v]) => [k, plain(v)])),
    cells: [null, 0].map((origin) => G.definedCells(g, origin)),
    below: G.belowFloor(g),
    row: G.layerRow(g),
    qkv: [null, 1].map((origin) => G.qkvRow("layer/0", g, doubled(g), g, origin)),
  };
});
process.stdout.write(JSON.stringify(answers));
