// What a submission of gradients can say: its fields, and what is sent of them. No DOM.

import { bytesOf, numberOf, several, wordsOf } from "./submission.js";

const KINDS = "example, batch, full, path, points, anchored, weights, inputs, input_gradients";

// `probe` and `data` are chosen among those that the server's operator registered.
export const FIRST = [
  { name: "probe", label: "Probe", options: [], hint: "What the network, its examples and their loss are; registered by who runs the server." },
  { name: "data", label: "Data", options: [], hint: "The examples; registered too." },
  { name: "sets", label: "Sets", placeholder: "example, batch", hint: `Of ${KINDS}.` },
  { name: "examples", label: "Examples", placeholder: "64", hint: "How many, from the start of the data." },
  { name: "batch", label: "Batch", placeholder: "16", hint: "Examples of a batch, which follow one another." },
  { name: "length", label: "Length", placeholder: "64", hint: "Tokens of an example of text." },
  { name: "steps", label: "Steps", placeholder: "all", hint: "0,1,2 · 1000..5000 · every:4 · last:5" },
];

export const MORE = [
  ["Examples and evaluation", [
    { name: "per_token", label: "Tokens", check: "Every predicted token of a text is an example", hint: "Otherwise the mean over a window is." },
    { name: "shuffle", label: "Shuffle", placeholder: "no", hint: "A seed by which the examples are drawn, without replacement." },
    { name: "precision", label: "Precision", options: [["", "float64"], ["float32", "float32"]], hint: "The type in which the network is evaluated." },
    { name: "batch_norm", label: "Batch normalisation", options: [["", "by running statistics (evaluation)"], ["training", "by the batch's (training)"]], hint: "By the batch's only for the sets batch, path and points." },
    { name: "mask", label: "Coordinates", placeholder: "all", hint: "The share of every tensor's coordinates that is kept, such as 5 % or 0.05." },
    { name: "max_vectors", label: "Most vectors", placeholder: "512", hint: "A Gram of n × n numbers is kept for every block and checkpoint." },
  ]],
  ["Perturbed sets", [
    { name: "directions", label: "Directions", placeholder: "16", hint: "Perturbations of the sets weights and inputs; vectors of points." },
    { name: "perturbation", label: "Perturbation", options: [["", "targeted"], ["limited", "limited"], ["random", "random"]], hint: "Along gradients of examples, along the batch's, or at random." },
    { name: "eta", label: "η", placeholder: "0.001", hint: "The size of a perturbation, as a share of the norm of what is perturbed." },
    { name: "absolute", label: "η is", check: "A length, and no share", hint: "As in the thesis." },
    { name: "seed", label: "Seed", placeholder: "0", hint: "Of perturbations, points, masks and random directions." },
  ]],
  ["Other sets", [
    { name: "anchor", label: "Anchor", placeholder: "the first", hint: "The earlier checkpoint of the set anchored." },
    { name: "learning_rate", label: "Learning rate", placeholder: "0.01", hint: "Of the short training of the set path." },
    { name: "momentum", label: "Momentum", placeholder: "0", hint: "Of the same." },
    { name: "sigma", label: "σ", placeholder: "0.1", hint: "Standard deviation of the parameters of the set points." },
  ]],
  ["What is done", [
    { name: "name", label: "Name", placeholder: "as the set", hint: "Keeps a set beside one of other options; of several sets NAME-set." },
    { name: "replace", label: "A set of that name", check: "Replace it", hint: "Otherwise one of other options is kept, and this one is refused." },
    { name: "device", label: "Device", options: [["", "CPU"], ["cuda", "GPU"]], hint: "Where the network is evaluated." },
    { name: "memory", label: "Memory", placeholder: "as the server allows", hint: "What gradients may take, such as 512 MiB." },
    { name: "priority", label: "Priority", placeholder: "0", hint: "−100 to 100; jobs of higher priority run first." },
  ]],
];

const NUMBERS = ["examples", "batch", "length", "shuffle", "mask", "max_vectors", "directions", "eta", "seed", "anchor", "learning_rate", "momentum", "sigma", "priority"];
const READ = { sets: several, memory: bytesOf, ...Object.fromEntries(NUMBERS.map((name) => [name, numberOf])) };

// values: text by field, true for a box that is ticked.
export const bodyOf = (values) => wordsOf(values, READ);
