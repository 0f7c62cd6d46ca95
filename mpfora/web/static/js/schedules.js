// The schedules: when each makes its next tasks, which it has made last, and what it has left out.

import { html, useState } from "../vendor/htm-preact.js";
import { age, clock, count, part, plain } from "./format.js";
import { ask, post, useLive, useNow } from "./net.js";
import { may } from "./actions.js";
import { Confirm, Empty, Link, Trouble, Wait, oneLine } from "./ui.js";

const VERBS = {
  trigger: { name: "Trigger", about: "make a task now, beside its times" },
  pause: { name: "Pause", about: "let its times pass without a task" },
  resume: { name: "Resume", about: "go on with the next of its times" },
  delete: { name: "Delete", about: "make no more tasks; those that were made go on", danger: true, admin: true },
};

function ScheduleActions({ one, user }) {
  const [asked, setAsked] = useState(null);
  if (!may(user, "operate")) return null;
  const verbs = one.problem ? ["delete"] : ["trigger", one.paused ? "resume" : "pause", "delete"];
  const shown = verbs.filter((verb) => !VERBS[verb].admin || may(user, "admin"));
  const path = `api/v1/schedules/${part(one.name)}`;
  return html`<span class="verbs">${shown.map((verb) => html`<button key=${verb} class=${`link ${VERBS[verb].danger ? "danger-text" : ""}`} aria-label=${`${VERBS[verb].name} the schedule ${plain(one.name)}`} onClick=${() => setAsked({ verb, ...VERBS[verb] })}>${VERBS[verb].name}</button>`)}</span>
    ${asked ? html`<${Confirm} title=${`${asked.name} schedule ${plain(one.name)}?`} text=${`${asked.about[0].toUpperCase()}${asked.about.slice(1)}.`} verb=${asked.name} danger=${asked.danger}
      onClose=${() => setAsked(null)} act=${async () => (asked.verb === "delete" ? await ask("DELETE", path) : await post(`${path}/${asked.verb}`)).outcome} />` : null}`;
}

export const timing = (one) => (one.every !== null ? `every ${age(one.every).replace(/ 0+[smh]$/, "")}` : `${one.cron ?? ""}${one.tz !== "UTC" ? ` ${one.tz}` : one.cron ? " UTC" : ""}`);

function Next({ one, now }) {
  if (one.problem) return html`<span class="cause">cannot be read</span>`;
  if (one.paused) return html`<span class="state paused"><i aria-hidden="true"></i>paused</span>`;
  if (one.next === null) return html`<span class="dim">never</span>`;
  const left = one.next - now;
  const all = one.upcoming.map((at) => clock(at)).join("\n");
  return html`<time datetime=${new Date(one.next * 1000).toISOString()} title=${`the next ones:\n${all}`}>${left > 0 ? `in ${age(left)}` : left > -60 ? "now" : html`<span class="cause">${age(-left)} late</span>`} <span class="dim mid">${clock(one.next)}</span></time>`;
}

const note = (one) => [
  one.problem,
  one.waiting.length ? `${count(one.waiting.length)} waiting for ${one.last_id ?? "a node"}` : "",
  one.skipped ? `${count(one.skipped)} skipped, the last as ${one.why_skipped}` : "",
].filter(Boolean).join("; ");

function Upcoming({ one }) {
  return html`<details class="more"><summary>${one.upcoming.length ? `The next ${one.upcoming.length} times, and what is made` : "What is made"}</summary>
    ${one.upcoming.length ? html`<ol class="upcoming num">${one.upcoming.map((at) => html`<li key=${at}>${clock(at)}</li>`)}</ol>` : null}
    <p><span class="dim">overlap</span> ${one.overlap} <span class="dim">catch-up</span> ${one.catch_up}${one.jitter ? html` <span class="dim">jitter</span> ${age(one.jitter)}` : null}</p>
    <pre class="code" tabindex="0">${plain(JSON.stringify(one.props, null, 2))}</pre></details>`;
}

export function Schedules({ user }) {
  const now = useNow();
  const { data, error } = useLive("schedules", {});
  if (!data?.schedules) return error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`;
  return html`<div class="head"><h1>Schedules</h1><span class="dim num">${count(data.total)}${data.total > data.schedules.length ? `, the first ${count(data.schedules.length)} are shown` : ""}</span></div>
    ${data.schedules.length ? html`<div class="table-box"><table class="stacked" aria-label="Schedules"><thead><tr><th scope="col">Schedule</th><th scope="col">Next</th><th scope="col">Times</th><th scope="col" class="mid">Last task</th><th scope="col" class="wide">Handler</th><th scope="col">Note</th><th scope="col"><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${data.schedules.map((one) => html`<tr key=${one.name}><td class="id whole">${oneLine(one.name, 100)}</td><td class="num"><${Next} one=${one} now=${now} /></td><td class="num all">${plain(timing(one))}</td>
        <td class="mid whole">${one.last_id ? html`<${Link} class="id" to=${`tasks/${part(one.last_id)}`}>${plain(one.last_id)}</>` : html`<span class="dim">none yet</span>`}</td><td class="wide">${oneLine(one.handler, 60)}</td>
        <td class="c-note all">${note(one) ? html`<span class="detail" title=${plain(note(one))}>${oneLine(note(one))}</span>` : null}${one.problem ? null : html`<${Upcoming} one=${one} />`}</td><td class="right all whole"><${ScheduleActions} one=${one} user=${user} /></td></tr>`)}</tbody></table></div>`
    : html`<${Empty}>There is no schedule. Make one: <code>mpfora schedule nightly --cron "0 3 * * *" --handler NAME</code></>`}`;
}
