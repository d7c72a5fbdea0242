// Scenarios for `centrifuge-go`:
//
//	sdk SCENARIO WS_URL API_URL PREFIX_OF_CHANNELS
//
// Exit status 0 is success. The scenario restart needs the server changed under it: it prints READY
// and waits.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

const wait = 8 * time.Second

var wsURL, apiURL, prefix string

type object = map[string]any

func main() {
	scenarios := map[string]func(){
		"basic": basic, "order": order, "recovery": recovery, "terminal": terminal,
		"unsubscribed": unsubscribed, "errors": refusals, "idle": idle, "token": token,
		"protobuf": protobuf, "restart": restart,
	}
	wsURL, apiURL, prefix = os.Args[2], os.Args[3], os.Args[4]
	scenarios[os.Args[1]]()
}

func check(good bool, about ...any) {
	if !good {
		panic(fmt.Sprintln(about...))
	}
}

func api(method string, payload object) {
	body, err := json.Marshal(payload)
	check(err == nil, err)
	response, err := http.Post(apiURL+"/api/"+method, "application/json", bytes.NewReader(body))
	check(err == nil, err)
	defer response.Body.Close()
	var result object
	check(json.NewDecoder(response.Body).Decode(&result) == nil, "no JSON")
	check(result["error"] == nil, method, result)
}

// publishMany publishes the numbers from first to last in one call, after other commands.
func publishMany(channel string, first, last int, before ...object) {
	commands := before
	for n := first; n <= last; n++ {
		commands = append(commands, object{"publish": object{"channel": channel, "data": n}})
	}
	api("batch", object{"commands": commands})
}

// disconnect is a command that closes the connection of the client, which may come back.
func disconnect(id string) object {
	how := object{"code": 4100, "reason": "come back"}
	return object{"disconnect": object{"user": "", "client": id, "disconnect": how}}
}

// next returns the next event, of which one must come soon.
func next[T any](events chan T) T {
	select {
	case event := <-events:
		return event
	case <-time.After(wait):
		panic(fmt.Sprintf("no %T came", *new(T)))
	}
}

type client struct {
	*centrifuge.Client
	connecting   chan centrifuge.ConnectingEvent
	connected    chan centrifuge.ConnectedEvent
	disconnected chan centrifuge.DisconnectedEvent
	errors       chan error
}

func observe(made *centrifuge.Client) *client {
	c := &client{
		made, make(chan centrifuge.ConnectingEvent, 100), make(chan centrifuge.ConnectedEvent, 100),
		make(chan centrifuge.DisconnectedEvent, 100), make(chan error, 100),
	}
	made.OnConnecting(func(event centrifuge.ConnectingEvent) { c.connecting <- event })
	made.OnConnected(func(event centrifuge.ConnectedEvent) { c.connected <- event })
	made.OnDisconnected(func(event centrifuge.DisconnectedEvent) { c.disconnected <- event })
	made.OnError(func(event centrifuge.ErrorEvent) { c.errors <- event.Error })
	check(made.Connect() == nil)
	return c
}

// connect returns a connected client and its number.
func connect() (*client, string) {
	c := observe(centrifuge.NewJsonClient(wsURL, centrifuge.Config{}))
	next(c.connecting)
	return c, next(c.connected).ClientID
}

type subscription struct {
	*centrifuge.Subscription
	subscribed   chan centrifuge.SubscribedEvent
	unsubscribed chan centrifuge.UnsubscribedEvent
	publications chan centrifuge.PublicationEvent
	errors       chan error
}

func (c *client) follow(channel string, config ...centrifuge.SubscriptionConfig) *subscription {
	made, err := c.NewSubscription(channel, config...)
	check(err == nil, err)
	s := &subscription{
		made, make(chan centrifuge.SubscribedEvent, 100),
		make(chan centrifuge.UnsubscribedEvent, 100),
		make(chan centrifuge.PublicationEvent, 1000), make(chan error, 100),
	}
	made.OnSubscribed(func(event centrifuge.SubscribedEvent) { s.subscribed <- event })
	made.OnUnsubscribed(func(event centrifuge.UnsubscribedEvent) { s.unsubscribed <- event })
	made.OnPublication(func(event centrifuge.PublicationEvent) { s.publications <- event })
	made.OnError(func(event centrifuge.SubscriptionErrorEvent) { s.errors <- event.Error })
	check(made.Subscribe() == nil)
	return s
}

// expect receives the numbers from first to last, as publications in this order.
func (s *subscription) expect(first, last int) {
	for n := first; n <= last; n++ {
		publication := next(s.publications)
		check(string(publication.Data) == fmt.Sprint(n), publication, "is not", n)
	}
}

