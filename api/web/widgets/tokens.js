// Tokens that checkpoints were trained on, where their source says: an axis in the place of steps, or words beside them. No DOM.

import { count } from "../base/dom.js";
import { between } from "../plots/axis.js";

// {at: Map of step → tokens, along(step): tokens at any step}, or null unless every checkpoint knows its own and they grow.
export function tokensOf(checkpoints) {
  const known = checkpoints.filter((c) => Number.isFinite(c.tokens));
  if (known.length < 2 || known.length < checkpoints.length) return null;
  const ordered = [...known].sort((a, b) => a.step - b.step);
  if (ordered.some((c, i) => i > 0 && c.tokens <= ordered[i - 1].tokens)) return null;
  const steps = ordered.map((c) => c.step);
  const at = new Map(ordered.map((c) => [c.step, c.tokens]));
  const along = (step) => {
    const i = between(steps, step);
    const [a, b] = [ordered[Math.floor(i)].tokens, ordered[Math.ceil(i)].tokens];
    return a + (i - Math.floor(i)) * (b - a);
  };
  return { at, along };
}

// A line of a map's tip.
export const tokensLine = (tokens, row, column) => `tokens ${count(tokens.along(row))} × ${count(tokens.along(column))}`;
