// Jobs: what is computed, was computed, and why it failed; one job live, its estimate sharpening.

import { axisName, axisNames } from "../base/axisname.js";
import { scaleOf } from "../base/colors.js";
import { bytes, count, duration, fileName, fill, h, keepingFocus, number, say, when } from "../base/dom.js";
import { isFinal } from "../base/jobstates.js";
import { go, href } from "../base/url.js";
import * as api from "../data/api.js";
import { follow } from "../data/follow.js";
import * as G from "../math/gram.js";
import { axisText, suited } from "../plots/axis.js";
import { Chart } from "../plots/chart.js";
import { MapView } from "../plots/mapview.js";
import { captionOf } from "../widgets/captions.js";
import { errorMap, medianError, words } from "../widgets/estimate.js";
import { JobLine, actions, estimate, readable, share, watch } from "../widgets/jobline.js";

export async function jobsView() {
  const found = await api.jobs(100);
  const make = (job) => new JobLine(job, { onnew: (next) => go(["job", next.id]) });
  const lines = found.map(make);
  const list = h("section", { class: "panel joblist", "aria-label": "Jobs", hidden: !found.length }, lines.map((l) => l.element));
  const empty = h("p", { class: "empty", hidden: found.length > 0 }, "No jobs yet.");
  const stop = watch((job) => lines.some((l) => l.job.id === job.id), (job) => {
    const line = make(job);
    lines.push(line);
    list.prepend(line.element);
    list.hidden = false;
    empty.hidden = true;
  });
  return {
    title: "Jobs",
    element: h(
      "div",
      {},
      h("div", { class: "title" }, h("h1", {}, "Jobs")),
      h("div", { class: "toolbar" }, h("span", { class: "hint" }, "The newest first."), h("span", { class: "end" }, h("a", { class: "button primary", href: href(["submit"]) }, "Submit a run"))),
      list,
      empty,
    ),
    update() {},
    destroy: () => {
      stop();
      for (const line of lines) line.destroy();
    },
  };
}

export async function jobView(id) {
  const [job, events] = await Promise.all([api.job(id), api.jobEvents(id)]);
  return new JobView(job, events);
}

class JobView {
  constructor(job, events) {
    this.job = job;
    this.title = `${job.run}: job`;
    this.points = [];
    this.body = h("div");
    this.chart = new Chart({ name: () => `${job.run}-estimate`, height: 260 });
    this.chart.element.dataset.chart = "estimate";
    this.problem = h("div", { role: "alert" });
    this.map = new MapView({ most: 320, name: () => fileName(job.run, "network", "tm") });
    this.mapNote = h("p", { class: "note" });
    this.sofar = h("section", { class: "panel sofar", "aria-label": "Map so far", hidden: true },
      h("div", { class: "charthead" }, h("h2", {}, "Map of the network so far"), this.map.buttons()), this.mapNote, this.map.element);
    this.element = h("div", { class: "job" }, this.body, this.problem, h("div", { class: "sofarandchart" }, this.sofar, this.chart.element));
    for (const e of events) this.#take(e.event, e.data);
    this.following = !isFinal(job.state);
    if (this.following) {
      const last = Math.max(0, ...events.map((e) => e.id));
      this.stop = follow(job.id, (kind, data) => {
        this.#take(kind, data);
        this.draw();
      }, () => this.#ended(), last);
    }
  }

  destroy() {
    this.gone = true;
    this.stop?.();
    this.chart.destroy();
    this.map.destroy();
  }

  update() {
    this.draw();
    if (readable(this.job)) this.#look();
  }

  // The network's map as it can be read now; one at a time, the latest at the end.
  async #look() {
    this.again = true;
    if (this.looking) return;
    this.looking = true;
    while (this.again && !this.gone) {
      this.again = false;
      try {
        const { row, digest } = await api.run(this.job.run);
        const gram = await api.gram(this.job.run, "network", digest);
        if (!this.gone) this.#map(row, gram, digest);
      } catch (error) {
        if (error.status !== 404) this.mapNote.textContent = error.message;
      }
    }
    this.looking = false;
  }

