// A run that a job is about to make: nothing can be read under its name yet. When there is an estimate, it is shown in this place.

import { h } from "../base/dom.js";
import * as api from "../data/api.js";
import { JobLine } from "../widgets/jobline.js";

// null where no job makes such a run; show() puts the run there.
export async function waitingView(name, show) {
  const states = await Promise.all(["running", "accepted"].map((state) => api.jobsOf(name, state).catch(() => [])));
  const [job] = states.flat();
  if (!job) return null;
  const before = job.progress?.estimate ?? 0;
  const line = new JobLine(job, { onestimate: (now) => now.progress.estimate > before && show(), onfinal: (ended) => ended.state === "succeeded" && show() });
  return {
    title: name,
    element: h("div", { class: "waiting" }, h("h1", {}, name),
      h("p", { class: "note" }, "A job is at work on this run; nothing can be shown yet. The first estimate appears here by itself."),
      h("section", { class: "panel joblist", "aria-label": "Job" }, line.element)),
    update() {},
    destroy: () => line.destroy(),
  };
}
