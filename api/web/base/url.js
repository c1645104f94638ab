// Where one is: #/path?parameters. Everything in view is there.

let listener = () => {};
let pending = null;

export function read(hash = location.hash) {
  const [path, search] = hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((p) => {
    try {
      return decodeURIComponent(p);
    } catch {
      return p;
    }
  });
  return { parts, params: Object.fromEntries(new URLSearchParams(search ?? "")) };
}

export function href(parts, params = {}) {
  const given = Object.entries(params).filter(([, v]) => v !== null && v !== undefined && v !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export function start(listen) {
  listener = listen;
  addEventListener("hashchange", () => {
    pending = null;
    streamed = -Infinity;
    // A link within the page (the skip link) is not a place.
    if (location.hash && !location.hash.startsWith("#/")) return;
    listener(read());
  });
  listener(read());
}

export const here = () => pending ?? read();

// Change parameters (null removes one). The view follows at once. Changes that come in a stream (a drag, typing) are one step of the
// history: the first makes it, the later ones are written into it after a moment, and a `push` at the end of a stream completes it.
const STREAM = 1500;
let timer = 0;
let streamed = -Infinity;
export function change(changes, { push = false } = {}) {
  const now = here();
  const params = { ...now.params, ...changes };
  for (const [k, v] of Object.entries(params)) if (v === null || v === undefined || v === "") delete params[k];
  const next = { parts: now.parts, params };
  const goesOn = performance.now() - streamed < STREAM;
  clearTimeout(timer);
  if (push || !goesOn) {
    pending = null;
    if (goesOn) history.replaceState(null, "", href(next.parts, params));
    else history.pushState(null, "", href(next.parts, params));
  } else {
    pending = next;
    timer = setTimeout(() => {
      if (pending !== next) return;
      pending = null;
      history.replaceState(null, "", href(next.parts, params));
    }, 120);
  }
  streamed = push ? -Infinity : performance.now();
  listener(next);
}

export function go(parts, params = {}) {
  location.hash = href(parts, params);
}
