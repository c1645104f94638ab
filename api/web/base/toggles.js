// Switches that the address keeps by the names of what they are of: `log=norms&nolog=updates` turns on that of the chart `norms`, and off
// that of `updates`, which is on by itself. No DOM but the address.

import { change, here } from "./url.js";

const named = (params, name) => (params[name] ?? "").split(",").filter(Boolean);

// Whether the switch `name` of `which` is on; with `next` it is set.
export function toggled(name, which, usual, next = null) {
  const { params } = here();
  const lists = { true: named(params, name), false: named(params, `no${name}`) };
  if (next === null) return !which ? usual : lists.true.includes(which) || (usual && !lists.false.includes(which));
  const without = (on) => lists[on].filter((w) => w !== which);
  const said = { true: without(true), false: without(false) };
  if (next !== usual) said[next].push(which);
  change({ [name]: said.true.join(",") || null, [`no${name}`]: said.false.join(",") || null }, { push: true });
  return next;
}

// `listen` when the browser goes to another place by itself; ends with what is returned.
export function toggledOn(listen) {
  const later = () => setTimeout(listen);
  addEventListener("popstate", later);
  return () => removeEventListener("popstate", later);
}
