// The first page: what needs attention, how many are in which state, the last 15 minutes, the handlers.

import { html } from "../vendor/htm-preact.js";
import { count, part, plain, span, term } from "./format.js";
import { useLive } from "./net.js";
import { Chart } from "./charts.js";
import { Empty, Link, STATES, Trouble, Wait, shownState } from "./ui.js";

const tasksOf = (q) => `tasks?q=${encodeURIComponent(q)}`;
const MARKS = { error: "!", warning: "▲", info: "i" };
const WORDS = { error: "error", warning: "warning", info: "note" };

function Attention({ entries }) {
  return html`<section aria-labelledby="attention"><h2 id="attention">Needs attention</h2>
    ${entries.length ? html`<ul class="attention">${entries.map((one, n) => html`<li key=${n} class=${one.level}>
      <span class="mark" aria-hidden="true">${MARKS[one.level]}</span><span class="hidden">${WORDS[one.level]}: </span>
      <span>${plain(one.text)}${one.remedy ? html` <span class="dim">${one.remedy}</span>` : null}</span>
      ${one.q ? html`<${Link} to=${tasksOf(one.q)} class="show">show</>` : one.task ? html`<${Link} to=${`tasks/${part(one.task)}?tab=stack`} class="show">show</>` : one.node ? html`<${Link} to=${`nodes/${part(one.node)}`} class="show">show</>` : one.page ? html`<${Link} to=${one.page} class="show">show</>` : null}</li>`)}</ul>`
    : html`<p class="fine">Nothing does.</p>`}</section>`;
}

function Counts({ states, nodes }) {
  const shown = STATES.filter((state) => state !== "unreadable" || states[state]);
  return html`<section aria-label="Tasks by state"><ul class="tiles">${shown.map((state) => html`<li key=${state}>
      <${Link} to=${tasksOf(`state:${state}`)}><span class="tile-name state ${state}"><i aria-hidden="true"></i>${shownState(state)}</span><span class="tile-count num">${count(states[state] ?? 0)}</span></></li>`)}
    <li><${Link} to="nodes"><span class="tile-name">nodes</span><span class="tile-count num">${count(nodes.live)}</span></></li></ul></section>`;
}

function Handlers({ rows }) {
  if (!rows.length) return html`<${Empty}>No task names a handler yet.</>`;
  return html`<div class="table-box"><table aria-label="Handlers"><thead><tr><th scope="col">Handler</th><th scope="col" class="right">Running</th><th scope="col" class="right">Pending</th>
    <th scope="col" class="right mid">Others</th><th scope="col" class="right mid" title="tasks that ended within 15 minutes">Ended/min</th><th scope="col" class="right mid" title="of the last run of tasks that ended within 15 minutes">Median</th><th scope="col" class="right wide" title="95 % took no longer">95 %</th><th scope="col">Failures, 15 min</th></tr></thead>
    <tbody>${rows.map((one) => {
      const named = one.handler ? term("handler", one.handler) : 'handler:""';
      const link = (state, n) => (n ? html`<${Link} to=${tasksOf(`state:${state} ${named}`)}>${count(n)}</>` : html`<span class="dim">0</span>`);
      const others = Object.entries(one.states).filter(([state]) => !["runnable", "pending"].includes(state)).reduce((sum, [, n]) => sum + n, 0);
      return html`<tr key=${one.handler}><td><${Link} to=${tasksOf(named)} class="id">${one.handler ? plain(one.handler) : html`<span class="dim">(no name)</span>`}</></td>
        <td class="num right">${link("runnable", one.states.runnable)}</td><td class="num right">${link("pending", one.states.pending)}</td><td class="num right mid">${count(others)}</td>
        <td class="num right mid">${one.ended ? one.per_minute.toFixed(1) : html`<span class="dim">0</span>`}</td><td class="num right mid">${span(one.median_s)}</td><td class="num right wide">${span(one.p95_s)}</td>
        <td>${Object.entries(one.failures).map(([cause, n]) => html`<${Link} key=${cause} to=${tasksOf(`${named} ${term("cause", cause)} since:15m`)} class="cause">${plain(cause)} <span class="num">${count(n)}</span></>`)}</td></tr>`;
    })}</tbody></table></div>`;
}

export function Overview() {
  const { data, error } = useLive("overview", {});
  if (!data?.states) return error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`;
  const { charts } = data;
  const minute = 60 / charts.step_s;
  return html`<h1 class="hidden">Overview</h1>
    <${Attention} entries=${data.attention} />
    <${Counts} states=${data.states} nodes=${data.nodes} />
    <section class="charts" aria-label="The last 15 minutes">
      <${Chart} title="Tasks" at=${charts.at} lines=${[{ name: "running", tone: "runnable", values: charts.states.runnable }, { name: "pending", tone: "pending", values: charts.states.pending }]} />
      <${Chart} title="Ended per minute" at=${charts.at} lines=${[{ name: "completed", tone: "completed" }, { name: "failed", tone: "failed" }, { name: "killed", tone: "killed" }].map((one) => ({ ...one, values: charts.ended[one.name].map((n) => n * minute) }))} />
      <${Chart} title="Room" at=${charts.at} lines=${[{ name: "running", tone: "runnable", values: charts.states.runnable }, ...(charts.capacity.some((n) => n !== null) ? [{ name: "capacity", tone: "dim", values: charts.capacity }] : []), { name: "nodes", tone: "sleeping", values: charts.nodes }]} />
    </section>
    <section aria-labelledby="handlers"><h2 id="handlers">Handlers</h2><${Handlers} rows=${data.handlers} /></section>`;
}