  #map(row, gram, digest) {
    const map = G.trajectoryMap(gram);
    const errors = errorMap(gram, {});
    this.sofar.hidden = false;
    this.sofar.dataset.digest = digest;
    const running = !isFinal(this.job.state);
    this.mapNote.textContent = row.estimate ? words(row, errors ? medianError(errors) : NaN, running) : "exact";
    this.map.show({
      map, scale: scaleOf([map]), kind: suited(map.steps), phases: [], title: `${row.run}: Trajectory map of the network`,
      label: axisText(suited(map.steps), axisName(row)), counted: axisNames(row), each: axisName(row), caption: captionOf({ steps: map.steps, row }), extra: errors && ((r, c) => [`± ${number(errors.values[r * map.n + c], 2)} (estimate)`]),
    });
  }

  #take(kind, data) {
    if (kind === "progress") {
      const before = this.job.progress?.estimate;
      this.job = { ...this.job, progress: { ...this.job.progress, ...data } };
      if (this.following && readable(this.job) && data.estimate !== undefined && data.estimate !== before) this.#look();
      if (typeof data.mds === "number" && data.bytes_total) {
        this.points.push([(100 * data.bytes) / data.bytes_total, data.mds, data.mds_error ?? 0]);
      }
    } else if (kind === "state" && data.state) {
      this.job = { ...this.job, state: data.state, cause: data.cause ?? this.job.cause };
      if (data.state === "running") this.points = [];
      say(`${this.job.run}: ${data.state}`);
    }
  }

  async #ended() {
    this.job = await api.job(this.job.id).catch(() => this.job);
    if (this.gone) return;
    this.draw();
    if (!this.sofar.hidden) this.#look();
  }

  draw() {
    keepingFocus(this.body, () => this.#facts());
    this.#curve();
  }

  #facts() {
    const { job } = this;
    const p = job.progress;
    const done = share(p);
    const row = (term, value) => (value === null || value === undefined ? null : [h("dt", {}, term), h("dd", {}, value)]);
    const seconds = job.started && (job.finished ?? Date.now() / 1000) - job.started;
    fill(
      this.body,
      h("div", { class: "title" }, h("h1", {}, job.run), h("span", { class: `badge ${job.state}` }, job.state),
        actions(job, {
          onchange: (next) => (next.id === this.job.id ? ((this.job = next), this.draw()) : go(["job", next.id])),
          onfail: (error) => fill(this.problem, h("p", { class: "problem" }, error.message)),
        })),
      isFinal(job.state) ? null : h("progress", { max: "1", value: done ?? 0, "aria-label": "Progress" }),
      job.state === "failed" && job.cause
        ? h("div", { class: "problem", role: "alert" }, h("strong", {}, "Why it failed: "), job.cause.message, job.cause.hint ? h("p", { class: "hint" }, job.cause.hint) : null)
        : null,
      h(
        "dl",
        { class: "facts2" },
        row("source", job.source),
        row("estimate", estimate(p)),
        row("read", p?.bytes_total ? `${bytes(p.bytes)} of ${bytes(p.bytes_total)} (${Math.round(100 * done)} %)` : null),
        row("rate", p?.rate && !isFinal(job.state) ? `${bytes(p.rate)}/s, ${duration(p.seconds_left)} left` : null),
        row("computed", job.kind === "gradients" && p?.slabs_total ? `${p.slabs} of ${p.slabs_total} checkpoints` : null),
        row("decomposed", job.kind === "spectra" && p?.slabs_total ? `${p.slabs} of ${p.slabs_total} matrices at checkpoints` : null),
        row("sets", job.kind === "gradients" ? job.spec.gradients.sets.join(", ") : null),
        row("checkpoints", ["gradients", "spectra"].includes(job.kind) ? null : p?.checkpoints),
        row("parameters", p?.parameters ? count(p.parameters) : null),
        row("phase", isFinal(job.state) ? null : (job.waiting ?? p?.phase)),
        row("submitted", when(job.created)),
        row("took", seconds ? duration(seconds) : null),
        row("attempts", job.attempts || null),
        row("job", job.id),
      ),
    );
  }

  #curve() {
    const p = this.job.progress;
    this.chart.element.hidden = this.points.length < 2;
    if (this.points.length < 2) return;
    const x = this.points.map((q) => Math.round(q[0] * 100) / 100);
    this.chart.show({
      title: "MDS of the network, as the bytes come in", caption: this.job.run, unit: "MDS", xlabel: "% of the bytes read", lags: true, points: true,
      note: `Dashed: one standard error on either side. ${estimate(p) ?? ""}`,
      series: [
        { name: "MDS", x, y: this.points.map((q) => q[1]), join: true },
        { name: "+ error", x, y: this.points.map((q) => q[1] + q[2]), faint: true, dash: [5, 4], join: true },
        { name: "− error", x, y: this.points.map((q) => q[1] - q[2]), faint: true, dash: [5, 4], join: true },
      ],
    });
    this.element.dataset.points = String(this.points.length);
    this.element.dataset.error = number(p?.mds_error ?? NaN);
  }
}
