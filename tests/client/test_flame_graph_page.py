"""The page of a flame graph as a browser runs it: its script, by node, over elements that remember what was done."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from mpfora.profiles.flame_graph import flame_graph

NODE = shutil.which("node")
_DOCUMENT = """
function element() {
  const made = { style: {}, children: [], textContent: "", value: "" };
  made.classList = { add: name => { made.className = name } };
  made.append = child => made.children.push(child);
  made.replaceChildren = () => { made.children = [] };
  return made;
}
const elements = {};
const document = { getElementById: id => elements[id] ??= element(), createElement: element };
document.getElementById("data").textContent = DATA;
"""
_DEEDS = """
const boxes = () => elements.graph.children.map(box => [box.textContent, box.style.width, box.className ?? ""]);
const seen = { whole: boxes() };
elements.graph.children.find(box => box.textContent === "f").onclick();
seen.zoomed = boxes();
document.onkeydown({ key: "Escape" });
seen.back = boxes();
elements.search.value = "G"; elements.search.oninput();
seen.found = boxes().filter(box => box[2] === "found"); seen.share = elements.share.textContent;
elements.graph.children[0].onmouseenter(); seen.says = elements.says.textContent;
console.log(JSON.stringify(seen));
"""


def _run(page: str) -> dict[str, Any]:
    data, script = re.findall(r"<script.*?>(.*?)</script>", page, re.S)
    program = _DOCUMENT.replace("DATA", json.dumps(data)) + script + _DEEDS
    assert NODE is not None
    ended = subprocess.run([NODE, "-"], input=program, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    seen: dict[str, Any] = json.loads(ended.stdout)
    return seen


@pytest.mark.skipif(NODE is None, reason="there is no node to run the page's script")
def test_it_is_drawn_zoomed_and_searched() -> None:
    stacks = [(("main", "f", "g"), 3_000_000), (("main", "f"), 1_000_000), (("main", "h<b>"), 4_000_000)]
    seen = _run(flame_graph("t1", stacks))
    assert seen["whole"] == [
        ["all", "100%", ""],
        ["main", "100%", ""],
        ["f", "50%", ""],
        ["g", "37.5%", ""],
        ["h<b>", "50%", ""],
    ]
    assert seen["zoomed"] == [["all", "100%", "above"], ["main", "100%", "above"], ["f", "100%", ""], ["g", "75%", ""]]
    assert seen["back"] == seen["whole"]
    assert seen["found"] == [["g", "37.5%", "found"]]
    assert seen["share"] == "37.5 %"
    assert seen["says"] == "all\n8.000 s, 100.0 %"
