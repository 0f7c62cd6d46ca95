// Lines of a task with the colours that they ask for, and nothing else of what they ask. Pure.

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const cube = (n) => { const v = (i) => (i ? 55 + 40 * i : 0); n -= 16; return n < 216 ? [v(Math.floor(n / 36)), v(Math.floor(n / 6) % 6), v(n % 6)] : Array(3).fill(8 + 10 * (n - 216)); };
// Every sequence that begins with ESC: control sequences, texts to the terminal (titles, links), single characters.
const SEQUENCE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)/g;
const REST = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff]/g;
const shown = (text) => text.replace(REST, (c) => (c === "\r" ? "" : `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`));

function change(style, codes) {
  const next = { ...style };
  for (let n = 0; n < codes.length; n += 1) {
    const c = codes[n];
    if (c === 0) { for (const name of Object.keys(next)) delete next[name]; }
    else if (c === 1) next.bold = true; else if (c === 2) next.faint = true; else if (c === 3) next.italic = true; else if (c === 4) next.underline = true;
    else if (c === 22) { delete next.bold; delete next.faint; } else if (c === 23) delete next.italic; else if (c === 24) delete next.underline;
    else if (c >= 30 && c <= 37) next.fg = NAMES[c - 30]; else if (c >= 90 && c <= 97) next.fg = NAMES[c - 90]; else if (c === 39) delete next.fg;
    else if (c === 38 || c === 48) {
      const key = c === 38 ? "rgb" : "back";
      if (codes[n + 1] === 5) { const i = codes[n + 2] ?? 0; if (i < 16 && c === 38) next.fg = NAMES[i % 8]; else if (i <= 255 && i >= 16) next[key] = cube(i); n += 2; }
      else if (codes[n + 1] === 2) { next[key] = codes.slice(n + 2, n + 5).map((v) => Math.min(255, v || 0)); n += 4; }
    }
  }
  return next;
}

// [{text, style}] of one line; `style` goes on from line to line.
export function spans(line, style = {}) {
  const found = [];
  let at = 0;
  for (const match of line.matchAll(SEQUENCE)) {
    if (match.index > at) found.push({ text: shown(line.slice(at, match.index)), style });
    if (match[2] === "m") style = change(style, (match[1] || "0").split(";").map((n) => parseInt(n, 10) || 0));
    at = match.index + match[0].length;
  }
  if (at < line.length) found.push({ text: shown(line.slice(at)), style });
  return { found, style };
}
export const classes = (style) => [style.fg && `ansi-${style.fg}`, style.bold && "ansi-bold", style.faint && "ansi-faint", style.italic && "ansi-italic", style.underline && "ansi-underline"].filter(Boolean).join(" ");
