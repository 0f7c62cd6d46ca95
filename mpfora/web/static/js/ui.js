// The parts that pages are made of.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { age, clock, count, percent, plain, seconds } from "./format.js";
import { base, go } from "./net.js";

export function Link({ to, children, ...rest }) {
  const follow = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
    document.querySelector("main")?.scrollTo?.(0, 0);
    scrollTo(0, 0);
  };
  return html`<a href=${base + to} onClick=${follow} ...${rest}>${children}</a>`;
}

// -- what a task or a node is -------------------------------------------------------------------------------------------

export const STATES = ["runnable", "pending", "sleeping", "paused", "completed", "failed", "killed", "unreadable"];
export const shownState = (state) => (state === "runnable" ? "running" : state);
export const State = ({ state }) => html`<span class="state ${state}"><i aria-hidden="true"></i>${shownState(state)}</span>`;

export function Bar({ share, label }) {
  if (share === null || share === undefined) return null;
  const of = Math.max(0, Math.min(1, share));
  return html`<span class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(of * 100)} aria-label=${label ?? "progress"}>
    <span class="bar-fill" style=${{ width: `${of * 100}%` }}></span></span><span class="num bar-text">${percent(share)}</span>`;
}

export const Time = ({ at, now }) => {
  if (!at) return null;
  const ago = now - seconds(at);
  return html`<time datetime=${at} title=${at}>${clock(at)}${now ? html` <span class="dim">${ago >= 0 ? `${age(ago)} ago` : `in ${age(-ago)}`}</span>` : null}</time>`;
};

export function detail(task) {
  if (["pending", "paused", "unreadable"].includes(task.state) && task.reason) return task.reason;
  if (task.state === "completed") return task.result === null ? "" : JSON.stringify(task.result);
  if (task.errors.length && task.state !== "runnable") {
    const last = [...task.errors].reverse().find((one) => one.cause) ?? task.errors.at(-1);
    return last.error.split("\nTraceback (most recent call last):")[0];
  }
  if (task.until) return `until ${clock(task.until)}${task.reason ? `; ${task.reason}` : ""}`;
  return task.note ?? task.reason ?? (task.errors.length ? task.errors.at(-1).error.split("\n")[0] : "");
}
export const oneLine = (text, most = 300) => {
  const line = plain(String(text ?? "").slice(0, most * 4).split(/\s+/).join(" ").trim());
  return line.length > most ? `${line.slice(0, most)}…` : line;
};
export const since = (task, now) => {
  const at = task.state === "runnable" || !task.ended ? task.started : task.ended;
  return at ? age(now - seconds(at)) : "";
};

// -- a column of facts --------------------------------------------------------------------------------------------------

export const Facts = ({ rows }) => html`<dl class="facts">${rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false)
  .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;
export const Wait = ({ text }) => html`<p class="empty" role="status">${text ?? "…"}</p>`;
export const Trouble = ({ children }) => html`<p class="trouble" role="alert">${children}</p>`;

export function Json({ value }) {
  if (value === null || value === undefined) return html`<${Empty}>none</>`;
  const text = plain(JSON.stringify(value, null, 2));
  const [all, setAll] = useState(false);
  const most = 20000;
  return html`<pre class="code" tabindex="0">${all ? text : text.slice(0, most)}</pre>
    ${text.length > most && !all ? html`<button onClick=${() => setAll(true)}>Show all of ${count(text.length)} characters</button>` : null}`;
}

// -- tabs ---------------------------------------------------------------------------------------------------------------

export function Tabs({ tabs, chosen, onChoose, label }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.findIndex(([name]) => name === chosen) + step + tabs.length) % tabs.length][0];
    onChoose(next);
    event.currentTarget.querySelector(`#tab-${next}`)?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${tabs.map(([name, title]) => html`<button key=${name} id="tab-${name}" role="tab" aria-selected=${name === chosen} aria-controls="panel"
      tabindex=${name === chosen ? 0 : -1} onClick=${() => onChoose(name)}>${title}</button>`)}</div>`;
}

// -- dialogs ------------------------------------------------------------------------------------------------------------

export function Dialog({ title, onClose, children }) {
  const ref = useRef();
  useEffect(() => { if (!ref.current.open) ref.current.showModal(); }, []);
  return html`<dialog ref=${ref} aria-labelledby="dialog-title" onClose=${onClose} onCancel=${onClose}
    onClick=${(event) => event.target === ref.current && onClose()}>
    <div class="dialog"><h2 id="dialog-title">${title}</h2>${children}</div></dialog>`;
}

