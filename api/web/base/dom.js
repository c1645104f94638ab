// Elements, numbers as people write them, downloads. Text only ever becomes a text node.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (["value", "checked", "selected", "disabled", "hidden", "required"].includes(name)) element[name] = value;
    else if (name === "vars") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

const NAMED = (e) => `${e.tagName} ${e.id ? "" : (e.name ?? "")} ${e.dataset.value ?? e.dataset.scale ?? e.getAttribute("aria-label") ?? e.getAttribute("href") ?? e.textContent}`;

// Draws anew what lies in `element`; the focus stays on what takes the place of what had it.
export function keepingFocus(element, draw) {
  const held = element.contains(document.activeElement) ? document.activeElement : null;
  const alike = (name) => [...element.querySelectorAll("a, button, input, select, summary, [tabindex]")].filter((e) => NAMED(e) === name);
  const name = held && NAMED(held);
  const place = held ? alike(name).indexOf(held) : -1;
  draw();
  if (held && !held.isConnected) (alike(name)[place] ?? alike(name)[0])?.focus({ preventScroll: true });
}

// The label of a logarithmic axis: powers of ten from 10⁴ and 10⁻³ on as such.
export function decade(value) {
  const power = Math.round(Math.log10(value));
  if (Math.abs(value / 10 ** power - 1) > 1e-9 || (power < 4 && power > -3)) return number(value).replace("-", "−");
  return `10${[...String(power)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("")}`;
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(Math.max(0, digits - 1)).replace(/\.?0*e\+?/, "e");
  return String(Number(value.toPrecision(digits)));
}

// A cosine with the digits that tell it from 1.
export function cosine(value) {
  if (Number.isNaN(value) || value === null || value === undefined) return "undefined";
  const left = 1 - Math.abs(value);
  if (left > 0 && left < 1e-4) return `${value < 0 ? "−1 + " : "1 − "}${left.toExponential(2)}`;
  return value.toFixed(5).replace("-", "−");
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= unit) return `${Number((value / unit).toPrecision(4))} ${letter}`;
  }
  return String(value);
}

export const percent = (share, digits = 3) => `${number(100 * share, digits)} %`;

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, letter] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= unit) return `${Number((value / unit).toPrecision(3))} ${letter}`;
  }
  return `${value} B`;
}

export function step(value) {
  for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= unit) return `${Number((value / unit).toPrecision(4))}${letter}`;
  }
  return String(Number(value.toPrecision(4)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "under 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Number((seconds / 3600).toPrecision(2))} h`;
}

export function when(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "–";
}

export function download(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export const fileName = (...parts) => parts.filter(Boolean).join("-").replace(/[^A-Za-z0-9._-]+/g, "_");

export function csv(rows) {
  const field = (v) => {
    if (v === null || v === undefined || Number.isNaN(v)) return "";
    const text = String(v);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${rows.map((r) => r.map(field).join(",")).join("\n")}\n`;
}

export function say(text) {
  const region = document.getElementById("said");
  if (region) region.textContent = text;
}

let serial = 0;
export const unique = (name) => `${name}-${(serial += 1)}`;

// A group of buttons of which one is chosen.
export function choice(label, options, chosen, pick) {
  return h(
    "div",
    { class: "choice", role: "group", "aria-label": label },
    h("span", { class: "label" }, label),
    h(
      "div",
      { class: "buttons" },
      options.map(([value, text, disabled]) =>
        h(
          "button",
          { type: "button", "data-value": value, "aria-pressed": String(value === chosen), disabled, onclick: () => pick(value) },
          text,
        ),
      ),
    ),
  );
}

export function dropdown(label, options, chosen, pick, attributes = {}) {
  const id = unique("pick");
  return h(
    "div",
    { class: "choice" },
    h("label", { class: "label", for: id }, label),
    h(
      "select",
      { id, onchange: (e) => pick(e.target.value), ...attributes },
      options.map((o) =>
        o.options
          ? h("optgroup", { label: o.label }, o.options.map(([v, t]) => h("option", { value: v, selected: v === chosen }, t)))
          : h("option", { value: o[0], selected: o[0] === chosen }, o[1]),
      ),
    ),
  );
}

export function downloads(what, kinds) {
  return h(
    "div",
    { class: "downloads", role: "group", "aria-label": `Download ${what}` },
    kinds.map(([text, act]) =>
      h("button", { type: "button", class: "quiet", "aria-label": `Download ${what} as ${text}`, title: `Download as ${text}`, onclick: act }, text),
    ),
  );
}

// A table whose columns sort: columns are {key, title, value(row), cell(row), numeric, note}.
export function sortable({ caption, columns, rows, sort, onsort, row }) {
  const [key, descending] = sort;
  const column = columns.find((c) => c.key === key);
  const ordered = [...rows];
  if (column) {
    ordered.sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      const missing = (v) => v === null || v === undefined || Number.isNaN(v);
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const by = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return descending ? -by : by;
    });
  }
  const head = columns.map((c) =>
    h(
      "th",
      {
        scope: "col",
        class: c.numeric ? "numeric" : "",
        "aria-sort": c.key === key ? (descending ? "descending" : "ascending") : c.value ? "none" : undefined,
      },
      c.value
        ? h(
            "button",
            { type: "button", title: c.note, onclick: () => onsort([c.key, c.key === key ? !descending : Boolean(c.numeric)]) },
            c.title,
            h("span", { class: "arrow", "aria-hidden": "true" }, c.key === key ? (descending ? " ▾" : " ▴") : ""),
          )
        : c.title,
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, head)),
      h(
        "tbody",
        {},
        ordered.map((r) => {
          const cells = columns.map((c, i) =>
            h(i === 0 && c.header !== false ? "th" : "td", { scope: i === 0 && c.header !== false ? "row" : undefined, class: c.numeric ? "numeric" : "" }, c.cell(r)),
          );
          return h("tr", row ? row(r) : {}, cells);
        }),
      ),
    ),
  );
}
