// What the trainer logged, where the run's source has kept it: the learning rate and the steps after which it drops, losses, scores. No DOM.

const MOST = 1500;
const MOST_LOGGED = 6;

export const dropsOf = (summary) => summary?.learning_rate?.drops ?? [];

// {step, rate} within a range of steps, from end to end where the log goes on beyond it (the rate between two entries lies between
// theirs); of a long log those points where the rate drops, and some of the others.
export function ratesWithin(summary, [from, to]) {
  const known = summary?.learning_rate;
  if (!known?.step?.length) return null;
  const { step, rate } = known;
  const at = (s) => {
    const next = step.findIndex((v) => v >= s);
    if (next < 0 || (next === 0 && step[0] > s)) return null;
    if (step[next] === s) return rate[next];
    const share = (s - step[next - 1]) / (step[next] - step[next - 1]);
    return rate[next - 1] + share * (rate[next] - rate[next - 1]);
  };
  const inside = step.map((s, i) => [s, rate[i]]).filter(([s]) => s > from && s < to);
  const whole = [[from, at(from)], ...inside, [to, at(to)]].filter(([, r]) => r !== null);
  if (whole.length < 2) return null;
  const stride = Math.ceil(whole.length / MOST);
  const drops = new Set(dropsOf(summary));
  const kept = whole.filter(([s], i) => i % stride === 0 || i === whole.length - 1 || drops.has(s) || drops.has(whole[i - 1]?.[0]));
  return { step: kept.map((p) => p[0]), rate: kept.map((p) => p[1]) };
}

// Losses together, every other quantity by itself: [{id, title, series: [{name, x, y}]}], within a range of steps.
export function loggedWithin(summary, [from, to]) {
  const charts = new Map();
  for (const { name, step, value } of summary?.logged ?? []) {
    const inside = step.map((s, i) => [s, value[i]]).filter(([s]) => s >= from && s <= to);
    if (inside.length < 2) continue;
    const id = /loss/i.test(name) ? "logged-losses" : `logged-${name}`;
    if (!charts.has(id)) charts.set(id, { id, title: id === "logged-losses" ? "Losses" : name.replaceAll("_", " "), series: [] });
    charts.get(id).series.push({ name: name.replaceAll("_", " "), x: inside.map((p) => p[0]), y: inside.map((p) => p[1]), join: true });
  }
  return [...charts.values()].slice(0, MOST_LOGGED);
}
