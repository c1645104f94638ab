// What a map's parameters mean for a Gram: range, kind of map, origin. No DOM.

import { randomWalk, select, trajectoryMap, updateMap } from "./gram.js";

export function rangeOf(params, steps) {
  const [from, to] = [Number(params.from ?? steps[0]), Number(params.to ?? steps.at(-1))];
  const indices = steps.map((s, i) => (s >= from && s <= to ? i : -1)).filter((i) => i >= 0);
  return indices.length >= 2 ? indices : steps.map((_, i) => i);
}

export const rangeSteps = (params) => (params.from !== undefined || params.to !== undefined ? [Number(params.from ?? 0), Number(params.to ?? 2 ** 53)] : null);

export function within(g, params) {
  const indices = rangeOf(params, g.steps);
  return indices.length === g.steps.length ? g : select(g, indices);
}

// The origin is a step of the range: the nearest one, where it is not. Its index among the steps of `g`.
export function originOf(g, params) {
  const wanted = params.origin === undefined ? g.steps[0] : Number(params.origin);
  let best = 0;
  g.steps.forEach((s, i) => {
    if (Math.abs(s - wanted) < Math.abs(g.steps[best] - wanted)) best = i;
  });
  return best;
}

export function mapOf(g, params) {
  const view = params.view ?? "tm";
  if (view === "rtm") return trajectoryMap(g, originOf(g, params));
  if (view === "updates") return updateMap(g);
  if (view === "walk") return randomWalk(g, true);
  return trajectoryMap(g);
}
