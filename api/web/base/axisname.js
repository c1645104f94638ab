// What the numbers of a run's checkpoints count: steps, epochs, tokens, or nothing but their order (index). No DOM.

const MANY = { step: "steps", epoch: "epochs", tokens: "tokens", index: "indices" };

// `row` is a run's line; `many` of several numbers.
export const axisName = (row) => row?.axis ?? "step";
export const axisNames = (row) => MANY[axisName(row)] ?? axisName(row);

// Of several runs on one axis: their name where they share it, else each.
export const sharedAxis = (rows) => [...new Set(rows.map(axisName))].join(" / ");
