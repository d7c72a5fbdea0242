// Bun.serve with its own publish and subscribe.
//
// /ws?channel=NAME  receives the publications of NAME; a frame "CHANNEL PAYLOAD" publishes
// POST /publish?channel=NAME  publishes the body

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 22020),
  idleTimeout: 255, // Seconds; its maximum. The default of 10 cuts off a publisher that pauses.

  async fetch(request, server) {
    const url = new URL(request.url);
    const channel = url.searchParams.get("channel");
    if (url.pathname === "/ws") {
      if (server.upgrade(request, { data: { channel } })) return;
      return new Response("not an upgrade", { status: 426 });
    }
    if (url.pathname === "/publish" && request.method === "POST" && channel) {
      server.publish(channel, await request.text());
      return new Response("ok");
    }
    return new Response("not found", { status: 404 });
  },

  websocket: {
    perMessageDeflate: false,
    open(socket) {
      if (socket.data.channel) socket.subscribe(socket.data.channel);
    },
    message(socket, message) {
      const space = message.indexOf(" ");
      socket.publish(message.slice(0, space), message.slice(space + 1));
    },
  },
});

console.log(`listening on ${server.hostname}:${server.port}`);
