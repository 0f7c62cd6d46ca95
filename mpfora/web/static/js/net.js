// The server: questions, the live stream, and whether it answers.

import { useEffect, useState } from "../vendor/htm-preact.js";

export const base = new URL(document.baseURI).pathname;

export class Refused extends Error {
  constructor(text, status, body) { super(text); this.status = status; this.body = body; }
}

export async function ask(method, path, body, accept) {
  const headers = { accept: accept ?? "application/json" };
  if (method !== "GET") headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused("mpfora web does not answer", 0, {});
  }
  if (answer.status === 401) { location.assign(`${base}login`); throw new Refused("who are you?", 401, {}); }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(said.error ?? `refused with ${answer.status}`, answer.status, said);
  }
  return accept ? answer : answer.json();
}
export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);

// -- whether the server answers: one fact that the whole page shares ---------------------------------------------------

let link = { state: "waiting", since: Date.now(), trouble: "", namespace: "" };
const watchers = new Set();
export function setLink(changes) {
  const next = { ...link, ...changes };
  if (next.state !== link.state) next.since = Date.now();
  if (["state", "trouble", "namespace"].every((name) => next[name] === link[name])) return;
  link = next;
  for (const tell of watchers) tell(link);
}
export function useLink() {
  const [now, set] = useState(link);
  useEffect(() => { watchers.add(set); set(link); return () => watchers.delete(set); }, []);
  return now;
}

// -- the live stream ---------------------------------------------------------------------------------------------------

function patched(before, changes) {
  const after = { ...before };
  for (const [name, value] of Object.entries(changes)) {
    if (value && typeof value === "object" && Array.isArray(value.keys) && value.rows) {
      const known = new Map((before[name] ?? []).map((row) => [row[value.key], row]));
      after[name] = value.keys.map((key) => (Object.hasOwn(value.rows, key) ? value.rows[key] : known.get(key)));
    } else after[name] = value;
  }
  return after;
}

// What the page `view` shows: {data, error}. A tab that nobody sees asks for nothing.
export function useLive(view, params) {
  const query = new URLSearchParams({ view, ...params }).toString();
  const [shown, show] = useState({ query, data: null, error: "" });
  useEffect(() => {
    let source = null, again = 0, data = {};
    const close = () => { source?.close(); source = null; clearTimeout(again); };
    const open = () => {
      close();
      if (document.hidden) return;
      data = {};
      source = new EventSource(`${base}api/v1/stream?${query}`);
      source.addEventListener("view", (event) => {
        data = patched(data, JSON.parse(event.data));
        setLink({ state: "live", trouble: data.trouble ?? "", namespace: data.namespace ?? "" });
        show({ query, data, error: "" });
      });
      source.addEventListener("gone", (event) => {
        data = {};
        setLink({ state: "live" });
        show((before) => ({ ...before, query, error: JSON.parse(event.data).error }));
      });
      source.addEventListener("refused", (event) => {
        close();
        setLink({ state: "live" });
        show((before) => ({ ...before, query, error: JSON.parse(event.data).error }));
      });
      source.onerror = () => {
        data = {};
        setLink({ state: "lost" });
        if (source?.readyState === EventSource.CLOSED) {
          close();
          again = setTimeout(() => get("api/v1/entry").then((said) => (said.user ? open() : location.assign(`${base}login`)), open), 1500);
        }
      };
    };
    const seen = () => (document.hidden ? close() : open());
    document.addEventListener("visibilitychange", seen);
    open();
    return () => { document.removeEventListener("visibilitychange", seen); close(); };
  }, [query]);
  return shown.query === query ? shown : { ...shown, error: "", stale: true };
}

// Seconds since 1970, again each second while somebody sees the page.
export function useNow() {
  const [now, set] = useState(Date.now() / 1000);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set(Date.now() / 1000), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

// -- where the page is -------------------------------------------------------------------------------------------------

const goers = new Set();
export function place() {
  const path = location.pathname.startsWith(base) ? location.pathname.slice(base.length) : "";
  return { parts: path.split("/").filter(Boolean).map((one) => { try { return decodeURIComponent(one); } catch { return one; } }), query: new URLSearchParams(location.search) };
}
export function go(path, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", base + path);
  for (const tell of goers) tell(place());
}
export function usePlace() {
  const [now, set] = useState(place());
  useEffect(() => {
    const back = () => set(place());
    goers.add(set);
    addEventListener("popstate", back);
    return () => { goers.delete(set); removeEventListener("popstate", back); };
  }, []);
  return now;
}
