// The page: which view stands where, and what stands around all of them.

import { fill, h } from "./base/dom.js";
import { onTheme, theme, toggle } from "./base/theme.js";
import { change, go, here, href, start } from "./base/url.js";
import * as api from "./data/api.js";
import { runView } from "./views/run.js";
import { waitingView } from "./views/waiting.js";
import { checked } from "./widgets/choices.js";

const content = document.getElementById("content");
const top = document.getElementById("top");
const notes = h("div", { class: "notices", role: "status" });

const LOADERS = {
  runs: () => import("./views/runs.js").then((m) => m.runsView),
  layers: () => import("./views/layers.js").then((m) => m.layersView),
  gradients: () => import("./views/gradients.js").then((m) => m.gradientsView),
  spectra: () => import("./views/spectra.js").then((m) => m.spectraView),
  rows: () => import("./views/rows.js").then((m) => m.rowsView),
  compare: () => import("./views/compare.js").then((m) => m.compareView),
  against: () => import("./views/against.js").then((m) => m.againstView),
  cross: () => import("./views/cross.js").then((m) => m.crossView),
  families: () => import("./views/families.js").then((m) => m.familiesView),
  family: () => import("./views/families.js").then((m) => m.familyView),
  experiments: () => import("./views/experiments.js").then((m) => m.experimentsView),
  experiment: () => import("./views/experiments.js").then((m) => m.experimentView),
  submit: () => import("./views/submit.js").then((m) => m.submitView),
  jobs: () => import("./views/jobs.js").then((m) => m.jobsView),
  job: () => import("./views/jobs.js").then((m) => m.jobView),
};

// The view of an address and whose it is; null where nothing has that address.
function routeOf(parts) {
  const [first, name, tab, ...rest] = parts;
  if (first === undefined) return ["runs"];
  if (rest.length) return null;
  if (first === "run" && name) return { undefined: ["run", name], layers: ["layers", name], gradients: ["gradients", name], spectra: ["spectra", name], rows: ["rows", name] }[tab] ?? null;
  if (tab !== undefined) return null;
  if (["family", "experiment", "job"].includes(first) && name) return [first, name];
  return name === undefined && ["compare", "against", "cross", "families", "experiments", "submit", "jobs"].includes(first) ? [first] : null;
}

let current = { key: null, view: null };
let newest = 0;

async function show({ parts, params: given }) {
  const [own] = api.isReport ? await api.runs() : [];
  if (own && !parts.length) {
    history.replaceState(null, "", href(["run", own.run]));
    return show({ parts: ["run", own.run], params: {} });
  }
  const route = routeOf(parts);
  if (!route || (own && !(parts[0] === "run" && parts[1] === own.run))) return nowhere(parts, own);
  const [kind, name] = route;
  const { params, unknown } = checked(kind, given);
  notice(unknown);
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
    fill(content, notes, view.element);
    document.title = view.title ? `${view.title} · trajsvc` : "trajsvc";
    view.shown?.();
    view.update?.(params);
    if (document.activeElement === document.body) return;
    content.focus({ preventScroll: true });
  } catch (error) {
    clearTimeout(slow);
    if (mine !== newest) return;
    current.key = null;
    fail(error);
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

// What of an address makes no sense is said over the view, which is shown without it.
function notice(texts) {
  fill(notes, texts.map((text) => h("p", { class: "problem" }, text)));
}

function nowhere(parts, own) {
  newest += 1;
  current.view?.destroy?.();
  current = { key: null, view: null };
  header("");
  fail(new api.Problem(404, { detail: `There is no page at #/${parts.join("/")}.`, hint: own ? "" : "The links above lead to all there are." }), own);
}

function fail(error, own = null) {
  const title = error.status === 404 ? "Not here" : "This did not work";
  document.title = `${title} · trajsvc`;
  fill(content, h(
    "div",
    { class: "empty", role: "alert" },
    h("h1", {}, title),
    h("p", {}, error.message),
    error.hint ? h("p", { class: "hint" }, error.hint) : null,
    h("p", {}, own ? h("a", { href: href(["run", own.run]) }, own.run) : h("a", { href: "#/" }, api.isReport ? "The run" : "All runs")),
  ));
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
          link(["runs", "run", "layers", "gradients", "spectra"], "Runs", []),
          link(["compare", "against", "cross"], "Compare", ["compare"]),
          link(["families", "family"], "Families", ["families"]),
          link(["experiments", "experiment"], "Experiments", ["experiments"]),
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
