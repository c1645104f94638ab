// The page: which view stands where, and what stands around all of them.

import { fill, h } from "./base/dom.js";
import { onTheme, theme, toggle } from "./base/theme.js";
import { change, go, here, href, start } from "./base/url.js";
import * as api from "./data/api.js";
import { runView } from "./views/run.js";
import { waitingView } from "./views/waiting.js";

const content = document.getElementById("content");
const top = document.getElementById("top");

const LOADERS = {
  runs: () => import("./views/runs.js").then((m) => m.runsView),
  layers: () => import("./views/layers.js").then((m) => m.layersView),
  compare: () => import("./views/compare.js").then((m) => m.compareView),
  families: () => import("./views/families.js").then((m) => m.familiesView),
  family: () => import("./views/families.js").then((m) => m.familyView),
  submit: () => import("./views/submit.js").then((m) => m.submitView),
  jobs: () => import("./views/jobs.js").then((m) => m.jobsView),
  job: () => import("./views/jobs.js").then((m) => m.jobView),
};

function routeOf(parts) {
  const [first, name, tab] = parts;
  if (first === "run" && name) return tab === "layers" ? ["layers", name] : ["run", name];
  if (first === "family" && name) return ["family", name];
  if (first === "job" && name) return ["job", name];
  if (["compare", "families", "submit", "jobs"].includes(first)) return [first];
  return ["runs"];
}

let current = { key: null, view: null };
let newest = 0;

async function show({ parts, params }) {
  if (api.isReport && parts[0] !== "run") {
    const [{ run }] = await api.runs();
    history.replaceState(null, "", href(["run", run]));
    return show({ parts: ["run", run], params: {} });
  }
  const [kind, name] = routeOf(parts);
  const key = `${kind}/${name ?? ""}`;
  header(kind);
  if (key === current.key && current.view) return current.view.update(params);
  const mine = (newest += 1);
  const slow = setTimeout(() => mine === newest && fill(content, h("p", { class: "empty" }, "Loading…")), 250);
  current.view?.destroy?.();
  current = { key, view: null };
  try {
    const make = kind === "run" ? runView : await LOADERS[kind]();
    const view = await make(...(name ? [name] : []), params, { change, go }).catch((error) => waitFor(kind, name, error));
    clearTimeout(slow);
    if (mine !== newest) return view.destroy?.();
    current.view = view;
    fill(content, view.element);
    document.title = view.title ? `${view.title} · trajsvc` : "trajsvc";
    view.shown?.();
    view.update?.(params);
    if (document.activeElement === document.body) return;
    content.focus({ preventScroll: true });
  } catch (error) {
    clearTimeout(slow);
    if (mine !== newest) return;
    current.key = null;
    fill(content, failure(error));
    if (error.status === undefined) console.error(error);
  }
}

// A run that is not there yet may be on its way.
async function waitFor(kind, name, error) {
  const waiting = error.status === 404 && !api.isReport && ["run", "layers"].includes(kind) ? await waitingView(name, again) : null;
  if (!waiting) throw error;
  return waiting;
}

function again() {
  current.view?.destroy?.();
  current = { key: null, view: null };
  show(here());
}

function failure(error) {
  return h(
    "div",
    { class: "empty", role: "alert" },
    h("h1", {}, error.status === 404 ? "Not here" : "This did not work"),
    h("p", {}, error.message),
    error.hint ? h("p", { class: "hint" }, error.hint) : null,
    api.isReport ? null : h("p", {}, h("a", { href: "#/" }, "All runs")),
  );
}

function header(kind) {
  const link = (id, text, parts) => h("a", { href: href(parts), "aria-current": id.includes(kind) ? "page" : undefined }, text);
  fill(
    top,
    h("a", { class: "brand", href: "#/" }, "trajsvc"),
    api.isReport
      ? h("span", { class: "hint" }, "report")
      : h(
          "nav",
          { "aria-label": "Main" },
          link(["runs", "run", "layers"], "Runs", []),
          link(["compare"], "Compare", ["compare"]),
          link(["families", "family"], "Families", ["families"]),
          link(["jobs", "job"], "Jobs", ["jobs"]),
          link(["submit"], "Submit", ["submit"]),
        ),
    h("button", { type: "button", class: "quiet theme", onclick: toggle }, theme().dark ? "Light" : "Dark"),
  );
}

onTheme(() => {
  const button = top.querySelector("button.theme");
  if (button) button.textContent = theme().dark ? "Light" : "Dark";
});

api.onUnauthorised(
  () =>
    new Promise((done) => {
      const field = h("input", { type: "password", autocomplete: "off", "aria-label": "Token", required: true });
      const dialog = h(
        "dialog",
        { onclose: () => { dialog.remove(); done(dialog.returnValue === "ok" ? field.value.trim() : null); } },
        h("form", { method: "dialog" }, h("h2", {}, "This server asks for a token"), h("p", {}, "One of `trajsvc tokens create`; it is kept until this tab closes."), field,
          h("div", { class: "actions" }, h("button", { value: "ok", class: "primary" }, "Use it"), h("button", { value: "cancel", formnovalidate: true }, "Cancel"))),
      );
      document.body.append(dialog);
      dialog.showModal();
    }),
);

start(show);
