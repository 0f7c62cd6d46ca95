// What people do to tasks and nodes, with the question before it and the answer after it.

import { html, useState } from "../vendor/htm-preact.js";
import { age, count, part, plain, plural } from "./format.js";
import { ask, post } from "./net.js";
import { Confirm, Menu } from "./ui.js";

const duration = { name: "for", title: "for how long, as 10m", value: "10m" };
export const TASK_VERBS = {
  run: { name: "Run", about: "run it again, or go on" },
  pause: { name: "Pause", about: "stop it, and keep it from running" },
  release: { name: "Release", about: "save, and give it to another node" },
  checkpoint: { name: "Checkpoint", about: "have it save, and go on" },
  sleep: { name: "Sleep…", about: "run it again later", fields: [duration] },
  complete: { name: "Complete…", about: "end it as done, with a result", fields: [{ name: "result", title: "result (JSON)", value: "null" }] },
  kill: { name: "Kill", about: "end it for ever", danger: true },
  delete: { name: "Delete", about: "stop it, and remove all of it", danger: true, admin: true },
};
const LIVE = ["run", "pause", "release", "checkpoint", "sleep", "complete", "kill"];
const ALLOWED = { runnable: LIVE.slice(1), pending: LIVE.slice(1), sleeping: ["run", "pause", "sleep", "kill"], paused: ["run", "sleep", "kill"] };
const ranks = { view: 0, operate: 1, admin: 2 };
export const may = (user, role) => ranks[user?.role] >= ranks[role];

async function act(id, verb, values) {
  if (verb === "delete") return (await ask("DELETE", `api/v1/tasks/${part(id)}`)).outcome;
  const body = {};
  if (verb === "sleep") body.for = values.for;
  if (verb === "complete") body.result = JSON.parse(values.result || "null");
  if (verb === "retry") { if (values.props?.trim()) body.props = JSON.parse(values.props); if (values.handler) body.handler = values.handler; }
  return (await post(`api/v1/tasks/${part(id)}/${verb}`, body)).outcome;
}

export function TaskActions({ task, user, onDone }) {
  const [asked, setAsked] = useState(null);
  if (!may(user, "operate")) return null;
  const verbs = [...(ALLOWED[task.state] ?? []), "delete"].filter((verb) => !TASK_VERBS[verb].admin || may(user, "admin"));
  const finished = ["completed", "failed", "killed"].includes(task.state);
  const first = finished ? [] : verbs.filter((verb) => ["run", "pause", "kill"].includes(verb)).slice(0, 2);
  const rest = verbs.filter((verb) => !first.includes(verb));
  const choose = (verb) => setAsked({ verb, ...TASK_VERBS[verb] });
  const again = { verb: "retry", name: "Submit again…", about: "anew, in the place of this one", fields: [
    { name: "props", title: "props (JSON); empty: as they were, which a task that failed or was killed keeps", value: "", lines: 6 },
    { name: "handler", title: "handler", value: task.handler ?? "" }] };
  const items = rest.map((verb) => ({ ...TASK_VERBS[verb], act: () => choose(verb) }));
  if (finished) items.unshift({ ...again, act: () => setAsked(again) });
  return html`<div class="actions">
    ${first.map((verb) => html`<button key=${verb} class=${TASK_VERBS[verb].danger ? "danger-text" : ""} onClick=${() => choose(verb)}>${TASK_VERBS[verb].name}</button>`)}
    ${items.length ? html`<${Menu} title="More" label="More actions" items=${items} />` : null}
    ${asked ? html`<${Confirm} title=${`${asked.name.replace("…", "")} task ${plain(task.id)}?`} text=${`${asked.about[0].toUpperCase()}${asked.about.slice(1)}.`}
      verb=${asked.name.replace("…", "")} danger=${asked.danger} fields=${asked.fields} onClose=${() => { setAsked(null); onDone?.(); }}
      act=${async (values) => { const said = await act(task.id, asked.verb, values); onDone?.(asked.verb); return said; }} />` : null}</div>`;
}

