"""The stock OpenAI SDK and API keys of `errand serve`. Usage: keys.py BASE_URL GOOD OTHER_TENANTS REVOKED EXPIRED."""

import sys
from concurrent.futures import ThreadPoolExecutor

import openai

url, good, other, revoked, expired = sys.argv[1:]


def client(key):
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)


def refused(kind, call):
    try:
        found = call()
    except kind as error:
        return error
    raise AssertionError(f"not refused as {kind.__name__}: {found!r}")


def begin(key, **more):
    return client(key).responses.create(model="scripted/hello", input="Hello", **more)


def case_good():
    response = begin(good)
    assert response.output_text, response
    with client(good).responses.stream(model="scripted/hello", input="Hello") as stream:
        assert stream.get_final_response().output_text == response.output_text
    assert client(good).models.list().data


def case_refused():
    for key in [revoked, expired, good[:-1], good[:24] + other[24:], "none", "sk-proj-of-somebody-else"]:
        for call in [lambda: begin(key), lambda: client(key).models.list(), lambda: begin(key, stream=True)]:
            error = refused(openai.AuthenticationError, call)
            assert (error.status_code, error.code) == (401, "invalid_api_key"), error
            assert key not in str(error), error


def case_none():
    # The SDK insists on a key of some kind, unless its header is taken away.
    bare = {"Authorization": openai.Omit()}
    error = refused(openai.AuthenticationError, lambda: client("x").models.list(extra_headers=bare))
    assert "needs an API key" in str(error), error


def case_tenants():
    response = begin(good)
    error = refused(openai.NotFoundError, lambda: client(other).responses.retrieve(response.id))
    assert error.code == "response_not_found", error
    refused(openai.NotFoundError, lambda: client(other).responses.cancel(response.id))
    refused(openai.NotFoundError, lambda: client(other).responses.input_items.list(response.id))
    error = refused(openai.BadRequestError, lambda: begin(other, previous_response_id=response.id))
    assert error.code == "previous_response_not_found", error
    assert client(good).responses.retrieve(response.id).id == response.id


def case_many_at_a_time():
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: begin(good if number % 2 else other), range(32)))


cases = {name: case for name, case in globals().items() if name.startswith("case_")}
for name, case in cases.items():
    print(name, flush=True)
    case()
print(f"{len(cases)} cases passed")
