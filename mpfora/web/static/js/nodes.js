// The nodes, and one of them.

import { html } from "../vendor/htm-preact.js";
import { age, amount, clock, count, part, plain, seconds, term } from "./format.js";
import { useLive, useNow } from "./net.js";
import { NodeActions } from "./actions.js";
import { TaskTable } from "./tables.js";
import { Empty, Facts, Link, Trouble, Wait, oneLine } from "./ui.js";

export const nodeState = (node) => (node.trouble ? ["trouble", node.trouble.why] : node.draining ? ["draining", "draining"] : node.frozen ? ["frozen", "frozen"] : node.why ? ["full", node.why] : ["live", "live"]);
const NodeState = ({ node }) => { const [kind, text] = nodeState(node); return html`<span class="state n-${kind}" title=${plain(text)}><i aria-hidden="true"></i>${oneLine(text, 60)}</span>`; };

export function Room({ node }) {
  const limit = node.capacity;
  const share = limit ? Math.min(1, node.active / limit) : null;
  return html`<span class="bar room" role="meter" aria-valuemin="0" aria-valuemax=${limit ?? node.active} aria-valuenow=${node.active} aria-label=${`tasks of ${plain(node.name)} that need a process`}>
    <span class=${`bar-fill ${share === 1 ? "full" : ""}`} style=${{ width: `${(share ?? 0) * 100}%` }}></span></span><span class="num bar-text room-text">${count(node.active)}${limit === null ? "" : ` / ${count(limit)}`}</span>`;
}
const labels = (node) => Object.entries(node.labels).map(([name, value]) => html`<span key=${name} class="label">${plain(name)}=${plain(value)}</span>`);

// Which generations of its code run, and what of its last reload people should know.
function Code({ node }) {
  const { generation, former, reload } = node.code ?? { generation: 1, former: [] };
  return html`generation ${generation}${former.length ? `; runs of ${former.join(", ")} go on` : ""}${reload?.state === "importing" ? "; being reloaded" : ""}${reload?.state === "failed" ? html`; <span class="failing">reload failed</span>` : ""}`;
}

// What is free of what its tasks share; what every machine has comes last.
const resources = (node) => Object.entries(node.has).sort(([one], [other]) => ["cpus", "memory"].includes(one) - ["cpus", "memory"].includes(other)).map(([name, has]) => html`<span key=${name} class="resource">${plain(name)}: ${node.free ? amount(name, node.free[name] ?? 0) : "?"} of ${amount(name, has)} free</span>`);

export function Nodes() {
  const now = useNow();
  const { data, error } = useLive("nodes", {});
  if (!data?.nodes) return error ? html`<${Trouble}>${error}</>` : html`<${Wait} />`;
  const costs = data.nodes.some((node) => node.cost !== null);
  const codes = data.nodes.some((node) => node.code);
  const shares = data.nodes.some((node) => Object.keys(node.has).length);
  return html`<div class="head"><h1>Nodes</h1><span class="dim num">${count(data.summary.live)} live${data.summary.capacity === null ? "" : `, ${count(data.summary.active)} of ${count(data.summary.capacity)} places taken`}</span></div>
    ${data.nodes.length ? html`<div class="table-box"><table aria-label="Nodes"><thead><tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Active</th><th scope="col" class="right mid">Tasks</th><th scope="col" class="right wide" title="how many it should hold beside the others">Share</th>
      ${costs ? html`<th scope="col" class="right wide">Cost</th>` : null}${shares ? html`<th scope="col" class="mid">Resources</th>` : null}${codes ? html`<th scope="col" class="mid" title="how often it has imported its handlers">Code</th>` : null}<th scope="col" class="mid">Host</th><th scope="col" class="right mid">Up</th><th scope="col" class="wide">Labels</th><th scope="col" class="wide">Handlers</th></tr></thead>
      <tbody>${data.nodes.map((node) => html`<tr key=${node.name}><td><${Link} to=${`nodes/${part(node.name)}`} class="id">${oneLine(node.name, 60)}</></td><td><${NodeState} node=${node} /></td><td class="c-room"><${Room} node=${node} /></td>
        <td class="num right mid">${count(node.tasks)}</td><td class="num right wide">${count(node.share)}</td>${costs ? html`<td class="num right wide">${node.cost?.toFixed(2)}</td>` : null}
        ${shares ? html`<td class="mid">${resources(node)}</td>` : null}${codes ? html`<td class="mid"><${Code} node=${node} /></td>` : null}<td class="mid">${oneLine(node.host, 40)}</td><td class="num right mid">${age(now - seconds(node.started))}</td><td class="wide">${labels(node)}</td><td class="wide dim">${oneLine(node.handlers.join(", "), 80)}</td></tr>`)}</tbody></table></div>`
    : html`<${Empty}>No node is live in this namespace. Start one: <code>python -m mpfora.supervisor HANDLER</code></>`}`;
}

export function Node({ name, user }) {
  const now = useNow();
  const { data, error } = useLive("node", { name });
  if (!data?.node || data.node.name !== name) return error ? html`<div class="head"><h1>${plain(name)}</h1></div><${Trouble}>${error}</>` : html`<${Wait} />`;
  const { node } = data;
  return html`<div class="head"><h1 class="id">${plain(node.name)}</h1><${NodeState} node=${node} /><span class="fill"></span><${NodeActions} node=${node} user=${user} isGone=${Boolean(error)} /></div>
    ${error ? html`<${Trouble}>${error} What is shown is what it said last.</>` : null}
    ${node.trouble ? html`<${Trouble}>${plain(node.trouble.why)} (since ${clock(node.trouble.since)})${node.trouble.detail ? html`<pre class="code">${plain(node.trouble.detail)}</pre>` : null}</>` : null}
    ${node.code?.reload?.error ? html`<${Trouble}>Not reloaded, it goes on with its former code: ${plain(node.code.reload.error)}${node.code.reload.detail ? html`<pre class="code">${plain(node.code.reload.detail)}</pre>` : null}</>` : null}
    <${Facts} rows=${[
      ["active", html`<${Room} node=${node} />`], ["tasks", count(node.tasks)], ["share", count(node.share)], ["cost", node.cost === null ? "" : `${node.cost.toFixed(2)} of ${node.cost_share?.toFixed(2) ?? "?"}`],
      ["host", plain(node.host)], ["process", node.pid || ""], ["up", `${age(now - seconds(node.started))}, since ${clock(node.started)}`], ["balancer", plain(node.balancer)],
      ["control groups", node.cgroups.join(", ")], ["labels", Object.keys(node.labels).length ? labels(node) : ""], ["handlers", plain(node.handlers.join(", "))],
      ["resources", Object.keys(node.has).length ? resources(node) : ""],
      ["kept for", node.reserves ? html`<${Link} to=${`tasks/${part(node.reserves)}`}>${plain(node.reserves)}</>` : ""],
      ["code", node.code ? html`<${Code} node=${node} />` : ""],
    ]} />
    <h2>Its tasks <span class="dim num">${count(data.total)}</span> ${data.total > data.tasks.length ? html`<${Link} to=${`tasks?q=${encodeURIComponent(term("node", node.name))}`} class="show">show all</>` : null}</h2>
    ${data.tasks.length ? html`<${TaskTable} tasks=${data.tasks} node=${false} label=${`Tasks of ${plain(node.name)}`} />` : html`<${Empty}>It has none.</>`}`;
}
