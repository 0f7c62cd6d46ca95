// The list of tasks: the whole view stands in the address.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { count } from "./format.js";
import { go, useLive } from "./net.js";
import { BulkActions } from "./actions.js";
import { TaskTable } from "./tables.js";
import { Empty, Link, STATES, Trouble, Wait, shownState } from "./ui.js";

const ROWS = 50;

export function Tasks({ query, user }) {
  const q = query.get("q") ?? "", sort = query.get("sort") ?? "id", after = query.get("after") ?? "";
  const page = Number(query.get("page") ?? 1) || 1;
  const { data, error, stale } = useLive("tasks", { q, sort, ...(after ? { after } : {}), limit: ROWS });
  const [typed, setTyped] = useState(q);
  const box = useRef();
  useEffect(() => setTyped(q), [q]);
  const to = (changes) => {
    const next = new URLSearchParams({ q, sort, ...changes });
    if (!changes.after) { next.delete("after"); next.delete("page"); }
    if (!next.get("q")) next.delete("q");
    if (next.get("sort") === "id") next.delete("sort");
    const text = next.toString();
    return `tasks${text ? `?${text}` : ""}`;
  };
  const of = (state) => {
    const rest = q.replace(/(^|\s)-?state:\S+/g, " ").replace(/\s+/g, " ").trim();
    const now = q.match(/(?:^|\s)state:(\S+)/)?.[1];
    return now === state ? rest : `state:${state}${rest ? ` ${rest}` : ""}`;
  };
  const chosen = q.match(/(?:^|\s)state:(\S+)/)?.[1];
  const tasks = data?.tasks;
  const from = (page - 1) * ROWS;
  return html`<div class="head"><h1>Tasks</h1>
      <span class="dim num" role="status">${tasks ? `${count(data.total)} ${q ? "match" : "in all"}` : ""}</span><span class="fill"></span>
      ${tasks && !stale && !error ? html`<${BulkActions} q=${q} total=${data.total} user=${user} />` : null}</div>
    <form class="filter" role="search" onSubmit=${(event) => { event.preventDefault(); go(to({ q: typed.trim() })); }}>
      <label class="hidden" for="q">Filter</label>
      <input id="q" ref=${box} type="search" value=${typed} spellcheck="false" autocomplete="off" autocapitalize="off" aria-invalid=${error ? "true" : "false"} aria-describedby="q-said"
        placeholder="state:failed handler:train since:1h cust-*  (/)" onInput=${(event) => setTyped(event.target.value)} />
      <button type="submit">Filter</button></form>
    <p id="q-said" class="said" role="alert">${error}</p>
    <div class="chips" role="group" aria-label="State">${STATES.filter((state) => state !== "unreadable" || chosen === state).map((state) => html`<${Link} key=${state} to=${to({ q: of(state) })} class="chip" aria-current=${chosen === state ? "true" : null}><span class="state ${state}"><i aria-hidden="true"></i>${shownState(state)}</span></>`)}</div>
    ${!tasks ? (error ? null : html`<${Wait} />`) : tasks.length || stale
      ? html`<div class=${stale || error ? "stale" : ""}><${TaskTable} tasks=${tasks} sort=${sort} onSort=${(name) => go(to({ sort: name }))} rows=${Math.min(ROWS, data.total)} /></div>`
      : html`<${Empty}>${q ? "No task matches." : "There is no task in this namespace."}</>`}
    ${tasks && (after || data.next) ? html`<nav class="pager" aria-label="Pages">
      <span class="dim num">${tasks.length ? `${count(from + 1)}–${count(from + tasks.length)} of ${count(data.total)}` : ""}</span>
      ${after ? html`<${Link} to=${to({})}>First</>` : html`<span class="dim">First</span>`}
      ${after ? html`<button class="link" onClick=${() => history.back()}>Previous</button>` : html`<span class="dim">Previous</span>`}
      ${data.next ? html`<${Link} to=${to({ after: data.next, page: page + 1 })}>Next</>` : html`<span class="dim">Next</span>`}</nav>` : null}`;
}