func basic() {
	c, id := connect()
	s := c.follow(prefix + "-basic")
	subscribed := next(s.subscribed)
	check(subscribed.Recoverable && subscribed.StreamPosition.Epoch != "", subscribed)

	_, err := s.Publish(context.Background(), []byte(`{"n":1,"text":"é 😀"}`))
	check(err == nil, err)
	own := next(s.publications)
	check(string(own.Data) == `{"n":1,"text":"é 😀"}` && own.Info.Client == id, own)
	_, err = c.Publish(context.Background(), prefix+"-basic", []byte("2"))
	check(err == nil, err)
	tags := object{"a": "b"}
	api("publish", object{"channel": prefix + "-basic", "data": 3, "tags": tags})
	check(next(s.publications).Offset == 2)
	check(next(s.publications).Tags["a"] == "b")

	history, err := s.History(context.Background(), centrifuge.WithHistoryLimit(10))
	check(err == nil && len(history.Publications) == 3 && history.Offset == 3, history, err)
	since := &centrifuge.StreamPosition{Offset: 1, Epoch: history.Epoch}
	page, err := s.History(context.Background(), centrifuge.WithHistoryLimit(1),
		centrifuge.WithHistorySince(since))
	check(err == nil && string(page.Publications[0].Data) == "2", page, err)

	check(s.Unsubscribe() == nil)
	next(s.unsubscribed)
	api("publish", object{"channel": prefix + "-basic", "data": 4})
	time.Sleep(200 * time.Millisecond)
	check(len(s.publications) == 0)
	check(s.Subscribe() == nil)
	next(s.subscribed)
	check(c.Disconnect() == nil)
	check(next(c.disconnected).Code == 0)
	check(len(c.errors) == 0)
}

func order() {
	c, _ := connect()
	s := c.follow(prefix + "-order")
	next(s.subscribed)
	for first := 0; first < 500; first += 100 {
		publishMany(prefix+"-order", first, first+99)
	}
	s.expect(0, 499)
}

func recovery() {
	c, id := connect()
	s := c.follow(prefix + "-recovery")
	next(s.subscribed)
	publishMany(prefix+"-recovery", 1, 1)
	s.expect(1, 1)
	// One call, so that the publications are there before the client is back.
	publishMany(prefix+"-recovery", 2, 20, disconnect(id))
	check(next(c.connecting).Code == 4100)
	subscribed := next(s.subscribed)
	check(subscribed.WasRecovering && subscribed.Recovered, subscribed)
	s.expect(2, 20)
	publishMany(prefix+"-recovery", 21, 21)
	check(next(s.publications).Offset == 21)
	check(len(s.publications) == 0)
}

func terminal() {
	c, id := connect()
	api("disconnect", object{"user": "", "client": id})
	check(next(c.disconnected).Code == 3503)
	time.Sleep(time.Second)
	check(len(c.connected) == 0, "it must not come back")
}

func unsubscribed() {
	c, id := connect()
	s := c.follow(prefix + "-unsubscribed")
	next(s.subscribed)
	api("unsubscribe", object{"user": "", "client": id, "channel": prefix + "-unsubscribed"})
	check(next(s.unsubscribed).Code == 2000)
}

func refusals() {
	c, _ := connect()
	code := func(err error) uint32 {
		var refused *centrifuge.Error
		check(errors.As(err, &refused), err)
		return refused.Code
	}
	_, err := c.RPC(context.Background(), "method", []byte("{}"))
	check(code(err) == 108, err)
	_, err = c.Presence(context.Background(), prefix+"-errors")
	check(code(err) == 108, err)
	tooLong := string(bytes.Repeat([]byte("a"), 256))
	_, err = c.Publish(context.Background(), tooLong, []byte("{}"))
	check(code(err) == 107, err)
	other := &centrifuge.StreamPosition{Offset: 1, Epoch: "other"}
	_, err = c.History(context.Background(), prefix+"-errors", centrifuge.WithHistoryLimit(1),
		centrifuge.WithHistorySince(other))
	check(code(err) == 112, err)
	check(next(c.follow(tooLong).unsubscribed).Code == 107)
}

func token() {
	config := centrifuge.Config{Token: "eyJh.e30.x"}
	refused := observe(centrifuge.NewJsonClient(wsURL, config))
	check(next(refused.disconnected).Code == 3500)
	c, _ := connect()
	s := c.follow(prefix+"-token", centrifuge.SubscriptionConfig{Token: "eyJh.e30.x"})
	check(next(s.unsubscribed).Code == 103)
}

func protobuf() {
	c := observe(centrifuge.NewProtobufClient(wsURL, centrifuge.Config{}))
	check(next(c.disconnected).Code == 3506)
	time.Sleep(500 * time.Millisecond)
	check(len(c.connecting) <= 1, "it must not try again")
}

func idle() {
	c, _ := connect()
	s := c.follow(prefix + "-idle")
	next(s.subscribed)
	time.Sleep(7 * time.Second)
	publishMany(prefix+"-idle", 1, 1)
	s.expect(1, 1)
	check(len(c.connected) == 0)
}

func restart() {
	c, _ := connect()
	s := c.follow(prefix + "-restart")
	before := next(s.subscribed)
	publishMany(prefix+"-restart", 1, 1)
	s.expect(1, 1)
	fmt.Println("READY")
	check(next(c.connecting).Code == 3001)
	for len(c.connected) == 0 { // The pauses between its attempts grow. The caller limits the time.
		time.Sleep(10 * time.Millisecond)
	}
	after := next(s.subscribed)
	check(after.WasRecovering && !after.Recovered, after)
	check(after.StreamPosition.Epoch != before.StreamPosition.Epoch, after)
	publishMany(prefix+"-restart", 2, 2)
	s.expect(2, 2)
}
