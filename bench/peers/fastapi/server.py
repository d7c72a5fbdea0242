"""FastAPI with the connection manager of its documentation, a list of sockets for each channel.

/ws?channel=NAME            receives the publications of NAME
/ws?publish=NAME            each text frame is published in NAME
POST /publish?channel=NAME  publishes the body
"""

import collections

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse


class ConnectionManager:
    def __init__(self):
        self.active_connections = collections.defaultdict(list)

    async def connect(self, channel: str, websocket: WebSocket):
        await websocket.accept()
        self.active_connections[channel].append(websocket)

    def disconnect(self, channel: str, websocket: WebSocket):
        self.active_connections[channel].remove(websocket)

    async def broadcast(self, channel: str, message: str):
        # Iterate over a copy, because connections open and close meanwhile.
        for connection in list(self.active_connections[channel]):
            try:
                await connection.send_text(message)
            except (WebSocketDisconnect, RuntimeError):
                pass  # It is closed; its own handler removes it from the list.


app = FastAPI()
manager = ConnectionManager()


@app.websocket("/ws")
async def websocket_endpoint(websocket: WebSocket, channel: str = "", publish: str = ""):
    await manager.connect(channel, websocket)
    try:
        while True:
            await manager.broadcast(publish, await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(channel, websocket)


@app.post("/publish", response_class=PlainTextResponse)
async def publish(channel: str, request: Request):
    await manager.broadcast(channel, (await request.body()).decode())
    return "ok"
