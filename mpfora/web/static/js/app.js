// The frame around all pages: where one is, who one is, whether what is shown is true.

import { html, render, useEffect, useState } from "../vendor/htm-preact.js";
import { clock } from "./format.js";
import { base, get, go, useLink, usePlace } from "./net.js";
import { Login } from "./login.js";
import { Node, Nodes } from "./nodes.js";
import { Actions, Events, Groups } from "./others.js";
import { Overview } from "./overview.js";
import { Schedules } from "./schedules.js";
import { Task } from "./task.js";
import { Tasks } from "./tasks.js";
import { Dialog, Empty, Link } from "./ui.js";

const PAGES = [["", "Overview", "o"], ["tasks", "Tasks", "t"], ["nodes", "Nodes", "n"], ["groups", "Groups", "r"], ["schedules", "Schedules", "s"], ["events", "Events", "e"]];

function Theme() {
  const [theme, set] = useState(document.documentElement.dataset.theme ?? "auto");
  const next = { auto: "light", light: "dark", dark: "auto" }[theme];
  const turn = () => {
    if (next === "auto") { delete document.documentElement.dataset.theme; localStorage.removeItem("mpfora-theme"); }
    else { document.documentElement.dataset.theme = next; localStorage.setItem("mpfora-theme", next); }
    set(next);
    dispatchEvent(new Event("mpfora-theme"));
  };
  return html`<button class="quiet theme" onClick=${turn} title=${`theme: ${theme}`} aria-label=${`Theme: ${theme}. Change to ${next}`}><span aria-hidden="true">${{ auto: "◐", light: "○", dark: "●" }[theme]}</span></button>`;
}

function Lamp() {
  const link = useLink();
  const [kind, text] = link.state === "lost" ? ["lost", "no answer"] : link.trouble ? ["etcd", "etcd away"] : link.state === "live" ? ["live", "live"] : ["waiting", "…"];
  return html`<span class=${`lamp ${kind}`} role="status" title=${kind === "lost" ? "mpfora web does not answer" : link.trouble || "what is shown is what is"}><i aria-hidden="true"></i><span>${text}</span></span>`;
}

// Laid over the page: nothing moves when it comes and goes.
function Strip() {
  const link = useLink();
  const text = link.state === "lost" ? `mpfora web does not answer. What is shown is as it was at ${clock(link.since / 1000).slice(11)}; the page goes on by itself.`
    : link.trouble ? `${link.trouble}. What is shown is what etcd said last; the page goes on by itself.` : "";
  return text ? html`<div class="strip" role="alert">${text}</div>` : null;
}

const Help = ({ onClose }) => html`<${Dialog} title="Keys" onClose=${onClose}><dl class="facts keys">
  ${[["/", "to the filter"], ["j, k", "down and up a list"], ["Enter", "open"], ["g then o, t, n, r, s, e", "overview, tasks, nodes, groups, schedules, events"], ["?", "this"], ["Esc", "close"]].map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
  <div class="buttons"><button onClick=${onClose}>Close</button></div></>`;

function useKeys(onHelp) {
  useEffect(() => {
    let before = "";
    const press = (event) => {
      if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest?.("input, textarea, select, dialog")) return;
      const page = before === "g" ? PAGES.find(([, , key]) => key === event.key) : null;
      if (page) { event.preventDefault(); go(page[0]); }
      else if (event.key === "/") { event.preventDefault(); if (!document.getElementById("q")) go("tasks"); setTimeout(() => document.getElementById("q")?.focus(), 50); }
      else if (event.key === "?") onHelp();
      before = event.key;
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function Page({ place, user }) {
  const [room, name, ...more] = place.parts;
  if (more.length) return html`<${Empty}>There is no such page.</>`;
  if (!room) return html`<${Overview} />`;
  if (room === "tasks") return name ? html`<${Task} key=${name} id=${name} query=${place.query} user=${user} />` : html`<${Tasks} query=${place.query} user=${user} />`;
  if (room === "nodes") return name ? html`<${Node} key=${name} name=${name} user=${user} />` : html`<${Nodes} />`;
  if (room === "groups" && !name) return html`<${Groups} />`;
  if (room === "schedules" && !name) return html`<${Schedules} user=${user} />`;
  if (room === "events" && !name) return html`<${Events} query=${place.query} /><${Actions} />`;
  return html`<${Empty}>There is no such page.</>`;
}

function App() {
  const place = usePlace();
  const link = useLink();
  const [me, setMe] = useState(null);
  const [help, setHelp] = useState(false);
  useKeys(() => setHelp(true));
  const isLogin = place.parts[0] === "login";
  useEffect(() => { if (!isLogin) get("api/v1/entry").then((said) => (said.user ? setMe(said) : location.assign(`${base}login`)), () => setTimeout(() => location.reload(), 3000)); }, [isLogin]);
  useEffect(() => {
    const page = PAGES.find(([path]) => path === (place.parts[0] ?? ""))?.[1] ?? "";
    document.querySelector("nav a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    document.title = [place.parts[1] ?? page, link.namespace || null, "mpfora"].filter(Boolean).join(" · ");
  }, [place, link.namespace]);
  if (isLogin) return html`<main><${Login} /></main>`;
  if (!me) return html`<main></main>`;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>To the content</a>
    <header><${Link} to="" class="brand"><b>mpfora</b> <span class="space">${link.namespace}</span></>
      <nav aria-label="Pages">${PAGES.map(([path, title]) => html`<${Link} key=${path} to=${path} aria-current=${(place.parts[0] ?? "") === path ? "page" : null}>${title}</>`)}</nav>
      <span class="fill"></span><${Lamp} />
      <span class="user" title=${`role: ${me.user.role}${me.read_only ? ", as this server is read-only" : ""}`}>${me.user.name}${me.user.role === "admin" ? "" : html` <span class="dim">${me.user.role}</span>`}</span>
      <button class="quiet" aria-label="Keys" title="keys" onClick=${() => setHelp(true)}>?</button><${Theme} /></header>
    <main id="main" tabindex="-1"><${Page} place=${place} user=${me.user} /></main>
    <${Strip} />${help ? html`<${Help} onClose=${() => setHelp(false)} />` : null}`;
}

render(html`<${App} />`, document.getElementById("app"));
