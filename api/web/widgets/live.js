// A run whose job is still at work: what stands under its name is an estimate, which sharpens until it is the run.

import { fill, h, say } from "../base/dom.js";
import { href } from "../base/url.js";
import * as api from "../data/api.js";
import { follow } from "../data/follow.js";
import { words } from "./estimate.js";
import { share } from "./jobline.js";

const PAUSE = 4000;

export class Live {
  // onanswer(answer): the run as it is now, when that is another one than before; an estimate's job is looked for until there is one.
  constructor(name, answer, { onanswer }) {
    Object.assign(this, { name, answer, onanswer, job: null, median: NaN });
    this.element = h("div", { class: "estimatestrip", role: "group", "aria-label": "Estimate", hidden: true });
    this.draw();
    if (!api.isReport && answer.row.estimate) this.#seek();
  }

  destroy() {
    this.gone = true;
    this.stop?.();
    clearTimeout(this.timer);
  }

  // The error of what is shown, said with the estimate.
  show(median) {
    this.median = median;
    this.draw();
  }

  draw() {
    const { row } = this.answer;
    this.element.hidden = !row.estimate;
    if (!row.estimate) return fill(this.element);
    const done = this.job && share(this.job.progress);
    const text = words(row, this.median, Boolean(this.job));
    if (!this.text) {
      this.text = h("span");
      this.more = h("span", { class: "more" });
      fill(this.element, this.text, this.more);
    }
    if (this.text.textContent !== text) this.text.textContent = text;
    if (!this.job) this.more.replaceChildren();
    else if (!this.bar?.isConnected) {
      this.bar = h("progress", { max: "1", "aria-label": `Progress of the job of ${this.name}` });
      fill(this.more, this.bar, h("a", { href: href(["job", this.job.id]) }, "Job"));
    }
    if (this.bar) this.bar.value = done ?? 0;
  }

  async #seek() {
    const jobs = await api.jobsOf(this.name, "running").catch(() => []);
    if (this.gone) return;
    const [job] = jobs;
    // The job may have ended between the run's answer and this one.
    await this.#fetch();
    if (this.gone || !this.answer.row.estimate) return;
    if (!job) {
      this.timer = setTimeout(() => this.#seek(), PAUSE);
      return;
    }
    this.job = job;
    this.draw();
    this.stop = follow(job.id, (kind, data) => this.#event(kind, data), () => this.#ended(), job.events);
  }

  #event(kind, data) {
    if (kind !== "progress" || !this.job) return;
    const before = this.job.progress?.estimate;
    this.job = { ...this.job, progress: { ...this.job.progress, ...data } };
    if (typeof data.estimate === "number" && data.estimate !== before) this.#fetch();
    this.draw();
  }

  async #ended() {
    this.job = null;
    await this.#fetch();
    if (this.gone) return;
    this.draw();
    if (this.answer.row.estimate) this.timer = setTimeout(() => this.#seek(), PAUSE);
  }

  // One at a time; what changed meanwhile is asked for afterwards.
  async #fetch() {
    this.again = Boolean(this.fetching);
    this.fetching ??= (async () => {
      do {
        this.again = false;
        const answer = await api.run(this.name).catch(() => null);
        if (!this.gone && answer && answer.digest !== this.answer.digest) {
          const sharpened = this.answer.row.estimate && !answer.row.estimate;
          this.answer = answer;
          this.draw();
          if (sharpened) say(`${this.name}: exact`);
          await this.onanswer(answer);
        }
      } while (this.again && !this.gone);
      this.fetching = null;
    })();
    return this.fetching;
  }
}
