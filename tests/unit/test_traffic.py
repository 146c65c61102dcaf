"""The traffic of load tests: every request another one, and as the corpus has the agents."""

import csv
import os
import random
import re
import time
from ipaddress import ip_address, ip_network
from statistics import mean

from loadtest.bench.workload import requests
from loadtest.traffic import AGENTS, Agents
from schemas import keyring


def ring() -> keyring.Keyring:
    return keyring.Keyring(keyring.create(os.urandom, int(time.time())))


def fields(request: bytes) -> dict[str, str]:
    lines = request.decode().removesuffix("\r\n\r\n").split("\r\n")[1:]
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def test_each_request_has_a_token_and_an_address_of_its_own() -> None:
    keys = ring()
    made = list(requests(keys, 5000, seed=1))
    tokens = [re.match(rb"GET /o/([\w-]+)\.gif HTTP/1\.1\r\n", request)[1] for request in made]
    opened = [keys.unseal("open", token.decode())[0] for token in tokens]
    assert len({sealed.recipient for sealed in opened}) == len(set(tokens)) == 5000
    assert len({sealed.campaign for sealed in opened}) == 20
    addresses = [ip_address(fields(request)["X-Forwarded-For"]) for request in made]
    assert len(set(addresses)) == 5000
    assert not any(address in ip_network("127.0.0.0/8") for address in addresses)
    assert 10 < mean(len(fields(request)) for request in made) < 13
    assert 440 < mean(map(len, made)) < 540


def test_each_user_agent_can_be_unique_and_each_connection_end() -> None:
    made = list(requests(ring(), 1000, seed=1, unique_agent=True, close=True))
    assert len({fields(request)["User-Agent"] for request in made}) == 1000
    assert {fields(request)["Connection"] for request in made} == {"close"}


def test_agents_come_in_their_proportions() -> None:
    chance, agents = random.Random(1), Agents()
    drawn = [agents.draw(chance)["User-Agent"] for _ in range(20_000)]
    with AGENTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(drawn) == {row["user_agent"] for row in rows}
    assert 0.40 < drawn.count("Mozilla/5.0") / len(drawn) < 0.44
    assert all(row["source"] for row in rows)
