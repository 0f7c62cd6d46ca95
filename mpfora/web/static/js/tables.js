// Tables of tasks: alike wherever tasks are listed.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { count, part, percent, size } from "./format.js";
import { go, useNow } from "./net.js";
import { Bar, Link, State, detail, oneLine, since } from "./ui.js";

const SORTABLE = { id: "id", progress: "progress", attempt: "attempt", since: "since", cpu: "cpu", rss: "rss" };
const COLUMNS = [
  ["id", "Task", ""], ["state", "State", ""], ["node", "Node", "wide"], ["handler", "Handler", "wide"], ["progress", "Progress", "mid"],
  ["attempt", "Runs", "wide right"], ["since", "Since", "mid right"], ["cpu", "CPU", "wide right"], ["rss", "Memory", "wide right"], ["detail", "", "rest"],
];
const TITLES = { since: "how long it has run, or how long ago its last run ended", cpu: "100 % is one core", attempt: "how many runs it had" };

export function TaskTable({ tasks, sort = "id", onSort, rows = 0, label = "Tasks", node = true }) {
  const now = useNow();
  const [at, setAt] = useState(-1);
  const body = useRef();
  useEffect(() => {
    const keys = (event) => {
      if (event.target.closest("input, textarea, select, dialog, [role=menu]") || event.metaKey || event.ctrlKey || event.altKey) return;
      if (event.key === "j" || event.key === "k") {
        event.preventDefault();
        setAt((n) => {
          const next = Math.max(0, Math.min(tasks.length - 1, n + (event.key === "j" ? 1 : -1)));
          body.current?.rows[next]?.scrollIntoView({ block: "nearest" });
          body.current?.rows[next]?.querySelector("a")?.focus();
          return next;
        });
      }
    };
    addEventListener("keydown", keys);
    return () => removeEventListener("keydown", keys);
  }, [tasks.length]);
  const columns = COLUMNS.filter(([name]) => node || name !== "node");
  const turn = (name) => onSort(sort === name ? `-${name}` : name);
  const cell = {
    id: (t) => html`<${Link} to=${`tasks/${part(t.id)}`} class="id" title=${t.id}>${oneLine(t.id, 130)}</>`,
    state: (t) => html`<${State} state=${t.state} />`,
    node: (t) => (t.node ? html`<${Link} to=${`nodes/${part(t.node)}`}>${oneLine(t.node, 40)}</>` : ""),
    handler: (t) => oneLine(t.handler, 60),
    progress: (t) => html`<${Bar} share=${t.progress} label=${`progress of ${oneLine(t.id, 40)}`} />`,
    attempt: (t) => (t.attempt ? count(t.attempt) : ""),
    since: (t) => since(t, now),
    cpu: (t) => percent(t.cpu),
    rss: (t) => size(t.rss),
    detail: (t) => html`<span class="detail" title=${oneLine(detail(t), 1000)}>${oneLine(detail(t))}</span>`,
  };
  return html`<div class="table-box" style=${rows ? { minHeight: `${31 + rows * 29}px` } : null}><table class="tasks" role="table" aria-label=${label}>
    <thead role="rowgroup"><tr role="row">${columns.map(([name, title, kind]) => html`<th key=${name} scope="col" role="columnheader" class=${`c-${name} ${kind}`}
        aria-sort=${sort.replace("-", "") === name && onSort && SORTABLE[name] ? ((name === "id") === (sort[0] !== "-") ? "ascending" : "descending") : null}>
      ${onSort && SORTABLE[name] ? html`<button class="sort" title=${TITLES[name]} onClick=${() => turn(name)}>${title}<span aria-hidden="true">${sort === name ? (name === "id" ? " ↑" : " ↓") : sort === `-${name}` ? (name === "id" ? " ↓" : " ↑") : ""}</span></button>`
      : html`<span title=${TITLES[name]}>${title || html`<span class="hidden">Detail</span>`}</span>`}</th>`)}</tr></thead>
    <tbody role="rowgroup" ref=${body}>${tasks.map((t, index) => html`<tr key=${t.id} role="row" class=${index === at ? "at" : ""} onDblClick=${() => go(`tasks/${part(t.id)}`)}>
      ${columns.map(([name, , kind]) => html`<td key=${name} role="cell" class=${`c-${name} ${kind} ${kind.includes("right") ? "num" : ""}`}>${cell[name](t)}</td>`)}</tr>`)}</tbody></table></div>`;
}
