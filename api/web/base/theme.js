// Colours of pictures, as the page has them now; downloads are always on white.

import { LINES, LINES_DARK } from "./colors.js";

export const LIGHT = { ink: "#16181d", muted: "#5a6270", line: "#d6dae1", ground: "#ffffff", accent: "#0b62c4", cross: "#d1006c", drop: "#7a35b8", undefinedA: 0xffe6e6e6, undefinedB: 0xffb4b4b4, lines: LINES, dark: false };
const DARK = { ink: "#e8eaee", muted: "#a3abb8", line: "#3a404b", ground: "#16191f", accent: "#6cb2ff", cross: "#ff7ac2", drop: "#c9a2ff", undefinedA: 0xff3a3a3a, undefinedB: 0xff606060, lines: LINES_DARK, dark: true };

const media = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

export const theme = () => (document.documentElement.dataset.theme === "dark" ? DARK : LIGHT);

function apply() {
  const wanted = localStorage.getItem("trajsvc-theme");
  document.documentElement.dataset.theme = wanted ?? (media.matches ? "dark" : "light");
  for (const listen of listeners) listen();
}

export function toggle() {
  localStorage.setItem("trajsvc-theme", theme().dark ? "light" : "dark");
  apply();
}

export function onTheme(listen) {
  listeners.add(listen);
  return () => listeners.delete(listen);
}

media.addEventListener("change", apply);
apply();
