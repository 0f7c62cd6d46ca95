// Small charts of the last 15 minutes, on uPlot.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { count } from "./format.js";

// a canvas knows no light-dark(): what the style has made of it
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
const two = (n) => String(n).padStart(2, "0");
const clock = (s) => { const d = new Date(s * 1000); return `${two(d.getHours())}:${two(d.getMinutes())}`; };
const HEIGHT = 120;

// lines: [{name, tone, values}]; at: Unix seconds
export function Chart({ title, at, lines }) {
  const box = useRef(), plot = useRef(null);
  const shape = lines.map((one) => one.name).join();
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      const grid = { stroke: colour("line"), width: 1 }, ink = colour("dim");
      const font = "11px ui-sans-serif, system-ui, sans-serif";
      const now = Math.round(Date.now() / 1000);
      plot.current = new window.uPlot({
        width: Math.max(120, box.current.clientWidth), height: HEIGHT, legend: { show: false }, pxAlign: 1,
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
        scales: { x: { range: () => { const last = at.at(-1) ?? now; return [last - 900, last]; } }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.08)] } },
        axes: [
          { stroke: ink, grid: { show: false }, ticks: { ...grid, size: 4 }, font, size: 24, space: 70, values: (_, all) => all.map(clock) },
          { stroke: ink, grid, ticks: { show: false }, font, size: 44, space: 28, values: (_, all) => all.map((n) => (Number.isInteger(n) ? count(n) : "")) },
        ],
        series: [{}, ...lines.map((one) => ({ label: one.name, stroke: colour(one.tone), width: 1.5, points: { show: false } }))],
      }, [at, ...lines.map((one) => one.values)], box.current);
    };
    draw();
    let width = box.current.clientWidth;
    const sized = new ResizeObserver(() => {
      if (box.current && box.current.clientWidth !== width) { width = box.current.clientWidth; plot.current?.setSize({ width: Math.max(120, width), height: HEIGHT }); }
    });
    sized.observe(box.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    addEventListener("mpfora-theme", draw);
    return () => { sized.disconnect(); dark.removeEventListener("change", draw); removeEventListener("mpfora-theme", draw); plot.current?.destroy(); plot.current = null; };
  }, [shape]);
  useEffect(() => { plot.current?.setData([at, ...lines.map((one) => one.values)]); }, [at.at(-1), at.length, shape]);
  const last = lines.map((one) => `${one.name} ${count(one.values.at(-1) ?? 0)}`).join(", ");
  return html`<figure class="chart"><figcaption><b>${title}</b>
    ${lines.map((one) => html`<span key=${one.name} class="key"><i class="tone-${one.tone}" aria-hidden="true"></i>${one.name} <span class="num">${count(one.values.at(-1) ?? 0)}</span></span>`)}</figcaption>
    <div class="plot" ref=${box} role="img" aria-label=${`${title}, the last 15 minutes; now: ${last}`}></div></figure>`;
}
