// The papers' experiments: what each claims, the verdict of the last result in the store, its figures, its runs and its family.

import { download, downloads, fill, h, number } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";

export async function experimentsView() {
  const rows = await api.experiments();
  return {
    title: "Experiments",
    element: h(
      "div",
      { class: "experiments" },
      h("h1", {}, "Experiments"),
      h("p", { class: "facts" }, "Claims of papers, each tried at a small scale: ", h("code", {}, "trajsvc experiment run NAME"), " on the server's machine makes a result."),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Experiments" },
        h("table", {},
          h("thead", {}, h("tr", {}, ["Name", "Title", "Paper", "Claim", "Verdict"].map((t) => h("th", { scope: "col" }, t)))),
          h("tbody", {}, rows.map((r) => h("tr", {},
            h("th", { scope: "row" }, r.verdict ? h("a", { href: href(["experiment", r.name]) }, r.name) : r.name),
            h("td", {}, r.title),
            h("td", {}, r.paper, h("div", { class: "hint" }, r.figure)),
            h("td", {}, r.claim),
            h("td", {}, r.verdict ? [verdict(r), h("div", { class: "hint" }, `${seedsOf(r)}${scaleOf(r)}`)] : h("span", { class: "hint" }, "not run"))))))),
    ),
    update() {},
  };
}

export async function experimentView(name) {
  return new ExperimentView(await api.experiment(name));
}

class ExperimentView {
  constructor(result) {
    this.title = `${result.name}: ${result.title}`;
    const facts = [
      ["Claim", result.claim],
      ["Reproduced when", result.criterion],
      ["Settings", result.settings],
      ["The paper's", result.paper_settings],
      ["Made", `${new Date(result.made).toLocaleString()}, in ${number(result.seconds, 3)} s, with ${Object.entries(result.versions).map(([n, v]) => `${n} ${v}`).join(", ")}`],
    ];
    this.element = h(
      "div",
      { class: "experiment" },
      h("div", { class: "title" }, h("h1", {}, this.title), verdict(result)),
      h("p", { class: "facts" }, h("span", {}, `${result.paper}, ${result.figure}`), h("span", {}, `${seedsOf(result)}${scaleOf(result)}`)),
      h("dl", { class: "facts2" }, facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])),
      result.notes.map((note) => h("p", { class: "hint" }, `Note: ${note}.`)),
      h("div", { class: "pictures" }, result.figures.map((figure) => this.#picture(result.name, figure))),
      h("h2", { class: "section" }, "Measured"),
      h("dl", { class: "facts2 measured" }, Object.entries(result.measured).map(([key, value]) => [h("dt", {}, words(key)), h("dd", {}, said(value))])),
      result.runs.length || result.family
        ? [h("h2", { class: "section" }, "Runs"),
          h("p", {}, result.family ? [h("a", { href: href(["family", result.family]) }, `The family ${result.family}`), " · "] : null,
            h("a", { href: href([], { tag: `experiment:${result.name}` }) }, `All ${result.runs.length} in the list`)),
          h("ul", { class: "names" }, result.runs.map((run) => h("li", {}, h("a", { href: href(["run", run]) }, run))))]
        : null,
    );
  }

  update() {}

  // Through `api`, which sends the token, and onto a canvas, as the page shows no image from elsewhere.
  #picture(name, { file }) {
    const place = h("figure", { class: "picture" }, h("p", { class: "hint" }, "Loading…"));
    this.#drawn(name, file).then(
      ([canvas, blob]) => fill(place, canvas, h("figcaption", { class: "hint" }, file, downloads(file, [["PNG", () => download(file, blob)]]))),
      (error) => fill(place, h("p", { class: "problem" }, error.message)),
    );
    return place;
  }

  async #drawn(name, file) {
    const blob = await api.experimentFigure(name, file);
    const image = await createImageBitmap(blob);
    const canvas = h("canvas", { role: "img", "aria-label": `Figure ${file} of ${name}`, vars: { "--wide": `${Math.min(760, image.width / 2)}px` } });
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return [canvas, blob];
  }
}

const verdict = (r) => h("span", { class: `badge ${r.verdict === "reproduced" ? "succeeded" : "warning"}` }, r.verdict);
const seedsOf = (r) => `${r.seeds.length} ${r.seeds.length === 1 ? "seed" : "seeds"}`;
const scaleOf = (r) => (r.scale === "small" ? "" : `, scale ${r.scale}`);
const words = (key) => key.replaceAll("_", " ");

function said(value) {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value, 4);
  if (Array.isArray(value)) return value.map(said).join(value.some((v) => v !== null && typeof v === "object") ? "; " : " ") || "none";
  if (typeof value === "object") return Object.entries(value).map(([k, v]) => `${words(k)} ${said(v)}`).join(", ");
  return String(value);
}
