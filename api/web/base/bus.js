// Which pair of steps is looked at: {row, column, value, from}, or null. All maps and charts in view follow it.

const listeners = new Set();

export function hover(what) {
  for (const listen of listeners) listen(what);
}

export function onHover(listen) {
  listeners.add(listen);
  return () => listeners.delete(listen);
}
