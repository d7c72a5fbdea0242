// Socket.IO with a room for each channel.
//
// ?channel=NAME in the handshake's query joins; the event "message" carries a publication
// the event "publish" with CHANNEL and DATA publishes, and is acknowledged
// POST /publish?channel=NAME publishes the body, which is JSON

import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { Server } from "socket.io";

const http = createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  const channel = url.searchParams.get("channel");
  if (request.method !== "POST" || url.pathname !== "/publish" || !channel) {
    response.writeHead(404).end();
    return;
  }
  try {
    io.to(channel).emit("message", await json(request));
    response.end("ok");
  } catch (error) {
    response.writeHead(400).end(error.message);
  }
});
http.keepAliveTimeout = 300_000; // The default of 5 s cuts off a publisher that pauses.

const io = new Server(http, { transports: ["websocket"], perMessageDeflate: false });

io.on("connection", (socket) => {
  const { channel } = socket.handshake.query;
  if (channel) socket.join(channel);
  socket.on("publish", (channel, data, acknowledge) => {
    socket.to(channel).emit("message", data);
    acknowledge?.();
  });
});

const port = Number(process.env.PORT ?? 22060);
http.listen(port, "127.0.0.1", () => console.log(`listening on 127.0.0.1:${port}`));