// Asks, does, and says how it ended. `act(fields, onProgress)` returns the outcome in words.
export function Confirm({ title, text, verb, danger, typed, fields = [], act, onClose }) {
  const [values, setValues] = useState(Object.fromEntries(fields.map((one) => [one.name, one.value ?? ""])));
  const [word, setWord] = useState("");
  const [phase, setPhase] = useState({ is: "asking" });
  const began = useRef(0);
  const [, tick] = useState(0);
  useEffect(() => {
    if (phase.is !== "doing") return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [phase.is]);
  const ready = !typed || word.replaceAll(/[,\s]/g, "") === String(typed);
  const submit = async (event) => {
    event.preventDefault();
    if (!ready || phase.is === "doing") return;
    began.current = Date.now();
    setPhase({ is: "doing", text: "" });
    try {
      const outcome = await act(values, (text) => setPhase({ is: "doing", text }));
      setPhase({ is: "done", ...(typeof outcome === "string" ? { text: outcome } : outcome) });
    } catch (error) { setPhase({ is: "failed", text: error.message }); }
  };
  const over = phase.is === "done" || phase.is === "failed";
  const [said, ...lines] = plain(phase.text ?? "").split("\n"); // further lines: a traceback
  return html`<${Dialog} title=${title} onClose=${onClose}><form onSubmit=${submit}>
    ${text ? html`<p>${text}</p>` : null}
    ${over ? null : fields.map((one) => html`<label class="field" key=${one.name}><span>${one.title}</span>
      ${one.lines ? html`<textarea rows=${one.lines} spellcheck="false" value=${values[one.name]} onInput=${(e) => setValues({ ...values, [one.name]: e.target.value })}></textarea>`
      : html`<input value=${values[one.name]} spellcheck="false" autocomplete="off" onInput=${(e) => setValues({ ...values, [one.name]: e.target.value })} />`}</label>`)}
    ${typed && !over ? html`<label class="field"><span>Type ${count(typed)} to confirm</span>
      <input id="typed" inputmode="numeric" autocomplete="off" value=${word} onInput=${(e) => setWord(e.target.value)} /></label>` : null}
    <p class="outcome ${phase.is}" role="status">${phase.is === "doing" ? `${phase.text || "waiting for its end"} (${age((Date.now() - began.current) / 1000)})` : said}</p>
    ${over && lines.length ? html`<pre class="code" tabindex="0">${lines.join("\n")}</pre>` : null}
    ${phase.more ? html`<ul class="refusals">${phase.more.map((one) => html`<li>${plain(one)}</li>`)}</ul>` : null}
    <div class="buttons">
      <button type="button" onClick=${onClose}>${over ? "Close" : phase.is === "doing" ? "Leave it to itself" : "Cancel"}</button>
      ${phase.is === "failed" ? html`<button type="submit" class=${danger ? "danger" : "primary"}>Try again</button>` : null}
      ${over ? null : html`<button type="submit" class=${danger ? "danger" : "primary"} disabled=${!ready || phase.is === "doing"}>${verb}</button>`}
    </div></form></>`;
}

// A menu of actions behind one button.
export function Menu({ title, items, label }) {
  const [open, setOpen] = useState(false);
  const ref = useRef();
  useEffect(() => {
    if (!open) return undefined;
    const close = (event) => { if (event.key === "Escape" || (event.type === "pointerdown" && !ref.current?.contains(event.target))) setOpen(false); };
    addEventListener("keydown", close);
    addEventListener("pointerdown", close);
    ref.current?.querySelector("[role=menuitem]")?.focus();
    return () => { removeEventListener("keydown", close); removeEventListener("pointerdown", close); };
  }, [open]);
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !open) return;
    event.preventDefault();
    const all = [...ref.current.querySelectorAll("[role=menuitem]")];
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus();
  };
  return html`<span class="menu" ref=${ref} onKeyDown=${keys}>
    <button aria-haspopup="menu" aria-expanded=${open} aria-label=${label ?? title} onClick=${() => setOpen(!open)}>${title} <span aria-hidden="true">▾</span></button>
    ${open ? html`<div class="menu-list" role="menu">${items.map((one) => html`<button key=${one.name} role="menuitem" class=${one.danger ? "danger-text" : ""}
      onClick=${() => { setOpen(false); one.act(); }}><b>${one.name}</b><span class="dim">${one.about}</span></button>`)}</div>` : null}</span>`;
}
