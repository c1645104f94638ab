// Where data comes from: the server's API, or what a report has inlined. Grams are kept, so that what was seen is there at once.

import { qkvRow, layerRow, select } from "../math/gram.js";
import { readNpz } from "../math/npz.js";

const inlined = document.getElementById("report-data");
const report = inlined ? JSON.parse(inlined.textContent) : null;
const KEPT = 256 * 2 ** 20;
const AT_ONCE = 6;

export const isReport = report !== null;

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.hint = body.hint || "";
    this.type = body.type || "";
    this.errors = body.errors || [];
  }
}

let askToken = async () => null;
let asking = null;
export function onUnauthorised(ask) {
  askToken = ask;
}

function keepToken(token) {
  if (token) sessionStorage.setItem("trajsvc-token", token);
  return token;
}
const kept = () => sessionStorage.getItem("trajsvc-token");
const headers = (more, token) => (token ? { ...more, authorization: `Bearer ${token}` } : more);

export async function ask(path, options = {}, again = true) {
  const sent = kept();
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers ?? {}, sent) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the server cannot be reached", hint: "Is `trajsvc serve` still running? Reload to try again." });
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  if (response.status === 401 && again) {
    // Requests that were refused together ask once, those too whose refusal comes when a token was given already.
    if (!asking && kept() !== sent) return ask(path, options, false);
    asking ??= askToken().then(keepToken).finally(() => (asking = null));
    if (await asking) return ask(path, options, false);
  }
  throw new Problem(response.status, body);
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (path, body) =>
  json(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
const query = (values) => {
  const given = Object.entries(values).filter(([, v]) => v !== null && v !== undefined && v !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};
const at = (run) => `/v1/runs/${encodeURIComponent(run)}`;

// Not more than a few requests at once, the latest wanted first where many are waiting.
let open = 0;
const waiting = [];
async function inTurn(work) {
  if (open >= AT_ONCE) await new Promise((go) => waiting.push(go));
  open += 1;
  try {
    return await work();
  } finally {
    open -= 1;
    waiting.shift()?.();
  }
}

const grams = new Map();
let held = 0;

function keep(key, promise) {
  grams.set(key, promise);
  promise.then(
    (g) => {
      held += g.gram.byteLength;
      for (const [old] of grams) {
        if (held <= KEPT || old === key) break;
        grams.get(old).then((o) => (held -= o.gram.byteLength));
        grams.delete(old);
      }
    },
    () => grams.delete(key),
  );
  return promise;
}

// The group's Gram at its usable checkpoints. `digest` makes a new one of a run that was appended to.
export function gram(run, group, digest = "") {
  const key = `${run}\n${group}\n${digest}`;
  const known = grams.get(key);
  if (known) {
    grams.delete(key);
    grams.set(key, known);
    return known;
  }
  return keep(key, isReport ? Promise.resolve().then(() => unpack(group)) : inTurn(() => fetchGram(run, group)));
}

async function fetchGram(run, group) {
  const response = await ask(`${at(run)}/gram${query({ group, f: "npz" })}`);
  const arrays = readNpz(await response.arrayBuffer());
  const whole = {
    run,
    group,
    steps: Array.from(arrays.steps.data, Number),
    gram: arrays.gram.data,
    rounding: arrays.rounding.data,
    error: Number(arrays.error.data[0]),
    same: Array.from(arrays.same.data, Number),
    changes: arrays.changes?.data ?? null,
    parameters: Number(arrays.parameters.data[0]),
  };
  if (arrays.tree_gram) {
    const size = whole.steps.length;
    whole.trees = Array.from({ length: arrays.tree_gram.shape[0] }, (_, k) => ({
      starts: Array.from(arrays.tree_start.data.subarray(k * size, (k + 1) * size), Number),
      gram: arrays.tree_gram.data.subarray(k * size * size, (k + 1) * size * size),
    }));
    whole.at = whole.steps.map((_, i) => i);
    whole.scale = Number(arrays.scale.data[0]);
  }
  const usable = Array.from(arrays.usable.data, (u, i) => (u ? i : -1)).filter((i) => i >= 0);
  const found = select(whole, usable);
  if (arrays.left_out) {
    const size = whole.steps.length ** 2;
    found.replicates = Array.from({ length: arrays.left_out.shape[0] }, (_, r) =>
      select({ ...whole, gram: arrays.left_out.data.subarray(r * size, (r + 1) * size) }, usable),
    );
  }
  return found;
}

// A report holds the upper triangle of each Gram, float64, in base64.
function floats(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return new Float64Array(out.buffer);
}

// A large report has Grams as norms and cosines, these in 16 bits.
function fromCosines({ norms, cosines }, T) {
  const raw = atob(cosines);
  const whole = new Int16Array(Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer);
  const n = floats(norms);
  const triangle = new Float64Array(whole.length);
  let at = 0;
  for (let i = 0; i < T; i++) for (let j = i; j < T; j++) triangle[at] = (n[i] * n[j] * whole[at++]) / 32767;
  return triangle;
}

function unpackTrees({ trees, at, scale }) {
  return trees ? { trees: trees.map(({ starts, gram }) => ({ starts, gram: floats(gram) })), at, scale } : {};
}

function unpack(group) {
  const stored = report.grams[group];
  if (!stored) throw new Problem(404, { detail: `the report does not hold ${group}`, hint: "It holds the network, its layers and their components." });
  const T = report.steps.length;
  const triangle = stored.cosines ? fromCosines(stored, T) : floats(stored.gram);
  const gram = new Float64Array(T * T);
  let at = 0;
  for (let i = 0; i < T; i++) for (let j = i; j < T; j++) gram[i * T + j] = gram[j * T + i] = triangle[at++];
  return { run: report.run, group, steps: report.steps, gram, rounding: floats(stored.rounding), parameters: stored.parameters, error: stored.error, same: stored.same, rounded: Boolean(stored.cosines), ...unpackTrees(stored) };
}

const chosen = (g, range) => {
  if (!range) return g;
  const indices = g.steps.map((s, i) => (s >= range[0] && s <= range[1] ? i : -1)).filter((i) => i >= 0);
  return indices.length ? select(g, indices) : g;
};

// {least, greatest} of the maps of all layers ("layers"), their parts, or their Q, K and V ("attention"); null where only the maps say.
export async function mapRange(name, of, { kind, origin, range }) {
  if (isReport) return null;
  return json(`${at(name)}/map/range${query({ of, kind, origin, steps: spec(range) })}`);
}

// Map of group → map, of all layers, their parts, or their Q, K and V; null where they have to be made of Grams, or are too many.
const MOST_ENTRIES = 4 * 2 ** 20;
export async function maps(name, of, { kind, origin, range, count, checkpoints }) {
  if (isReport || (count * checkpoints * (checkpoints + 1)) / 2 > MOST_ENTRIES) return null;
  const response = await inTurn(() => ask(`${at(name)}/maps${query({ of, kind, origin, steps: spec(range), f: "npz" })}`));
  const arrays = readNpz(await response.arrayBuffer());
  const steps = Array.from(arrays.steps.data, Number);
  const n = steps.length;
  const size = (n * (n + 1)) / 2;
  return new Map(arrays.groups.data.map((group, k) => [group, { n, steps, values: squareOf(arrays.maps.data.subarray(k * size, (k + 1) * size), n) }]));
}

function squareOf(triangle, n) {
  const values = new Float32Array(n * n);
  let at = 0;
  for (let i = 0; i < n; i++) for (let j = i; j < n; j++) values[i * n + j] = values[j * n + i] = triangle[at++];
  return values;
}

const spec = (range) => (range ? `${range[0]}..${range[1]}` : null);

async function allPages(path, more = []) {
  const items = [];
  let cursor = null;
  do {
    const search = new URLSearchParams([["limit", 200], ...(cursor ? [["cursor", cursor]] : []), ...more]);
    const page = await json(`${path}?${search}`);
    items.push(...page.items);
    cursor = page.next;
  } while (cursor && items.length < 5000);
  return items;
}

export const runs = () => (isReport ? Promise.resolve([report.answer.row]) : allPages("/v1/runs"));
// The names of the runs for which all conditions hold.
export const runsWhere = async (conditions) => new Set((await allPages("/v1/runs", conditions.map((c) => ["where", c]))).map((row) => row.run));
export async function run(name) {
  if (isReport) return report.answer;
  const response = await ask(at(name));
  return { ...(await response.json()), etag: response.headers.get("etag") };
}
// Change what is said of a run, if it is still the one with this ETag.
export const describe = (name, body, etag) =>
  json(at(name), { method: "PATCH", headers: { "content-type": "application/json", ...(etag ? { "if-match": etag } : {}) }, body: JSON.stringify(body) });
export const summary = (name) => (isReport ? Promise.resolve(report.summary) : json(`${at(name)}/summary`));
export const checkpoints = (name) => (isReport ? Promise.resolve(report.checkpoints) : json(`${at(name)}/checkpoints`));
export const groups = (name) => (isReport ? Promise.resolve(report.groups) : json(`${at(name)}/groups`));

// {phases, whole}: those of a range of steps, or of the whole run. A report holds those of the whole run alone.
export async function phases(name, group, range) {
  if (isReport) return { phases: report.phases[group] ?? [], whole: true };
  return { phases: await json(`${at(name)}/phases${query({ group, steps: spec(range) })}`), whole: !range };
}

export async function layers(name, range) {
  if (!isReport) return json(`${at(name)}/layers${query({ steps: spec(range) })}`);
  const ids = report.groups.map((g) => g.id).filter((id) => /^layer\/[^/]+$/.test(id) && report.grams[id]);
  const depths = new Map(report.summary.layers.map((r) => [r.group, r.depth]));
  return Promise.all(ids.map(async (id) => ({ ...layerRow(chosen(await gram(name, id), range)), depth: depths.get(id) ?? null })));
}

// `origin` is a step of the range, or null for maps seen from the zero vector.
export async function qkv(name, range, origin = null) {
  if (!isReport) return (await json(`${at(name)}/qkv${query({ steps: spec(range), origin })}`)).layers;
  const ids = report.groups.map((g) => g.id).filter((id) => report.grams[`${id}/attention.q`]);
  return Promise.all(
    ids.map(async (id) => {
      const parts = await Promise.all(["q", "k", "v"].map((p) => gram(name, `${id}/attention.${p}`)));
      const some = parts.map((g) => chosen(g, range));
      return qkvRow(id, ...some, origin === null ? null : some[0].steps.indexOf(origin));
    }),
  );
}

// Sets of gradients. A report holds none.
const gradients = (name, set) => `${at(name)}/gradients${set ? `/${encodeURIComponent(set)}` : ""}`;
export const gradientSets = (name) => (isReport ? Promise.resolve([]) : json(gradients(name)));
export const gradientMeasures = (name, set, { group, names }) => json(`${gradients(name, set)}/measures${query({ group, names })}`);
export const gradientLayers = (name, set, names) => json(`${gradients(name, set)}/layers${query({ names })}`);
export const gradientMap = (name, set, { step, group }) => json(`${gradients(name, set)}/map${query({ step, group })}`);
export const gradientClusters = (name, set, { step, group, clusters }) => json(`${gradients(name, set)}/clusters${query({ step, group, clusters })}`);

// Spectra of matrices. A report holds none.
const spectraOf = (name, what = "") => `${at(name)}/spectra${what}`;
export const spectra = (name) => (isReport ? Promise.resolve([]) : json(spectraOf(name)));
export const submitSpectra = (name, body) => post(spectraOf(name), body);
export const spectrumMatrices = (name, of) => json(spectraOf(name, `/${of}`));
export const spectrumMeasures = (name, of, tensor) => json(spectraOf(name, `/measures${query({ of, tensor, names: "stable_rank,effective_rank,participation_ratio" })}`));
export const singularValues = (name, of, tensor) => json(spectraOf(name, `/values${query({ of, tensor })}`));
export const spectrumLayers = (name, of) => json(spectraOf(name, `/layers${query({ of, names: "sigma_1,stable_rank,effective_rank" })}`));

// Rows (neurons) of matrices. A report holds none.
export const rows = (name, asked) => json(`${at(name)}/rows${query(asked)}`);

// What averages of checkpoints would be. A report holds none.
export const averages = (name, group, range) => (isReport ? Promise.resolve(null) : json(`${at(name)}/averages${query({ group, steps: spec(range) })}`));

// Any number of runs: as many at once as one answer takes. The findings are about those of one answer, each with the first.
const COMPARED_AT_ONCE = 16;
export async function compare(names, group) {
  const ask = (some) => json(`/v1/compare?${new URLSearchParams([...some.map((n) => ["run", n]), ["group", group]])}`);
  const first = await ask(names.slice(0, COMPARED_AT_ONCE));
  const found = { ...first, rows: [...first.rows] };
  const some = COMPARED_AT_ONCE - 1; // beside the first of all, so that its steps are compared with every other's
  for (let at = COMPARED_AT_ONCE; at < names.length; at += some) {
    const next = await ask([names[0], ...names.slice(at, at + some)]);
    found.rows.push(...next.rows.filter((r) => r.run !== names[0]));
    if (!found.findings.length) found.findings = next.findings;
  }
  return found;
}
// Many runs against a hyperparameter; the measures that there are.
export const against = ({ where, ...asked }) => json(`/v1/against?${new URLSearchParams([...where.map((c) => ["where", c]), ...Object.entries(asked).filter(([, v]) => v)])}`);
export const measures = () => (isReport ? Promise.resolve([]) : json("/v1/measures"));
// Two runs against each other, and a job that finds it.
export const cross = (a, b, { group, origin }) => json(`/v1/cross${query({ a, b, group, origin })}`);
export const submitCross = (body) => post("/v1/cross", body);
export const families = () => (isReport ? Promise.resolve([]) : json("/v1/families"));
export const family = (name) => json(`/v1/families/${encodeURIComponent(name)}`);
export const familyCompare = (name, origin) => json(`/v1/families/${encodeURIComponent(name)}/compare${query({ origin })}`);

export const experiments = () => (isReport ? Promise.resolve([]) : json("/v1/experiments"));
export const experiment = (name) => json(`/v1/experiments/${encodeURIComponent(name)}`);
export const experimentFigure = async (name, file) => (await ask(`/v1/experiments/${encodeURIComponent(name)}/figures/${encodeURIComponent(file)}`)).blob();

export const jobs = (limit = 50) => (isReport ? Promise.resolve([]) : json(`/v1/jobs?limit=${limit}`).then((p) => p.items));
export const jobsOf = (run, state) => json(`/v1/jobs${query({ run, state, limit: 1 })}`).then((p) => p.items);
export const job = (id) => json(`/v1/jobs/${encodeURIComponent(id)}`);
export const jobEvents = (id, after = 0) => json(`/v1/jobs/${encodeURIComponent(id)}/events${query({ f: "json", after: after || null })}`);
export const plan = (body) => post("/v1/plan", body);
export const audit = (body) => post("/v1/audit", body);
export const submit = (body) => post("/v1/runs", body);
// Names of the probes and of the data that gradients may be computed with.
export const registered = () => json("/v1/probes");
export const submitGradients = (name, body) => post(`${gradients(name)}`, body);
export const recompute = (name, body) => post(`${at(name)}/recompute`, body);
export const cancel = (id) => json(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
export const retry = (id) => json(`/v1/jobs/${encodeURIComponent(id)}/retry`, { method: "POST" });
