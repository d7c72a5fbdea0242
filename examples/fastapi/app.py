"""A FastAPI application that uses Corecast. It handles no WebSockets itself: browsers connect to
Corecast, and the application publishes over HTTP.

    CORECAST_API_URL    where the application publishes      http://127.0.0.1:9000
    CORECAST_API_KEY    a key of the API, if it needs one
    CORECAST_WS_URL     where browsers connect               ws://127.0.0.1:8000
    CORECAST_REDIS_URL  the Redis that Corecast uses   redis://127.0.0.1:6379
"""

import contextlib
import os
import pathlib

import cent
import fastapi
import httpx
import pydantic
import redis.asyncio
import redis.exceptions
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

API_URL = os.environ.get("CORECAST_API_URL", "http://127.0.0.1:9000")
API_KEY = os.environ.get("CORECAST_API_KEY", "")
WS_URL = os.environ.get("CORECAST_WS_URL", "ws://127.0.0.1:8000")
REDIS_URL = os.environ.get("CORECAST_REDIS_URL", "redis://127.0.0.1:6379")
CHANNEL = "news"

HERE = pathlib.Path(__file__).parent
PAGE = (HERE / "page.html").read_text()
CLIENT = HERE.parent / "corecast.mjs"


class Message(pydantic.BaseModel):
    text: str


class Position(pydantic.BaseModel):
    """The position of the message, which a client needs to continue from there."""

    offset: int
    epoch: str


@contextlib.asynccontextmanager
async def lifespan(app: fastapi.FastAPI):
    """Keeps the clients' connections open while the application runs."""
    headers = {"X-API-Key": API_KEY} if API_KEY else {}
    async with (
        cent.AsyncClient(f"{API_URL}/api", api_key=API_KEY) as app.state.cent,
        httpx.AsyncClient(base_url=API_URL, headers=headers) as app.state.http,
        redis.asyncio.from_url(REDIS_URL) as app.state.redis,
    ):
        yield


app = fastapi.FastAPI(lifespan=lifespan)


# Corecast has responded, with an error that another attempt would get as well.
REFUSALS = (cent.CentApiResponseError, cent.CentUnauthorizedError, httpx.HTTPStatusError)


@app.exception_handler(cent.CentError)
@app.exception_handler(httpx.HTTPError)
@app.exception_handler(redis.exceptions.RedisError)
async def not_published(request: fastapi.Request, error: Exception) -> JSONResponse:
    """Returns 503 if Corecast or Redis does not respond, so that the client tries again."""
    detail = f"can't publish now: {error or type(error).__name__}"
    if isinstance(error, REFUSALS):
        return JSONResponse({"detail": detail}, status_code=502)
    return JSONResponse({"detail": detail}, status_code=503, headers={"Retry-After": "1"})


@app.post("/publish/cent")
async def publish_with_cent(message: Message) -> Position:
    """Publishes with `cent`, Centrifugo's client library. Errors of the API are exceptions."""
    result = await app.state.cent.publish(
        cent.PublishRequest(channel=CHANNEL, data=message.model_dump())
    )
    return Position(offset=result.offset, epoch=result.epoch)


@app.post("/publish/http")
async def publish_with_http(message: Message) -> Position:
    """Publishes with plain HTTP. Errors are in the body, with status 200."""
    response = await app.state.http.post(
        "/api/publish", json={"channel": CHANNEL, "data": message.model_dump()}
    )
    response.raise_for_status()
    body = response.json()
    if "error" in body:
        raise fastapi.HTTPException(502, body["error"]["message"])
    return Position(**body["result"])


@app.post("/publish/redis", status_code=202)
async def publish_with_redis(message: Message) -> None:
    """Publishes with Redis, if Corecast uses it. The message waits there until Corecast takes it,
    even if no node runs. There is no position to return."""
    entry = {"channel": CHANNEL, "data": message.model_dump_json()}
    await app.state.redis.xadd("corecast:ingest", entry)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE.replace("{{url}}", f"{WS_URL}/ws").replace("{{channel}}", CHANNEL)


@app.get("/corecast.mjs")
async def client() -> FileResponse:
    """The module with which the page receives messages."""
    return FileResponse(CLIENT, media_type="text/javascript")
