// What a submission can say: its fields, what is sent of them, and which of them a problem is about. No DOM.

export const FIRST = [
  { name: "source", label: "Source", placeholder: "hf://org/name or ROOT:path", hint: "A repository of the Hub, or a folder within a data root of the server (trajsvc serve --root ROOT=DIR)." },
  { name: "name", label: "Name", placeholder: "as the folder or repository", hint: "Letters, digits, and . _ -" },
  { name: "steps", label: "Steps", placeholder: "all", hint: "0,1,2 · 1000..5000 · every:4 · last:5" },
];

// Under "More options", by what they are about.
export const MORE = [
  ["What is done", [
    { name: "kind", label: "Kind", options: [["", "trajectory: compute maps"], ["ingest", "ingest: compute, and keep the parameters"]], hint: "A run with its parameters can be computed again without the source." },
    { name: "preview", label: "Preview", placeholder: "exact", hint: "Stop at an estimate from this share of the bytes, such as 1 % or 0.01: every map with error bars." },
    { name: "recompute", label: "Stored results", check: "Compute them again from the start", hint: "Otherwise a stored run is continued." },
    { name: "replace", label: "A run of that name", check: "Replace it", hint: "Otherwise another run that is stored under this name is kept, and this one is refused." },
    { name: "family", label: "Family", placeholder: "none", hint: "The family that the run belongs to." },
    { name: "priority", label: "Priority", placeholder: "0", hint: "−100 to 100; jobs of higher priority run first." },
  ]],
  ["Which checkpoints", [
    { name: "revisions", label: "Revisions", placeholder: "all of the Hub's", hint: "Globs with commas between them; of a repository of the Hub." },
    { name: "commits", label: "Commits of", placeholder: "none", hint: "A branch whose commits are the checkpoints, if each replaced the one before." },
    { name: "state", label: "State", placeholder: "the model", hint: "Which model to read if a checkpoint holds several: student, ema, unet, actor/ema." },
    { name: "step_pattern", label: "Where the step is", placeholder: "found by name", hint: "A regular expression with named groups step, epoch, tokens, stage or phase: run_(?P<step>\\d+k?)" },
    { name: "skip_damaged", label: "Damaged checkpoints", check: "Leave out those that cannot be read", hint: "Otherwise a damaged checkpoint makes the job fail." },
  ]],
  ["How it is computed", [
    { name: "precision", label: "Precision", options: [["", "float64"], ["float32", "float32"]], hint: "Type of the products; float32 is faster and gives six digits." },
    { name: "dtype", label: "Round values to", options: [["", "nothing: as stored"], ["float16", "float16"], ["bfloat16", "bfloat16"], ["float32", "float32"]], hint: "As if the run had been stored in this type." },
    { name: "rows", label: "Rows (neurons)", options: [["", "as usual: where memory holds them"], ["true", "yes"], ["false", "no"]], hint: "Keep how every row of the matrices moved." },
    { name: "device", label: "Device", options: [["", "CPU"], ["cuda", "GPU"]], hint: "Without a worker that has a GPU it runs on CPUs." },
    { name: "memory", label: "Memory", placeholder: "as the server allows", hint: "Memory that a process may use, such as 512 MiB or 2 GiB." },
  ]],
  ["What the network is", [
    { name: "exclude", label: "Leave out tensors", placeholder: "none", hint: "Patterns with commas between them: pos_encoder.pe, teacher.*" },
    { name: "rename", label: "Rename tensors", placeholder: "none", hint: "FROM=TO with commas between them, if names changed during training: visual.=model.visual., *.gamma=*.weight" },
    { name: "heads", label: "Attention heads", placeholder: "as config.json", hint: "Needed only if the source does not say it." },
    { name: "rules", label: "Rules", placeholder: "none", hint: "Id of a rules file for names and layouts of tensors (trajsvc serve --rules-file ID=FILE)." },
    { name: "copy", label: "Keep the parameters", options: [["", "as usual: those of the Hub"], ["true", "yes"], ["false", "no"]], hint: "In the store, so that they need not be fetched again." },
    { name: "archive", label: "Archive", check: "Compress the copy", hint: "Lossless; slower to read." },
  ]],
];

const UNITS = { "": 1, b: 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 };

export function bytesOf(text) {
  const found = /^([\d.]+)\s*([a-z]*)$/i.exec(text);
  const unit = UNITS[found?.[2].toLowerCase()];
  return found && unit && Number.isFinite(Number(found[1])) ? Math.round(Number(found[1]) * unit) : text;
}

// What cannot be read as a number goes as it is: the server says what is wrong with it.
export function numberOf(text) {
  const plain = text.replace("−", "-");
  const value = plain.endsWith("%") ? Number(plain.slice(0, -1)) / 100 : Number(plain);
  return Number.isFinite(value) ? value : text;
}

export const several = (v) => v.split(",").map((r) => r.trim()).filter(Boolean);

const READ = {
  revisions: several, exclude: several, rename: several,
  preview: numberOf, heads: numberOf, priority: numberOf, memory: bytesOf,
  copy: (v) => v === "true",
  rows: (v) => v === "true",
};

// values: text by field, true for a box that is ticked.
export const bodyOf = (values) => wordsOf(values, READ);

// What is sent of the values of fields; `read`: field → what makes a value of its text.
export function wordsOf(values, read) {
  const body = {};
  for (const [name, given] of Object.entries(values)) {
    const value = typeof given === "string" ? given.trim() : given;
    if (value === "" || value === false) continue;
    body[name] = read[name] ? read[name](value) : value;
  }
  return body;
}

// Problems that say what is wrong without a place: it is that of the field which they are about.
const ABOUT = {
  "bad-rename": "rename", "rename-conflict": "rename", "no-parameters": "exclude", "rules-not-found": "rules", "bad-rules": "rules", "memory-quota": "memory", "memory-budget": "memory", "preview-copy": "preview", "hub-option": "revisions", "bad-steps": "steps",
  "step-not-found": "steps", "bad-pattern": "step_pattern", "state-not-found": "state", "ambiguous-state": "state", "ambiguous-state-dict": "state", "ambiguous-checkpoint": "state", "bad-source": "source", "no-data-roots": "source", "root-not-found": "source", "source-not-found": "source", "bad-path": "source", "unsafe-path": "source",
  "bad-hub-address": "source", "hub-not-found": "source", "bad-run-name": "name", "run-name": "name", "run-exists": "name",
  "probe-not-registered": "probe", "data-not-registered": "data", "gradients-exist": "name", "vectors-limit": "max_vectors", "too-few-examples": "examples", "not-per-example": "batch_norm",
};

// {field: message} of what a problem says of fields; `known` tells the fields that there are.
export function complaints(problem, known) {
  const found = {};
  for (const { pointer, where, message, detail } of problem.errors ?? []) {
    const field = (pointer ?? where ?? "").split(/[/.#]/).filter(Boolean).find((part) => known(part));
    if (field && !found[field]) found[field] = message ?? detail ?? "";
  }
  const about = ABOUT[problem.type?.split(":").at(-1)];
  if (about && known(about) && !Object.keys(found).length) found[about] = [problem.message, problem.hint].filter(Boolean).join(". ");
  return found;
}
