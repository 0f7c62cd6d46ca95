"""Simulate planets for a long time, in a task that survives stops, crashes and the loss of its machine.

    python -m mpfora.supervisor simulation:planets  # in one terminal
    python simulation.py 200                        # in another: 200 years

The state is saved every few seconds, so that a run that is killed outright costs no more than those. The settings of
the handler say what must never happen: ten seconds without a beat is a hang, and it is killed; half a gigabyte is a
leak, and it is killed.
"""

from __future__ import annotations

import math
import secrets
import sys
import time
from typing import Any

import mpfora
from mpfora import Client, Context, Message, Task

SAVE_EVERY_S = 2.0
STEPS_PER_YEAR = 500
#: in years, astronomical units and solar masses
GRAVITY = 4 * math.pi**2
Body = dict[str, Any]


def solar_system() -> list[Body]:
    """The sun and four planets, each with its mass and its distance, on circles."""
    planets = {"venus": (2.4e-6, 0.723), "earth": (3.0e-6, 1.0), "mars": (3.2e-7, 1.524), "jupiter": (9.5e-4, 5.203)}
    bodies: list[Body] = [{"name": "sun", "mass": 1.0, "at": [0.0, 0.0], "speed": [0.0, 0.0]}]
    for name, (mass, distance) in planets.items():
        speed = [0.0, math.sqrt(GRAVITY / distance)]
        bodies.append({"name": name, "mass": mass, "at": [distance, 0.0], "speed": speed})
    return bodies


def pull(bodies: list[Body], step: float) -> None:
    """What gravity does to the speeds during `step`."""
    for body in bodies:
        for other in bodies:
            if other is not body:
                dx, dy = other["at"][0] - body["at"][0], other["at"][1] - body["at"][1]
                force = GRAVITY * other["mass"] / math.hypot(dx, dy) ** 3
                body["speed"][0] += force * dx * step
                body["speed"][1] += force * dy * step


def advance(bodies: list[Body], step: float) -> None:
    """One step of leapfrog, which keeps the energy for ages."""
    pull(bodies, step / 2)
    for body in bodies:
        for axis in (0, 1):
            body["at"][axis] += body["speed"][axis] * step
    pull(bodies, step / 2)


@mpfora.handler(stop_timeout="5s", stall_timeout="10s", memory_limit="512MiB")
def planets(task: Task, ctx: Context) -> Message | dict[str, float]:
    """props: years. Returns how far each planet is from the sun in the end."""
    years = task.props["years"]
    at = ctx.checkpoint or {"year": 0, "bodies": solar_system()}
    bodies, save_at = at["bodies"], time.monotonic() + SAVE_EVERY_S
    for year in range(at["year"], years):
        ctx.beat(year / years, note=f"year {year}")
        if ctx.stopping:
            return ctx.leave(checkpoint={"year": year, "bodies": bodies})
        if time.monotonic() > save_at or ctx.checkpoint_wanted:
            ctx.save({"year": year, "bodies": bodies})
            save_at = time.monotonic() + SAVE_EVERY_S
        for _ in range(STEPS_PER_YEAR):
            advance(bodies, 1 / STEPS_PER_YEAR)
    sun = bodies[0]["at"]
    return {body["name"]: math.dist(sun, body["at"]) for body in bodies[1:]}


def main(years: int) -> None:
    task_id = f"planets-{secrets.token_hex(3)}"
    with Client() as client:
        client.submit(task_id, {"years": years}, handler="simulation:planets")
        print(f"submitted {task_id}; see how far it is with: mpfora task {task_id}")
        done = client.wait(task_id)
        if not done.completed:
            sys.exit(f"{task_id} has {done.state}: {done.errors[-1].text}")
        for name, distance in done.result.items():
            print(f"{name:8} {distance:6.3f} AU from the sun")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
