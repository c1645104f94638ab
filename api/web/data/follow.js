// The events of a job as they happen.

import { isFinal } from "../base/jobstates.js";
import { ask, job, jobEvents } from "./api.js";

// A browser opens six connections to a server, all tabs together: what is asked for besides must find one.
const STREAMS = 2;
const PAUSE = 1000;
const POLL = 3000;
let streams = 0;

// onEvent(kind, data), from the event after number `after` on; onEnd when the job is final. A job at work is followed by server-sent
// events over fetch, so that a token can be sent, and again after the last event seen where the connection breaks; one that waits, and one
// too many, is asked for every few seconds. Returns what stops it.
export function follow(id, onEvent, onEnd = () => {}, after = 0) {
  const stop = new AbortController();
  const { signal } = stop;
  (async () => {
    let last = after;
    const take = (number, kind, data) => {
      last = number;
      if (!signal.aborted) onEvent(kind, data);
    };
    for (let failures = 0; !signal.aborted && failures < 20; ) {
      let pause = PAUSE;
      try {
        const now = await job(id);
        if (now.state === "running" && streams < STREAMS) {
          await stream(id, last, signal, take);
          if (isFinal((await job(id)).state)) break;
        } else {
          if (now.events > last) for (const e of await jobEvents(id, last)) take(e.id, e.event, { at: e.at, ...e.data });
          if (isFinal(now.state)) break;
          pause = POLL;
        }
        failures = 0;
      } catch (error) {
        if (error.name === "AbortError" || error.status === 404 || error.status === 401) break;
        failures += 1;
      }
      await new Promise((go) => setTimeout(go, pause));
    }
    if (!signal.aborted) onEnd();
  })();
  return () => stop.abort();
}

async function stream(id, after, signal, take) {
  streams += 1;
  try {
    const headers = { accept: "text/event-stream" };
    const response = await ask(`/v1/jobs/${encodeURIComponent(id)}/events?after=${after}`, { headers, signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const fields = fieldsOf(text.slice(0, end));
        text = text.slice(end + 2);
        if (fields.data) take(Number(fields.id), fields.event, JSON.parse(fields.data));
      }
    }
  } finally {
    streams -= 1;
  }
}

function fieldsOf(block) {
  const lines = block.split("\n").filter((l) => !l.startsWith(":") && l.includes(": "));
  return Object.fromEntries(lines.map((l) => [l.slice(0, l.indexOf(": ")), l.slice(l.indexOf(": ") + 2)]));
}
