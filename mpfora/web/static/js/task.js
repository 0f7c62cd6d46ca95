// One task: what it does now, where it is, where its time goes, its runs, and what it was given and has saved.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { age, amounts, clock, count, part, percent, plain, seconds, size, span } from "./format.js";
import { get, go, post, useLive, useNow } from "./net.js";
import { TaskActions, may } from "./actions.js";
import { Flame } from "./flame.js";
import { Log } from "./log.js";
import { Bar, Empty, Facts, Json, Link, State, Tabs, Time, Trouble, Wait, oneLine } from "./ui.js";

const TABS = [["now", "Now"], ["log", "Log"], ["stack", "Stack"], ["profile", "Profile"], ["runs", "Runs"], ["data", "Data"]];

// The slow part (runs, props, checkpoint) is read again when the task has become another.
function useDetails(id, task) {
  const [known, set] = useState({ data: null, error: "" });
  const mark = task ? [task.state, task.attempt, task.fence, task.cause, task.ended].join() : "";
  useEffect(() => {
    let over = false;
    get(`api/v1/tasks/${part(id)}`).then((data) => over || set({ data, error: "" }), (error) => over || set((one) => ({ ...one, error: error.message })));
    return () => { over = true; };
  }, [id, mark]);
  return known;
}

function Spark({ values, label, format }) {
  const most = Math.max(...values.filter((v) => v !== null), 0);
  if (values.filter((v) => v !== null).length < 2) return html`<span class="spark-box"></span>`;
  const points = values.map((v, n) => `${((n / (values.length - 1)) * 100).toFixed(1)},${(24 - (v ?? 0) / (most || 1) * 22).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 100 26" preserveAspectRatio="none" role="img" aria-label=${`${label}, the last ${values.length} s; at most ${format(most)}`}><polyline points=${points.join(" ")} /></svg>`;
}

function useHistory(task) {
  const kept = useRef([]);
  const last = useRef("");
  if (task) {
    const mark = `${task.id} ${task.cpu_s} ${task.rss}`;
    if (last.current !== mark) {
      if (!last.current.startsWith(`${task.id} `)) kept.current = [];
      last.current = mark;
      kept.current = [...kept.current.slice(-119), { cpu: task.cpu, rss: task.rss }];
    }
  }
  return kept.current;
}

function Now({ task, now }) {
  const past = useHistory(task);
  const running = task.state === "runnable" && task.fence !== null;
  return html`${task.reason ? html`<p class="why"><b>${running ? "Note of its node: " : "Why it does not run: "}</b>${plain(task.reason)}</p>` : null}
    ${running ? html`<div class="gauges">
      <div><span class="dim">progress</span><span class="big">${task.progress === null ? html`<span class="dim">not told</span>` : html`<${Bar} share=${task.progress} />`}</span></div>
      <div><span class="dim">CPU</span><span class="big num">${percent(task.cpu) || "–"}</span><${Spark} values=${past.map((one) => one.cpu)} label="CPU" format=${percent} /></div>
      <div><span class="dim">memory</span><span class="big num">${size(task.rss) || "–"}</span><${Spark} values=${past.map((one) => one.rss)} label="memory" format=${size} /></div>
      <div><span class="dim">running for</span><span class="big num">${task.started ? age(now - seconds(task.started)) : "–"}</span><span class="dim num">${task.cpu_s === null ? "" : `${span(task.cpu_s)} of CPU`}</span></div></div>` : null}
    <${Facts} rows=${[
      ["note", task.note ? plain(task.note) : ""], ["node", task.node ? html`<${Link} to=${`nodes/${part(task.node)}`}>${plain(task.node)}</>` : ""], ["handler", plain(task.handler ?? "")],
      ["group", task.group ? html`<${Link} to=${`tasks?q=${encodeURIComponent(`group:"${task.group.replaceAll('"', '\\"')}"`)}`}>${plain(task.group)}</>` : ""],
      ["priority", task.priority ? String(task.priority) : ""], ["needs", amounts(task.needs)], ["given", amounts(task.given)],
      ["run", task.attempt ? count(task.attempt) : ""], ["fence", task.fence], ["started", task.started ? html`<${Time} at=${task.started} now=${now} />` : ""], ["ended", task.ended ? html`<${Time} at=${task.ended} now=${now} />` : ""],
      ["until", task.until ? html`<${Time} at=${task.until} now=${now} />` : ""], ["cause", plain(task.cause ?? "")], ["kept until", task.kept_until ? html`<${Time} at=${task.kept_until} now=${now} />` : ""],
    ]} />
    ${task.state === "completed" ? html`<h2>Result</h2><${Json} value=${task.result} />` : null}
    ${task.errors.length ? html`<h2>Errors</h2><ol class="errors">${[...task.errors].reverse().map((one, n) => html`<li key=${n}><span class="dim"><${Time} at=${one.timestamp} now=${now} /> ${one.cause ? html`<b>${plain(one.cause)}</b>` : null}</span><pre class="code" tabindex="0">${plain(one.error)}</pre></li>`)}</ol>` : null}`;
}

function Stack({ task, user }) {
  const [state, set] = useState({ is: "idle" });
  const running = task.state === "runnable" && task.fence !== null;
  const take = async (native) => {
    set((before) => ({ ...before, is: "asking" }));
    try { set({ is: "known", at: Date.now() / 1000, found: await post(`api/v1/tasks/${part(task.id)}/stack`, native ? { native: true } : {}) }); }
    catch (error) { set({ is: "failed", text: error.message }); }
  };
  const by = { task: "by the task itself", "py-spy": "by py-spy", kernel: "as the kernel sees it" };
  return html`<div class="row"><button class="primary" disabled=${!running || !may(user, "operate") || state.is === "asking"} onClick=${() => take(false)}>Look now</button>
      <button disabled=${!running || !may(user, "operate") || state.is === "asking"} onClick=${() => take(true)}>With C frames</button>
      <span class="dim" role="status">${state.is === "asking" ? "asking its node…" : state.is === "known" ? `${clock(state.at)}, ${by[state.found.how] ?? state.found.how}, ${state.found.attempt ? `run ${state.found.attempt}, ` : ""}process ${state.found.pid} on ${plain(state.found.node)}` : running ? (may(user, "operate") ? "The task goes on meanwhile." : "This takes the role operate.") : "It does not run."}</span></div>
    ${state.is === "failed" ? html`<${Trouble}>${plain(state.text)}</>` : null}
    ${state.found ? html`${state.found.note ? html`<p class="dim">${plain(state.found.note)}</p>` : null}<pre class="code" tabindex="0">${plain(state.found.stack)}</pre>` : null}
    ${task.stack ? html`<h2>Where its last run hung</h2><pre class="code" tabindex="0">${plain(task.stack)}</pre>` : state.found ? null : html`<${Empty}>No stack of an earlier run is kept.</>`}`;
}

function Profile({ task, user }) {
  const [state, set] = useState({ is: "idle" });
  const [by, setBy] = useState("wall");
  const running = task.state === "runnable" && task.fence !== null;
  const take = async (long) => {
    set({ is: "asking", long, began: Date.now() });
    try { set({ is: "known", found: await post(`api/v1/tasks/${part(task.id)}/profile`, { for: `${long}s`, by }) }); }
    catch (error) { set({ is: "failed", text: error.message }); }
  };
  const now = useNow();
  const save = () => {
    const lines = state.found.stacks.map(([frames, weight]) => `${frames.join(";")} ${weight}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "text/plain" }));
    link.download = `${task.id}.collapsed`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const able = running && may(user, "operate") && state.is !== "asking";
  return html`<div class="row"><label>of <select value=${by} onChange=${(event) => setBy(event.target.value)}><option value="wall">elapsed time</option><option value="cpu">processor time</option><option value="gil">who holds the GIL (py-spy)</option></select></label>
      ${[5, 15, 60].map((long) => html`<button key=${long} class=${long === 15 ? "primary" : ""} disabled=${!able} onClick=${() => take(long)}>${long} s</button>`)}
      <span class="dim" role="status">${state.is === "asking" ? `looking for ${state.long} s… ${Math.max(0, Math.round(now - state.began / 1000))} s` : running ? (may(user, "operate") ? "The task goes on meanwhile." : "This takes the role operate.") : "It does not run."}</span></div>
    ${state.is === "failed" ? html`<${Trouble}>${plain(state.text)}</>` : null}
    ${state.found ? html`<h2>${plain(state.found.title)} <button class="link" onClick=${save}>save as collapsed stacks</button></h2>${state.found.note ? html`<p class="dim">${plain(state.found.note)}</p>` : null}
      <${Flame} stacks=${state.found.stacks} />
      <h2>Where most was spent</h2><div class="table-box"><table aria-label="Places"><tbody>${state.found.places.map(([place, share]) => html`<tr key=${place}><td class="num right">${percent(share)}</td><td class="id">${plain(place)}</td></tr>`)}</tbody></table></div>` : null}`;
}

function Runs({ id, runs, now }) {
  if (!runs) return html`<${Wait} />`;
  if (!runs.length) return html`<${Empty}>No run of it has ended yet.</>`;
  return html`<div class="table-box"><table aria-label="Runs"><thead><tr><th scope="col" class="right">Run</th><th scope="col">Node</th><th scope="col">Ended</th><th scope="col" class="right">For</th><th scope="col" class="right mid">CPU</th><th scope="col" class="right mid">Peak memory</th><th scope="col">Cause</th><th scope="col">Error</th></tr></thead>
    <tbody>${[...runs].reverse().map((run, n) => html`<tr key=${n}><td class="num right"><${Link} to=${`tasks/${part(id)}?tab=log&run=${run.attempt}`} title="its log">${count(run.attempt)}</></td><td>${run.node ? html`<${Link} to=${`nodes/${part(run.node)}`}>${oneLine(run.node, 40)}</>` : ""}</td>
      <td class="num">${run.ended ? html`<span title=${run.ended}>${clock(run.ended)} <span class="dim mid">${age(now - seconds(run.ended))} ago</span></span>` : ""}</td><td class="num right">${run.started && run.ended ? span(seconds(run.ended) - seconds(run.started)) : ""}</td>
      <td class="num right mid">${span(run.cpu_s)}</td><td class="num right mid">${size(run.max_rss)}</td><td>${plain(run.cause)}</td><td class="c-detail"><span class="detail" title=${plain(run.error)}>${oneLine(run.error)}</span></td></tr>`)}</tbody></table></div>`;
}

function Data({ data, task }) {
  if (!data) return html`<${Wait} />`;
  return html`${data.problem ? html`<${Trouble}>${plain(data.problem)}</>` : null}
    <h2>Props</h2>${data.props === null && ["completed", "failed", "killed"].includes(task.state) ? html`<${Empty}>They are not kept of a finished task.</>` : html`<${Json} value=${data.props} />`}
    <h2>Checkpoint ${data.checkpoint_bytes > 4 ? html`<span class="dim num">${size(data.checkpoint_bytes)}</span>` : null}</h2><${Json} value=${data.checkpoint} />
    <h2>Result</h2><${Json} value=${data.task.result} />`;
}

export function Task({ id, query, user }) {
  const now = useNow();
  const { data: live, error } = useLive("task", { id });
  const row = live?.task?.id === id ? live.task : null;
  const details = useDetails(id, row);
  const full = details.data?.task.id === id ? details.data : null;
  const tab = TABS.some(([name]) => name === query.get("tab")) ? query.get("tab") : "now";
  const title = html`<h1 class="id" title=${plain(id)}>${plain(id)}</h1>`;
  if (!row && !full) return error || details.error ? html`<div class="head">${title}</div><${Trouble}>${plain(details.error || error)}</>` : html`<div class="head">${title}</div><${Wait} />`;
  // of the live row what moves, of the details what is cut in lists
  const task = row && full && row.state === full.task.state ? { ...full.task, ...row, errors: full.task.errors, result: full.task.result, stack: full.task.stack } : row ?? full.task;
  const gone = error && row === null && details.error;
  return html`<div class="head">${title}<${State} state=${task.state} /><span class="fill"></span>${gone ? null : html`<${TaskActions} task=${task} user=${user} onDone=${(verb) => verb === "delete" && setTimeout(() => go("tasks"), 1500)} />`}</div>
    ${error ? html`<${Trouble}>${plain(error)}. What is shown is what was known last.</>` : null}
    <${Tabs} tabs=${TABS} chosen=${tab} label="What to show of the task" onChoose=${(name) => go(`tasks/${part(id)}${name === "now" ? "" : `?tab=${name}`}`, { replace: true })} />
    <div id="panel" role="tabpanel" aria-labelledby=${`tab-${tab}`}>
      ${tab === "now" ? html`<${Now} task=${task} now=${now} />` : tab === "log" ? html`<${Log} task=${task} runs=${full?.task.history} run=${query.get("run") ?? ""} onRun=${(run) => go(`tasks/${part(id)}?tab=log${run ? `&run=${run}` : ""}`, { replace: true })} />` : tab === "stack" ? html`<${Stack} task=${task} user=${user} />` : tab === "profile" ? html`<${Profile} task=${task} user=${user} />`
      : tab === "runs" ? html`<${Runs} id=${id} runs=${full?.task.history} now=${now} />` : html`<${Data} data=${full} task=${task} />`}</div>`;
}
