// What is wrong with a source, as POST /v1/audit answers it: findings, the most severe first, and the checkpoints that have faults.

import { bytes, h, step as stepText } from "../base/dom.js";

const SEVERITIES = ["error", "warning", "info"];
const SHOWN = 200;

// How many there are of each value, in the order in which they first appear: [[value, n], …].
const counted = (values) => [...values.reduce((found, v) => found.set(v, (found.get(v) ?? 0) + 1), new Map())];

const some = (steps, most = 6) => (steps.length > most ? `${steps.slice(0, most).map(stepText).join(", ")} … (${steps.length})` : steps.map(stepText).join(", "));

export function auditPanel(found) {
  const row = (term, value) => (value ? [h("dt", {}, term), h("dd", {}, value)] : null);
  const findings = [...found.findings].sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
  const types = counted(found.rows.map((r) => r.dtype).filter(Boolean));
  const states = counted(found.rows.map((r) => r.state)).map(([state, n]) => `${n} ${state}`);
  const total = found.rows.reduce((sum, r) => sum + r.bytes, 0);
  return h(
    "section",
    { class: "panel", "aria-label": "Audit" },
    h("h2", {}, `Audit of ${found.source}`),
    h("p", { class: "verdict" }, h("strong", {}, found.wrong ? `${found.wrong} ${found.wrong === 1 ? "thing is" : "things are"} wrong` : "Nothing is wrong")),
    h(
      "dl",
      { class: "facts2" },
      row("family", found.family),
      row("checkpoints", found.rows.length ? `${found.rows.length}: ${states.join(", ")}` : "none"),
      row("steps", found.rows.length ? `${stepText(found.rows[0].step)} to ${stepText(found.rows.at(-1).step)}` : null),
      row("stored as", types.length ? `${types.map(([type, n]) => `${type} (${n})`).join(", ")}, ${bytes(total)}` : null),
      row("missing steps", found.missing.length ? some(found.missing, 20) : null),
      row("other revisions", found.others.length ? `${found.others.slice(0, 20).join(", ")}${found.others.length > 20 ? ` … (${found.others.length})` : ""}` : null),
    ),
    findings.length
      ? h("ul", { class: "auditfindings" }, findings.map((f) => h("li", {}, h("span", { class: `badge ${f.severity}` }, f.severity), ` ${f.kind}: ${f.message}`)))
      : null,
    faulty(found.rows.filter((r) => r.state !== "whole" || r.copies.length)),
    h("p", { class: "hint" }, "From listings, digests and headers alone; no weight was read and nothing was started."),
  );
}

function faulty(rows) {
  if (!rows.length) return null;
  const caption = rows.length > SHOWN ? `The first ${SHOWN} of ${rows.length} checkpoints with faults` : "Checkpoints with faults";
  const titles = ["step", "label", "state", "copies of steps", "why"];
  const line = (r) => h("tr", {}, h("th", { scope: "row", class: "numeric" }, stepText(r.step)), [r.label, r.state, some(r.copies), r.why].map((text) => h("td", {}, text)));
  const head = h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title))));
  const table = h("table", {}, h("caption", { class: "hidden" }, caption), head, h("tbody", {}, rows.slice(0, SHOWN).map(line)));
  return [h("h3", {}, caption), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table)];
}
