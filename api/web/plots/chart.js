// Lines: uPlot on the screen, the same picture as shapes for downloads.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { hover, onHover } from "../base/bus.js";
import { decade, download, downloads, h, number, step as stepText } from "../base/dom.js";
import { toggled, toggledOn } from "../base/toggles.js";
import { onTheme, theme } from "../base/theme.js";
import { axisText, tickPlaces } from "./axis.js";
import { LONGEST, chartCSV, chartScene, labelOf, marksOf, prepared, unitOf } from "./chartscene.js";
import { diamond } from "./mapscene.js";
import { toCanvas, toSVG } from "./scene.js";

const nearestIndex = (values, value) => {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (Math.abs(values[i] - value) < Math.abs(values[best] - value)) best = i;
  return best;
};

const dashOf = (series) => (!series?.dash ? "solid" : series.dash[0] <= 2 ? "dotted" : "dashed");

export class Chart {
  // level: that of the heading, one below what stands above the chart. A chart with a name in its `data-chart` can be switched between
  // linear and logarithmic values; the address keeps it.
  constructor({ height = 220, name = () => "chart", onrange = null, level = 3 } = {}) {
    Object.assign(this, { height, name, onrange });
    this.place = h("div", { class: "plot" });
    this.head = h(`h${level}`, { hidden: true }); // until it says something
    this.note = h("p", { class: "note" });
    this.logs = h("button", { type: "button", class: "quiet logs", onclick: () => this.#turn() }, "log");
    this.element = h("section", { class: "chart" }, h("div", { class: "charthead" }, this.head, h("div", { class: "downloads" }, this.logs, this.#buttons())), this.place, this.note);
    this.ends = [
      onTheme(() => this.given && this.show(this.given)),
      onHover((what) => this.#follow(what)),
      toggledOn(() => this.given && this.#log(this.given) !== Boolean(this.spec.log) && this.show(this.given)),
    ];
    this.observer = new ResizeObserver(() => {
      const width = this.place.clientWidth;
      if (this.plot && width && width !== this.width) this.plot.setSize({ width: (this.width = width), height: this.height });
      else if (!this.plot && this.given && width) this.show(this.given);
    });
    this.observer.observe(this.place);
  }

  destroy() {
    this.observer.disconnect();
    for (const end of this.ends) end();
    this.plot?.destroy();
  }

  show(given) {
    this.given = given;
    const spec = (this.spec = { ...given, log: this.#log(given) });
    this.logs.hidden = !this.element.dataset.chart;
    this.logs.setAttribute("aria-pressed", String(spec.log));
    this.logs.setAttribute("aria-label", `log scale of ${spec.title}`);
    this.head.textContent = spec.title;
    this.head.hidden = false;
    const hidden = spec.log && spec.series.some((s) => s.y.some((v) => v <= 0)) ? "Values of 0 or less are not drawn." : "";
    this.note.textContent = [spec.note, hidden].filter(Boolean).join(" ");
    this.note.hidden = !this.note.textContent;
    const { every, data, f } = prepared(spec);
    Object.assign(this, { every, data, f });
    const defined = data.slice(1).some((d) => d.some((v) => v !== null));
    // Other values on the same axes go into the plot that is there: what is hovered over stays.
    const plain = ({ name, dash, faint, dots, join, colour }) => [name, dash, faint, dots, join, colour];
    const key = JSON.stringify([every, data[0], spec.series.map(plain), spec.unit, spec.xlabel, spec.kind, spec.log, spec.min, spec.max, spec.labels, spec.follows, spec.points, theme().dark]);
    const same = this.plot && defined && key === this.key;
    this.key = key;
    if (same) {
      this.plot.setData(data);
      this.#name();
      return;
    }
    this.plot?.destroy();
    this.plot = null;
    this.place.replaceChildren();
    if (!defined) {
      this.place.append(h("p", { class: "empty" }, spec.empty ?? "Nothing is defined here: the range has too few checkpoints, or its updates are zero."));
      return;
    }
    this.width = this.place.clientWidth;
    if (!this.width) return;
    const colours = theme();
    const centres = data[0].map((v) => (v - data[0][0]) / (data[0].at(-1) - data[0][0] || 1));
    const longest = Math.max(4, ...(spec.labels ?? []).map((l) => Math.min(l.length, LONGEST)));
    const places = spec.lags ? null : (u) => tickPlaces(centres, Math.max(50, 7.5 * longest) / Math.max(50, u.width - 70)).map((i) => data[0][i]);
    const whole = (x) => spec.labels?.[x] ?? (spec.along ? `${stepText(spec.along(x))} (${spec.counted ?? "step"} ${x})` : String(x));
    const label = (v) => labelOf(spec, every[nearestIndex(data[0], v)]);
    const grid = { stroke: colours.line, width: 1 };
    const axis = { stroke: colours.muted, grid, ticks: grid, font: "11px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif" };
    const limits = (u, low, high) => {
      if (spec.log) return [10 ** Math.floor(Math.log10(low) + 1e-9), 10 ** Math.ceil(Math.log10(high) - 1e-9) || 1];
      const pad = (high - low || Math.abs(high) || 1) * 0.06;
      return [spec.min ?? low - pad, spec.max ?? high + pad];
    };
    // Of a logarithmic axis only the powers of ten: lines between them run together over many decades.
    const decades = spec.log ? { grid: { ...grid, filter: (u, splits) => splits.map((v) => (v !== null && Number.isInteger(Math.round(1e6 * Math.log10(v)) / 1e6) ? v : null)) } } : {};
    const marks = every.length <= 80 || spec.points;
    // Points have room at the sides; without it uPlot leaves out all but the first of several at the last place.
    const room = (u, low, high) => {
      const pad = spec.series.some((s) => s.dots) ? 0.04 * (high - low) || 0.5 : high > low ? 0 : 0.5;
      return [low - pad, high + pad];
    };
    this.plot = new uPlot(
      {
        width: this.width,
        height: this.height,
        scales: { x: { time: false, range: room }, y: { distr: spec.log ? 3 : 1, range: limits } },
        axes: [
          { ...axis, label: axisText(spec.kind, spec.xlabel), labelSize: 18, size: 30, ...(places ? { splits: places, values: (u, s) => s.map(label) } : {}) },
          { ...axis, ...decades, label: unitOf(spec), labelSize: 18, size: 56, values: (u, s) => s.map((v) => (v === null ? "" : spec.log ? decade(v) : number(v, 4).replace("-", "−"))) },
        ],
        series: [
          { label: spec.xlabel ?? "step", value: (u, v, s, i) => (i === null || i === undefined ? whole(every.at(-1)) : v === null ? "–" : whole(every[nearestIndex(data[0], v)])) },
          ...spec.series.map((s, i) => ({
            label: s.name,
            stroke: s.faint ? colours.muted : colours.lines[(s.colour ?? i) % colours.lines.length],
            width: s.faint ? 1.2 : 1.8,
            dash: s.dash,
            spanGaps: Boolean(s.join),
            ...(s.dots ? { paths: () => null } : {}),
            points: { show: (marks && !s.faint) || s.dots, size: s.dots ? 8 : 5 },
            class: s.dots ? "dots" : undefined,
            // Where nothing is pointed at, the legend has the last values.
            value: (u, v, k, at) => {
              const found = at === null || at === undefined ? u.data[k].findLast((x) => x !== null && x !== undefined) : v;
              return found === null || found === undefined ? "–" : number(found, 5);
            },
          })),
        ],
        cursor: { drag: { x: Boolean(this.onrange), y: false, setScale: false }, points: { size: 7 } },
        // A piece of the line itself: a dashed one is told apart, and a grey one from another grey one.
        legend: { live: true, markers: { width: 3, fill: () => "transparent", dash: (u, i) => dashOf(spec.series[i - 1]) } },
        hooks: {
          draw: [(u) => this.#marks(u)],
          setCursor: [(u) => {
            if (this.quiet || !spec.follows) return;
            if (u.cursor.left < 0 || u.cursor.idx === null || u.cursor.idx === undefined) {
              if (this.inside) hover(null);
              this.inside = false;
              return;
            }
            // A cursor that follows other pictures moves by itself when the values change.
            if (!u.over.matches(":hover")) return;
            this.inside = true;
            hover({ row: null, column: every[u.cursor.idx], from: this });
          }],
          setSelect: [(u) => {
            if (!this.onrange || u.select.width < 8) return;
            const [a, b] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
            const inside = every.filter((s) => f(s) >= a && f(s) <= b);
            u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            if (inside.length > 2) this.onrange([inside[0], inside.at(-1)], true);
          }],
        },
      },
      data,
      this.place,
    );
    this.plot.root.setAttribute("role", "img");
    this.#name();
  }

  #log(spec) {
    return toggled("log", this.element.dataset.chart, Boolean(spec.log));
  }

  #turn() {
    const { chart } = this.element.dataset;
    toggled("log", chart, Boolean(this.given.log), !this.spec.log);
    this.show(this.given);
  }

  #name() {
    const { title, xlabel } = this.spec;
    const marks = marksOf(this.spec, this.every);
    const drops = marks.length ? ` The learning rate drops after ${this.spec.counted ?? "step"} ${marks.join(", ")}.` : "";
    this.plot.root.setAttribute("aria-label", `${title}${xlabel ? ` by ${xlabel}` : ""}. ${this.#describe()}.${drops}`);
  }

  #marks(u) {
    const marks = marksOf(this.spec, this.every);
    if (!marks.length) return;
    const { ctx } = u;
    const { top, height } = u.bbox;
    const ratio = devicePixelRatio || 1;
    const size = 4.5 * ratio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = theme().drop;
    ctx.lineWidth = 1.2 * ratio;
    for (const mark of marks) {
      const x = u.valToPos(this.f(mark), "x", true);
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.beginPath();
      diamond(x, top + size, size).forEach(([a, b], i) => (i ? ctx.lineTo(a, b) : ctx.moveTo(a, b)));
      ctx.fill();
    }
    ctx.restore();
  }

  #describe() {
    return this.spec.series
      .map((s, i) => {
        const values = this.data[i + 1].filter((v) => v !== null);
        if (!values.length) return `${s.name}: undefined`;
        return `${s.name}: from ${number(values[0])} to ${number(values.at(-1))}`;
      })
      .join("; ");
  }

  #follow(what) {
    if (!this.plot || !this.spec.follows || what?.from === this) return;
    this.quiet = true;
    if (!what) this.plot.setCursor({ left: -10, top: -10 });
    else {
      const i = nearestIndex(this.every, what.column);
      this.plot.setCursor({ left: this.plot.valToPos(this.data[0][i], "x"), top: 10 });
    }
    this.quiet = false;
  }

  #buttons() {
    const name = () => this.name();
    return downloads("chart", [
      ["PNG", () => toCanvas(chartScene(this.spec), 3).toBlob((blob) => download(`${name()}.png`, blob))],
      ["SVG", () => download(`${name()}.svg`, toSVG(chartScene(this.spec)), "image/svg+xml")],
      ["CSV", () => download(`${name()}.csv`, chartCSV(this.spec), "text/csv")],
    ]);
  }
}
