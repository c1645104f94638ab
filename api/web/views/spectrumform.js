// Have the server decompose the matrices of a run.

import { bytesOf, numberOf, several, wordsOf } from "../base/submission.js";
import * as api from "../data/api.js";
import { JobForm } from "../widgets/jobform.js";

const FIRST = [
  { name: "groups", label: "Groups", placeholder: "network", hint: "Whose matrices, with commas between them: layer/0, component/attention.q" },
  { name: "steps", label: "Steps", placeholder: "all", hint: "0,1,2 · 1000..5000 · every:4 · last:5" },
];
const MORE = [
  { name: "of", label: "Of", placeholder: "weights, displacement, updates", hint: "What is decomposed: the weights, their distance from the start, their updates." },
  { name: "heads", label: "Heads", check: "Those of Q, K and V too", hint: "Each head's part as a matrix of its own." },
  { name: "device", label: "Device", options: [["", "CPU"], ["cuda", "GPU"]], hint: "Where matrices are decomposed." },
  { name: "budget", label: "Budget", placeholder: "as the server allows", hint: "What one decomposition may take, such as 2 GiB; beyond it the largest values are found with bounds." },
  { name: "priority", label: "Priority", placeholder: "0", hint: "−100 to 100; jobs of higher priority run first." },
];
const READ = { groups: several, of: several, budget: bytesOf, priority: numberOf };

export class SpectrumForm extends JobForm {
  constructor(name, { open, ondone }) {
    super({ title: "Compute spectra", open, ondone, submit: (values) => api.submitSpectra(name, wordsOf(values, READ)) });
    this.draw(FIRST, [[null, MORE]]);
  }
}