const NODE_VERBS = {
  freeze: { name: "Freeze", about: "take no more tasks, keep those it has" },
  unfreeze: { name: "Unfreeze", about: "take tasks again" },
  drain: { name: "Drain", about: "give all tasks to others, take none", danger: true },
  undrain: { name: "Undrain", about: "take tasks again" },
  balance: { name: "Balance", about: "look now whether tasks should move" },
  reload: { name: "Reload…", about: "import its handlers anew, for new runs",
    fields: [{ name: "within", title: "how long running tasks have to save and go on in the new code, as 5m; empty: they stay in the former code until they end", value: "" }] },
  restart: { name: "Restart", about: "give all tasks to others, and leave: its service manager is to start it again", note: " If none does, it stays away.", danger: true },
};

// isGone: it is away, as while it restarts. What it was asked is still waited for.
export function NodeActions({ node, user, isGone }) {
  const [asked, setAsked] = useState(null);
  if (!may(user, "admin")) return null;
  const choose = (verb) => setAsked({ verb, ...NODE_VERBS[verb] });
  const first = isGone ? [] : [node.frozen ? "unfreeze" : "freeze", node.draining ? "undrain" : "drain"];
  const items = ["balance", ...(node.pid ? ["reload", "restart"] : [])].map((verb) => ({ ...NODE_VERBS[verb], act: () => choose(verb) })); // a Go node has no pid
  const name = asked?.name.replace("…", "");
  return html`<div class="actions">${first.map((verb) => html`<button key=${verb} class=${NODE_VERBS[verb].danger ? "danger-text" : ""} onClick=${() => choose(verb)}>${NODE_VERBS[verb].name}</button>`)}
    ${isGone ? null : html`<${Menu} title="More" label="More actions" items=${items} />`}
    ${asked ? html`<${Confirm} title=${`${name} node ${plain(node.name)}?`} text=${`It is to ${asked.about}.${asked.note ?? ""} It has ${plural(node.tasks, "task")}.`}
      verb=${name} danger=${asked.danger} fields=${asked.fields} onClose=${() => setAsked(null)}
      act=${async ({ within }) => (await post(`api/v1/nodes/${part(node.name)}/${asked.verb}`, within?.trim() ? { within: within.trim() } : {})).outcome} />` : null}</div>`;
}

// All tasks of a filter: the number is what somebody has seen; if it has changed, nothing is done.
export function BulkActions({ q, total, user }) {
  const [asked, setAsked] = useState(null);
  if (!may(user, "operate") || !total) return null;
  const verbs = ["run", "pause", "release", "checkpoint", "sleep", "kill", "delete"].filter((verb) => !TASK_VERBS[verb].admin || may(user, "admin"));
  const items = verbs.map((verb) => ({ ...TASK_VERBS[verb], act: () => setAsked({ verb, total, q, ...TASK_VERBS[verb] }) }));
  return html`<span><${Menu} title=${`All ${count(total)}`} label=${`Actions for all ${plural(total, "task")} that match`} items=${items} />
    ${asked ? html`<${Confirm} title=${`${asked.name.replace("…", "")} ${plural(asked.total, "task")}?`}
      text=${html`Every task that matches <code>${asked.q || "(all)"}</code>: ${asked.about}.`} verb=${`${asked.name.replace("…", "")} ${count(asked.total)}`}
      danger=${asked.danger} typed=${asked.total > 20 ? asked.total : 0} fields=${asked.fields} onClose=${() => setAsked(null)}
      act=${(values, onProgress) => bulk(asked, values, onProgress)} />` : null}</span>`;
}

async function bulk({ verb, q, total }, values, onProgress) {
  const body = { verb, q, expect: total };
  if (verb === "sleep") body.for = values.for;
  const answer = await ask("POST", "api/v1/bulk", body, "application/x-ndjson");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("mpfora web ended before it could say how it went: look at the tasks");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) {
      const said = JSON.parse(line);
      if (said.error) throw new Error(said.error);
      if (said.result) return { text: said.result.outcome, more: said.result.refused.map((one) => one.error) };
      onProgress(`${count(said.done)} of ${count(said.of)} done`);
    }
  }
}
