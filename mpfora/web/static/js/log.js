// What a task prints: live, with its colours, searched.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { classes, spans } from "./ansi.js";
import { clock, count, part, plain } from "./format.js";
import { base } from "./net.js";
import { Empty, Trouble } from "./ui.js";

const MOST = 5000;

function Line({ line, style, times }) {
  const { found } = spans(line.text, style);
  return html`<div class=${line.note ? "line note" : "line"}>${times && line.time ? html`<time class="dim" datetime=${line.time}>${clock(line.time).slice(11)}</time>` : null}<span>${found.length ? found.map((one, n) => html`<span key=${n} class=${classes(one.style)} style=${one.style.rgb || one.style.back ? { color: one.style.rgb && `rgb(${one.style.rgb})`, backgroundColor: one.style.back && `rgb(${one.style.back})` } : null}>${one.text}</span>`) : " "}</span></div>`;
}

export function Log({ task, runs, run, onRun }) {
  const [lines, setLines] = useState([]);
  const [state, setState] = useState({ is: "waiting", text: "" });
  const [grep, setGrep] = useState("");
  const [asked, setAsked] = useState("");
  const [times, setTimes] = useState(false);
  const [stick, setStick] = useState(true);
  const [left, setLeft] = useState(0);
  const box = useRef();
  useEffect(() => {
    let source = null;
    const open = () => {
      source?.close();
      if (document.hidden) return;
      setLines([]); setLeft(0); setState({ is: "waiting", text: "" });
      const query = new URLSearchParams({ follow: "1", ...(run ? { run } : {}), ...(asked ? { grep: asked } : {}) });
      source = new EventSource(`${base}api/v1/tasks/${part(task.id)}/log?${query}`);
      source.addEventListener("lines", (event) => {
        const more = JSON.parse(event.data);
        setState({ is: "live", text: "" });
        setLines((before) => { const all = [...before, ...more]; if (all.length > MOST) setLeft((n) => n + all.length - MOST); return all.slice(-MOST); });
      });
      source.addEventListener("end", (event) => { source.close(); setState({ is: "ended", text: JSON.parse(event.data).error }); });
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) setState((now) => (now.is === "ended" ? now : { is: "lost", text: "" })); else { setLines([]); setLeft(0); } };
    };
    const seen = () => (document.hidden ? source?.close() : open());
    document.addEventListener("visibilitychange", seen);
    open();
    return () => { document.removeEventListener("visibilitychange", seen); source?.close(); };
  }, [task.id, run, asked]);
  useLayoutEffect(() => { if (stick && box.current) box.current.scrollTop = box.current.scrollHeight; }, [lines, stick]);
  const scrolled = () => { const at = box.current; setStick(at.scrollTop + at.clientHeight >= at.scrollHeight - 4); };
  const attempts = [...new Set([...(runs ?? []).map((one) => one.attempt), ...(task.attempt ? [task.attempt] : [])])].sort((a, b) => b - a);
  let style = {};
  return html`<div class="row"><label>Run <select value=${run || ""} onChange=${(event) => onRun(event.target.value)}><option value="">the newest, and on</option>${attempts.map((n) => html`<option key=${n} value=${n}>${n}</option>`)}</select></label>
      <form class="grep" role="search" onSubmit=${(event) => { event.preventDefault(); setAsked(grep.trim()); }}><input type="search" aria-label="Only lines with" placeholder="only lines with…" value=${grep} spellcheck="false" onInput=${(event) => { setGrep(event.target.value); if (!event.target.value) setAsked(""); }} /></form>
      <label class="check"><input type="checkbox" checked=${times} onChange=${(event) => setTimes(event.target.checked)} /> times</label>
      <span class="dim" role="status">${{ waiting: "asking its node…", live: stick ? "live" : "live; scroll down to follow", ended: "that is all", lost: "no answer" }[state.is]}${left ? `; ${count(left)} lines before these are left out` : ""}</span></div>
    ${state.text ? html`<${Trouble}>${plain(state.text)}</>` : null}
    ${lines.length || state.is === "waiting" || state.is === "live" ? html`<div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label=${`What ${plain(task.id)} prints`}>
      ${lines.map((line, n) => { const before = style; style = line.note ? style : spans(line.text, style).style; return html`<${Line} key=${left + n} line=${line} style=${line.note ? {} : before} times=${times} />`; })}</div>`
    : html`<${Empty}>${asked ? "No line has this." : "It has printed nothing that is kept."}</>`}`;
}
