// A hub with gorilla/websocket, after the chat example of its repository: a buffered channel and a
// writing goroutine for each client; who does not keep up with the buffer is closed. SEND_BUFFER is
// how many publications it holds: 256 unless given, as in the chat example.
//
//	/ws?channel=NAME            receives the publications of NAME; a frame "CHANNEL PAYLOAD" publishes
//	POST /publish?channel=NAME  publishes the body
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

const defaultSendBuffer = 256

type client struct {
	send chan *websocket.PreparedMessage
}

type hub struct {
	sendBuffer int
	mutex      sync.Mutex
	channels   map[string]map[*client]bool
}

func (h *hub) join(channel string, c *client) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.channels[channel] == nil {
		h.channels[channel] = map[*client]bool{}
	}
	h.channels[channel][c] = true
}

func (h *hub) leave(channel string, c *client) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.remove(channel, c)
}

// remove closes the client's buffer, once; the lock is held.
func (h *hub) remove(channel string, c *client) {
	if !h.channels[channel][c] {
		return
	}
	close(c.send)
	delete(h.channels[channel], c)
	if len(h.channels[channel]) == 0 {
		delete(h.channels, channel)
	}
}

// publish encodes the frame once for all clients.
func (h *hub) publish(channel string, payload []byte) error {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
	if err != nil {
		return err
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for c := range h.channels[channel] {
		select {
		case c.send <- message:
		default:
			h.remove(channel, c)
		}
	}
	return nil
}

var upgrader = websocket.Upgrader{
	CheckOrigin: func(*http.Request) bool { return true },
}

func (h *hub) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	// Joined before the upgrade is answered, so that nothing is missed after it.
	channel := r.URL.Query().Get("channel")
	c := &client{send: make(chan *websocket.PreparedMessage, h.sendBuffer)}
	h.join(channel, c)
	defer h.leave(channel, c)
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	go write(connection, c)
	h.read(connection)
}

func write(connection *websocket.Conn, c *client) {
	defer connection.Close()
	for message := range c.send {
		if connection.WritePreparedMessage(message) != nil {
			return
		}
	}
}

func (h *hub) read(connection *websocket.Conn) {
	for {
		_, frame, err := connection.ReadMessage()
		if err != nil {
			return
		}
		channel, payload, found := strings.Cut(string(frame), " ")
		if !found || h.publish(channel, []byte(payload)) != nil {
			return
		}
	}
}

func (h *hub) servePublish(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(r.Body)
	if err == nil {
		err = h.publish(r.URL.Query().Get("channel"), payload)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	io.WriteString(w, "ok")
}

// number is a variable of the environment, or `otherwise` where it is not set.
func number(variable string, otherwise int) int {
	text, found := os.LookupEnv(variable)
	if !found {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		log.Fatalf("%s=%q is not a number", variable, text)
	}
	return value
}

func main() {
	address := fmt.Sprintf("127.0.0.1:%d", number("PORT", 22030))
	h := &hub{
		sendBuffer: number("SEND_BUFFER", defaultSendBuffer),
		channels:   map[string]map[*client]bool{},
	}
	http.HandleFunc("GET /ws", h.serveWebSocket)
	http.HandleFunc("POST /publish", h.servePublish)
	log.Printf("listening on %s", address)
	log.Fatal(http.ListenAndServe(address, nil))
}
