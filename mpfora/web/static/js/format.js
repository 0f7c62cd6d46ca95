// Numbers, times and sizes as people read them. Pure.

const numbers = new Intl.NumberFormat("en");
export const count = (n) => (n === null || n === undefined ? "" : numbers.format(n));
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export function age(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds < 10 ? `${seconds.toFixed(seconds < 1 ? 2 : 1)}s` : age(seconds);
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = bytes, unit = 0;
  while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit += 1; }
  return `${unit && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

export const percent = (share) => (share === null || share === undefined ? "" : `${Math.round(share * 100)}%`);
export const seconds = (text) => (text ? Date.parse(text) / 1000 : null);

export function clock(text) {
  const at = typeof text === "number" ? text * 1000 : Date.parse(text);
  if (Number.isNaN(at)) return String(text ?? "");
  const d = new Date(at), two = (n) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

// What a terminal or a line would obey instead of showing it.
const obeyed = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb]/g;
// so much of a resource of a node: memory in bytes, GPUs by their numbers
export const amount = (name, value) => (Array.isArray(value) ? value.join("+") : name === "memory" ? size(value) : String(value));

export const amounts = (all) => Object.entries(all ?? {}).map(([name, value]) => `${plain(name)} ${amount(name, value)}`).join(", ");

export const plain = (text) =>
  String(text ?? "").replace(obeyed, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);

// A part of an address: a text with half a surrogate pair is no text that an address can hold.
export const part = (text) => encodeURIComponent(String(text).toWellFormed?.() ?? text);

export function quoted(value) {
  return `"${String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
export const term = (field, value) => `${field}:${/^[A-Za-z0-9_.:@/-]+$/.test(value) ? value : quoted(value)}`;
