// A flame graph of a profile: nested boxes, the widest first; a click zooms.

import { html, useState } from "../vendor/htm-preact.js";
import { plain } from "./format.js";

const ROW = 18, DEEPEST = 200;

function tree(stacks) {
  const root = { name: "all", weight: 0, children: new Map() };
  for (const [frames, weight] of stacks) {
    let at = root;
    at.weight += weight;
    for (const frame of frames.slice(0, DEEPEST)) {
      if (!at.children.has(frame)) at.children.set(frame, { name: frame, weight: 0, children: new Map() });
      at = at.children.get(frame);
      at.weight += weight;
    }
  }
  return root;
}
function boxes(node, total) {
  const found = [];
  const lay = (one, left, depth, way) => {
    const width = one.weight / total;
    if (width < 0.002) return;
    found.push({ node: one, left, width, depth, way });
    let at = left;
    for (const child of [...one.children.values()].sort((a, b) => b.weight - a.weight)) { lay(child, at, depth + 1, [...way, child.name]); at += child.weight / total; }
  };
  lay(node, 0, 0, []);
  return found;
}
const tone = (name) => { let h = 0; for (const c of name) h = (h * 31 + c.charCodeAt(0)) >>> 0; return h % 5; };

export function Flame({ stacks }) {
  const [way, setWay] = useState([]);
  const root = tree(stacks);
  let from = root;
  for (const name of way) from = from.children.get(name) ?? from;
  if (!root.weight) return html`<p class="empty">Nothing was seen.</p>`;
  const all = boxes(from, from.weight);
  const depth = Math.max(...all.map((one) => one.depth)) + 1;
  return html`<div class="flame" style=${{ height: `${depth * ROW}px` }} role="tree" aria-label="Flame graph">${all.map((one, n) => {
    const share = `${((100 * one.node.weight) / root.weight).toFixed(1)} %`;
    return html`<button key=${n} role="treeitem" aria-level=${one.depth + 1} class=${`frame f${one.depth ? tone(one.node.name) : "-root"}`} title=${`${plain(one.node.name)}\n${share}, ${(one.node.weight / 1e6).toFixed(2)} s`}
      style=${{ left: `${one.left * 100}%`, width: `${one.width * 100}%`, top: `${one.depth * ROW}px` }} onClick=${() => setWay(one.depth ? [...way, ...one.way] : way.slice(0, -1))}>${one.depth ? plain(one.node.name) : way.length ? `↑ ${plain(from.name)}` : "all"}</button>`;
  })}</div>`;
}
