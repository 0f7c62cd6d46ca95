// Groups, and what people did.

import { html } from "../vendor/htm-preact.js";
import { age, clock, count, part, plain, seconds, term } from "./format.js";
import { go, useLive, useNow } from "./net.js";
import { Empty, Link, STATES, Trouble, Wait, oneLine, shownState } from "./ui.js";

export function Groups() {
  const { data, error } = useLive("groups", {});
  if (!data?.groups) return error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`;
  const states = STATES.filter((state) => data.groups.some((one) => one.states[state]));
  return html`<div class="head"><h1>Groups</h1><span class="dim num">${count(data.total)}${data.total > data.groups.length ? `, the first ${count(data.groups.length)} are shown` : ""}</span></div>
    ${data.groups.length ? html`<div class="table-box"><table aria-label="Groups"><thead><tr><th scope="col">Group</th><th scope="col">Finished</th>${states.map((state) => html`<th key=${state} scope="col" class="right">${shownState(state)}</th>`)}</tr></thead>
      <tbody>${data.groups.map((one) => {
        const all = Object.values(one.states).reduce((a, b) => a + b, 0), done = ["completed", "failed", "killed"].reduce((sum, state) => sum + (one.states[state] ?? 0), 0);
        const named = term("group", one.group);
        return html`<tr key=${one.group}><td><${Link} class="id" to=${`tasks?q=${encodeURIComponent(named)}`}>${plain(one.group)}</></td>
          <td class="c-room"><span class="bar" role="progressbar" aria-valuemin="0" aria-valuemax=${all} aria-valuenow=${done} aria-label="finished"><span class="bar-fill" style=${{ width: `${(done / all) * 100}%` }}></span></span><span class="num bar-text room-text">${count(done)} / ${count(all)}</span></td>
          ${states.map((state) => html`<td key=${state} class="num right">${one.states[state] ? html`<${Link} to=${`tasks?q=${encodeURIComponent(`state:${state} ${named}`)}`}>${count(one.states[state])}</>` : html`<span class="dim">0</span>`}</td>`)}</tr>`;
      })}</tbody></table></div>` : html`<${Empty}>No task is in a group. A task joins one by <code>"group"</code> in its props.</>`}`;
}

// kinds that somebody may look for
const WHAT = { lost: "cause", missed: "cause", asked: "asked" };

export function Events({ query }) {
  const now = useNow();
  const q = query.get("q") ?? "";
  const { data, error } = useLive("events", q ? { q } : {});
  const choose = (event) => { event.preventDefault(); const text = new FormData(event.target).get("q").trim(); go(text ? `events?q=${encodeURIComponent(text)}` : "events", { replace: true }); };
  return html`<div class="head"><h1>Events</h1><span class="dim">what has happened in the cluster since this server looks: the newest first</span></div>
    <form class="row" role="search" onSubmit=${choose}><input id="q" name="q" value=${q} placeholder="a task, a node, a kind: claimed" aria-label="Only events with this in them" spellcheck="false" autocomplete="off" /><button type="submit">Find</button></form>
    ${!data?.events ? (error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`) : data.events.length ? html`<div class="table-box events"><table class="stacked" aria-label="Events"><thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">Task</th><th scope="col">Node</th><th scope="col" class="mid">By</th><th scope="col">Detail</th></tr></thead>
      <tbody>${data.events.map((one) => html`<tr key=${one.n}><td class="num" title=${one.time}>${clock(one.time)} <span class="dim wide">${age(Math.max(0, now - seconds(one.time)))} ago</span></td><td><span class=${`kind ${WHAT[one.kind] ?? ""}`}>${plain(one.kind)}</span></td>
        <td>${one.task ? html`<${Link} class="id" to=${`tasks/${part(one.task)}`}>${oneLine(one.task, 100)}</>` : ""}</td><td>${one.node ? html`<${Link} to=${`nodes/${part(one.node)}`}>${oneLine(one.node, 40)}</>` : ""}</td>
        <td class="mid">${oneLine(one.by, 60)}</td><td class="all">${one.text ? html`<span class="detail" title=${plain(one.text)}>${oneLine(one.text)}</span>` : null}</td></tr>`)}</tbody></table></div>`
    : html`<${Empty}>${q ? "No event has this in it." : "Nothing yet. mpfora events tells what the histories of tasks know of before."}</>`}`;
}

export function Actions() {
  const now = useNow();
  const { data, error } = useLive("actions", {});
  if (!data?.actions) return error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`;
  return html`<h2>What people did here</h2>
    ${data.actions.length ? html`<div class="table-box"><table class="stacked" aria-label="Actions"><thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">On</th><th scope="col">How it ended</th></tr></thead>
      <tbody>${data.actions.map((one, n) => html`<tr key=${data.actions.length - n} class=${one.refused ? "refused" : ""}><td class="num" title=${one.at}>${clock(one.at)} <span class="dim mid">${age(now - seconds(one.at))} ago</span></td><td>${plain(one.who)}</td><td>${plain(one.what)}</td><td class="id">${plain(one.on)}</td><td class="all">${plain(one.outcome)}</td></tr>`)}</tbody></table></div>`
    : html`<${Empty}>Nothing yet, since this server was started.</>`}`;
}
