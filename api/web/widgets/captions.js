// What a downloaded picture is of, in words under its title. No DOM.

import { axisName, axisNames } from "../base/axisname.js";
import { step as stepText } from "../base/dom.js";
import { badge } from "./estimate.js";

export const groupText = (group) => (group === "network" ? "the network" : group);

// {run, group, steps: those of the checkpoints, origin: a step or null, row: of the run, which may be an estimate}; all but steps may be left out.
export function captionOf({ run, group, steps, origin = null, row }) {
  const parts = [run, group && groupText(group)];
  if (steps?.length) parts.push(`${steps.length} checkpoints, ${axisNames(row)} ${stepText(steps[0])} to ${stepText(steps.at(-1))}`);
  if (origin !== null) parts.push(`origin: ${axisName(row)} ${origin}`);
  if (row?.estimate) parts.push(badge(row));
  return parts.filter(Boolean).join(" · ");
}
