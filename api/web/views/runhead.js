// What stands over every view of a run: name, facts, tabs, what its integrity report says, what its numbers say in words.

import { axisNames } from "../base/axisname.js";
import { count, h, step as stepText } from "../base/dom.js";
import { href } from "../base/url.js";
import { isReport } from "../data/api.js";
import { badge } from "../widgets/estimate.js";

const SHARED = ["from", "to", "axis", "along", "view", "origin", "palette", "lo", "hi"];

export function runHead(name, answer, summary, tab, params) {
  const { row } = answer;
  const shared = Object.fromEntries(SHARED.filter((k) => params[k] !== undefined).map((k) => [k, params[k]]));
  const link = (id, text, parts, more = {}) =>
    h("a", { href: href(parts, { ...shared, ...more }), "aria-current": id === tab ? "page" : undefined }, text);
  const facts = [
    row.architecture,
    `${count(row.parameters)} parameters`,
    `${row.checkpoints} checkpoints, ${axisNames(row)} ${stepText(row.first_step)} to ${stepText(row.last_step)}`,
  ];
  return [
    h("div", { class: "title" }, h("h1", {}, name), row.estimate ? h("span", { class: "badge warning" }, badge(row)) : null),
    h("p", { class: "facts" }, facts.map((f) => h("span", {}, f)), h("span", { class: "source", title: row.source }, row.source)),
    h(
      "nav",
      { class: "tabs", "aria-label": "Views of the run" },
      link("map", "Map and curves", ["run", name], { group: params.group }),
      link("layers", "Layers", ["run", name, "layers"]),
      isReport ? null : link("gradients", "Gradients", ["run", name, "gradients"]),
      isReport ? null : link("spectra", "Spectra", ["run", name, "spectra"]),
      isReport ? null : link("rows", "Rows", ["run", name, "rows"], { group: params.group }),
      isReport ? null : h("a", { href: href(["compare"], { runs: name }) }, "Compare…"),
    ),
    summary ? h("div", { class: "findings" }, integrity(summary), summary.statements?.length ? inWords(summary.statements) : null) : null,
  ];
}

// What the numbers say.
function inWords(statements) {
  const open = document.querySelector("details.inwords")?.open;
  return h(
    "details",
    { class: "integrity inwords", open: open ? "" : undefined },
    h("summary", {}, "In words"),
    h("ul", {}, statements.map((s) => h("li", {}, s.text))),
  );
}

function integrity(summary) {
  const findings = summary.integrity;
  const excluded = summary.excluded ?? [];
  if (!findings.length && !excluded.length) return h("p", { class: "integrity fine" }, "Integrity: nothing found.");
  const counts = {};
  for (const f of findings) counts[f.severity] = (counts[f.severity] ?? 0) + 1;
  const words = [["error", "errors"], ["warning", "warnings"], ["info", "notes"]]
    .filter(([s]) => counts[s])
    .map(([s, many]) => `${counts[s]} ${counts[s] === 1 ? many.slice(0, -1) : many}`);
  if (excluded.length) words.push(`${excluded.length} ${excluded.length === 1 ? "checkpoint" : "checkpoints"} left out`);
  const worst = counts.error ? "error" : counts.warning ? "warning" : "info";
  const open = document.querySelector("details.integrity:not(.inwords)")?.open;
  return h(
    "details",
    { class: `integrity ${worst}`, open: open ? "" : undefined },
    h("summary", {}, `Integrity: ${words.join(", ")}`),
    h(
      "ul",
      {},
      findings.map((f) => h("li", {}, h("span", { class: `badge ${f.severity}` }, f.kind), " ", f.message)),
      excluded.map((e) => h("li", {}, h("span", { class: "badge warning" }, "left out"), " ", Object.values(e).map(String).join(": "))),
    ),
  );
}
