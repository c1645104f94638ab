// A job on one line, live while it runs: state, progress, the estimate of MDS, what to do with it.

import { bytes, duration, fill, h, keepingFocus, number, percent, say } from "../base/dom.js";
import { isFinal } from "../base/jobstates.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { follow } from "../data/follow.js";

export function estimate(progress) {
  if (progress?.mds === null || progress?.mds === undefined) return null;
  const value = `MDS ${number(progress.mds, 5)}`;
  if (progress.mds_error === 0) return `${value} (exact)`;
  return typeof progress.mds_error === "number" ? `${value} ± ${number(progress.mds_error, 2)}` : `${value} (estimate)`;
}

export function share(progress) {
  if (!progress?.bytes_total) return progress?.slabs_total ? progress.slabs / progress.slabs_total : null;
  return Math.min(1, (progress.bytes ?? 0) / progress.bytes_total);
}

// Of gradients checkpoints are counted, of spectra matrices at checkpoints, and not bytes.
function amount(progress, done, left, kind) {
  if (!progress.bytes_total) return `${progress.slabs} of ${progress.slabs_total} ${kind === "spectra" ? "matrices" : "checkpoints"}`;
  return `${Math.round(100 * done)} % of ${bytes(progress.bytes_total)}, ${duration(left)} left`;
}

// Whether the run can be read as it is estimated so far.
export const readable = (job) => !isFinal(job.state) && typeof job.progress?.estimate === "number";

export function actions(job, { onchange, onfail }) {
  const act = (text, work) =>
    h("button", { type: "button", onclick: async (e) => {
      e.target.disabled = true;
      try {
        onchange(await work());
      } catch (error) {
        e.target.disabled = false;
        onfail(error);
      }
    } }, text);
  return h(
    "span",
    { class: "actions" },
    isFinal(job.state) || job.state === "cancelling" ? null : act("Cancel", () => api.cancel(job.id)),
    job.state === "failed" || job.state === "cancelled" ? act("Retry", () => api.retry(job.id)) : null,
    job.state === "succeeded" ? h("a", { class: "button", href: href(["gradients", "spectra"].includes(job.kind) ? ["run", job.run, job.kind] : ["run", job.run]) }, "Open run") : null,
    readable(job) ? h("a", { class: "button", href: href(["run", job.run]), title: `An estimate from ${percent(job.progress.estimate)} of the parameters` }, "Open estimate") : null,
  );
}

export class JobLine {
  constructor(job, { onfinal = () => {}, onnew = () => {}, onestimate = () => {} } = {}) {
    Object.assign(this, { job, onfinal, onnew, onestimate });
    this.element = h("div", { class: "jobline", "data-job": job.id });
    this.draw();
    if (!isFinal(job.state)) this.stop = follow(job.id, (kind, data) => this.#event(kind, data), () => this.#ended(), job.events ?? 0);
  }

  destroy() {
    this.stop?.();
  }

  #event(kind, data) {
    const { at, ...rest } = data;
    if (kind === "progress") {
      const before = this.job.progress?.estimate;
      this.job = { ...this.job, progress: { ...this.job.progress, ...rest } };
      if (readable(this.job) && rest.estimate !== undefined && rest.estimate !== before) this.onestimate(this.job);
    } else if (kind === "state") {
      this.job = { ...this.job, state: rest.state ?? this.job.state, cause: rest.cause ?? this.job.cause };
      say(`${this.job.run}: ${this.job.state}`);
    } else if (kind === "waiting") this.job = { ...this.job, waiting: rest.reason ?? rest.waiting ?? this.job.waiting };
    this.draw();
  }

  async #ended() {
    this.job = await api.job(this.job.id).catch(() => this.job);
    this.draw();
    this.onfinal(this.job);
  }

  draw() {
    keepingFocus(this.element, () => this.#fill());
  }

  #fill() {
    const { job } = this;
    const done = share(job.progress);
    const left = job.progress?.seconds_left;
    const running = !isFinal(job.state);
    let middle;
    if (job.cause && job.state === "failed") middle = h("span", { class: "hint", title: job.cause.hint }, job.cause.message);
    else if (running) {
      middle = h("span", {},
        h("progress", { max: "1", value: done ?? 0, "aria-label": `Progress of ${job.run}` }),
        h("span", { class: "hint" }, done === null ? (job.waiting ?? job.progress?.phase ?? "waiting") : amount(job.progress, done, left, job.kind)));
    } else middle = h("span", { class: "hint" }, job.source);
    fill(
      this.element,
      h("a", { href: href(["job", job.id]), class: "longname", title: job.run }, job.run),
      h("span", {}, h("span", { class: `badge ${job.state}` }, job.state)),
      middle,
      h("span", { class: "estimate" }, estimate(job.progress) ?? ""),
      actions(job, {
        onchange: (next) => {
          if (next.id !== this.job.id) this.onnew(next);
          else {
            this.job = next;
            this.draw();
          }
        },
        onfail: (error) => say(error.message),
      }),
    );
  }
}

// Jobs that others started, as they come: asked for every few seconds while the page is looked at.
export function watch(known, onjob, every = 3000) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    for (const job of (await api.jobs(20).catch(() => [])).reverse()) if (!known(job)) onjob(job);
  }, every);
  return () => clearInterval(timer);
}
