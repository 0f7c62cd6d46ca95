// Who are you?

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { base, get } from "./net.js";

export function Login() {
  const [by, setBy] = useState("");
  const [token, setToken] = useState("");
  const [said, setSaid] = useState(new URLSearchParams(location.search).has("wrong") ? "This link was used already, or is another server's." : "");
  useEffect(() => { get("api/v1/entry").then((one) => (one.user ? location.assign(base) : setBy(one.by)), (error) => setSaid(error.message)); }, []);
  const enter = async (event) => {
    event.preventDefault();
    const answer = await fetch(`${base}api/v1/session`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }) });
    if (answer.ok) location.assign(base);
    else setSaid((await answer.json().catch(() => ({}))).error ?? "refused");
  };
  return html`<div class="login"><h1>mpfora</h1>
    ${by === "link" ? html`<p>Open the link that <code>mpfora web</code> has printed in its terminal. Each works once; the next one stands below the last.</p>` : null}
    ${by === "token" ? html`<form onSubmit=${enter}><label class="field"><span>Your token</span><input type="password" autocomplete="current-password" value=${token} onInput=${(event) => setToken(event.target.value)} autofocus /></label>
      <div class="buttons"><button class="primary" disabled=${!token}>Enter</button></div></form>` : null}
    <p class="said" role="alert">${said}</p></div>`;
}
