"""A profile and its files: text, speedscope, and a page that is by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mpfora.errors import BadValue
from mpfora.profiles.flame_graph import flame_graph
from mpfora.profiles.profile import Profile, parse_stacks

TEXT = "main;f (a.py:1);g (a.py:2) 3000\nmain;f (a.py:1) 1000\nother;h (b.py:7) 4000\n"


def profile(text: str = TEXT) -> Profile:
    return Profile("t1", "n1", 7, "wall", "task", "", parse_stacks(text))


def test_places_are_the_innermost_frames_the_heaviest_first() -> None:
    assert profile().places() == [("h (b.py:7)", 0.5), ("g (a.py:2)", 0.375), ("f (a.py:1)", 0.125)]
    assert profile().places(1) == [("h (b.py:7)", 0.5)]
    assert profile().seconds == 0.008
    assert profile("").places() == []


def test_what_calls_the_handler_is_left_out() -> None:
    ours = "main;enter (/x/mpfora/child/run/process.py:1);_call (/x/mpfora/child/run/call_handler.py:9)"
    assert parse_stacks(f"{ours};f (a.py:1) 5") == ((("main", "f (a.py:1)"), 5),)
    assert parse_stacks(f"{ours} 5")[0][0][-1].startswith("_call")


@pytest.mark.parametrize("line", ["", "no weight", "f x", "f -3", " 7", "f ٣", "f " + "9" * 40])
def test_lines_that_are_no_stacks_are_left_out(line: str) -> None:
    assert parse_stacks(line) == ()


def test_a_very_deep_stack_keeps_both_ends_and_can_be_drawn() -> None:
    deep = ";".join(["main", *(f"f{n} (a.py:1)" for n in range(5000))])
    ((frames, _),) = parse_stacks(f"{deep} 5")
    assert frames[1] == "f0 (a.py:1)"
    assert frames[-1] == "f4999 (a.py:1)"
    assert len(frames) < 250
    assert "(more frames)" in profile(f"{deep} 5").html()


def test_collapsed_text_comes_back() -> None:
    assert parse_stacks(profile().collapsed()) == profile().stacks


def test_speedscope_has_each_thread_with_its_weights() -> None:
    found = json.loads(json.dumps(profile().speedscope()))
    names = [frame["name"] for frame in found["shared"]["frames"]]
    main, other = found["profiles"]
    assert (main["name"], main["weights"], main["endValue"]) == ("main", [3000, 1000], 4000)
    assert [[names[number] for number in sample] for sample in main["samples"]] == [
        ["f (a.py:1)", "g (a.py:2)"],
        ["f (a.py:1)"],
    ]
    assert other["samples"] == [[names.index("h (b.py:7)")]]


def test_the_page_loads_nothing_and_names_in_it_are_no_code() -> None:
    page = flame_graph("<b>t1", [(("main", "</script><script>alert(1)</script>"), 5)])
    assert "alert(1)</script>" not in page
    assert "&lt;b&gt;t1" in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=|https?:|url\(""", page.replace("default-src", ""))
    data = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert data is not None
    assert json.loads(data[1]) == ["all", 5, [["main", 5, [["</script><script>alert(1)</script>", 5, []]]]]]


def test_it_is_saved_as_its_name_ends(tmp_path: Path) -> None:
    for name, begins in (("p.html", "<!doctype html>"), ("p.speedscope.json", "{"), ("p.collapsed", "main;f (a.py:1)")):
        profile().save(tmp_path / name)
        assert (tmp_path / name).read_text().startswith(begins)
    with pytest.raises(BadValue, match=r"ends in \.html"):
        profile().save(tmp_path / "p.png")
