package main

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// workload is what a call carries.
type workload string

const (
	typed workload = "typed"
	raw   workload = "raw"
)

// payloadSize is the size of a body in bytes, the same in both workloads and both directions.
const payloadSize = 128

// callTimeout is how long a call may take, which is how long a skybus client waits unless told otherwise.
const callTimeout = 10 * time.Second

// firstID is large enough for every id to take the same room, also where small numbers are written short.
const firstID = 1 << 40

// Order is the struct of the typed calls, payloadSize bytes as MessagePack.
type Order struct {
	ID       int64   `msgpack:"id"`
	Customer string  `msgpack:"customer"`
	Item     string  `msgpack:"item"`
	Price    float64 `msgpack:"price"`
	Express  bool    `msgpack:"express"`
	Note     string  `msgpack:"note"`
}

func newOrder(id int64) Order {
	return Order{
		ID:       id,
		Customer: "Ada Lovelace",
		Item:     "widget, extra large, sky blue",
		Price:    129.95,
		Express:  true,
		Note:     "leave it with the neighbours",
	}
}

// answerOrder is what the services do: nearly nothing, so that the calls are what is measured.
func answerOrder(o Order) Order {
	o.ID++
	return o
}

func checkOrder(id int64, got Order) error {
	if got.ID != id+1 {
		return fmt.Errorf("answer to order %d is %d: want %d", id, got.ID, id+1)
	}
	return nil
}

func newBody() []byte { return bytes.Repeat([]byte("x"), payloadSize) }

func checkBody(got []byte) error {
	if len(got) != payloadSize {
		return fmt.Errorf("answer of %d bytes: want %d", len(got), payloadSize)
	}
	return nil
}

// caller makes one call and checks the answer. It is safe for concurrent use.
type caller func(ctx context.Context, id int64) error
