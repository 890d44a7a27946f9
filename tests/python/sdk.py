"""The stock OpenAI SDK against `errand serve`. Usage: sdk.py BASE_URL. Each case_ function is one case."""

import base64
import struct
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import openai
from pydantic import BaseModel

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def done(response):
    while response.status in ("queued", "in_progress"):
        time.sleep(0.02)
        response = client.responses.retrieve(response.id)
    return response


def case_plain():
    response = client.responses.create(model="scripted/said", input="Hello", metadata={"a": "b"}, instructions="Be brief.")
    equal((response.status, response.output_text), ("completed", "You said: Hello"))
    equal((response.metadata, response.instructions), ({"a": "b"}, "Be brief."))
    equal(client.responses.retrieve(response.id).to_dict(), response.to_dict())
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    equal([item.content[0].text for item in client.responses.input_items.list(response.id)], ["Hello"])


def case_streamed():
    with client.responses.stream(model="scripted/calc", input="t", tools=[{"type": "errand:calculate"}]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    equal(text, "I call calculate.It said: 42")
    equal(final.output_text, text)
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(numbers)
    stored = client.responses.retrieve(final.id)
    equal([(item.id, item.status) for item in stored.output], [(item.id, item.status) for item in final.output])


def case_background_and_thread():
    first = client.responses.create(model="scripted/said", input="one", background=True)
    assert first.status in ("queued", "in_progress"), first.status
    first = done(first)
    equal(first.output_text, "You said: one")
    second = client.responses.create(model="scripted/said", input="two", previous_response_id=first.id)
    equal((second.output_text, second.previous_response_id), ("You said: two", first.id))


def case_python_tool():
    response = client.responses.create(
        model="scripted/python", input="t", tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
    )
    equal((response.status, [item.type for item in response.output]), ("completed", ["message", "errand:python", "message"]))
    assert "4321" in response.output_text, response.output_text


def case_function_tools():
    asked = client.responses.create(model="scripted/weather", input="How is it?", tools=[WEATHER])
    (call,) = asked.output
    equal((asked.status, call.type, call.name, call.arguments), ("completed", "function_call", "weather", '{"city":"Paris"}'))
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    told = client.responses.create(model="scripted/weather", previous_response_id=asked.id, input=[output], tools=[WEATHER])
    equal(told.output_text, "It is sunny")
    # The same without the server's memory: everything is sent again.
    items = [{"role": "user", "content": "How is it?"}, *(item.to_dict() for item in asked.output), output]
    told = client.responses.create(model="scripted/weather", input=items, tools=[WEATHER])
    equal(told.output_text, "It is sunny")


def case_structured():
    class Person(BaseModel):
        name: str
        age: int

    parsed = client.responses.parse(model="scripted/person", input="Who?", text_format=Person)
    equal(parsed.output_parsed, Person(name="Ada", age=36))
    with client.responses.stream(model="scripted/person", input="Who?", text_format=Person) as stream:
        equal(stream.get_final_response().output_parsed, Person(name="Ada", age=36))


def case_image():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixel = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    png = b"\x89PNG\r\n\x1a\n" + pixel + chunk(b"IEND", b"")
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    content = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    response = client.responses.create(model="scripted/said", input=[{"role": "user", "content": content}])
    equal(response.output_text, "You said: What is it?")


def case_errors():
    def refused(kind, code, **request):
        try:
            client.responses.create(**{"model": "scripted/said", "input": "t", **request})
        except kind as error:
            equal(error.code, code)
            assert error.request_id.startswith("req_"), error.request_id
        else:
            raise AssertionError(f"{request} was taken")

    refused(openai.BadRequestError, "model_unknown", model="nope/x")
    refused(openai.BadRequestError, "unsupported_parameter", temperature=0.2)
    refused(openai.BadRequestError, "previous_response_not_found", previous_response_id="resp_x")
    refused(openai.BadRequestError, "unknown_parameter", extra_body={"strem": True})
    try:
        client.responses.retrieve("resp_x")
    except openai.NotFoundError as error:
        equal(error.code, "response_not_found")
    failed = client.responses.create(model="scripted/fails", input="t")
    equal((failed.status, failed.error.code), ("failed", "server_error"))


def case_disconnect():
    stream = client.responses.create(model="scripted/slow", input="t", stream=True, tools=[{"type": "errand:wait"}])
    created = next(iter(stream))
    stream.close()
    # The run is durable: it goes on although its reader went away.
    equal(done(client.responses.retrieve(created.response.id)).output_text, "I call wait.It said: the time has come")


def case_sixteen_at_a_time():
    def one(number):
        response = client.responses.create(model="scripted/said", input=str(number), background=True)
        return done(response).output_text

    with ThreadPoolExecutor(16) as pool:
        equal(list(pool.map(one, range(16))), [f"You said: {number}" for number in range(16)])


def case_models():
    names = [model.id for model in client.models.list()]
    assert "scripted/said" in names, names
    equal(client.models.retrieve("scripted/said").id, "scripted/said")


cases = {name: case for name, case in globals().items() if name.startswith("case_")}
for name, case in cases.items():
    print(name, flush=True)
    case()
print(f"{len(cases)} cases passed")
