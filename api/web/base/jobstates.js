// States of jobs. No DOM.

export const isFinal = (state) => ["succeeded", "failed", "cancelled"].includes(state);
