"""What a checker of types must refuse: each line that is marked, and no other."""

from __future__ import annotations

from jobs import Job, fetch, plain, train

from mpfora import AsyncClient, Client


def submit(client: Client) -> None:
    train.submit(client, "t1", {"customer": 17})  # refused
    train.submit(client, "t1", Job(customer="17"))  # refused
    train.submit(client, 1, Job(customer=17))  # refused
    train.submit("localhost:2379", "t1", Job(customer=17))  # refused
    fetch.submit(client, "t2", {"link": "http://example.org"})  # refused
    plain.submit(client, "t3", {"n": 1})  # refused
    client.map(train, [{"customer": 17}], group="g1")  # refused
    client.map(train, [Job(customer=17)])  # refused
    train.submit(client, "t1", Job(customer=17))


async def submit_async(client: AsyncClient) -> None:
    done: int = await train.submit(client, "t1", Job(customer=17))  # refused
    print(done)
